//! One sandbox of a pool, from its creation to its removal: a plain task. What becomes of it is noted in the pool's
//! [`Shared`] half; a task that panics loses nothing of that, and another goes on.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument as _;

use super::reason::DiscardReason;
use super::shared::Shared;
use crate::command::Template;
use crate::error::{Error, ErrorKind};
use crate::events::Kind;
use crate::faults::Site;
use crate::guard::Budget;
use crate::handle::ContainerHandle;
use crate::manager::msg::Birth;
use crate::process::slot::FIRST_GENERATION;

/// One that dies before it has been ready for so long has died young.
const YOUNG: Duration = Duration::from_secs(10);

/// A sandbox that is there.
pub(super) struct Member {
    pub(super) number: u64,
    pub(super) handle: ContainerHandle,
    made: Instant,
    /// It is not given to anybody after this.
    until: Option<Instant>,
    /// It has been there for a while.
    stable: AtomicBool,
    /// That time is over. Noted by its task, in whose time both are.
    old: AtomicBool,
    /// The lease that somebody has of it; changed under the pool's lock.
    pub(super) leased: watch::Sender<Option<u64>>,
    /// Somebody has noted that it is to be removed.
    pub(super) let_go: Notify,
    panics: Mutex<Budget>,
    /// Somebody has noted that, and the table knows; changed under the pool's lock, as the next one.
    pub(super) leaving: AtomicBool,
    /// Nobody sees it through any more.
    pub(super) orphan: AtomicBool,
}

impl Member {
    pub(super) fn is_dead(&self) -> bool {
        self.handle.process().ended()
    }

    pub(super) fn is_young(&self) -> bool {
        !self.stable.load(Ordering::Acquire)
    }

    pub(super) fn is_old(&self) -> bool {
        self.old.load(Ordering::Acquire)
    }

    /// This lease of it ends now, under the pool's lock; `false`: it has.
    pub(super) fn comes_back(&self, lease: u64) -> bool {
        self.leased.send_if_modified(|leased| leased.take_if(|leased| *leased == lease).is_some())
    }

    /// Its task has panicked: whether another may take its place.
    fn may_go_on(&self) -> bool {
        self.panics.lock().unwrap_or_else(PoisonError::into_inner).spend(Instant::now())
    }
}

/// Make number `number` and see it through.
pub(super) async fn live(shared: Arc<Shared>, number: u64, abort: Arc<Notify>) {
    let mut place = Place { shared: Arc::clone(&shared), number, member: None, over: false };
    let handle = match make(&shared, number, abort).await {
        Ok(handle) => handle,
        Err(error) => return place.end(|shared| shared.failed(number, &error)),
    };
    let made = Instant::now();
    let until = shared.lifetime().and_then(|lifetime| made.checked_add(lifetime));
    let member = Arc::new(Member {
        number,
        handle,
        made,
        until,
        stable: AtomicBool::new(false),
        old: AtomicBool::new(false),
        leased: watch::Sender::new(None),
        let_go: Notify::new(),
        panics: Mutex::default(),
        leaving: AtomicBool::new(false),
        orphan: AtomicBool::new(false),
    });
    place.member = Some(Arc::clone(&member));
    shared.made(&member);
    see_through(place, member).await;
}

async fn make(shared: &Shared, number: u64, abort: Arc<Notify>) -> Result<ContainerHandle, Error> {
    let template = shared.template_of(number);
    let faults = shared.faults.of(template.id(), template.labels(), FIRST_GENERATION);
    faults.pass_start(Site::Pool("make")).await?;
    match attempt(shared, template.clone(), Arc::clone(&abort)).await {
        // Killed or given up on its way, and not by us: a supervisor that ends says so the second time.
        Err(error) if error.kind() == ErrorKind::State && !shared.is_closed() => attempt(shared, template, abort).await,
        made => made,
    }
}

async fn attempt(shared: &Shared, template: Template, abort: Arc<Notify>) -> Result<ContainerHandle, Error> {
    let supervisor = shared.supervisor.upgrade()?;
    // With the restarts: it is as little in a hurry as they are.
    let permit = tokio::select! {
        permit = supervisor.admitted_to_restart(template.cost().0) => permit?,
        () = abort.notified() => return Err(Error::given_up()),
    };
    let birth = Birth { abort, permit: Some(permit), ..Birth::default() };
    template.start(&supervisor, None, birth, None).await
}

