//! What can be said of a command, its sandbox and its life, wherever that is: the options of `run`, and the keys of a
//! service in a file of `up`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use orangery::runtime::spec::size::{parse_duration, parse_size};
use orangery::{Landlock, Mount, OutputLimit, Preset, Publish, StopLadder};

use super::limits::{LimitArgs, RlimitArgs, output_limit};
use super::logs::LogArgs;
use super::restart::{ExitArgs, RestartArgs};
use crate::join::{self, Join};
use crate::{mount, signals};

/// See the file's head.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    #[command(flatten)]
    pub(crate) root: RootArgs,
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) rlimits: RlimitArgs,
    #[command(flatten)]
    pub(crate) time: TimeArgs,
    #[command(flatten)]
    pub(crate) restart: RestartArgs,
    #[command(flatten)]
    pub(crate) exits: ExitArgs,
    #[command(flatten)]
    pub(crate) label: LabelArgs,
}

/// Options that would say what the config.json of a bundle says: refused beside one, not ignored.
const CONFIG_JSON_SAYS: [&str; 28] = [
    "landlock",
    "preset",
    "rootfs",
    "host_root",
    "writable",
    "rw",
    "host_opt",
    "mount",
    "device",
    "disk",
    "disk_inodes",
    "network",
    "publish",
    "host_loopback",
    "network_plugin",
    "join",
    "hostname",
    "userns",
    "env",
    "workdir",
    "user",
    "init",
    "no_init",
    "output_limit",
    "label",
    "command",
    "LimitArgs",
    "RlimitArgs",
];

#[derive(Debug, Args)]
#[command(next_help_heading = "What the sandbox sees")]
pub(crate) struct RootArgs {
    /// Limits and other choices that go together; options beside it change them. `orangery explain --preset judge` has all of it
    #[arg(long, value_name = "NAME", value_parser = preset())]
    pub(crate) preset: Option<Preset>,
    /// This directory is `/`, read-only; or a tar archive, which is unpacked for the container and removed with it
    #[arg(long, value_name = "DIR|FILE")]
    pub(crate) rootfs: Option<PathBuf>,
    /// All of the host's `/`, read-only, without its root-only secrets
    #[arg(long, conflicts_with = "rootfs")]
    pub(crate) host_root: bool,
    /// An OCI bundle: its config.json says everything
    #[arg(long, value_name = "DIR", conflicts_with_all = CONFIG_JSON_SAYS)]
    pub(crate) bundle: Option<PathBuf>,
    /// Writes to --rootfs go to an overlay that is thrown away (bounded by --disk)
    #[arg(long, conflicts_with = "rw")]
    pub(crate) writable: bool,
    /// Writes go to the --rootfs directory itself, or to what was unpacked of the archive
    #[arg(long)]
    pub(crate) rw: bool,
    /// Also show the host's /opt
    #[arg(long)]
    pub(crate) host_opt: bool,
    /// Rules that hold whatever permissions say, for children too: ro:PATH, rw:PATH, read:PATH, write:PATH, exec:PATH (then nothing
    /// else of the files), bind:PORT, connect:PORT (or none), scope:sockets, scope:signals. Needs landlock in the kernel. none: no rules, also
    /// where a preset has some
    #[arg(long, value_name = "RULE,..", value_parser = str::parse::<Landlock>)]
    pub(crate) landlock: Option<Landlock>,
    /// Mount more: type=bind|tmpfs,src=HOST,dst=INSIDE[,ro][,noexec][,size=SIZE][,propagation=private|slave]
    #[arg(long, value_name = "SPEC", value_parser = mount::parse)]
    pub(crate) mount: Vec<Mount>,
    /// Show this device node of the host at the same path
    #[arg(long, value_name = "PATH")]
    pub(crate) device: Vec<PathBuf>,
    /// Private writable space, all of it together
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) disk: Option<u64>,
    /// Files and directories in the private writable space
    #[arg(long, value_name = "N")]
    pub(crate) disk_inodes: Option<u64>,
    /// none: only a loopback interface; pasta: one of its own that reaches what you reach, by the program pasta (package passt);
    /// host: the host's network
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: Network,
    /// With --network pasta: a port of the host leads to one of the sandbox, on all of the host's addresses or on this one;
    /// several as 8000-8003:80-83
    #[arg(short = 'p', long, value_name = "[ADDR:]HOST:CONTAINER[/udp]", value_parser = str::parse::<Publish>)]
    pub(crate) publish: Vec<Publish>,
    /// With --network pasta: the default gateway's address is the host's loopback
    #[arg(long)]
    pub(crate) host_loopback: bool,
    /// Its network is wired by the administrator's plugin that listens at this socket (docs/network-plugin.md)
    #[arg(long, value_name = "SOCKET", conflicts_with_all = ["publish", "host_loopback"])]
    pub(crate) network_plugin: Option<PathBuf>,
    /// Live in this existing namespace instead of a new one: KIND is net, ipc, uts, cgroup, pid, mnt or user
    #[arg(long, value_name = "KIND=PATH", value_parser = join::parse)]
    pub(crate) join: Vec<Join>,
    /// Host name inside; the container's name by default
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// own: user ids of its own; shared: one range for all that ask for it; host: none (root only)
    #[arg(long, value_enum, default_value_t)]
    pub(crate) userns: Userns,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Network {
    #[default]
    None,
    Pasta,
    Host,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(crate) enum Userns {
    #[default]
    Own,
    Shared,
    Host,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "The command")]
