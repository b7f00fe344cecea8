//! The table of a process: `(State, Input) -> (State, Effect)`, total and pure. Times are counted from one beginning, which
//! only the caller knows.

use std::time::Duration;

use super::backstop::Course;
use super::descent::Descent;
use crate::ladder::StopLadder;

/// Where a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Exec'd, not ended.
    Running,
    /// A stop was asked for, and what is to be done before its first signal is under way, until then at most.
    Preparing { ladder: StopLadder, until: Duration, kill_at: Duration },
    /// A stop was asked for, and this is left of it.
    Stopping(Descent),
    /// Ended.
    Exited,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Signal(i32),
    /// Somebody wants it to end in this way. Something else is to be done `before` the first signal, which takes so long
    /// at most.
    Stop {
        now: Duration,
        ladder: StopLadder,
        before: Option<Duration>,
    },
    /// That is done.
    Prepared {
        now: Duration,
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
    /// Do what is to be done before the first signal, say [`Input::Prepared`] then, and [`Input::Due`] at that time.
    Prepare { next: Duration },
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

const JOINS: &str = "it joins the stop under way";

/// What `input` does in `state`.
pub(crate) fn next(state: State, input: Input) -> (State, Effect) {
    match (state, input) {
        (State::Exited, Input::Signal(_)) => (State::Exited, Effect::Refuse("the process has ended")),
        (State::Exited, Input::Stop { .. }) => (State::Exited, Effect::AnswerAll),
        (State::Exited, Input::Due { .. } | Input::Prepared { .. }) => {
            (State::Exited, Effect::Ignore("it ended in time"))
        }
        (State::Exited, Input::Exited) => (State::Exited, Effect::Ignore("an end is told once")),
        (_, Input::Exited) => (State::Exited, Effect::AnswerAll),
        (state, Input::Signal(signal)) => (state, Effect::Send(signal)),
        // A ladder without signals is a kill, and nothing comes before that.
        (State::Running, Input::Stop { now, ladder, before: Some(before) }) if ladder.rungs().next().is_some() => {
            let until = now.saturating_add(before);
            let kill_at = until.saturating_add(ladder.patience());
            (State::Preparing { ladder, until, kill_at }, Effect::Prepare { next: kill_at })
        }
        (State::Running, Input::Stop { now, ladder, .. }) => go_on(Descent::begin(&ladder, now), now),
        (State::Preparing { ladder, until, kill_at }, Input::Stop { now, ladder: other, .. }) => {
            let sooner = now.saturating_add(other.patience());
            let effect = if sooner < kill_at { Effect::Shorten(sooner) } else { Effect::Ignore(JOINS) };
            (State::Preparing { ladder, until, kill_at: kill_at.min(sooner) }, effect)
        }
        (State::Preparing { ladder, kill_at, .. }, Input::Prepared { now }) if now < kill_at => {
            let mut descent = Descent::begin(&ladder, now);
            descent.shorten(kill_at);
            go_on(descent, now)
        }
        (State::Preparing { ladder, until, kill_at }, Input::Due { now }) if now < kill_at => {
            (State::Preparing { ladder, until, kill_at }, Effect::Shorten(kill_at))
        }
        (State::Preparing { .. }, Input::Prepared { now } | Input::Due { now }) => go_on(Descent::kill(now), now),
        (State::Stopping(mut descent), Input::Stop { now, ladder, .. }) => {
            let effect = match descent.shorten(now.saturating_add(ladder.patience())) {
                true => Effect::Shorten(descent.next()),
                false => Effect::Ignore(JOINS),
            };
            (State::Stopping(descent), effect)
        }
        (State::Running, Input::Due { .. } | Input::Prepared { .. }) => {
            (State::Running, Effect::Ignore("no stop is under way"))
        }
        (state @ State::Stopping(_), Input::Prepared { .. }) => (state, Effect::Ignore("it was not waited for")),
        (State::Stopping(mut descent), Input::Due { now }) => {
            let effect = match now >= descent.kill_at() {
                true => Effect::Kill,
                false => Effect::Descend { send: descent.due(now), next: descent.next() },
            };
            (State::Stopping(descent), effect)
        }
    }
}

/// It is so far: what is done now.
fn go_on(mut descent: Descent, now: Duration) -> (State, Effect) {
    let effect = match descent.is_over(now) {
        true => Effect::Kill,
        false => Effect::Descend { send: descent.due(now), next: descent.next() },
    };
    (State::Stopping(descent), effect)
}

impl State {
    /// What is left of a stop that is under way, for a keeper whose time was `zero_ns` when ours began.
    pub(crate) fn course(&self, zero_ns: u64) -> Option<Course> {
        match self {
            Self::Running | Self::Exited => None,
            Self::Stopping(descent) => Some(descent.course(zero_ns)),
            // As if what comes before took all its time.
            Self::Preparing { ladder, until, kill_at } => {
                let mut descent = Descent::begin(ladder, *until);
                descent.shorten(*kill_at);
                Some(descent.course(zero_ns))
            }
        }
    }

    /// How many signals of it were due before this many.
    pub(crate) fn before(&self, due: usize) -> usize {
        match self {
            Self::Stopping(descent) => descent.done().saturating_sub(due),
            _ => 0,
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
            3 => (ladder(), proptest::option::of(0..50u64))
                .prop_map(move |(ladder, before)| Input::Stop { now, ladder, before: before.map(ms) }),
            1 => Just(Input::Prepared { now }),
            4 => Just(Input::Due { now }),
            1 => Just(Input::Exited),
        ];
        (0..60u64, what)
    }

    /// The same at this time.
    fn at(input: Input, now: Duration) -> Input {
        match input {
            Input::Stop { ladder, before, .. } => Input::Stop { now, ladder, before },
            Input::Prepared { .. } => Input::Prepared { now },
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
                let mut kill = None;
                if let Input::Stop { ladder, before, .. } = &input {
                    let first = state == State::Running && ladder.rungs().next().is_some();
                    kill = Some(now + ladder.patience() + before.filter(|_| first).unwrap_or_default());
                }
                if let (Input::Prepared { .. }, State::Preparing { ladder, .. }) = (&input, &state) {
                    kill = Some(now + ladder.patience());
                }
                latest = kill.map(|kill| latest.map_or(kill, |latest| latest.min(kill))).or(latest);
                let exit = input == Input::Exited;
                let due = matches!(input, Input::Due { .. });
                let (after, effect) = next(state, input);
                let acts = !matches!(effect, Effect::AnswerAll | Effect::Ignore(_) | Effect::Refuse(_));
                prop_assert!(!(acts && ended));
                match &effect {
                    Effect::Kill => prop_assert!(latest.is_some_and(|latest| latest <= now)),
                    Effect::Descend { next, .. } => {
                        prop_assert!(latest.is_some_and(|latest| *next <= latest));
                        prop_assert!(!due || *next > now, "what was due is done");
                    }
                    Effect::Prepare { next } => prop_assert_eq!(Some(*next), latest),
                    Effect::Shorten(next) => prop_assert!(latest.is_some_and(|latest| *next <= latest)),
                    _ => {}
                }
                ended |= exit;
                prop_assert_eq!(after == State::Exited, ended);
                let kill_at = match &after {
                    State::Stopping(descent) => Some(descent.kill_at()),
                    State::Preparing { kill_at, .. } => Some(*kill_at),
                    _ => None,
                };
                if let Some(kill_at) = kill_at {
                    // Of one that came too late to be in time it is now.
                    prop_assert!(latest.is_some_and(|latest| kill_at == latest || effect == Effect::Kill));
                    latest = Some(kill_at);
                }
                prop_assert_eq!(after.course(0).is_some(), kill_at.is_some());
                state = after;
            }
        }
    }

    fn stop(now: u64, rungs: &[(i32, u64)]) -> Input {
        let ladder = rungs.iter().fold(StopLadder::new(), |ladder, (signal, grace)| ladder.then(*signal, ms(*grace)));
        Input::Stop { now: ms(now), ladder, before: None }
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
    fn what_comes_before_takes_no_grace_away_and_holds_up_nothing_beyond_its_deadline() {
        let with = |before| match stop(0, &[(15, 10)]) {
            Input::Stop { now, ladder, .. } => Input::Stop { now, ladder, before: Some(ms(before)) },
            other => other,
        };
        let (preparing, effect) = next(State::Running, with(5));
        assert_eq!(effect, Effect::Prepare { next: ms(15) });
        let (_, effect) = next(preparing.clone(), Input::Prepared { now: ms(2) });
        assert_eq!(effect, descend(&[15], 12));
        let (_, effect) = next(preparing.clone(), Input::Due { now: ms(15) });
        assert_eq!(effect, Effect::Kill, "it has not said that it is over");
        let (hurried, effect) = next(preparing, stop(1, &[(2, 3)]));
        assert_eq!(effect, Effect::Shorten(ms(4)));
        let (_, effect) = next(hurried, Input::Prepared { now: ms(2) });
        assert_eq!(effect, descend(&[15], 4));
        let kill = Input::Stop { now: ms(0), ladder: StopLadder::new(), before: Some(ms(5)) };
        assert_eq!(next(State::Running, kill).1, Effect::Kill, "a kill waits for nothing");
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
