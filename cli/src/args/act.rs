//! What can be typed to do something to containers of a daemon.

use std::time::Duration;

use clap::{Args, ValueEnum};
use orangery::runtime::spec::io::{parse_io_max, parse_io_weight};
use orangery::runtime::spec::size::{parse_cpus, parse_duration, parse_size};
use orangery_daemon::wire::{PauseHow, Text};

use super::client::{DaemonArgs, LastingArgs};
use super::limits::whole;
use super::work::property;
use crate::signals;

pub(super) const STOP_HELP: &str = "\
Says the name of each that has ended. Without an option it ends as its own --stop says, or by TERM and, 10 seconds later,
a kill. A service is not started again; `orangery start` does that.

Examples:
  orangery stop web
  orangery stop --stop INT:5s,TERM:5s web db
  orangery ps -q job- | xargs -r orangery stop";

pub(super) const KILL_HELP: &str = "\
Examples:
  orangery kill web                    everything in it
  orangery kill --signal HUP web       its command alone";

pub(super) const RM_HELP: &str = "\
Takes away the container, its log and its report.

Examples:
  orangery rm job-1
  orangery rm --force web";

pub(super) const UPDATE_HELP: &str = "\
What is not named stays as it is.

Examples:
  orangery update web --memory 512M --cpus 2
  orangery update web --property owner=ann --property draft=";

pub(super) const WAIT_HELP: &str = "\
Waits across restarts of the daemon. A service is waited for until it is over for good.

Exit code: the command's own, 128+n when signal n ended it, 124 when --timeout came first; 255 when nobody knows how it
ended; 125 orangery itself failed, or there is no such container. With --ready: 0, and 125 when it ended before.

Examples:
  orangery wait job-1; echo $?
  orangery wait --ready db && orangery run --detach --name api -- ./api";

/// Names, and which daemon.
#[derive(Debug, Args)]
pub(crate) struct NamesArgs {
    /// Containers
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
}

/// The options of `stop`.
#[derive(Debug, Args)]
pub(crate) struct EndArgs {
    /// One signal after the other, each with its time, before the kill: TERM:10s,INT:5s
    #[arg(long, value_name = "SIGNAL:TIME,..", value_parser = ladder)]
    pub(crate) stop: Option<String>,
    #[command(flatten)]
    pub(crate) names: NamesArgs,
}

fn ladder(text: &str) -> Result<String, String> {
    super::stop::ladder(text).map(|_| text.to_owned())
}

/// The options of `kill`.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// This signal to the command; KILL is for everything in the container
    #[arg(short, long, value_name = "SIGNAL", value_parser = signals::number, default_value = "KILL")]
    pub(crate) signal: i32,
    #[command(flatten)]
    pub(crate) names: NamesArgs,
}

/// The options of `pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// freeze: by its cgroup, and nothing in it can notice; stop: by SIGSTOP, which needs no cgroup and is weaker; any: by
    /// the first of the two that can be had, and it is said where that is the second
    #[arg(long, value_enum, default_value_t)]
    how: How,
    #[command(flatten)]
    pub(crate) names: NamesArgs,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum How {
    #[default]
    Any,
    Freeze,
    Stop,
}

impl PauseArgs {
    pub(crate) const fn how(&self) -> PauseHow {
        match self.how {
            How::Any => PauseHow::Any,
            How::Freeze => PauseHow::Freeze,
            How::Stop => PauseHow::Stop,
        }
    }
}

/// The options of `rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Also what runs: it is killed
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) names: NamesArgs,
}

/// The options of `update`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true))]
pub(crate) struct UpdateArgs {
    /// Memory, such as 64M
    #[arg(short, long, value_name = "SIZE", value_parser = size, group = "change")]
    pub(crate) memory: Option<Text>,
    /// Swap on top of the memory
    #[arg(long, value_name = "SIZE", value_parser = size, group = "change")]
    pub(crate) memory_swap: Option<Text>,
    /// Processors' worth of time, such as 0.5
    #[arg(long, value_name = "N", value_parser = cpus, group = "change")]
    pub(crate) cpus: Option<Text>,
    /// Share under contention, 1 to 10000
    #[arg(long, value_name = "N", value_parser = whole, group = "change")]
    pub(crate) cpu_weight: Option<u64>,
    /// Processors that it may use, such as 0-3,6
    #[arg(long, value_name = "LIST", group = "change")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = whole, group = "change")]
    pub(crate) pids: Option<u64>,
    /// Share of each disk under contention, 1 to 10000
    #[arg(long, value_name = "N", value_parser = whole, group = "change")]
    pub(crate) io_weight: Option<u64>,
    /// The same on one device
    #[arg(long, value_name = "DEVICE:N", value_parser = io_weight, group = "change")]
    pub(crate) io_device_weight: Vec<Text>,
    /// Most on one device, a second; max takes a limit away, and what is not named stays
    #[arg(long, value_name = "DEVICE:RATES", value_parser = io_max, group = "change")]
    pub(crate) io_max: Vec<Text>,
    /// Kill it this long after its start
    #[arg(long, value_name = "TIME", value_parser = time, group = "change")]
    pub(crate) timeout: Option<Text>,
    /// Kill it when it has used this much processor time
    #[arg(long, value_name = "TIME", value_parser = time, group = "change")]
    pub(crate) timeout_cpu: Option<Text>,
    /// Kill it when it has written nothing for this long
    #[arg(long, value_name = "TIME", value_parser = time, group = "change")]
    pub(crate) timeout_idle: Option<Text>,
    /// Let no more output through than this
    #[arg(long, value_name = "SIZE", value_parser = size, group = "change")]
    pub(crate) output_limit: Option<Text>,
    /// Set a property; without a value it is taken away
    #[arg(long, value_name = "K=V|K=", value_parser = property, group = "change")]
    pub(crate) property: Vec<(String, Option<String>)>,
    #[command(flatten)]
    pub(crate) names: NamesArgs,
}

/// A text that `parse` takes, as it is written: the daemon reads it once more.
fn as_written<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Text, String> {
    parse(text).map(|_| Text::from(text))
}

fn size(text: &str) -> Result<Text, String> {
    as_written(text, parse_size)
}

fn cpus(text: &str) -> Result<Text, String> {
    as_written(text, parse_cpus)
}

fn io_weight(text: &str) -> Result<Text, String> {
    as_written(text, parse_io_weight)
}

fn io_max(text: &str) -> Result<Text, String> {
    as_written(text, parse_io_max)
}

fn time(text: &str) -> Result<Text, String> {
    as_written(text, parse_duration)
}

/// The options of `wait`.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// The container
    pub(crate) name: String,
    /// No longer than this
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// Until it is ready, as its spec says, instead of until its end
    #[arg(long)]
    pub(crate) ready: bool,
    #[command(flatten)]
    pub(crate) lasting: LastingArgs,
}

/// The options of `down`.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// The group: the name of the file of `up --detach`, or what `name` in it says
    pub(crate) name: String,
    /// Kill what does not matter any more, instead of stopping it in order
    #[arg(short, long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
}
