//! How the command is stopped.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use orangery::runtime::spec::size::parse_duration;
use orangery::{Command, Hook, StopLadder};

use super::probes::{no_command, span};
use crate::signals;

/// `TERM:10s,INT:5s`: each signal with the time that it is given, then the kill.
///
/// # Errors
/// What is no signal or no time.
pub(crate) fn ladder(text: &str) -> Result<StopLadder, String> {
    text.split(',').try_fold(StopLadder::new(), |ladder, rung| {
        let (signal, grace) = rung
            .split_once(':')
            .ok_or_else(|| format!("{rung:?} is no signal with its time: write TERM:10s, or TERM:10s,INT:5s"))?;
        Ok(ladder.then(signals::number(signal)?, parse_duration(grace)?))
    })
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_and_what_is_none() {
        let seconds = Duration::from_secs;
        assert_eq!(ladder("TERM:10s"), Ok(StopLadder::default()));
        assert_eq!(ladder("sigint:5s,15:1m"), Ok(StopLadder::new().then(2, seconds(5)).then(15, seconds(60))));
        for text in ["", "TERM", "TERM:", ":5s", "TERM:5s,", "NONE:5s", "TERM:5s;INT:5s", "TERM:-1s"] {
            assert!(ladder(text).is_err(), "{text}");
        }
    }
}
