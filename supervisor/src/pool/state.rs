//! The table of a pool: total and pure. It counts; which sandbox and which caller, the [`shared`](super::shared) half knows.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Sandboxes that one pool makes at a time, and one only as long as they fail.
pub(crate) const MAKING: usize = 8;
/// The second attempt follows at once, the third after this, each further one after twice the time, up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Where a pool is.
///
/// ```
/// use orangery::PoolState;
/// assert_eq!(serde_json::to_string(&PoolState::BackOff).unwrap(), "\"back_off\"");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PoolState {
    /// It makes what is missing.
    #[default]
    Open,
    /// A sandbox could not be made, or died young; the next one is made after a delay.
    BackOff,
    /// It gives nothing any more.
    Closed,
}

/// What a pool was asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Ready ones that there shall be.
    pub(crate) idle: usize,
    /// Sandboxes at a time, in whatever condition.
    pub(crate) most: usize,
    /// Callers that may wait.
    pub(crate) waiting: usize,
}

/// How many there are of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) state: PoolState,
    pub(crate) making: usize,
    pub(crate) idle: usize,
    pub(crate) leased: usize,
    /// Being removed.
    pub(crate) leaving: usize,
    /// Callers.
    pub(crate) waiting: usize,
    /// Creations in a row that failed.
    pub(crate) failures: u32,
    /// Ready ones in a row that died young.
    pub(crate) crashes: u32,
    /// The last failure says that no attempt can succeed.
    pub(crate) hopeless: bool,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Somebody wants one, and waits for it or not.
    Take { waits: bool },
    /// Somebody waits no more.
    Left,
    /// One is made.
    Made,
    /// One could not be made; `hopeless`: nor can any other.
    Failed { hopeless: bool },
    /// A ready one has to go: it died (`young`, or after a stable time), or is too old.
    Lost { young: bool },
    /// A ready one has lived for a while.
    Stable,
    /// One comes back that nobody has touched.
    Returned,
    /// One comes back to be thrown away.
    Released,
    /// Nothing of a discarded one is left.
    Gone,
    /// The delay has passed.
    DelayOver,
    /// The pool ends.
    Close,
}

/// Why nobody gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// So many callers wait already.
    Waiting,
    /// As many sandboxes exist as may, and the caller does not wait.
    Most,
    /// None is ready, and the caller does not wait.
    Idle,
    /// None can be made.
    Hopeless,
    /// The pool is closed.
    Closed,
}

/// What is done about it. A `wait` is followed by [`Input::DelayOver`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It is for whoever asked, or has waited longest.
    Lease,
    /// Whoever asked waits.
    Queue,
    /// It waits for somebody.
    Keep,
    /// It is removed.
    Discard { wait: Option<Duration> },
    /// So many of those who wait, the longest first, are told why.
    Fail { tell: usize, wait: Option<Duration> },
    /// All ready ones are removed, and all who wait are told.
    Close,
    /// Counted, nothing else.
    Count,
    /// It is so already, or is late; for this reason.
    Ignore(&'static str),
    /// Whoever asked is refused.
    Refuse(Refusal),
}

impl Tally {
    /// All sandboxes, in whatever condition.
    pub(crate) fn all(&self) -> usize {
        self.making + self.idle + self.leased + self.leaving
    }

    /// How many to begin to make now.
    fn missing(&self, sizes: &Sizes) -> usize {
        if self.state != PoolState::Open {
            return 0;
        }
        let at_a_time = if self.failures + self.crashes > 0 { 1 } else { MAKING };
        let wanted = sizes.idle.saturating_add(self.waiting).saturating_sub(self.idle + self.making);
        let room = sizes.most.saturating_sub(self.all());
        wanted.min(room).min(at_a_time.saturating_sub(self.making))
    }

    /// How long until the next attempt.
    fn delay(&self) -> Duration {
        match (self.failures + self.crashes).checked_sub(2) {
            None => Duration::ZERO,
            Some(doubled) => SHORTEST.saturating_mul(1 << doubled.min(20)).min(LONGEST),
        }
    }
}

/// What `input` does, and how many are to be made now: they count as being made already.
pub(crate) fn next(before: Tally, input: Input, sizes: &Sizes) -> (Tally, Effect, usize) {
    let (mut after, effect) = step(before, input, sizes);
    let make = after.missing(sizes);
    after.making += make;
    (after, effect, make)
}

