//! How a process is asked to end before it is made to: plain values.

use std::time::Duration;

use orangery_runtime::Error as RuntimeError;
use serde::{Deserialize, Serialize};

/// SIGKILL: the end of every ladder.
pub(crate) const KILL: i32 = 9;
const TERM: i32 = 15;

/// So that whoever holds one for each of its containers knows how much it is.
const MOST: usize = 16;

/// Signals with the time that each is given, and at the end the kill of everything that is left.
///
/// Each signal is followed by CONT, so that a stopped process feels it. The default is TERM and ten seconds, as Docker's.
/// The whole container is killed at the end of the main process's ladder, a further process alone at the end of its.
///
/// ```
/// use orangery::StopLadder;
/// use std::time::Duration;
/// let seconds = Duration::from_secs;
/// let ladder = StopLadder::new().then(15, seconds(10)).then(2, seconds(5));
/// assert_eq!(ladder.patience(), seconds(15));
/// assert_eq!(StopLadder::default(), StopLadder::new().then(15, seconds(10)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
#[must_use]
pub struct StopLadder {
    rungs: Vec<(i32, Duration)>,
}

impl StopLadder {
    /// Without a signal: the kill at once.
    pub const fn new() -> Self {
        Self { rungs: Vec::new() }
    }

    /// Then send `signal`, and wait this long before what follows. SIGKILL is the kill, wherever it stands.
    pub fn then(mut self, signal: i32, grace: Duration) -> Self {
        self.rungs.push((signal, grace));
        self
    }

    /// The signals in their order, each with the time that it is given. The kill, which is the end of every ladder, is none
    /// of them.
    pub fn rungs(&self) -> impl Iterator<Item = (i32, Duration)> + '_ {
        self.rungs.iter().copied().take_while(|(signal, _)| *signal != KILL)
    }

    /// From the first signal to the kill.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.rungs().fold(Duration::ZERO, |sum, (_, grace)| sum.saturating_add(grace))
    }

    /// Everything that no kernel would take; `field` is what it was given as.
    pub(crate) fn check(&self, field: &str) -> Vec<RuntimeError> {
        let mut wrong = Vec::new();
        if self.rungs.len() > MOST {
            wrong.push(RuntimeError::invalid(field, format!("a ladder has at most {MOST} signals")));
        }
        for (index, (signal, _)) in self.rungs.iter().enumerate() {
            if !matches!(signal, 1..=31 | 34..=64) {
                let why = format!("{signal} is no signal: 1 to 31 and 34 to 64 are");
                wrong.push(RuntimeError::invalid(format!("{field}[{index}]"), why));
            }
        }
        wrong
    }
}

impl StopLadder {
    /// Everything that is wrong with what was given at a stop.
    pub(crate) fn check_given(given: Option<&Self>) -> Vec<RuntimeError> {
        given.map(|ladder| ladder.check("ladder")).unwrap_or_default()
    }

    /// Whichever is through sooner.
    pub(crate) fn shorter(self, other: Self) -> Self {
        if other.patience() < self.patience() { other } else { self }
    }
}

impl Default for StopLadder {
    fn default() -> Self {
        Self::new().then(TERM, Duration::from_secs(10))
    }
}

/// One signal, its grace, and the kill.
impl From<(i32, Duration)> for StopLadder {
    fn from((signal, grace): (i32, Duration)) -> Self {
        Self::new().then(signal, grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_kill_ends_it_wherever_it_stands() {
        let ladder = StopLadder::new().then(2, SECOND).then(KILL, SECOND).then(15, SECOND);
        assert_eq!(ladder.rungs().collect::<Vec<_>>(), [(2, SECOND)]);
        assert_eq!(ladder.patience(), SECOND);
        assert_eq!(StopLadder::from((2, Duration::MAX)).then(3, SECOND).patience(), Duration::MAX);
    }

    #[test]
    fn what_is_no_signal_is_refused_by_its_place() {
        let fields = |ladder: &StopLadder| {
            ladder.check("stop_ladder").iter().map(|error| error.field().unwrap_or("").to_owned()).collect::<Vec<_>>()
        };
        assert!(fields(&StopLadder::default()).is_empty() && fields(&StopLadder::new()).is_empty());
        let wrong = StopLadder::new().then(15, SECOND).then(0, SECOND).then(33, SECOND).then(65, SECOND);
        assert_eq!(fields(&wrong), ["stop_ladder[1]", "stop_ladder[2]", "stop_ladder[3]"]);
        let long = (0..17).fold(StopLadder::new(), |ladder, _| ladder.then(15, SECOND));
        assert_eq!(fields(&long), ["stop_ladder"]);
    }
}