/// From here on it is somewhere: ready, or in somebody's hands.
async fn see_through(mut place: Place, member: Arc<Member>) {
    let shared = Arc::clone(&place.shared);
    let faults = shared.faults.named(member.handle.id());
    let _ = faults.pass_start(Site::Pool("watch")).await;
    watch(&shared, &member).await;
    if let Err(error) = member.handle.delete().await {
        tracing::error!(container = member.handle.id(), %error, "a sandbox of a pool could not be removed");
    }
    place.end(Shared::gone);
}

/// Until it is let go of. While it is ready, its death and its age are reasons for that; while somebody has it, that it is for
/// too long.
async fn watch(shared: &Arc<Shared>, member: &Arc<Member>) {
    tokio::select! {
        () = member.let_go.notified() => return,
        () = held_too_long(shared, member) => {}
        never = idle(shared, member) => match never {},
    }
    member.let_go.notified().await;
}

async fn idle(shared: &Arc<Shared>, member: &Arc<Member>) -> Infallible {
    tokio::select! {
        _ = member.handle.wait_exit() => shared.lost(member, DiscardReason::Died),
        () = at(member.until) => {
            member.old.store(true, Ordering::Release);
            shared.lost(member, DiscardReason::Aged);
        }
        () = stable(shared, member) => {}
    }
    std::future::pending().await
}

/// Until somebody has had it for as long as a lease lasts at most, and it was taken away.
async fn held_too_long(shared: &Arc<Shared>, member: &Arc<Member>) {
    let Some(limit) = shared.max_lease else { return std::future::pending().await };
    let mut leased = member.leased.subscribe();
    loop {
        let Ok(Some(lease)) = leased.wait_for(Option::is_some).await.map(|lease| *lease) else {
            return std::future::pending().await;
        };
        tokio::select! {
            () = sleep(limit) => return shared.overdue(member, lease),
            _ = leased.wait_for(|now| *now != Some(lease)) => {}
        }
    }
}

async fn stable(shared: &Arc<Shared>, member: &Member) {
    sleep_until(member.made + YOUNG).await;
    member.stable.store(true, Ordering::Release);
    shared.stable(member);
    std::future::pending().await
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The duty to see one sandbox through, held by the task that does.
struct Place {
    shared: Arc<Shared>,
    number: u64,
    /// `None`: it is being made.
    member: Option<Arc<Member>>,
    over: bool,
}

impl Place {
    fn end(&mut self, last: impl FnOnce(&Arc<Shared>)) {
        self.over = true;
        last(&self.shared);
    }
}

/// A panic, or the end of the supervisor's thread.
impl Drop for Place {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let panicked = std::thread::panicking();
        let Some(member) = self.member.take() else {
            self.told(panicked, true);
            let error = if panicked { Error::lost_request() } else { Error::shut_down() };
            return self.shared.failed(self.number, &error);
        };
        let goes_on = panicked && member.may_go_on();
        self.told(panicked, goes_on);
        if !goes_on || !go_on(&self.shared, &member) {
            self.shared.orphaned(&member);
        }
    }
}

/// Another task for one whose task has panicked.
fn go_on(shared: &Arc<Shared>, member: &Arc<Member>) -> bool {
    let (for_task, member) = (Arc::clone(shared), Arc::clone(member));
    let span = member.handle.slot().span.clone();
    let task = async move {
        let place = Place { shared: for_task, number: member.number, member: Some(Arc::clone(&member)), over: false };
        see_through(place, member).await;
    };
    shared.spawn(task.instrument(span))
}

impl Place {
    fn told(&self, panicked: bool, restarted: bool) {
        if panicked {
            self.shared.voice.tell(None, Kind::ActorPanicked { actor: "pool".into(), restarted }, None);
        }
    }
}

/// A task of its own for each, on the supervisor's thread; `false`: that has ended.
pub(super) fn begin(shared: &Arc<Shared>, number: u64, abort: Arc<Notify>) -> bool {
    shared.spawn(live(Arc::clone(shared), number, abort))
}
