//! When a command is started again.

use std::time::Duration;

use clap::Args;
use orangery::runtime::spec::size::parse_duration;
use orangery::{ExitClass, LimitKind, Restart, Treatment};

use crate::signals;

/// The library's own defaults.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(next_help_heading = "Restart (each time in a fresh sandbox; --timeout counts each time anew)")]
pub(crate) struct RestartArgs {
    /// Start it again when it has ended: never, on-failure, on-failure:N (at most N times), always, unless-stopped.
    /// Without N no more than 10 times in 10 minutes. With run the exit code is the last one's; INT or TERM stops it for good
    #[arg(long, value_name = "WHEN", value_parser = when)]
    restart: Option<When>,
    /// How long to wait before that: this, then twice as long each time, and again this after 10s that went well [100ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "restart")]
    restart_delay: Option<Duration>,
    /// But no longer than this [60s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "restart")]
    restart_max_delay: Option<Duration>,
    /// Each delay is shorter by up to this share, by lot, so that what fell together does not rise together [25]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(..=100), requires = "restart")]
    restart_jitter: Option<u32>,
    /// After a run of this length delays begin with the first again [10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "restart")]
    restart_stable: Option<Duration>,
    /// No more than N restarts in any span of TIME: one more, and it has failed [10/10m]
    #[arg(long, value_name = "N/TIME", value_parser = window, requires = "restart")]
    restart_window: Option<(u32, Duration)>,
}

#[derive(Debug, Args)]
pub(crate) struct ExitArgs {
    /// What an end means: CLASS is a code, a signal, oom, limit, or limit:wall, :memory, :cpu, :idle, :output or :file-size;
    /// MEANING success, failure, prevent (never again), force (again, whatever --restart says), permanent (never again: it
    /// has failed for good) or at-once (if again, then without a delay). The last that applies counts
    #[arg(long, value_name = "CLASS=MEANING", value_parser = class, requires = "restart")]
    on_exit: Vec<(ExitClass, Treatment)>,
}

/// What `--restart` says.
#[derive(Clone, Debug)]
enum When {
    Never,
    Again(Restart),
}

fn when(text: &str) -> Result<When, String> {
    let refused =
        || format!("{text:?} is no restart policy: write never, on-failure, on-failure:5, always or unless-stopped");
    Ok(match text.split_once(':') {
        None if text == "never" => When::Never,
        None if text == "on-failure" => When::Again(Restart::on_failure()),
        None if text == "always" => When::Again(Restart::always()),
        None if text == "unless-stopped" => When::Again(Restart::unless_stopped()),
        Some(("on-failure", most)) => When::Again(Restart::on_failure().at_most(most.parse().map_err(|_| refused())?)),
        _ => return Err(refused()),
    })
}

fn window(text: &str) -> Result<(u32, Duration), String> {
    let form = || format!("{text:?} is no window: write N/TIME, such as 5/1m");
    let (most, within) = text.split_once('/').ok_or_else(form)?;
    match (most.parse().map_err(|_| form())?, parse_duration(within)?) {
        (_, Duration::ZERO) => Err(format!("{text:?}: a window of zero length holds nothing")),
        window => Ok(window),
    }
}

