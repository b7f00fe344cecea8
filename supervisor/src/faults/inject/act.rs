//! How a fault that needs a living container is applied, and undone: the keeper has a lease on the undoing before it is
//! done, so that it does not depend on us.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orangery_runtime::cgroup::Limits;
use orangery_runtime::{Act, Container, Deadline, Lease, Pause};
use tokio::sync::oneshot;

use super::decide::Key;
use super::lock;
use crate::container::msg::Pause as PauseMessage;
use crate::container::slot::ContainerSlot;
use crate::container::state::State;
use crate::error::{Error, ErrorKind};
use crate::faults::plan::{FaultKind, PlannedFault};
use crate::report::Cause;

/// What undoes a fault. Dropped unused it is left to the keeper, whose leases end then without being carried out: for what
/// has ended anyway.
pub(super) enum Undo {
    /// There is nothing to undo.
    Nothing,
    Resume {
        slot: Arc<ContainerSlot>,
        leases: Vec<Lease>,
        _claim: Claim,
    },
    Restore(Box<Starved>),
}

/// A container whose limits are lower than they should be.
pub(super) struct Starved {
    slot: Arc<ContainerSlot>,
    to: Limits,
    before: Limits,
    /// What puts back what stood there.
    acts: Vec<Act>,
    leases: Vec<Lease>,
    _claim: Claim,
}

/// What is done to which containers of a supervisor and cannot be done twice: whoever undid it first would undo both.
pub(super) type Claims = Mutex<HashSet<(Key, &'static str)>>;

/// The right to do it, until it is undone.
pub(super) struct Claim {
    claims: Arc<Claims>,
    what: (Key, &'static str),
}

impl Claim {
    /// # Errors
    /// Another fault has it.
    fn take(claims: &Arc<Claims>, key: &Key, kind: &FaultKind) -> Result<Self, Error> {
        let what = (key.clone(), kind.name());
        if lock(claims).insert(what.clone()) {
            return Ok(Self { claims: Arc::clone(claims), what });
        }
        Err(Error::new(ErrorKind::State, "another fault does this to it at the moment"))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.claims).remove(&self.what);
    }
}

/// Apply it.
///
/// # Errors
/// Why it cannot be: nothing has changed then.
pub(super) async fn apply(
    slot: Arc<ContainerSlot>,
    planned: &PlannedFault,
    (key, claims): (&Key, &Arc<Claims>),
) -> Result<Undo, Error> {
    let (kind, lasts) = (&planned.kind, planned.lasts());
    let claim = || Claim::take(claims, key, kind);
    match kind {
        FaultKind::Kill => slot.main.kill(Cause::Injected { fault: planned.name.clone() }).map(|()| Undo::Nothing),
        FaultKind::Pause => pause(slot, lasts, claim()?).await,
        kind => match kind.limits() {
            Some(limits) => starve(slot, limits, lasts, claim()?).await,
            // Held where it comes by.
            None => Ok(Undo::Nothing),
        },
    }
}

/// The moment at which the keeper is to undo it, if we have not.
fn deadline(lasts: Option<Duration>) -> Deadline {
    let lasts = lasts.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let at_ns = lasts.map_or(u64::MAX, |lasts| orangery_runtime::native::now_ns().saturating_add(lasts));
    Deadline { at_ns, at_end: true }
}

fn container(slot: &ContainerSlot) -> Result<Arc<dyn Container>, Error> {
    slot.container.get().cloned().ok_or_else(|| Error::new(ErrorKind::State, "the container is not there yet"))
}

async fn pause(slot: Arc<ContainerSlot>, lasts: Option<Duration>, claim: Claim) -> Result<Undo, Error> {
    if slot.state() == State::Paused {
        return Err(Error::new(ErrorKind::State, "the container is paused already"));
    }
    let container = container(&slot)?;
    // Of a freezer before it is frozen; whom a pause without one holds is known only then.
    let thaw = match container.lease(deadline(None), Act::Thaw).await {
        Err(error) if error.kind() == orangery_runtime::ErrorKind::Unsupported => None,
        lease => Some(lease?),
    };
    match hold(&slot, Some(Pause::Freeze)).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => hold(&slot, Some(Pause::Stop)).await?,
        done => done?,
    }
    // Its time begins when it is held: what is thawed while it is being frozen is waited for in vain.
    let leases = match thaw {
        Some(thaw) if lasts.is_none() => Ok(vec![thaw]),
        _ => let_go(&*container, deadline(lasts)).await,
    };
    match leases {
        Ok(leases) => Ok(Undo::Resume { slot, leases, _claim: claim }),
        Err(error) => {
            hold(&slot, None).await?;
            Err(error)
        }
    }
}

