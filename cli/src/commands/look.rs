//! `ps` and `inspect`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{StreamExt as _, stream};
use orangery_daemon::wire::{Container, Containers, ExitStatus, State};

use super::table::{cut, span, table};
use super::{AT_ONCE, asking, container, containers, document, say};
use crate::args::{InspectArgs, PsArgs};
use crate::client::Target;
use crate::errors::{Failure, one_line};
use crate::signals;

/// A command is shown up to here.
const COMMAND: usize = 48;

pub(super) fn ps(args: &PsArgs, json: bool) -> Result<u8, Failure> {
    asking(&args.daemon, async |client| {
        let found: Containers = client.get(&asked(args)).await?;
        if json {
            document(&found)?;
        } else if args.quiet {
            say(found.containers.iter().map(|found| format!("{}\n", found.name)).collect::<String>().as_bytes())?;
        } else {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let rows: Vec<_> = found.containers.iter().map(|found| row(found, now)).collect();
            say(table(["NAME", "STATE", "PID", "SINCE", "RESTARTS", "COMMAND"], &rows).as_bytes())?;
        }
        Ok(0)
    })
}

fn asked(args: &PsArgs) -> Target {
    let lives: Vec<State> = State::ALL.into_iter().filter(|state| !state.is_at_rest()).collect();
    let states = match (&args.state[..], args.all) {
        (_, true) => &[],
        ([], false) => &lives[..],
        (states, false) => states,
    };
    let states: Vec<&str> = states.iter().map(|state| state.name()).collect();
    let target = containers().maybe("state", (!states.is_empty()).then(|| states.join(",")));
    let target = target.maybe("name_prefix", args.prefix.as_deref());
    args.label.iter().fold(target, |target, (key, value)| target.query("label", format!("{key}={value}")))
}

fn row(found: &Container, now: Duration) -> [String; 6] {
    let since = Duration::from_millis(found.started_at_ms.unwrap_or(found.created_at_ms));
    let command = cut(&one_line(&found.command.join(" ")), COMMAND);
    [
        one_line(&found.name),
        state(found),
        found.pid.filter(|_| !found.state.is_at_rest()).map_or_else(|| "-".into(), |pid| pid.to_string()),
        span(now.saturating_sub(since).as_secs()),
        found.service.as_ref().map_or_else(|| "-".into(), |service| service.restarts.to_string()),
        command,
    ]
}

/// Where it is, and what one wants to know of that.
fn state(found: &Container) -> String {
    let state = found.state.name();
    let more = match (found.state, &found.exit) {
        (State::Exited | State::Failed | State::Waiting, Some(exit)) => match exit.exit {
            ExitStatus::Code(code) => Some(code.to_string()),
            ExitStatus::Signal { signal, .. } => Some(signals::name(signal).into()),
            ExitStatus::Lost => Some("lost".into()),
        },
        (State::Running, _) if !found.ready => Some("not ready".into()),
        (State::Running, _) => match found.health {
            Some(orangery_daemon::wire::HealthState::Unhealthy) => Some("unhealthy".into()),
            _ => None,
        },
        _ => None,
    };
    more.map_or_else(|| state.to_owned(), |more| format!("{state} ({more})"))
}

pub(super) fn inspect(args: &InspectArgs, json: bool) -> Result<u8, Failure> {
    asking(&args.daemon, async |client| {
        let client = &client;
        let found = stream::iter(&args.names)
            .map(|name| async move { client.get::<serde_json::Value>(&container(name)).await });
        let mut found = std::pin::pin!(found.buffered(AT_ONCE));
        let mut code = 0;
        while let Some(found) = found.next().await {
            // As the daemon says it: a field that this client does not know is shown too.
            match found.map_err(Failure::from) {
                Ok(found) if json => document(&found)?,
                Ok(found) => say(format!("{found:#}\n").as_bytes())?,
                Err(failure) if args.names.len() == 1 => return Err(failure),
                Err(failure) => {
                    failure.tell(json);
                    code = failure.exit_code();
                }
            }
        }
        Ok(code)
    })
}