fn class(text: &str) -> Result<(ExitClass, Treatment), String> {
    let (class, meaning) = text.split_once('=').ok_or_else(|| format!("{text:?} is not CLASS=MEANING"))?;
    let limit = |kind| Ok(ExitClass::Limit(kind));
    let class = match class {
        "oom" => Ok(ExitClass::Oom),
        "limit" => Ok(ExitClass::AnyLimit),
        "limit:wall" => limit(LimitKind::Wall),
        "limit:memory" => limit(LimitKind::Memory),
        "limit:cpu" => limit(LimitKind::Cpu),
        "limit:idle" => limit(LimitKind::Idle),
        "limit:output" => limit(LimitKind::Output),
        "limit:file-size" => limit(LimitKind::FileSize),
        // A number is a code here; signals have names.
        code => match code.parse::<u8>() {
            Ok(code) => Ok(ExitClass::Code(code.into())),
            Err(_) => signals::number(code).map(ExitClass::Signal),
        },
    };
    let class = class.map_err(|_| {
        format!("{text:?}: no end is of that class: write a code, a signal such as SEGV, oom, limit or limit:wall")
    })?;
    let treatment = match meaning {
        "success" => Treatment::Success,
        "failure" => Treatment::Failure,
        "prevent" => Treatment::Prevent,
        "force" => Treatment::Force,
        "permanent" => Treatment::Permanent,
        "at-once" => Treatment::NoBackOff,
        _ => {
            return Err(format!(
                "{text:?}: {meaning:?} means nothing: write success, failure, prevent, force, permanent or at-once"
            ));
        }
    };
    Ok((class, treatment))
}

impl RestartArgs {
    /// `None`: once.
    pub(crate) fn restart(&self, exits: &ExitArgs) -> Option<Restart> {
        matches!(self.restart, Some(When::Again(_))).then(|| exits.apply(self.policy()))
    }

    /// What it is without exit classes.
    pub(crate) fn policy(&self) -> Restart {
        let mut restart = match &self.restart {
            Some(When::Again(restart)) => restart.clone(),
            Some(When::Never) | None => Restart::never(),
        };
        if let (base, cap @ Some(_)) | (base @ Some(_), cap) = (self.restart_delay, self.restart_max_delay) {
            let base = base.unwrap_or(FIRST);
            restart = restart.back_off(base, 2, cap.unwrap_or(LONGEST.max(base)));
        }
        if let Some(percent) = self.restart_jitter {
            restart = restart.jitter(percent);
        }
        if let Some(run) = self.restart_stable {
            restart = restart.stable(run);
        }
        match self.restart_window {
            Some((most, within)) => restart.window(most, within),
            None => restart,
        }
    }
}

impl ExitArgs {
    pub(crate) fn apply(&self, restart: Restart) -> Restart {
        self.on_exit.iter().fold(restart, |restart, (class, treatment)| restart.class(*class, *treatment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_said() {
        let said = |text| match when(text) {
            Ok(When::Again(restart)) => Some(restart),
            Ok(When::Never) => None,
            Err(why) => panic!("{why}"),
        };
        assert_eq!(said("never"), None);
        assert_eq!(said("always"), Some(Restart::always()));
        assert_eq!(said("unless-stopped"), Some(Restart::unless_stopped()));
        assert_eq!(said("on-failure"), Some(Restart::on_failure()));
        assert_eq!(said("on-failure:5"), Some(Restart::on_failure().at_most(5)));
        for text in ["", "no", "always:3", "on-failure:", "on-failure:-1", "on-failure:x"] {
            assert!(when(text).is_err(), "{text}");
        }
        assert_eq!(window("5/1m"), Ok((5, Duration::from_secs(60))));
        for text in ["", "5", "5/", "/1m", "-1/1m", "5/0s", "5 in 1m"] {
            assert!(window(text).is_err(), "{text}");
        }
    }

    #[test]
    fn classes_of_ends() {
        assert_eq!(class("125=permanent"), Ok((ExitClass::Code(125), Treatment::Permanent)));
        assert_eq!(class("SIGSEGV=failure"), Ok((ExitClass::Signal(11), Treatment::Failure)));
        assert_eq!(class("oom=prevent"), Ok((ExitClass::Oom, Treatment::Prevent)));
        assert_eq!(class("limit:wall=force"), Ok((ExitClass::Limit(LimitKind::Wall), Treatment::Force)));
        for text in ["", "oom", "oom=", "256=success", "-1=success", "limit:tea=success", "SEGV=again", "=success"] {
            assert!(class(text).is_err(), "{text}");
        }
    }
}
