//! What a group's handles and its actor share: what must not be lost when the actor fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use actix::Addr;
use tokio::sync::{broadcast, watch};

use super::actor::{Close, GroupActor, News};
use super::member::Member;
use crate::events::{Kind, Voice};
use crate::guard::{self, Part};
use crate::recovery::StateDir;
use crate::restart::GiveUp;
use crate::service::state::ServiceState;
use crate::service::{Change, Status, Told};
use crate::supervisor::Supervisor;

/// One group as everybody sees it.
pub(crate) struct GroupSlot {
    /// Its name below those of the groups that it is in: nobody else has it.
    pub(crate) path: String,
    pub(super) name: String,
    pub(super) members: Vec<(String, Member)>,
    told: Told,
    feed: Voice,
    /// Who decides about it, once it has begun.
    pub(super) actor: OnceLock<Addr<GroupActor>>,
    /// Its last handle has gone.
    closed: AtomicBool,
    /// Somebody took it out of the hands of its handles.
    pub(super) detached: AtomicBool,
    attended: AtomicUsize,
    /// Where it outlives us.
    state: Option<Arc<StateDir>>,
}

/// The duty to end a group, held by its handles: where the last one is dropped, all of it is killed.
pub(super) struct OwnedGroup(Arc<GroupSlot>);

impl OwnedGroup {
    pub(super) fn new(slot: &Arc<GroupSlot>) -> Self {
        slot.attended.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(slot))
    }
}

impl std::ops::Deref for OwnedGroup {
    type Target = Arc<GroupSlot>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for OwnedGroup {
    fn drop(&mut self) {
        let last = self.0.attended.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && !self.0.detached.load(Ordering::Acquire) {
            self.0.close();
        }
    }
}

impl GroupSlot {
    pub(super) fn new(path: String, name: String, members: Vec<(String, Member)>, of: &Supervisor) -> Self {
        Self {
            path,
            name,
            members,
            told: Told::new(),
            feed: of.voice(),
            actor: OnceLock::new(),
            closed: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            attended: AtomicUsize::new(0),
            state: of.state_dir().cloned(),
        }
    }

    /// Where it is written down, where it outlives us, while it does.
    pub(super) fn state_dir(&self) -> Option<&StateDir> {
        self.state.as_deref().filter(|state| !state.is_left())
    }

    /// Run its actor, on this thread of the supervisor's; `hears`: what it is told of its members by; `goes_on`: there may be
    /// something to do at once.
    pub(super) fn begin(self: &Arc<Self>, actor: GroupActor, hears: Vec<watch::Receiver<Status>>, goes_on: bool) {
        let slot = Arc::clone(self);
        let actor = guard::start(actor, self.part(), move || slot.kill());
        for mut status in hears {
            let actor = actor.downgrade();
            actix_rt::spawn(async move {
                while status.changed().await.is_ok() {
                    let Some(actor) = actor.upgrade() else { return };
                    actor.do_send(News);
                }
            });
        }
        if goes_on {
            actor.do_send(News);
        }
        let _ = self.actor.set(actor);
    }

    fn part(&self) -> Part {
        let span = tracing::info_span!(parent: None, "group", path = %self.path);
        Part { actor: "group", process: None, voice: self.voice(0), span }
    }

    fn voice(&self, generation: u32) -> Voice {
        self.feed.of(&self.path, &Arc::default(), generation)
    }

    pub(super) fn status(&self) -> Status {
        self.told.status()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Status> {
        self.told.watch()
    }

    pub(super) fn changes(&self) -> broadcast::Receiver<Change> {
        self.told.changes()
    }

    /// The one way by which what is true of it as a whole changes.
    pub(super) fn publish(&self, change: impl FnOnce(&mut Status)) {
        self.told.publish(&self.path, change, |status| {
            let kind = Kind::GroupChanged {
                state: status.state,
                restarts: status.restarts,
                delay_ms: status.delay_ms(),
                give_up: status.give_up,
            };
            self.voice(status.generation).tell(None, kind, None);
        });
    }

    /// Kill what runs of each member; passes no mailbox.
    pub(super) fn kill(&self) {
        self.members.iter().for_each(|(_, member)| member.kill());
    }

    /// For good.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.kill();
        if let Some(actor) = self.actor.get() {
            actor.do_send(Close);
        }
    }

    /// Whether the service or the group of this id is one of its members.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.members.iter().any(|(_, member)| member.id() == id)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Nothing follows any more: its name is free.
    pub(crate) fn is_over(&self) -> bool {
        self.is_closed() || self.told.status().closed
    }

    /// Nobody carries anything out any more.
    pub(super) fn last_word(&self) {
        if self.state.as_ref().is_some_and(|state| state.is_left()) {
            return;
        }
        self.kill();
        let broken = !self.is_closed();
        self.publish(|status| {
            if !status.state.is_settled() {
                status.state = if broken { ServiceState::Failed } else { ServiceState::Stopped };
                status.give_up = broken.then_some(GiveUp::SupervisorFault);
            }
            status.delay = None;
            status.closed = true;
        });
    }
}