fn step(mut now: Tally, input: Input, sizes: &Sizes) -> (Tally, Effect) {
    let none = |now, why| (now, Effect::Ignore(why));
    let closed = now.state == PoolState::Closed;
    match input {
        Input::Take { .. } if closed => return (now, Effect::Refuse(Refusal::Closed)),
        Input::Take { waits } => return take(now, waits, sizes),
        Input::Left if now.waiting == 0 => return none(now, "it was answered already"),
        Input::Left => now.waiting -= 1,
        Input::Made | Input::Failed { .. } if now.making == 0 => return none(now, "none is being made"),
        Input::Made => {
            (now.making, now.failures, now.hopeless) = (now.making - 1, 0, false);
            return placed(now);
        }
        Input::Failed { .. } if closed => now.making -= 1,
        Input::Failed { hopeless } => return failed(now, hopeless),
        Input::Lost { .. } | Input::Stable if now.idle == 0 => {
            return none(now, "it is none of the ready ones any more");
        }
        Input::Lost { young } => return lost(now, young),
        Input::Stable => now.crashes = 0,
        Input::Returned | Input::Released if now.leased == 0 => return none(now, "none is leased"),
        Input::Returned => {
            now.leased -= 1;
            return placed(now);
        }
        Input::Released => {
            (now.leased, now.leaving, now.crashes) = (now.leased - 1, now.leaving + 1, 0);
            return (now, Effect::Discard { wait: None });
        }
        Input::Gone if now.leaving == 0 => return none(now, "none is being removed"),
        Input::Gone => now.leaving -= 1,
        Input::DelayOver if now.state == PoolState::BackOff => (now.state, now.hopeless) = (PoolState::Open, false),
        Input::DelayOver => return none(now, "nobody waits for it any more"),
        Input::Close if closed => return none(now, "it is closed already"),
        Input::Close => {
            now.leaving += now.idle;
            (now.state, now.idle, now.waiting) = (PoolState::Closed, 0, 0);
            return (now, Effect::Close);
        }
    }
    (now, Effect::Count)
}

fn take(mut now: Tally, waits: bool, sizes: &Sizes) -> (Tally, Effect) {
    if now.idle > 0 {
        (now.idle, now.leased) = (now.idle - 1, now.leased + 1);
        return (now, Effect::Lease);
    }
    let refusal = match waits {
        _ if now.hopeless => Refusal::Hopeless,
        true if now.waiting < sizes.waiting => {
            now.waiting += 1;
            return (now, Effect::Queue);
        }
        true => Refusal::Waiting,
        false if now.all() >= sizes.most => Refusal::Most,
        false => Refusal::Idle,
    };
    (now, Effect::Refuse(refusal))
}

/// One is there that nobody has.
fn placed(mut now: Tally) -> (Tally, Effect) {
    let (place, effect) = match now.state {
        PoolState::Closed => (&mut now.leaving, Effect::Discard { wait: None }),
        _ if now.waiting > 0 => {
            now.waiting -= 1;
            (&mut now.leased, Effect::Lease)
        }
        _ => (&mut now.idle, Effect::Keep),
    };
    *place += 1;
    (now, effect)
}

fn failed(mut now: Tally, hopeless: bool) -> (Tally, Effect) {
    (now.making, now.hopeless) = (now.making - 1, hopeless);
    let tell = if hopeless { now.waiting } else { now.waiting.min(1) };
    now.waiting -= tell;
    let wait = back_off(&mut now, |now| now.failures = more(now.failures));
    (now, Effect::Fail { tell, wait })
}

fn lost(mut now: Tally, young: bool) -> (Tally, Effect) {
    (now.idle, now.leaving) = (now.idle - 1, now.leaving + 1);
    let wait = if young { back_off(&mut now, |now| now.crashes = more(now.crashes)) } else { None };
    (now, Effect::Discard { wait })
}

/// Those that were begun together fail together: that is one failure, and one delay.
fn back_off(now: &mut Tally, count: impl FnOnce(&mut Tally)) -> Option<Duration> {
    if now.state != PoolState::Open {
        return None;
    }
    count(now);
    now.state = PoolState::BackOff;
    Some(now.delay())
}

/// One more; so many that there are none.
fn more(count: u32) -> u32 {
    (count + 1).min(1 << 16)
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
