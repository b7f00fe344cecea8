//! How the command is stopped.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use orangery::{Command, Hook};

use super::probes::{no_command, span};

pub(crate) use orangery_daemon::server::ladder;

/// Commands that go with a stop.
#[derive(Debug, Args)]
pub(crate) struct HookArgs {
    /// Run this command in it before the first signal of a stop
    #[arg(long, value_name = "WORD")]
    pre_stop: Vec<OsString>,
    /// But no longer than this [5s]
    #[arg(long, value_name = "TIME", value_parser = span, requires = "pre_stop")]
    pre_stop_deadline: Option<Duration>,
    /// Run this command in it when its main process has ended, however that was
    #[arg(long, value_name = "WORD")]
    post_stop: Vec<OsString>,
    /// But no longer than this [5s]
    #[arg(long, value_name = "TIME", value_parser = span, requires = "post_stop")]
    post_stop_deadline: Option<Duration>,
}

impl HookArgs {
    /// What cannot be: a key, and why.
    pub(crate) fn refused(&self) -> Option<(&'static str, &'static str)> {
        no_command("pre-stop", &self.pre_stop).or_else(|| no_command("post-stop", &self.post_stop))
    }

    /// The command with both.
    pub(crate) fn apply(&self, mut command: Command) -> Command {
        if let Some(hook) = hook(&self.pre_stop, self.pre_stop_deadline) {
            command = command.pre_stop(hook);
        }
        match hook(&self.post_stop, self.post_stop_deadline) {
            Some(hook) => command.post_stop(hook),
            None => command,
        }
    }
}

fn hook(words: &[OsString], deadline: Option<Duration>) -> Option<Hook> {
    let (program, args) = words.split_first()?;
    let hook = Hook::new(program).args(args);
    Some(match deadline {
        Some(deadline) => hook.deadline(deadline),
        None => hook,
    })
}
