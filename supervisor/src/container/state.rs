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
    /// Its processes were killed and do not end: see [`Unkillable`](crate::Unkillable).
    Unkillable,
    /// Removed but for its files, which are kept until it is deleted.
    Kept,
    /// Removed.
    Gone,
}

#[cfg(test)]
impl State {
    pub(crate) const ALL: [State; 7] =
        [State::Creating, State::Running, State::Paused, State::Ending, State::Unkillable, State::Kept, State::Gone];
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Created,
    Started,
    Failed,
    Exec,
    Pause,
    Paused,
    Resume,
    Resumed,
    Update,
    Updated,
    MainExited,
    Unkillable,
    Kept,
    Removed,
}

impl Input {
    #[cfg(test)]
    pub(crate) const ALL: [Input; 14] = [
        Input::Created,
        Input::Started,
        Input::Failed,
        Input::Exec,
        Input::Pause,
        Input::Paused,
        Input::Resume,
        Input::Resumed,
        Input::Update,
        Input::Updated,
        Input::MainExited,
        Input::Unkillable,
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
        (State::Creating, Input::Created) => (state, Go),
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
        (State::Running | State::Paused, Input::Updated) => (state, Go),
        (State::Running, Input::Paused) => (State::Paused, Go),
        (State::Paused, Input::Resumed) => (State::Running, Go),
        // A pause may be under way, or have failed half way: the runtime takes one after the other, and a thaw of what
        // runs does nothing.
        (State::Running, Input::Resume) => (state, Go),
        (State::Paused, Input::Pause) => (state, Already),
        (State::Running, Input::Resumed) | (State::Paused, Input::Paused) => (state, Ignore("it is so already")),
        (State::Paused, Input::Exec) => (state, Refuse("the container is paused")),
        (State::Ending, Input::Unkillable) => (State::Unkillable, Go),
        (State::Ending | State::Unkillable, Input::Kept) => (State::Kept, Go),
        (State::Unkillable, Input::Exec | Input::Pause | Input::Resume | Input::Update) => {
            (state, Refuse("the container was killed, and its processes do not end"))
        }
        (State::Ending | State::Kept | State::Gone, Input::Exec | Input::Pause | Input::Resume | Input::Update) => {
            (state, Refuse("the container has ended"))
        }
        (State::Gone, Input::Removed) => (state, Ignore("it is gone already")),
        (_, Input::Removed) => (State::Gone, Go),
        (State::Creating, Input::Paused | Input::Resumed | Input::Updated) => (state, Ignore("it does not run yet")),
        (State::Creating | State::Running | State::Paused, Input::Kept | Input::Unkillable) => {
            (state, Ignore("it has not ended"))
        }
        (State::Running | State::Paused, Input::Created | Input::Started | Input::Failed) => {
            (state, Ignore("it runs already"))
        }
        (State::Ending | State::Unkillable | State::Kept | State::Gone, _) => {
            (state, Ignore("late news of an ended container"))
        }
    }
}

/// What the feed is told when `input` was carried out: of news each, of requests none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Created,
    Started,
    Failed,
    Paused,
    Resumed,
    Updated,
    Exited,
    Unkillable,
    Kept,
    Removed,
}

/// The news of a step of the table.
pub(crate) const fn news(input: Input, verdict: Verdict) -> Option<News> {
    match (verdict, input) {
        (Verdict::Go, Input::Created) => Some(News::Created),
        (Verdict::Go, Input::Started) => Some(News::Started),
        (Verdict::Go, Input::Failed) => Some(News::Failed),
        (Verdict::Go, Input::Paused) => Some(News::Paused),
        (Verdict::Go, Input::Resumed) => Some(News::Resumed),
        (Verdict::Go, Input::Updated) => Some(News::Updated),
        (Verdict::Go, Input::MainExited) => Some(News::Exited),
        (Verdict::Go, Input::Unkillable) => Some(News::Unkillable),
        (Verdict::Go, Input::Kept) => Some(News::Kept),
        (Verdict::Go, Input::Removed) => Some(News::Removed),
        (Verdict::Go, Input::Exec | Input::Pause | Input::Resume | Input::Update) => None,
        (Verdict::Already | Verdict::Ignore(_) | Verdict::Refuse(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_back_from_gone_and_nothing_is_accepted_after_the_end() {
        for input in Input::ALL {
            let (after, verdict) = next(State::Gone, input);
            assert_eq!(after, State::Gone, "{input:?}");
            assert_ne!(verdict, Verdict::Go, "{input:?}");
        }
    }

    #[test]
    fn a_command_is_answered_in_every_state() {
        for state in State::ALL {
            for input in [Input::Exec, Input::Pause, Input::Resume, Input::Update] {
                assert!(!matches!(next(state, input).1, Verdict::Ignore(_)), "{state:?} {input:?}");
            }
        }
    }

    #[test]
    fn every_change_of_state_is_news() {
        for state in State::ALL {
            for input in Input::ALL {
                let (after, verdict) = next(state, input);
                assert!(after == state || news(input, verdict).is_some(), "{state:?} {input:?}");
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
