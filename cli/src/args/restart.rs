//! When `run` starts its command again.

use std::time::Duration;

use clap::Args;
use orangery::Restart;
use orangery::runtime::spec::size::parse_duration;

/// The library's own default.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
#[command(next_help_heading = "Restart (each time in a fresh sandbox; --timeout counts each time anew)")]
pub(crate) struct RestartArgs {
    /// Start it again when it has ended: never, on-failure, on-failure:N (at most N times), always. Without N no more
    /// than 10 times in 10 minutes. The exit code is the last one's; INT or TERM stops it for good
    #[arg(long, value_name = "WHEN", value_parser = when, conflicts_with = "log")]
    restart: Option<When>,
    /// How long to wait before that: this, then twice as long each time, and again this after 10s that went well [100ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "restart")]
    restart_delay: Option<Duration>,
    /// But no longer than this [60s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "restart")]
    restart_max_delay: Option<Duration>,
}

/// What `--restart` says.
#[derive(Clone, Debug)]
enum When {
    Never,
    Again(Restart),
}

fn when(text: &str) -> Result<When, String> {
    let refused = || format!("{text:?} is no restart policy: write never, on-failure, on-failure:5 or always");
    Ok(match text.split_once(':') {
        None if text == "never" => When::Never,
        None if text == "on-failure" => When::Again(Restart::on_failure()),
        None if text == "always" => When::Again(Restart::always()),
        Some(("on-failure", most)) => When::Again(Restart::on_failure().at_most(most.parse().map_err(|_| refused())?)),
        _ => return Err(refused()),
    })
}

impl RestartArgs {
    /// `None`: once.
    pub(crate) fn restart(&self) -> Option<Restart> {
        let Some(When::Again(restart)) = self.restart.clone() else { return None };
        Some(match (self.restart_delay, self.restart_max_delay) {
            (None, None) => restart,
            (base, cap) => {
                let base = base.unwrap_or(Duration::from_millis(100));
                restart.back_off(base, 2, cap.unwrap_or(LONGEST.max(base)))
            }
        })
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
        assert_eq!(said("on-failure"), Some(Restart::on_failure()));
        assert_eq!(said("on-failure:5"), Some(Restart::on_failure().at_most(5)));
        for text in ["", "no", "always:3", "on-failure:", "on-failure:-1", "on-failure:x"] {
            assert!(when(text).is_err(), "{text}");
        }
    }
}
