//! What can be typed to be at a process of a container: a new one, or its command.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use orangery::runtime::spec::io::parse_io_max;
use orangery::runtime::spec::size::{parse_cpus, parse_duration, parse_size};

use super::client::LastingArgs;
use super::limits::whole;
use crate::terminal::detach::DetachKeys;

pub(super) const EXEC_HELP: &str = "\
Exit code: the command's own; 128+n when signal n ended it; 124 the timeout did; 125 orangery itself failed; 126 the command
cannot be executed; 127 it was not found; 255 nobody knows how it ended.

Signals: INT, TERM, QUIT and HUP go to the command; a second INT kills it. The detach keys give our terminal back.

When the daemon is restarted meanwhile the command goes on, and so does its output, without a byte missing or twice. Input
from a pipe that was on its way then cannot be vouched for: that ends `exec` with an error, and not silently.

Examples:
  orangery exec web -- ps aux
  orangery exec -it web -- sh
  tar c src | orangery exec -i web -- tar x -C /tmp";

pub(super) const ATTACH_HELP: &str = "\
Shows what the container's command writes from now on, and with -i (where it was made with `run --detach -i`) passes our
input on, its end too. At a terminal every key goes to the command, and the detach keys end `attach` alone.

Exit code: the command's own when it ends meanwhile; 0 when we were detached.

Signals: INT, TERM, QUIT and HUP go to the command, unless --no-signals is given.

Examples:
  orangery run --detach -it --name shell -- bash
  orangery attach -i shell
  orangery attach --no-signals web";

/// The options of `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Pass our stdin on; /dev/null without it
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// A terminal for the command; with -i ours is its keyboard and window
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Typed, these give our terminal back while the command goes on; empty for none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: DetachKeys,
    /// Start it, say its number, and do not wait
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    pub(crate) detach: bool,
    /// Set a variable, or pass ours of that name
    #[arg(short, long, value_name = "K=V|K")]
    pub(crate) env: Vec<OsString>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,
    /// Who it runs as inside
    #[arg(short, long, value_name = "UID[:GID]|NAME")]
    pub(crate) user: Option<String>,
    /// Kill it after this long
    #[arg(long, value_name = "TIME", value_parser = |text: &str| parse_duration(text).map(|_| text.to_owned()))]
    pub(crate) timeout: Option<String>,
    /// Memory of it and what it starts, such as 64M
    #[arg(short, long, value_name = "SIZE", value_parser = |text: &str| parse_size(text).map(|_| text.to_owned()))]
    pub(crate) memory: Option<String>,
    /// Processors' worth of time, such as 0.5
    #[arg(long, value_name = "N", value_parser = |text: &str| parse_cpus(text).map(|_| text.to_owned()))]
    pub(crate) cpus: Option<String>,
    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(crate) pids: Option<u64>,
    /// Most on one device, a second, such as /dev/sda:wbps=10M,riops=500
    #[arg(long, value_name = "DEVICE:RATES", value_parser = |text: &str| parse_io_max(text).map(|_| text.to_owned()))]
    pub(crate) io_max: Vec<String>,
    #[command(flatten)]
    pub(crate) lasting: LastingArgs,
    /// The container
    pub(crate) name: String,
    /// The command and its arguments; everything from its name on belongs to it
    #[arg(trailing_var_arg = true, value_name = "COMMAND", required = true)]
    pub(crate) command: Vec<OsString>,
}

/// The options of `attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Pass our stdin on
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Typed, these end `attach` while the command goes on; empty for none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: DetachKeys,
    /// First what is kept of what it has written: all, or the last N lines
    #[arg(long, value_name = "N|all", value_parser = history, default_value = "0")]
    pub(crate) history: History,
    /// Signals end `attach` alone
    #[arg(long)]
    pub(crate) no_signals: bool,
    #[command(flatten)]
    pub(crate) lasting: LastingArgs,
    /// The container
    pub(crate) name: String,
}

/// How much of what was written before is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum History {
    All,
    Lines(u64),
}

fn history(text: &str) -> Result<History, String> {
    match text {
        "all" => Ok(History::All),
        number => whole(number).map(History::Lines).map_err(|why| format!("{why}, or all")),
    }
}
