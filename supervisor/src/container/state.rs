//! The table of a container: total and pure.

use serde::{Deserialize, Serialize};

/// Where a container is.
///
/// ```
/// use orangery::State;
/// assert_eq!(serde_json::to_string(&State::Running).unwrap(), "\"running\"");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Namespaces, cgroup and pid 1 are being made.
    Creating,
    /// Its main process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its main process has ended; what is left is being removed.
    Ending,
    /// Removed but for its files, which are kept until it is deleted.
    Kept,
    /// Removed.
    Gone,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Started,
    Failed,
    Exec,
    Pause,
    Paused,
    Resume,
    Resumed,
    Update,
    MainExited,
    Kept,
    Removed,
}

impl Input {
    #[cfg(test)]
    pub(crate) const ALL: [Input; 11] = [
        Input::Started,
        Input::Failed,
        Input::Exec,
        Input::Pause,
        Input::Paused,
        Input::Resume,
        Input::Resumed,
        Input::Update,
        Input::MainExited,
        Input::Kept,
        Input::Removed,
    ];
}

/// What the actor does about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Carry it out.
    Go,
    /// It is so already.
    Already,
    /// Late news; dropped for this reason.
    Ignore(&'static str),
    /// Refused, for this reason.
    Refuse(&'static str),
}

/// What `input` does in `state`.
pub(crate) fn next(state: State, input: Input) -> (State, Verdict) {
    use Verdict::{Already, Go, Ignore, Refuse};
    match (state, input) {
        (State::Creating, Input::Started) => (State::Running, Go),
        (State::Creating, Input::Failed) => (State::Gone, Go),
        (State::Creating, Input::Exec | Input::Pause | Input::Resume | Input::Update) => {
            (state, Refuse("the container is still being created"))
        }
        (State::Running | State::Paused, Input::MainExited) | (State::Creating, Input::MainExited) => {
            (State::Ending, Go)
        }
        (State::Running, Input::Exec | Input::Pause | Input::Update) => (state, Go),
        (State::Paused, Input::Resume | Input::Update) => (state, Go),
        (State::Running, Input::Paused) => (State::Paused, Go),
        (State::Paused, Input::Resumed) => (State::Running, Go),
        // A pause may be under way, or have failed half way: the runtime takes one after the other, and a thaw of what
        // runs does nothing.
        (State::Running, Input::Resume) => (state, Go),
        (State::Paused, Input::Pause) => (state, Already),
        (State::Running, Input::Resumed) | (State::Paused, Input::Paused) => (state, Ignore("it is so already")),
        (State::Paused, Input::Exec) => (state, Refuse("the container is paused")),
        (State::Ending, Input::Kept) => (State::Kept, Go),
        (State::Ending | State::Kept | State::Gone, Input::Exec | Input::Pause | Input::Resume | Input::Update) => {
            (state, Refuse("the container has ended"))
        }
        (_, Input::Removed) => (State::Gone, Go),
        (State::Creating, Input::Paused | Input::Resumed) => (state, Ignore("nothing to freeze yet")),
        (State::Creating | State::Running | State::Paused, Input::Kept) => (state, Ignore("it has not ended")),
        (State::Running | State::Paused, Input::Started | Input::Failed) => (state, Ignore("it runs already")),
        (State::Ending | State::Kept | State::Gone, _) => (state, Ignore("late news of an ended container")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 6] =
        [State::Creating, State::Running, State::Paused, State::Ending, State::Kept, State::Gone];

    #[test]
    fn nothing_comes_back_from_gone_and_nothing_is_accepted_after_the_end() {
        for input in Input::ALL {
            let (after, verdict) = next(State::Gone, input);
            assert_eq!(after, State::Gone, "{input:?}");
            if input != Input::Removed {
                assert_ne!(verdict, Verdict::Go, "{input:?}");
            }
        }
    }

    #[test]
    fn a_command_is_answered_in_every_state() {
        for state in STATES {
            for input in [Input::Exec, Input::Pause, Input::Resume, Input::Update] {
                assert!(!matches!(next(state, input).1, Verdict::Ignore(_)), "{state:?} {input:?}");
            }
        }
    }

    #[test]
    fn the_main_exit_ends_it_from_wherever_it_lives() {
        for state in [State::Creating, State::Running, State::Paused] {
            assert_eq!(next(state, Input::MainExited), (State::Ending, Verdict::Go));
        }
    }
}
