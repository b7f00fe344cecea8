//! The table of a process: `(State, Input) -> (State, Effect)`, total and pure.

use std::time::Duration;

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Exec'd, not ended.
    Running,
    /// A stop was asked for; its grace runs.
    Stopping {
        /// What is left of the shortest grace that was asked for.
        grace: Duration,
    },
    /// Ended.
    Exited,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Signal(i32),
    Stop { signal: i32, grace: Duration },
    GraceOver,
    Exited,
}

/// What the actor does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Send this signal.
    Send(i32),
    /// Send this signal and CONT, so that a stopped process feels it, and arm the timer.
    BeginStop { signal: i32, grace: Duration },
    /// Arm the timer anew: a second stop may only shorten the first.
    Shorten(Duration),
    /// The grace is over: kill the tree.
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
        (State::Exited, Input::Signal(_)) => (state, Effect::Refuse("the process has ended")),
        (State::Exited, Input::Stop { .. }) => (state, Effect::AnswerAll),
        (State::Exited, Input::GraceOver) => (state, Effect::Ignore("it ended in time")),
        (State::Exited, Input::Exited) => (state, Effect::Ignore("an end is told once")),
        (_, Input::Exited) => (State::Exited, Effect::AnswerAll),
        (_, Input::Signal(signal)) => (state, Effect::Send(signal)),
        (State::Running, Input::Stop { signal, grace }) => {
            (State::Stopping { grace }, Effect::BeginStop { signal, grace })
        }
        (State::Stopping { grace: first }, Input::Stop { grace, .. }) if grace < first => {
            (State::Stopping { grace }, Effect::Shorten(grace))
        }
        (State::Stopping { .. }, Input::Stop { .. }) => (state, Effect::Ignore("it joins the stop under way")),
        (State::Running, Input::GraceOver) => (state, Effect::Ignore("no stop is under way")),
        (State::Stopping { .. }, Input::GraceOver) => (state, Effect::Kill),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn input() -> impl Strategy<Value = Input> {
        prop_oneof![
            (1..32i32).prop_map(Input::Signal),
            (1..32i32, 0..100u64).prop_map(|(signal, ms)| Input::Stop { signal, grace: Duration::from_millis(ms) }),
            Just(Input::GraceOver),
            Just(Input::Exited),
        ]
    }

    proptest! {
        /// Whatever happens: one end, no signal after it, no kill without a stop, a grace that only shrinks.
        #[test]
        fn the_life_of_a_process(inputs in proptest::collection::vec(input(), 0..40)) {
            let (mut state, mut stopped, mut ended) = (State::Running, false, false);
            for input in inputs {
                let (after, effect) = next(state, input);
                if matches!(effect, Effect::Send(_) | Effect::BeginStop { .. } | Effect::Kill | Effect::Shorten(_)) {
                    prop_assert!(!ended);
                }
                if effect == Effect::Kill {
                    prop_assert!(stopped);
                }
                if let (State::Stopping { grace: a }, State::Stopping { grace: b }) = (state, after) {
                    prop_assert!(b <= a);
                }
                stopped |= matches!(effect, Effect::BeginStop { .. });
                ended |= input == Input::Exited;
                prop_assert_eq!(after == State::Exited, ended);
                state = after;
            }
        }
    }
}