/// Have the keeper let it go on, as it is held now.
async fn let_go(container: &dyn Container, when: Deadline) -> Result<Vec<Lease>, Error> {
    let mut leases = Vec::new();
    for act in container.let_go().await? {
        leases.push(container.lease(when, act).await?);
    }
    Ok(leases)
}

/// Ask its actor to hold it in this way, or to let it go on.
async fn hold(slot: &ContainerSlot, pause: Option<Pause>) -> Result<(), Error> {
    let actor = slot.actor.get().ok_or_else(|| Error::new(ErrorKind::State, "the container is not there yet"))?;
    let (reply, answer) = oneshot::channel();
    actor.do_send(PauseMessage { pause, reply });
    answer.await.map_err(|_| Error::lost_request())?
}

async fn starve(slot: Arc<ContainerSlot>, to: Limits, lasts: Option<Duration>, claim: Claim) -> Result<Undo, Error> {
    let before = slot.limits();
    if is_no_less(&to, &before) {
        return Err(Error::new(ErrorKind::State, "it has no more than that anyway"));
    }
    let container = container(&slot)?;
    let acts = container.put_back(&to)?;
    let mut leases = Vec::new();
    let when = deadline(lasts);
    for (nth, act) in acts.iter().enumerate() {
        // In this order, one after the other.
        let at_ns = when.at_ns.saturating_add(nth as u64);
        leases.push(container.lease(Deadline { at_ns, ..when }, act.clone()).await?);
    }
    let wanted = to.clone();
    // A lower memory limit makes the kernel reclaim, and perhaps kill, before the write returns.
    let written = tokio::task::spawn_blocking(move || container.update(wanted)).await;
    written.map_err(|_| Error::lost_request())??;
    Ok(Undo::Restore(Box::new(Starved { slot, to, before, acts, leases, _claim: claim })))
}

/// What a container has is not more than what it is to be left.
fn is_no_less(starved: &Limits, has: &Limits) -> bool {
    let share = |limits: &Limits| {
        limits.cpu_quota.map(|quota| u128::from(quota.quota_us) * 1_000_000 / u128::from(quota.period_us))
    };
    let no_less = |to: Option<u128>, has: Option<u128>| to.zip(has).is_some_and(|(to, has)| to >= has);
    no_less(starved.memory.map(Into::into), has.memory.map(Into::into))
        || no_less(starved.pids.map(Into::into), has.pids.map(Into::into))
        || no_less(share(starved), share(has))
}

impl Undo {
    /// Undo it.
    ///
    /// # Errors
    /// It is still so. What has ended meanwhile needs no undoing.
    pub(super) async fn carry_out(self) -> Result<(), Error> {
        match self {
            Self::Nothing => Ok(()),
            Self::Resume { slot, leases, _claim } => {
                let resumed = hold(&slot, None).await;
                drop(leases);
                or_ended(&slot, resumed)
            }
            Self::Restore(starved) => {
                let Starved { slot, to, before, acts, leases, _claim } = *starved;
                let written = put_back(&slot, &to, &before, acts).await;
                drop(leases);
                or_ended(&slot, written)
            }
        }
    }
}

fn or_ended(slot: &ContainerSlot, done: Result<(), Error>) -> Result<(), Error> {
    if slot.main.ended() { Ok(()) } else { done }
}

/// Write what was there, unless somebody else has set these limits meanwhile: then theirs hold.
async fn put_back(slot: &ContainerSlot, to: &Limits, before: &Limits, acts: Vec<Act>) -> Result<(), Error> {
    let now = slot.limits();
    let theirs = to.memory.is_some() && now.memory != before.memory
        || to.pids.is_some() && now.pids != before.pids
        || to.cpu_quota.is_some() && now.cpu_quota != before.cpu_quota;
    if theirs {
        return Ok(());
    }
    let written = tokio::task::spawn_blocking(move || {
        acts.iter().try_for_each(|act| match act {
            Act::Write(file, bytes) => rustix::io::retry_on_intr(|| rustix::io::pwrite(file, bytes, 0)).map(drop),
            _ => Ok(()),
        })
    });
    let written = written.await.map_err(|_| Error::lost_request())?;
    written.map_err(|error| orangery_runtime::Error::system("cannot put a limit back", error).into())
}
