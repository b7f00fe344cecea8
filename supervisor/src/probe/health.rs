//! The table of health: total and pure.

use super::vitals::HealthState;

/// How many in a row change the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thresholds {
    pub(crate) failures: u32,
    pub(crate) successes: u32,
}

/// The verdict, and how many answers in a row speak against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) state: HealthState,
    pub(crate) against: u32,
    /// Answers in a row that were no success.
    pub(crate) failures: u32,
}

/// What an attempt has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Passed,
    Failed,
    /// The grace is not over.
    FailedEarly,
    /// The container was paused meanwhile: it says nothing.
    Void,
}

impl Verdict {
    pub(crate) const NONE: Self = Self { state: HealthState::Starting, against: 0, failures: 0 };

    /// What `answer` makes of it.
    pub(crate) fn next(self, answer: Answer, thresholds: Thresholds) -> Self {
        use HealthState::{Healthy, Starting, Unhealthy};
        let failures = match answer {
            Answer::Passed => 0,
            Answer::Void => self.failures,
            Answer::Failed | Answer::FailedEarly => self.failures.saturating_add(1),
        };
        let (state, against) = match (self.state, answer) {
            (state, Answer::Void) => (state, self.against),
            // Until the first success.
            (Starting, Answer::FailedEarly) => (Starting, 0),
            (Starting, Answer::Passed) => (Healthy, 0),
            (Healthy, Answer::Passed) => (Healthy, 0),
            (Starting | Healthy, Answer::Failed | Answer::FailedEarly) => self.against(Unhealthy, thresholds.failures),
            (Unhealthy, Answer::Passed) => self.against(Healthy, thresholds.successes),
            (Unhealthy, Answer::Failed | Answer::FailedEarly) => (Unhealthy, 0),
        };
        Self { state, against, failures }
    }

    /// One more answer speaks for `other`.
    fn against(self, other: HealthState, enough: u32) -> (HealthState, u32) {
        let against = self.against.saturating_add(1);
        if against >= enough { (other, 0) } else { (self.state, against) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWERS: [Answer; 4] = [Answer::Passed, Answer::Failed, Answer::FailedEarly, Answer::Void];

    /// All pairs, the thresholds being two: a row for each state, with nothing and with one answer against it.
    #[test]
    fn the_table() {
        use HealthState::{Healthy, Starting, Unhealthy};
        let two = Thresholds { failures: 2, successes: 2 };
        let rows = [
            (Starting, 0, [(Healthy, 0), (Starting, 1), (Starting, 0), (Starting, 0)]),
            (Starting, 1, [(Healthy, 0), (Unhealthy, 0), (Starting, 0), (Starting, 1)]),
            (Healthy, 0, [(Healthy, 0), (Healthy, 1), (Healthy, 1), (Healthy, 0)]),
            (Healthy, 1, [(Healthy, 0), (Unhealthy, 0), (Unhealthy, 0), (Healthy, 1)]),
            (Unhealthy, 0, [(Unhealthy, 1), (Unhealthy, 0), (Unhealthy, 0), (Unhealthy, 0)]),
            (Unhealthy, 1, [(Healthy, 0), (Unhealthy, 0), (Unhealthy, 0), (Unhealthy, 1)]),
        ];
        for (state, against, row) in rows {
            let told = ANSWERS.map(|answer| {
                let after = Verdict { state, against, failures: 0 }.next(answer, two);
                (after.state, after.against)
            });
            assert_eq!(told, row, "{state:?} {against}");
        }
    }

    proptest! {
        /// Whatever is answered: the verdict changes exactly when so many in a row say so, and what says nothing changes
        /// nothing.
        #[test]
        fn it_changes_when_enough_say_so(
            answers in prop::collection::vec((0..4usize).prop_map(|n| ANSWERS[n]), 0..80), failures in 1..5u32, successes in 1..5u32,
        ) {
            let thresholds = Thresholds { failures, successes };
            let (mut verdict, mut bad, mut good, mut counted) = (Verdict::NONE, 0, 0, 0);
            for answer in answers {
                let after = verdict.next(answer, thresholds);
                match answer {
                    Answer::Passed => (bad, counted, good) = (0, 0, good + 1),
                    Answer::Failed => (bad, counted, good) = (bad + 1, counted + 1, 0),
                    Answer::FailedEarly if verdict.state == HealthState::Starting => (bad, counted, good) = (bad + 1, 0, 0),
                    Answer::FailedEarly => (bad, counted, good) = (bad + 1, counted + 1, 0),
                    Answer::Void => prop_assert_eq!(after, verdict),
                }
                prop_assert_eq!(after.failures, bad);
                match (verdict.state, after.state) {
                    (HealthState::Unhealthy, HealthState::Healthy) => prop_assert!(good >= successes),
                    (HealthState::Starting, HealthState::Healthy) => prop_assert_eq!(answer, Answer::Passed),
                    (HealthState::Healthy | HealthState::Starting, HealthState::Unhealthy) => prop_assert!(counted >= failures),
                    (before, after) => prop_assert_eq!(before, after),
                }
                prop_assert!(after.state == HealthState::Unhealthy || counted < failures);
                if after.state != verdict.state {
                    (good, counted) = (0, 0);
                }
                verdict = after;
            }
        }
    }
}
