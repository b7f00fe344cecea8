//! What can be typed of `up`, and what its file can say: each kind of table is a struct of options, and each key is the
//! long name of one.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::PlaceArgs;
use super::client::DaemonArgs;
use super::probes::ProbeArgs;
use super::restart::RestartArgs;
use super::stop::HookArgs;
use super::work::WorkArgs;

pub(super) const HELP: &str = "\
The file is TOML. A service is a table [service.NAME] whose keys are the options of `orangery run` by their long names, and
command, after and what shows that it is ready and healthy; a group [group.NAME] has services and groups of its own. `orangery schema` prints all keys, for editors.
Relative paths are relative to the file. Without `after` a service starts at once.

  [service.db]
  command = [\"./db\", \"--port\", \"5432\"]
  restart = \"always\"
  memory = \"256M\"
  mount = [\"type=bind,src=./data,dst=/data\"]
  ready-line = \"ready to accept connections\"

  [service.api]
  command = [\"./api\"]
  after = [\"db\"]
  restart = \"on-failure:5\"
  env = { PORT = 8080 }
  health-tcp = 8080

Signals: INT or TERM stops all services in reverse order, each as its `stop` says (TERM:10s, and then a kill); a second one
kills everything.

Exit code: 0 every service has ended well, or all were stopped as asked; 1 a service has failed, and the rest was stopped;
137 a second signal killed them; 125 orangery itself failed, or the file is refused; 126, 127 a command cannot be executed,
or was not found, at the start.

Examples:
  orangery up up.toml
  orangery up --check up.toml
  orangery up --json up.toml | jq -c 'select(.kind == \"service_changed\")'
  generate | orangery up -
  orangery up --detach shop.toml && orangery ps shop. && orangery down shop";

pub(super) const SCHEMA_HELP: &str = "\
A JSON schema (draft 2020-12). Editors with a TOML server (taplo) take it from the file's first line:
  #:schema ./up.schema.json

Examples:
  orangery schema > up.schema.json";

/// The options of `up`.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The file; `-` is stdin
    pub(crate) file: PathBuf,
    /// Say whether all of it is right, on this machine, and start nothing
    #[arg(long)]
    pub(crate) check: bool,
    /// Tell on stderr, in words, everything that happens
    #[arg(long)]
    pub(crate) watch_events: bool,
    /// Hand it to the daemon, which supervises it from now on, and end
    #[arg(short, long, conflicts_with_all = ["check", "watch_events", "PlaceArgs"])]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
}

/// `[service.NAME]`.
#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// The command and its arguments, each a word
    #[arg(long, value_name = "WORD")]
    pub(crate) command: Vec<OsString>,
    /// Start when these members of the same group are ready, and stop before they do
    #[arg(long, value_name = "NAME")]
    pub(crate) after: Vec<String>,
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) probes: ProbeArgs,
    #[command(flatten)]
    pub(crate) hooks: HookArgs,
}

/// `[group.NAME]`.
#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    /// Start when these members of the same group are ready, and stop before they do
    #[arg(long, value_name = "NAME")]
    pub(crate) after: Vec<String>,
    #[command(flatten)]
    pub(crate) own: OwnArgs,
}

/// The file itself, which is a group.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// What its containers' names begin with [the file's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) own: OwnArgs,
}

/// What every group can say of itself. Its restart is what follows when a member has failed for good, and with it the group.
#[derive(Debug, Args)]
pub(crate) struct OwnArgs {
    /// Who is restarted with a member that has died: it alone; all; it and those that come after it [one-for-one]
    #[arg(long, value_enum)]
    pub(crate) strategy: Option<Strategy>,
    #[command(flatten)]
    pub(crate) restart: RestartArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Strategy {
    OneForOne,
    OneForAll,
    RestForOne,
}

impl From<Strategy> for orangery::Strategy {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::OneForOne => Self::OneForOne,
            Strategy::OneForAll => Self::OneForAll,
            Strategy::RestForOne => Self::RestForOne,
        }
    }
}
