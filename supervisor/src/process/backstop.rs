//! What the keeper does to a process where we cannot, because we are stopped, wedged or gone: the rest of a stop or of a
//! limit, armed there as data and armed anew whenever it changes. We are the first to do it, it comes a moment later, and
//! where it has come first nothing is done twice.

use std::sync::{Arc, PoisonError};

use orangery_runtime::native::now_ns;
use orangery_runtime::{Act, Deadline, ErrorKind, Exit, ExitStatus, Lease, Rung};
use tokio::sync::watch;
use tokio::time::Instant;

use super::descent::Descent;
use super::slot::Slot;
use crate::ladder::{KILL, StopLadder};
use crate::report::Cause;

/// SIGCONT: a stopped process must run to feel anything.
const CONT: i32 = 18;

/// A ladder, or what is left of one, with its times (CLOCK_MONOTONIC in nanoseconds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Course {
    /// How many rungs there were before these.
    pub(crate) first: usize,
    pub(crate) rungs: Vec<Rung>,
    /// `u64::MAX`: never.
    pub(crate) kill_ns: u64,
}

/// What the keeper holds for a process: one for each reason, as long as it lives.
#[derive(Debug, Default)]
pub(crate) struct Backstops {
    held: Vec<Backstop>,
    over: bool,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Backstop {
    pub(super) cause: Cause,
    /// How many rungs there were before its own.
    pub(super) first: usize,
    pub(super) lease: Lease,
}

/// Have the keeper do what is wanted for this reason, as it is now, for as long as somebody wants something.
pub(super) async fn follow(slot: Arc<Slot>, cause: Cause, mut wanted: watch::Receiver<Option<Course>>) {
    loop {
        let course = wanted.borrow_and_update().clone();
        slot.back(&cause, course).await;
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

/// End it for this reason: one signal of the ladder after the other, and then the kill. Dropped, it goes no further, and
/// neither does the keeper once something else is wanted of it or the process has ended.
pub(crate) async fn descend(slot: &Arc<Slot>, cause: Cause, ladder: &StopLadder) {
    let wanted = watch::Sender::new(None);
    tokio::select! {
        // First: what another supervisor has armed must not be cancelled because nothing is wanted yet.
        biased;
        () = go_down(slot, &cause, ladder, &wanted) => {}
        () = follow(Arc::clone(slot), cause.clone(), wanted.subscribe()) => {}
    }
}

/// The same, for who follows what is `wanted` already.
pub(super) async fn go_down(slot: &Slot, cause: &Cause, ladder: &StopLadder, wanted: &watch::Sender<Option<Course>>) {
    let (began, zero_ns) = (Instant::now(), now_ns());
    let mut descent = slot.left_of(cause, zero_ns).unwrap_or_else(|| Descent::begin(ladder, began.elapsed()));
    loop {
        let before = descent.done();
        let due = descent.due(began.elapsed());
        if !due.is_empty() {
            slot.intend(cause.clone(), true);
            slot.ask(cause, before, due);
        }
        if descent.is_over(began.elapsed()) {
            break;
        }
        wanted.send_replace(Some(descent.course(zero_ns)));
        tokio::time::sleep(descent.next().saturating_sub(began.elapsed())).await;
    }
    // It may have ended meanwhile: then there is nobody to kill.
    let _ = slot.kill(cause.clone());
}

impl Slot {
    /// Send these signals, each followed by CONT, but for those that the keeper has sent for this reason: there were
    /// `before` of them before these.
    pub(super) fn ask(&self, cause: &Cause, before: usize, signals: Vec<i32>) {
        let sent = self.sent_for(cause).saturating_sub(before);
        for signal in signals.into_iter().skip(sent) {
            // It may have ended meanwhile: then its end is on its way to us.
            let _ = self.signal(signal).and_then(|()| self.signal(CONT));
        }
    }

    /// How many rungs of the ladder have been gone down for this reason, by us before it was armed and by the keeper since.
    fn sent_for(&self, cause: &Cause) -> usize {
        let backstops = self.backstops.lock().unwrap_or_else(PoisonError::into_inner);
        let held = backstops.held.iter().filter(|held| held.cause == *cause);
        held.map(|held| held.first + held.lease.sent()).max().unwrap_or(0)
    }

    /// Have the keeper do this for this reason, in place of what it was to do.
    pub(super) async fn back(&self, cause: &Cause, course: Option<Course>) {
        let armed = course.as_ref().filter(|course| course.kill_ns < u64::MAX || !course.rungs.is_empty());
        let held = match armed {
            Some(course) => self.held(cause, course).await,
            None => None,
        };
        let lease = held.as_ref().map(|held| held.lease.id());
        // What comes of it while it is written down is known as well.
        if let Some(held) = held {
            self.hold(held);
        }
        // A limit that is armed is not begun: that is known without it.
        let begun = |course: &Course| course.first > 0 || matches!(cause, Cause::Stop { .. });
        if let Some(course) = course.filter(|course| begun(course) && !self.ended()) {
            self.begin(cause, &course, lease).await;
        }
        let mut backstops = self.backstops.lock().unwrap_or_else(PoisonError::into_inner);
        // The old one after the new one is there: between the two it is armed twice.
        backstops.held.retain(|held| held.cause != *cause || Some(held.lease.id()) == lease);
    }

    /// Until its end, or until something else is armed for that reason.
    pub(super) fn hold(&self, backstop: Backstop) {
        let mut backstops = self.backstops.lock().unwrap_or_else(PoisonError::into_inner);
        if !backstops.over {
            backstops.held.push(backstop);
        }
    }

    async fn held(&self, cause: &Cause, course: &Course) -> Option<Backstop> {
        let born = self.born.get()?;
        let to = born.pidfd()?;
        let Course { first, rungs, kill_ns } = course.clone();
        // The keeper's kill of the main process is the container's, as ours is; and it is killed by itself before what is frozen
        // goes on: it may have been sent a signal that it would answer.
        let act = Act::Ladder { to, rungs, all: self.main };
        match born.container.lease(Deadline { at_ns: kill_ns, at_end: false }, act).await {
            Ok(lease) => Some(Backstop { cause: cause.clone(), first, lease }),
            // It has ended meanwhile, or this runtime has no keeper.
            Err(error) if matches!(error.kind(), ErrorKind::State | ErrorKind::Unsupported) => None,
            Err(error) => {
                tracing::warn!(container = %self.id, process = %self.number, ?cause, %error, "the keeper does not watch over it");
                None
            }
        }
    }

    /// With its exit in hand and before anybody is told: what the keeper holds is not needed any more, or it was what has
    /// ended the process while we could not.
    pub(crate) fn settle_backstops(&self, exit: &Exit) {
        let backstops = Backstops { held: Vec::new(), over: true };
        let backstops =
            std::mem::replace(&mut *self.backstops.lock().unwrap_or_else(PoisonError::into_inner), backstops);
        let killed = matches!(exit.status, ExitStatus::Signal { signal: KILL, .. });
        for Backstop { cause, lease, .. } in backstops.held {
            let by_kill = killed && lease.fired().is_some();
            if by_kill || lease.sent() > 0 {
                self.intend(cause, !by_kill);
            }
            if by_kill {
                self.escalated();
            }
        }
    }
}
