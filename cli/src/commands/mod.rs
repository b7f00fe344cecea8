//! What is done against a daemon, one file a group of commands. Each asks through [`Client`], prints, and knows its exit
//! code; none of them has a supervisor of its own.
//!
//! ```text
//!   detach ── run --detach       group ── up --detach, down        spec ── options as the keys of a spec
//!   look ── ps, inspect          act ── start, stop, kill, pause, resume, update, rm       wait
//!   logs, events, stats ── streams that outlive the daemon     pieces ── what events of an output say
//!   exec, attach ── at a process: session is both, input what is typed, output who writes
//! ```

mod act;
mod attach;
pub(crate) mod detach;
mod events;
mod exec;
pub(crate) mod group;
mod input;
pub(crate) mod logs;
mod look;
mod output;
mod pieces;
mod session;
mod spec;
mod stats;
mod table;
mod wait;

use std::io::{self, Write as _};

use futures_util::{StreamExt as _, stream};
use orangery_daemon::wire::Container;
use serde::Serialize;

use crate::args::{DaemonArgs, Subcommand};
use crate::client::{Client, Place, Target};
use crate::errors::Failure;

/// Containers that are asked about at one time.
const AT_ONCE: usize = 32;

/// The commands that do nothing without a daemon.
///
/// # Errors
/// It could not be done.
pub(crate) fn run(subcommand: &Subcommand, json: bool) -> Result<u8, Failure> {
    match subcommand {
        Subcommand::Ps(args) => look::ps(args, json),
        Subcommand::Inspect(args) => look::inspect(args, json),
        Subcommand::Exec(args) => exec::exec(args, json),
        Subcommand::Attach(args) => attach::attach(args, json),
        Subcommand::Wait(args) => wait::wait(args, json),
        Subcommand::Start(args) => act::start(args, json),
        Subcommand::Stop(args) => act::stop(args, json),
        Subcommand::Kill(args) => act::kill(args, json),
        Subcommand::Pause(args) => act::pause(args, json),
        Subcommand::Resume(args) => act::resume(args, json),
        Subcommand::Update(args) => act::update(args, json),
        Subcommand::Rm(args) => act::rm(args, json),
        Subcommand::Stats(args) => stats::stats(args, json),
        Subcommand::Events(args) => events::events(args, json),
        Subcommand::Down(args) => group::down(args, json),
        _ => Err(Failure::new("this command needs no daemon")),
    }
}

/// On an event loop, with who asks the daemon that is meant.
fn asking(args: &DaemonArgs, work: impl AsyncFnOnce(Client) -> Result<u8, Failure>) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system("cannot start the event loop", &error))?;
    let client = Client::new(Place::find(args.socket.as_deref()));
    let done = runtime.block_on(work(client));
    // A thread may still read a terminal; it ends with the process.
    runtime.shutdown_background();
    done
}

/// Where containers are.
fn containers() -> Target {
    Target::new("/v1/containers")
}

/// One of them.
fn container(name: &str) -> Target {
    containers().then(name)
}

/// What it is now.
async fn known(client: &Client, name: &str) -> Result<Container, Failure> {
    Ok(client.get(&container(name)).await?)
}

/// The same for each name, several at a time; each that is done is said, in the order of the names. Of one that fails the
/// others hear nothing.
async fn each<T: Serialize>(
    names: &[String],
    json: bool,
    work: impl AsyncFn(&str) -> Result<T, Failure>,
) -> Result<u8, Failure> {
    let work = &work;
    let tried = stream::iter(names).map(|name| async move { (name, work(name).await) });
    let mut tried = std::pin::pin!(tried.buffered(AT_ONCE));
    let mut failed = None;
    while let Some((name, done)) = tried.next().await {
        match done {
            Ok(value) if json => document(&serde_json::json!({ "name": name, "done": value }))?,
            Ok(_) => say(format!("{name}\n").as_bytes())?,
            Err(failure) if names.len() == 1 => return Err(failure),
            Err(failure) => {
                failure.tell(json);
                failed = Some(failure.exit_code());
            }
        }
    }
    Ok(failed.unwrap_or(0))
}

/// On stdout. Whoever reads us may have seen enough.
///
/// # Errors
/// It cannot be written.
pub(crate) fn say(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::system("cannot write", &error)),
        _ => Ok(()),
    }
}

/// One JSON document, on a line of its own.
pub(crate) fn document(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new(error.to_string()))?;
    say((text + "\n").as_bytes())
}
