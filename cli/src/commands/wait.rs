//! `wait`: until a container's end, across restarts of the daemon.

use std::time::Duration;

use orangery_daemon::wire::{Exit, Waited};
use tokio::time::Instant;

use super::{asking, container, document};
use crate::args::WaitArgs;
use crate::client::{Again, Client, Lost};
use crate::errors::Failure;

/// How long one answer may take: the daemon ends what is longer.
const ROUND: Duration = Duration::from_secs(300);
/// The time was over first.
const TIMEOUT: u8 = 124;

pub(super) fn wait(args: &WaitArgs, json: bool) -> Result<u8, Failure> {
    asking(&args.lasting.daemon, async |client| {
        let again = Again::new(args.lasting.reconnect, json);
        let Some(waited) = until(&client, args, again).await? else { return Ok(TIMEOUT) };
        if json {
            document(&waited)?;
        }
        match waited.exit {
            Some(exit) if !args.ready => Ok(code(&exit)),
            None if !args.ready => Err(Failure::new("it has ended, and the daemon does not say how")),
            Some(exit) => Err(Failure::new(format!("it has ended before it was ready, with {}", exit.exit_code))),
            None => Ok(0),
        }
    })
}

/// What its user's shell sees of it.
pub(super) fn code(exit: &Exit) -> u8 {
    u8::try_from(exit.exit_code).unwrap_or(u8::MAX)
}

/// `None`: the time is over.
async fn until(client: &Client, args: &WaitArgs, mut again: Again) -> Result<Option<Waited>, Failure> {
    let end = args.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = end.map_or(ROUND, |end| end.saturating_duration_since(Instant::now()).min(ROUND));
        let target = container(&args.name).then("wait").query("timeout", format!("{}ms", left.as_millis()));
        let target = target.query("for", if args.ready { "ready" } else { "exit" });
        let asked = Instant::now();
        match client.get::<Waited>(&target).await {
            Ok(waited) if waited.done => return Ok(Some(waited)),
            // Before its time, by a daemon that goes.
            Ok(_) if asked.elapsed() < left / 2 => {
                again.back();
                let goes = Failure::new("the daemon goes").with_kind("connection");
                again.after(client, Lost::Away(goes)).await?;
            }
            Ok(_) => again.worked(),
            Err(lost) => again.after(client, lost).await?,
        }
        if end.is_some_and(|end| end <= Instant::now()) {
            return Ok(None);
        }
    }
}
