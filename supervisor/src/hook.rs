//! Commands that go with a stop: before its first signal, and after the end of the main process.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use orangery_runtime::spec::Stdio;
use orangery_runtime::{Error as RuntimeError, ProcessSpec};
use serde::{Deserialize, Serialize};

use crate::report::ExitStatus;

/// As s6 gives a finish script.
const DEADLINE: Duration = Duration::from_secs(5);

/// A command for [`Command::pre_stop`](crate::Command::pre_stop) or [`Command::post_stop`](crate::Command::post_stop).
///
/// It is a further process of the container, with the environment, the directory, the user, the rights and the rlimits of its
/// main process, without input, and its output goes nowhere. It is killed at its deadline, 5 s unless it has another one.
///
/// ```
/// use orangery::Hook;
/// use std::time::Duration;
/// let hook = Hook::new("nginx").args(["-s", "quit"]).deadline(Duration::from_secs(20));
/// # drop(hook);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Hook {
    argv: Vec<OsString>,
    deadline: Duration,
}

impl Hook {
    /// This program; looked up as that of a command is.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { argv: vec![program.as_ref().to_os_string()], deadline: DEADLINE }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_os_string());
        self
    }

    /// More arguments.
    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// It is killed when it has not ended by then, counted from when it is to be started.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// Which of the two it was.
///
/// ```
/// assert_eq!(serde_json::to_string(&orangery::HookKind::PreStop).unwrap(), "\"pre_stop\"");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HookKind {
    /// Before the first signal of a stop.
    PreStop,
    /// After the end of the main process.
    PostStop,
}

/// What has become of a [`Hook`]. Whatever it is, the stop goes on.
///
/// ```
/// use orangery::{ExitStatus, HookOutcome};
/// let ended = HookOutcome::Ended { exit: ExitStatus::Code(0), took_us: 900 };
/// assert!(ended.success() && !HookOutcome::TimedOut { after_ms: 5000 }.success());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HookOutcome {
    /// It has ended: by itself, or with its container.
    Ended {
        /// How.
        exit: ExitStatus,
        /// From when it was to be started, in microseconds.
        took_us: u64,
    },
    /// It was killed at its deadline.
    TimedOut {
        /// The deadline, in milliseconds.
        after_ms: u64,
    },
    /// It could not be started.
    NotStarted {
        /// Why not.
        why: String,
    },
    /// The container was killed: nothing is run any more.
    Skipped,
}

impl HookOutcome {
    /// It has ended with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        matches!(self, Self::Ended { exit, .. } if exit.success())
    }
}

/// The hooks of a command.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hooks {
    pub(crate) pre_stop: Option<Hook>,
    pub(crate) post_stop: Option<Hook>,
}

impl Hooks {
    /// How many of them may run at a time.
    pub(crate) fn commands(&self) -> u64 {
        u64::from(self.pre_stop.is_some() || self.post_stop.is_some())
    }

    /// Everything that is wrong with them.
    pub(crate) fn check(&self) -> Vec<RuntimeError> {
        let mut wrong = Vec::new();
        for (field, hook) in [("pre_stop", &self.pre_stop), ("post_stop", &self.post_stop)] {
            let Some(hook) = hook else { continue };
            if hook.deadline.is_zero() {
                wrong.push(RuntimeError::invalid(field, "a deadline of zero allows nothing"));
            }
            if hook.argv.first().is_none_or(|program| program.is_empty()) {
                wrong.push(RuntimeError::invalid(field, "there is no program"));
            }
        }
        wrong
    }

    /// As they are run beside this main process.
    pub(crate) fn beside(self, main: &ProcessSpec) -> Ready {
        let ready = |hook: Hook| {
            let mut spec = main.clone();
            spec.argv = hook.argv;
            (spec.stdin, spec.stdout, spec.stderr) = (Stdio::Null, Stdio::Null, Stdio::Null);
            (spec.tty, spec.preserved, spec.preserved_at) = (None, Vec::new(), Vec::new());
            ReadyHook { spec, deadline: hook.deadline }
        };
        Ready { pre_stop: self.pre_stop.map(ready), post_stop: self.post_stop.map(ready) }
    }
}

/// A hook as the process that it will be.
#[derive(Clone, Debug)]
pub(crate) struct ReadyHook {
    pub(crate) spec: ProcessSpec,
    pub(crate) deadline: Duration,
}

/// Both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ready {
    pub(crate) pre_stop: Option<ReadyHook>,
    pub(crate) post_stop: Option<ReadyHook>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_is_the_main_process_with_another_command_and_without_its_streams() {
        let mut main = ProcessSpec::default();
        main.argv = vec!["server".into()];
        main.env = vec![("A".into(), "b".into())];
        main.tty = Some(orangery_runtime::spec::WindowSize::default());
        let hooks = Hooks { pre_stop: Some(Hook::new("say").arg("bye")), post_stop: None };
        let ready = hooks.beside(&main).pre_stop.unwrap();
        assert_eq!((ready.spec.argv.len(), ready.spec.env, ready.deadline), (2, main.env, DEADLINE));
        assert!(ready.spec.tty.is_none() && matches!(ready.spec.stdout, Stdio::Null));
    }

    #[test]
    fn hooks_that_can_do_nothing_are_refused_by_their_field() {
        let nothing = Some(Hook::new("").deadline(Duration::ZERO));
        let wrong = Hooks { pre_stop: nothing, post_stop: Some(Hook::new("x")) }.check();
        let fields: Vec<_> = wrong.iter().map(|error| error.field().unwrap_or("")).collect();
        assert_eq!(fields, ["pre_stop", "pre_stop"]);
    }
}