pub(crate) struct ProgramArgs {
    /// Set a variable, or pass ours of that name; nothing else but PATH, HOME, TERM and LANG is there
    #[arg(short, long, value_name = "K=V|K")]
    pub(crate) env: Vec<OsString>,
    /// Working directory inside
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<PathBuf>,
    /// Who it runs as inside
    #[arg(short, long, value_name = "UID[:GID]|NAME")]
    pub(crate) user: Option<String>,
    /// A stub is pid 1 and reaps orphans, so that the command feels every signal (the default)
    #[arg(long, overrides_with = "no_init")]
    pub(crate) init: bool,
    /// The command itself is pid 1: signals that it has no handler for do nothing, but for KILL
    #[arg(long, overrides_with = "init")]
    pub(crate) no_init: bool,
    /// Let no more of stdout and stderr together through; then kill it, or go on without, or send a signal
    #[arg(long, value_name = "SIZE[:kill|truncate|SIGNAL]", value_parser = output_limit)]
    pub(crate) output_limit: Option<OutputLimit>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Time")]
pub(crate) struct TimeArgs {
    /// Kill the whole container after this long, such as 10s or 1m30s
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// At the timeout send this signal first [with --timeout-grace alone: TERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signals::number, requires = "timeout")]
    pub(crate) timeout_signal: Option<i32>,
    /// And kill only this much later [with --timeout-signal alone: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "timeout")]
    pub(crate) timeout_grace: Option<Duration>,
    /// Kill the whole container when it has written nothing for this long
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout_idle: Option<Duration>,
    /// Kill the whole container when its processes have used this much processor time together
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout_cpu: Option<Duration>,
    /// What the command is told when it is to stop, one signal after the other, before the kill: TERM:10s,INT:5s. `run`
    /// forwards its own signal without it
    #[arg(long, value_name = "SIGNAL:TIME,..", value_parser = super::stop::ladder)]
    pub(crate) stop: Option<StopLadder>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Names and places")]
pub(crate) struct LabelArgs {
    /// A label for your own bookkeeping
    #[arg(long, value_name = "K=V", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
}

/// `K=V`.
///
/// # Errors
/// Not of that form.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no label: write key=value")),
    }
}

/// `K=V`, or `K=` for none.
pub(super) fn property(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), (!value.is_empty()).then(|| value.to_owned()))),
        _ => Err(format!("{text:?} is no property: write key=value, or key= to take it away")),
    }
}

/// A preset by its name; whoever mistypes it is told all names.
fn preset() -> impl TypedValueParser<Value = Preset> {
    let known = Preset::ALL.map(|preset| PossibleValue::new(preset.name()).help(preset.about()));
    PossibleValuesParser::new(known).try_map(|name| name.parse::<Preset>())
}

/// What is said beside the options that describe the work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words<'a> {
    pub(crate) command: &'a [OsString],
    /// The container's.
    pub(crate) name: Option<&'a str>,
    pub(crate) tty: bool,
}
