//! A service as it is, and how it changes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;

use super::state::ServiceState;
use crate::error::Error;
use crate::probe::Vitals;
use crate::report::{Report, unix_ms};
use crate::restart::{Death, GiveUp};

/// A service as it is now.
///
/// ```no_run
/// # fn f(service: orangery::Service) {
/// let now: orangery::ServiceInspect = service.inspect();
/// println!("{} is {:?}, incarnation {}, {} restarts", now.id, now.state, now.generation, now.restarts);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ServiceInspect {
    /// Its name, and the id of each of its containers.
    pub id: String,
    /// Where it is.
    pub state: ServiceState,
    /// The number of its last incarnation; 0 before the first.
    pub generation: u32,
    /// How many of them were restarts: starts that nobody asked for.
    pub restarts: u64,
    /// Whether its incarnation is ready and healthy; `None`: none runs.
    pub vitals: Option<Vitals>,
    /// The delay that is under way.
    pub back_off: Option<BackOff>,
    /// Why it failed, where it has.
    pub give_up: Option<GiveUp>,
    /// Why the last start failed, where it did.
    pub error: Option<String>,
    /// The report of the last incarnation that has ended.
    pub report: Option<Report>,
    /// The last deaths, the oldest first.
    pub deaths: Vec<Death>,
}

/// A delay before a restart.
///
/// ```no_run
/// # fn f(service: orangery::Service) {
/// if let Some(orangery::BackOff { delay, until_ms, .. }) = service.inspect().back_off {
///     println!("the next start is {delay:?} after the last end, at {until_ms}");
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackOff {
    /// How long.
    pub delay: Duration,
    /// Its end in milliseconds since 1970.
    pub until_ms: u64,
    /// It is over, and the start waits for the group's turn.
    pub due: bool,
}

/// A change of a service's state.
///
/// ```no_run
/// # async fn f(service: orangery::Service) {
/// use futures_util::StreamExt as _;
/// let mut changes = service.changes();
/// while let Some(orangery::Change { number, state, generation, .. }) = changes.next().await {
///     println!("{number}: {state:?}, incarnation {generation}");
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Change {
    /// The service.
    pub id: String,
    /// Counts the service's changes from 1: a number that is missing is a change that a slow reader has missed.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The state from now on.
    pub state: ServiceState,
    /// Of which incarnation.
    pub generation: u32,
    /// The delay, when it is [`ServiceState::BackOff`].
    pub delay: Option<Duration>,
    /// Why, when it is [`ServiceState::Failed`].
    pub give_up: Option<GiveUp>,
}

/// What is true of a service; kept in its slot.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub(crate) state: ServiceState,
    pub(crate) number: u64,
    pub(crate) generation: u32,
    pub(crate) restarts: u64,
    pub(crate) vitals: Option<Vitals>,
    pub(crate) delay: Option<Delay>,
    pub(crate) give_up: Option<GiveUp>,
    pub(crate) error: Option<Error>,
    pub(crate) report: Option<Arc<Report>>,
    pub(crate) tally: Arc<VecDeque<Death>>,
    /// Nobody carries anything out any more.
    pub(crate) closed: bool,
}

/// A delay that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delay {
    pub(crate) shown: BackOff,
    pub(crate) until: Instant,
}

impl Delay {
    /// One that was written down: what is left of it, which is no more than it was, also where the clock was set back.
    pub(crate) fn again((delay, until_ms): (Duration, u64)) -> Self {
        let left = Duration::from_millis(until_ms.saturating_sub(unix_ms(SystemTime::now()))).min(delay);
        let now = Instant::now();
        let until = now.checked_add(left).unwrap_or(now);
        Self { shown: BackOff { delay, until_ms, due: false }, until }
    }
}

impl Status {
    pub(crate) fn new() -> Self {
        Self {
            state: ServiceState::Stopped,
            number: 0,
            generation: 0,
            restarts: 0,
            vitals: None,
            delay: None,
            give_up: None,
            error: None,
            report: None,
            tally: Arc::default(),
            closed: false,
        }
    }

    /// The delay that is under way, in milliseconds.
    pub(crate) fn delay_ms(&self) -> Option<u64> {
        self.delay.map(|delay| u64::try_from(delay.shown.delay.as_millis()).unwrap_or(u64::MAX))
    }

    /// Whether it does what it is for, so that what comes after it may start.
    pub(crate) fn is_ready(&self) -> bool {
        self.state == ServiceState::Running
    }

    pub(crate) fn inspect(&self, id: &str) -> ServiceInspect {
        ServiceInspect {
            id: id.to_owned(),
            state: self.state,
            generation: self.generation,
            restarts: self.restarts,
            vitals: self.vitals.clone(),
            back_off: self.delay.map(|delay| delay.shown),
            give_up: self.give_up,
            error: self.error.as_ref().map(ToString::to_string),
            report: self.report.as_deref().cloned(),
            deaths: self.tally.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_that_goes_on_is_no_longer_than_it_was() {
        let before = Instant::now();
        let second = Duration::from_secs(1);
        for (delay, until_ms, longest) in [
            (second, u64::MAX, second),
            (second, 0, Duration::ZERO),
            // No clock says that.
            (Duration::MAX, u64::MAX, Duration::MAX),
        ] {
            let again = Delay::again((delay, until_ms));
            assert!(again.until >= before && again.until.checked_duration_since(Instant::now()) <= Some(longest));
            assert_eq!(again.shown, BackOff { delay, until_ms, due: false });
        }
    }
}
