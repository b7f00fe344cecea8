//! The table of a process: `(State, Input) -> (State, Effect)`, total and pure. Times are counted from one beginning, which
//! only the caller knows.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ladder::StopLadder;

/// Where a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Exec'd, not ended.
    Running,
    /// A stop was asked for, and this is left of it.
    Stopping(Descent),
    /// Ended.
    Exited,
}

/// What is left of a stop: which signal is sent when, and when the kill comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Descent {
    rungs: VecDeque<(Duration, i32)>,
    kill_at: Duration,
}

impl Descent {
    fn begin(ladder: &StopLadder, now: Duration) -> Self {
        let mut at = now;
        let mut rungs = VecDeque::new();
        for (signal, grace) in ladder.rungs() {
            rungs.push_back((at, signal));
            at = at.saturating_add(grace);
        }
        Self { rungs, kill_at: at }
    }

    /// The kill comes then at the latest; `false`: it would have come before.
    fn shorten(&mut self, kill_at: Duration) -> bool {
        let shorter = kill_at < self.kill_at;
        self.kill_at = self.kill_at.min(kill_at);
        shorter
    }

    /// When there is something to do.
    pub(crate) fn next(&self) -> Duration {
        self.rungs.front().map_or(self.kill_at, |(at, _)| self.kill_at.min(*at))
    }

    /// The signals whose time has come.
    fn due(&mut self, now: Duration) -> Vec<i32> {
        let due = self.rungs.iter().take_while(|(at, _)| *at <= now).count();
        self.rungs.drain(..due).map(|(_, signal)| signal).collect()
    }
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Signal(i32),
    /// Somebody wants it to end in this way.
    Stop {
        now: Duration,
        ladder: StopLadder,
    },
    /// The time that was asked for has come.
    Due {
        now: Duration,
    },
    Exited,
}

