//! What can be typed to see what there is.

use std::time::Duration;

use clap::{Args, ValueEnum};
use orangery::runtime::spec::size::parse_duration;
use orangery_daemon::wire::State;

use super::client::{DaemonArgs, LastingArgs};
use super::work::label;

pub(super) const PS_HELP: &str = "\
Without a filter it shows what runs or will run again; -a, or --state, what has ended too.

Examples:
  orangery ps
  orangery ps -a --label team=web
  orangery ps -q --state exited | xargs -r orangery rm
  orangery ps --json | jq -r '.containers[] | [.name, .state] | @tsv'";

pub(super) const INSPECT_HELP: &str = "\
One JSON document a container; with --json each is one line.

Examples:
  orangery inspect web
  orangery inspect web db | jq -r '.exit.exit_code // empty'";

pub(super) const STATS_HELP: &str = "\
With --every it goes on until the container has ended, also across a restart of the daemon.

Examples:
  orangery stats web
  orangery stats web --every 1s
  orangery stats --json web | jq .memory";

pub(super) const EVENTS_HELP: &str = "\
One line an event; with --json one JSON object, as `orangery run --events` writes them. It goes on across a restart of the
daemon; what is missing then is said on stderr, never left out in silence.

Examples:
  orangery events
  orangery events --container web --from start --no-follow
  orangery events --json --kind process_exited | jq .exit";

/// The options of `ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Also what has ended, or was never started
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Only names, one a line
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Only in these states
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = state, conflicts_with = "all")]
    pub(crate) state: Vec<State>,
    /// Only with this label; several must all be there
    #[arg(long, value_name = "K=V", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
    /// Only names that begin so
    #[arg(value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
}

fn state(text: &str) -> Result<State, String> {
    State::by_name(text).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.into_iter().map(State::name).collect();
        format!("{text:?} is no state: write {}", names.join(", "))
    })
}

/// The options of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Containers
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<String>,
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
}

/// The options of `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// The container
    pub(crate) name: String,
    /// Again and again, with this time between
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) every: Option<Duration>,
    #[command(flatten)]
    pub(crate) lasting: LastingArgs,
}

/// The options of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only of this container
    #[arg(long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Only of containers whose names begin so
    #[arg(long, value_name = "PREFIX", conflicts_with = "container")]
    pub(crate) name_prefix: Option<String>,
    /// Only of containers with this label; several must all be there
    #[arg(long, value_name = "K=V", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
    /// Only of these kinds, such as process_exited
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    pub(crate) kind: Vec<String>,
    /// From now on, or from the oldest that is kept on
    #[arg(long, value_enum, default_value_t)]
    pub(crate) from: EventsFrom,
    /// End with what there is now
    #[arg(long)]
    pub(crate) no_follow: bool,
    #[command(flatten)]
    pub(crate) lasting: LastingArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventsFrom {
    Start,
    #[default]
    Now,
}

impl EventsFrom {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Now => "now",
        }
    }
}
