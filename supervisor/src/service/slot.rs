//! What handles, the actor and the incarnation's task share of a service: what must not be lost when the actor fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use actix::Addr;
use tokio::sync::{broadcast, watch};

use super::actor::ServiceActor;
use super::incarnation::Incarnation;
use super::inspect::{Change, Status};
use super::msg::Close;
use super::state::ServiceState;
use super::told::Told;
use crate::events::{Kind, Voice};
use crate::guard::Part;
use crate::recovery::StateDir;
use crate::restart::GiveUp;

/// One service as everybody sees it.
pub(crate) struct ServiceSlot {
    pub(crate) id: String,
    labels: Arc<BTreeMap<String, String>>,
    feed: Voice,
    told: Told,
    /// The last incarnation.
    current: Mutex<Option<Arc<Incarnation>>>,
    /// Who decides about it, once it is on its shard.
    pub(crate) actor: OnceLock<Addr<ServiceActor>>,
    /// It was killed: what ends now is not started again.
    down: AtomicBool,
    /// Its last handle has gone, or the supervisor ends.
    closed: AtomicBool,
    /// Somebody took it out of the hands of its handles.
    pub(crate) detached: AtomicBool,
    attended: AtomicUsize,
    /// Where it outlives us.
    state: Option<Arc<StateDir>>,
}

/// The duty to end a service, held by its handles: where the last one is dropped, it is killed and removed.
pub(crate) struct OwnedService(Arc<ServiceSlot>);

impl OwnedService {
    pub(crate) fn new(slot: &Arc<ServiceSlot>) -> Self {
        slot.attended.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(slot))
    }
}

impl std::ops::Deref for OwnedService {
    type Target = Arc<ServiceSlot>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for OwnedService {
    fn drop(&mut self) {
        let last = self.0.attended.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && !self.0.detached.load(Ordering::Acquire) {
            self.0.close();
        }
    }
}

impl ServiceSlot {
    pub(crate) fn new(id: &str, labels: &BTreeMap<String, String>, feed: Voice, state: Option<Arc<StateDir>>) -> Self {
        Self {
            id: id.to_owned(),
            labels: Arc::new(labels.clone()),
            feed,
            told: Told::new(),
            current: Mutex::new(None),
            actor: OnceLock::new(),
            down: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            attended: AtomicUsize::new(0),
            state,
        }
    }

    /// Where it is written down, where it outlives us, while it does.
    pub(crate) fn state_dir(&self) -> Option<&StateDir> {
        self.state.as_deref().filter(|state| !state.is_left())
    }

    pub(crate) fn status(&self) -> Status {
        self.told.status()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.told.watch()
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.told.changes()
    }

    /// The one way by which what is true of it changes. A change of state gets the next number and is told to everybody,
    /// the feed included.
    pub(crate) fn publish(&self, change: impl FnOnce(&mut Status)) {
        self.told.publish(&self.id, change, |status| self.tell(status));
    }

    fn tell(&self, status: &Status) {
        let kind = Kind::ServiceChanged {
            state: status.state,
            restarts: status.restarts,
            delay_ms: status.delay_ms(),
            give_up: status.give_up,
        };
        self.voice(status.generation).tell(None, kind, None);
    }

    fn voice(&self, generation: u32) -> Voice {
        self.feed.of(&self.id, &self.labels, generation)
    }

    /// Its actor, as the feed names it.
    pub(crate) fn part(&self) -> Part {
        Part {
            actor: "service",
            process: None,
            voice: self.voice(0),
            span: tracing::info_span!(parent: None, "service", id = %self.id),
        }
    }

    pub(crate) fn current(&self) -> Option<Arc<Incarnation>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on this is the last incarnation.
    pub(crate) fn succeed(&self, incarnation: &Arc<Incarnation>) {
        let before = self.current.lock().unwrap_or_else(PoisonError::into_inner).replace(Arc::clone(incarnation));
        drop(before);
    }

    /// We go, and it does not: what becomes of it is the next supervisor's to say.
    pub(crate) fn is_left(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_left())
    }

    /// Kill what runs, and let nothing follow it until somebody starts it. Passes no mailbox.
    pub(crate) fn kill(&self) {
        if self.is_left() {
            return;
        }
        self.down.store(true, Ordering::Release);
        if let Some(incarnation) = self.current() {
            incarnation.kill();
        }
    }

    /// Somebody starts it.
    pub(crate) fn up(&self) {
        self.down.store(false, Ordering::Release);
    }

    pub(crate) fn is_down(&self) -> bool {
        self.down.load(Ordering::Acquire) || self.is_closed()
    }

    /// For good.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.kill();
        if let Some(actor) = self.actor.get() {
            actor.do_send(Close);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Nothing of it is left and nothing follows: its name is free.
    pub(crate) fn is_over(&self) -> bool {
        let status = self.told.status();
        // What is written down of it goes with its actor.
        status.closed || self.state.is_none() && self.is_closed() && status.state.is_settled()
    }

    /// Nobody carries anything out any more: who waits must not wait for ever.
    pub(crate) fn last_word(&self) {
        if self.is_left() {
            return;
        }
        self.kill();
        let broken = !self.is_closed();
        self.publish(|status| {
            if broken {
                (status.state, status.give_up) = (ServiceState::Failed, Some(GiveUp::SupervisorFault));
            } else if !status.state.is_settled() {
                status.state = ServiceState::Stopped;
            }
            status.delay = None;
            status.closed = true;
        });
    }
}
