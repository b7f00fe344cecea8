//! What is left of a ladder once somebody goes down it: plain values. Times are counted from one beginning, which only the
//! caller knows.

use std::collections::VecDeque;
use std::time::Duration;

use orangery_runtime::Rung;

use super::backstop::Course;
use crate::ladder::StopLadder;

/// A keeper comes so much later than we do with what is no kill, so that nobody is asked twice; but never by more than half
/// of the time until what follows.
const LATER: Duration = Duration::from_millis(250);

/// Which signal is sent when, and when the kill comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descent {
    rungs: VecDeque<(Duration, i32)>,
    kill_at: Duration,
    /// Rungs that were due already.
    done: usize,
}

impl Descent {
    /// Nothing but the kill.
    pub(crate) fn kill(now: Duration) -> Self {
        Self { rungs: VecDeque::new(), kill_at: now, done: 0 }
    }

    pub(crate) fn begin(ladder: &StopLadder, now: Duration) -> Self {
        let mut at = now;
        let mut rungs = VecDeque::new();
        for (signal, grace) in ladder.rungs() {
            rungs.push_back((at, signal));
            at = at.saturating_add(grace);
        }
        Self { rungs, kill_at: at, done: 0 }
    }

    /// What somebody else has left, in a time that began at `zero_ns`: what is late is due now.
    pub(crate) fn again(course: Course, zero_ns: u64) -> Self {
        let at = |at_ns: u64| match at_ns {
            u64::MAX => Duration::MAX,
            at_ns => Duration::from_nanos(at_ns.saturating_sub(zero_ns)),
        };
        let rungs = course.rungs.iter().map(|rung| (at(rung.at_ns), rung.signal)).collect();
        Self { rungs, kill_at: at(course.kill_ns), done: course.first }
    }

    /// The kill comes then at the latest; `false`: it would have come before.
    pub(crate) fn shorten(&mut self, kill_at: Duration) -> bool {
        let shorter = kill_at < self.kill_at;
        self.kill_at = self.kill_at.min(kill_at);
        shorter
    }

    pub(crate) fn kill_at(&self) -> Duration {
        self.kill_at
    }

    /// Nothing is left but the kill, and its time has come.
    pub(crate) fn is_over(&self, now: Duration) -> bool {
        now >= self.kill_at && self.rungs.is_empty()
    }

    /// When there is something to do.
    pub(crate) fn next(&self) -> Duration {
        self.rungs.front().map_or(self.kill_at, |(at, _)| self.kill_at.min(*at))
    }

    /// The signals whose time has come.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<i32> {
        let due = self.rungs.iter().take_while(|(at, _)| *at <= now).count();
        self.done += due;
        self.rungs.drain(..due).map(|(_, signal)| signal).collect()
    }

    /// How many signals were due so far.
    pub(crate) fn done(&self) -> usize {
        self.done
    }

    /// What is left, in the keeper's time: that was `zero_ns` when ours began.
    pub(crate) fn course(&self, zero_ns: u64) -> Course {
        let at = |time: Duration| zero_ns.saturating_add(nanoseconds(time));
        // What would come with the kill is not sent.
        let sent = self.rungs.iter().take_while(|(at, _)| *at < self.kill_at);
        let following = self.rungs.iter().skip(1).map(|(at, _)| *at).chain([self.kill_at]);
        let rungs = sent.zip(following).map(|((time, signal), next)| {
            let left = next.min(self.kill_at).saturating_sub(*time);
            Rung { at_ns: at(time.saturating_add(LATER.min(left / 2))), signal: *signal }
        });
        Course { first: self.done, rungs: rungs.collect(), kill_ns: at(self.kill_at) }
    }
}

pub(super) fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    proptest! {
        /// However it is cut short and however far it has come: in the order of their times, each later than ours, and none
        /// after the kill, which is never later.
        #[test]
        fn a_keeper_comes_after_us(
            graces in prop::collection::vec(0..2000u64, 0..16), cut in 0..20_000u64, now in 0..20_000u64,
        ) {
            let ladder = graces.iter().fold(StopLadder::new(), |ladder, grace| ladder.then(15, ms(*grace)));
            let mut descent = Descent::begin(&ladder, Duration::ZERO);
            descent.shorten(ms(cut));
            let due = descent.due(ms(now)).len();
            let course = descent.course(7);
            prop_assert_eq!(course.first, due);
            prop_assert_eq!(course.kill_ns, 7 + nanoseconds(descent.kill_at()));
            prop_assert!(course.rungs.is_sorted_by_key(|rung| rung.at_ns));
            prop_assert!(course.rungs.len() <= graces.len() - due);
            for (rung, (ours, _)) in course.rungs.iter().zip(&descent.rungs) {
                let ours = 7 + nanoseconds(*ours);
                prop_assert!((ours..=ours + 250_000_000).contains(&rung.at_ns) && rung.at_ns <= course.kill_ns);
            }
        }
    }

    proptest! {
        /// As often as it is taken up by somebody else: the same signals, none twice, the kill when it was to come.
        #[test]
        fn somebody_else_goes_on(
            graces in prop::collection::vec(1..2000u64, 0..6), steps in prop::collection::vec(0..4000u64, 1..8),
        ) {
            let ladder = graces.iter().fold(StopLadder::new(), |ladder, grace| ladder.then(15, ms(*grace)));
            let mut descent = Descent::begin(&ladder, Duration::ZERO);
            let (kill_at, mut zero, mut asked) = (descent.kill_at(), Duration::ZERO, 0);
            for step in steps {
                asked += descent.due(ms(step)).len();
                zero += ms(step);
                let zero_ns = nanoseconds(zero);
                descent = Descent::again(descent.course(nanoseconds(zero - ms(step))), zero_ns);
                prop_assert_eq!(descent.done(), asked);
                prop_assert_eq!(descent.kill_at(), kill_at.saturating_sub(zero));
                prop_assert!(asked + descent.rungs.len() <= graces.len());
            }
        }
    }

    #[test]
    fn never_is_never() {
        let ladder = StopLadder::new().then(15, Duration::MAX).then(2, ms(1));
        let course = Descent::begin(&ladder, ms(1)).course(1);
        assert_eq!(course.kill_ns, u64::MAX);
        assert_eq!(course.rungs, [Rung { at_ns: 1 + 1_000_000 + 250_000_000, signal: 15 }]);
        assert_eq!(Descent::again(course, 5).kill_at(), Duration::MAX);
    }
}
