//! A ladder that somebody has begun to go down, as the next supervisor has to know it: written down before its first signal
//! and again whenever the keeper holds another part of it. The process does not know where: who made it has left word.

use std::fmt;
use std::sync::PoisonError;

use futures_util::future::BoxFuture;
use orangery_runtime::Rung;
use orangery_runtime::durable::ClaimedLease;
use serde::{Deserialize, Serialize};

use super::backstop::{Backstop, Course};
use super::descent::Descent;
use super::slot::Slot;
use crate::report::Cause;

/// See the file's head. Its times are those of CLOCK_MONOTONIC, so of this boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begun {
    cause: Cause,
    /// How many rungs there were before these.
    first: usize,
    /// Nanoseconds and signal.
    rungs: Vec<(u64, i32)>,
    kill_ns: u64,
    /// Under which number the keeper has it; `None`: not yet.
    lease: Option<u64>,
}

/// Writes down what is begun of a process.
pub(crate) struct Note(Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>);

impl Note {
    pub(crate) fn new(write: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self(Box::new(write))
    }
}

impl fmt::Debug for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Note").finish_non_exhaustive()
    }
}

impl Begun {
    fn of(cause: &Cause, course: &Course, lease: Option<u64>) -> Self {
        let rungs = course.rungs.iter().map(|rung| (rung.at_ns, rung.signal)).collect();
        Self { cause: cause.clone(), first: course.first, rungs, kill_ns: course.kill_ns, lease }
    }

    pub(crate) fn lease(&self) -> Option<u64> {
        self.lease
    }

    /// The keeper has carried out those that were due before what is due next.
    fn skip_until(&mut self, next_ns: u64) {
        let sent = self.rungs.iter().take_while(|(at_ns, _)| *at_ns < next_ns).count();
        self.rungs.drain(..sent);
        self.first += sent;
    }

    /// In a time that began at `zero_ns`.
    fn descent(&self, zero_ns: u64) -> Descent {
        let rungs = self.rungs.iter().map(|(at_ns, signal)| Rung { at_ns: *at_ns, signal: *signal }).collect();
        Descent::again(Course { first: self.first, rungs, kill_ns: self.kill_ns }, zero_ns)
    }
}

impl Slot {
    /// What is begun of it is written down from now on, where it outlives us.
    pub(crate) fn noted_by(&self, note: Note) {
        let _ = self.note.set(note);
    }

    pub(super) fn is_noted(&self) -> bool {
        self.note.get().is_some()
    }

    /// What is begun of it.
    pub(crate) fn begun(&self) -> Option<Begun> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why it is being ended, where that is begun.
    pub(crate) fn begun_for(&self) -> Option<Cause> {
        self.begun().map(|begun| begun.cause)
    }

    /// It is so far; `lease`: under which number the keeper has it. Ready when that is written down, or cannot be.
    pub(super) fn begin(&self, cause: &Cause, course: &Course, lease: Option<u64>) -> BoxFuture<'static, ()> {
        let Some(note) = self.note.get() else { return Box::pin(std::future::ready(())) };
        let begun = Begun::of(cause, course, lease);
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
        (note.0)()
    }

    /// Another supervisor has begun it, and the keeper may have gone on with it: before it is born here.
    pub(crate) fn begun_before(&self, mut begun: Begun, claimed: Option<ClaimedLease>) {
        self.intend(begun.cause.clone(), true);
        if let Some(ClaimedLease { lease, at_ns, .. }) = claimed {
            // Held until what is left is armed anew, or the process has ended.
            self.hold(Backstop { cause: begun.cause.clone(), first: begun.first, lease });
            begun.skip_until(at_ns.unwrap_or(0));
        }
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(begun);
    }

    /// What is left of what was begun for this reason, in a time that began at `zero_ns`.
    pub(super) fn left_of(&self, cause: &Cause, zero_ns: u64) -> Option<Descent> {
        self.begun().filter(|begun| begun.cause == *cause).map(|begun| begun.descent(zero_ns))
    }
}