/// What the actor does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send this signal.
    Send(i32),
    /// Send these signals, each followed by CONT, so that a stopped process feels it; and say [`Input::Due`] at that time.
    Descend { send: Vec<i32>, next: Duration },
    /// Say [`Input::Due`] at that time instead: a second stop may only shorten the first.
    Shorten(Duration),
    /// There is no time left: kill it.
    Kill,
    /// Answer whoever waits for the end.
    AnswerAll,
    /// Nothing, for this reason.
    Ignore(&'static str),
    /// Refuse, for this reason.
    Refuse(&'static str),
}

/// What `input` does in `state`.
pub(crate) fn next(state: State, input: Input) -> (State, Effect) {
    match (state, input) {
        (State::Exited, Input::Signal(_)) => (State::Exited, Effect::Refuse("the process has ended")),
        (State::Exited, Input::Stop { .. }) => (State::Exited, Effect::AnswerAll),
        (State::Exited, Input::Due { .. }) => (State::Exited, Effect::Ignore("it ended in time")),
        (State::Exited, Input::Exited) => (State::Exited, Effect::Ignore("an end is told once")),
        (_, Input::Exited) => (State::Exited, Effect::AnswerAll),
        (state, Input::Signal(signal)) => (state, Effect::Send(signal)),
        (State::Running, Input::Stop { now, ladder }) => {
            let mut descent = Descent::begin(&ladder, now);
            let send = descent.due(now);
            let effect = if send.is_empty() { Effect::Kill } else { Effect::Descend { send, next: descent.next() } };
            (State::Stopping(descent), effect)
        }
        (State::Stopping(mut descent), Input::Stop { now, ladder }) => {
            let effect = match descent.shorten(now.saturating_add(ladder.patience())) {
                true => Effect::Shorten(descent.next()),
                false => Effect::Ignore("it joins the stop under way"),
            };
            (State::Stopping(descent), effect)
        }
        (State::Running, Input::Due { .. }) => (State::Running, Effect::Ignore("no stop is under way")),
        (State::Stopping(mut descent), Input::Due { now }) => {
            let effect = match now >= descent.kill_at {
                true => Effect::Kill,
                false => Effect::Descend { send: descent.due(now), next: descent.next() },
            };
            (State::Stopping(descent), effect)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn ladder() -> impl Strategy<Value = StopLadder> {
        let rungs = proptest::collection::vec((1..32i32, 0..100u64), 0..4);
        rungs.prop_map(|rungs| {
            rungs.into_iter().fold(StopLadder::new(), |ladder, (signal, grace)| ladder.then(signal, ms(grace)))
        })
    }

    /// What happens, and how much later than the one before.
    fn input() -> impl Strategy<Value = (u64, Input)> {
        let now = Duration::ZERO;
        let what = prop_oneof![
            2 => (1..32i32).prop_map(Input::Signal),
            3 => ladder().prop_map(move |ladder| Input::Stop { now, ladder }),
            4 => Just(Input::Due { now }),
            1 => Just(Input::Exited),
        ];
        (0..60u64, what)
    }

    /// The same at this time.
    fn at(input: Input, now: Duration) -> Input {
        match input {
            Input::Stop { ladder, .. } => Input::Stop { now, ladder },
            Input::Due { .. } => Input::Due { now },
            other => other,
        }
    }

    proptest! {
        /// Whatever happens: one end, no signal after it, no kill without a stop or before each stop's patience allows it
        /// or after the shortest is over, and a kill that only comes nearer.
        #[test]
        fn the_life_of_a_process(inputs in proptest::collection::vec(input(), 0..40)) {
            let (mut state, mut ended, mut now, mut latest) = (State::Running, false, Duration::ZERO, None::<Duration>);
            for (later, input) in inputs {
                now += ms(later);
                let input = at(input, now);
                if let Input::Stop { ladder, .. } = &input {
                    let kill = now + ladder.patience();
                    latest = Some(latest.map_or(kill, |latest| latest.min(kill)));
                }
                let exit = input == Input::Exited;
                let due = matches!(input, Input::Due { .. });
                let (after, effect) = next(state, input);
                let acts = matches!(effect, Effect::Send(_) | Effect::Descend { .. } | Effect::Kill | Effect::Shorten(_));
                prop_assert!(!(acts && ended));
                match &effect {
                    Effect::Kill => prop_assert!(latest.is_some_and(|latest| latest <= now)),
                    Effect::Descend { next, .. } => {
                        prop_assert!(latest.is_some_and(|latest| *next <= latest));
                        prop_assert!(!due || *next > now, "what was due is done");
                    }
                    Effect::Shorten(next) => prop_assert!(latest.is_some_and(|latest| *next <= latest)),
                    _ => {}
                }
                ended |= exit;
                prop_assert_eq!(after == State::Exited, ended);
                if let State::Stopping(descent) = &after {
                    prop_assert_eq!(Some(descent.kill_at), latest);
                }
                state = after;
            }
        }
    }

    fn stop(now: u64, rungs: &[(i32, u64)]) -> Input {
        let ladder = rungs.iter().fold(StopLadder::new(), |ladder, (signal, grace)| ladder.then(*signal, ms(*grace)));
        Input::Stop { now: ms(now), ladder }
    }

    fn descend(send: &[i32], next: u64) -> Effect {
        Effect::Descend { send: send.to_vec(), next: ms(next) }
    }

    #[test]
    fn one_rung_after_the_other_and_then_the_kill() {
        let mut state = State::Running;
        let mut step = |input| {
            let (after, effect) = next(std::mem::replace(&mut state, State::Exited), input);
            state = after;
            effect
        };
        assert_eq!(step(stop(100, &[(15, 10), (2, 0), (3, 5)])), descend(&[15], 110));
        assert_eq!(step(Input::Due { now: ms(105) }), descend(&[], 110), "woken too early");
        assert_eq!(step(Input::Due { now: ms(110) }), descend(&[2, 3], 115));
        assert_eq!(step(Input::Due { now: ms(115) }), Effect::Kill);
    }

    #[test]
    fn a_second_stop_never_gives_more_time_than_is_left() {
        let (state, _) = next(State::Running, stop(0, &[(15, 10), (2, 10)]));
        let (state, effect) = next(state, stop(9, &[(15, 15)]));
        assert_eq!(
            effect,
            Effect::Ignore("it joins the stop under way"),
            "less than the first has in all, not than is left"
        );
        let (state, effect) = next(state, stop(9, &[(15, 3)]));
        assert_eq!(effect, Effect::Shorten(ms(10)), "the next signal still comes before the kill");
        let (state, effect) = next(state, Input::Due { now: ms(10) });
        assert_eq!(effect, descend(&[2], 12));
        let (_, effect) = next(state, stop(11, &[]));
        assert_eq!(effect, Effect::Shorten(ms(11)));
    }
}
