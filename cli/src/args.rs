//! What can be typed. Values are parsed by the library's own parsers; nothing here looks at the machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use orangery::runtime::spec::size::{parse_cpus, parse_duration, parse_size};
use orangery::{CpuQuota, Mount, OutputAction, OutputLimit, Resource, Rlimit};

use crate::errors::Failure;
use crate::join::{self, Join};
use crate::terminal::DetachKeys;
use crate::{mount, signals};

mod logs;
mod restart;

pub(crate) use logs::{LogArgs, LogFormat, LogStream, LogsArgs};

/// Run commands in supervised sandboxes: own namespaces, own cgroup, a read-only view of the host, no network.
#[derive(Debug, Parser)]
#[command(name = "orangery", version, after_help = TOP_EXAMPLES, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) subcommand: Subcommand,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Options of every subcommand.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Tell on stderr what happens; twice or three times for more
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Machine-readable: results on stdout, errors on stderr, one JSON document each
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Subcommand {
    /// Run a command in a sandbox and exit as it does
    #[command(after_help = RUN_HELP)]
    Run(Box<RunArgs>),
    /// Say what `run` with these options would do, step by step, and do none of it
    #[command(after_help = EXPLAIN_HELP)]
    Explain(Box<RunArgs>),
    /// Show a log that `run --log` has written, or is writing
    #[command(after_help = logs::HELP)]
    Logs(LogsArgs),
    /// Say what this machine can do, what is missing, and how to get it
    #[command(after_help = DOCTOR_HELP)]
    Doctor,
}

const TOP_EXAMPLES: &str = "\
Examples:
  orangery run -- sh -c 'echo hello; exit 3'          a command, its output, its exit code
  orangery run --memory 64M --timeout 2s -- ./a.out   with limits
  orangery explain --memory 64M -- ./a.out            what that would do
  orangery doctor                                     whether this machine can do it";

const RUN_HELP: &str = "\
Exit code: the command's own; 128+n when signal n ended it; 124 the timeout or the silence did; 125 orangery itself failed;
126 the command cannot be executed; 127 it was not found.

Signals: INT, TERM, QUIT and HUP go to the command. A second INT kills the whole container.

Terminal: with -it every key goes to the command, ^C too; its window has the size of ours. Closing ours hangs the command's
up, and kills it ten seconds later. The detach keys give ours back: the command goes on, without input.

Without --rootfs the sandbox sees the host's programs (/usr, /bin, /lib, /nix, a small /etc), read-only, and nothing
else of it; /tmp, /run, /var, /root and /home are private, empty, writable and of bounded size.

Examples:
  orangery run -- sh -c 'id; ls /'
  orangery run --memory 256M --cpus 0.5 --pids 32 --timeout 10s -- python3 -c 'print(6 * 7)'
  printf 'a b c' | orangery run -i -- wc -w
  orangery run -it -- bash
  orangery run --mount type=bind,src=.,dst=/src,ro --workdir /src -- make -n
  orangery run --rootfs ./alpine --writable -- /bin/sh -c 'apk info'
  orangery run --join net=/proc/4711/ns/net -- ip address
  orangery run --restart on-failure:5 --restart-delay 1s -- ./flaky
  orangery run --report report.json --output-limit 1M -- ./submission";

const EXPLAIN_HELP: &str = "\
Takes every option of `orangery run`. The plan is decoded from the very bytes that would be executed.

Examples:
  orangery explain -- true
  orangery explain --json --memory 64M -- true | jq '.container.steps[].words'";

const DOCTOR_HELP: &str = "\
Each feature is probed by using it, never by a version number. Exit code: 0 when sandboxes can run here, else 1.

Examples:
  orangery doctor
  orangery doctor --json | jq -r '.findings[] | select(.state != \"ok\") | .fix // empty'";

/// The options of `run` and `explain`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) root: RootArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) rlimits: RlimitArgs,
    #[command(flatten)]
    pub(crate) time: TimeArgs,
    #[command(flatten)]
    pub(crate) restart: restart::RestartArgs,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The command and its arguments; everything from its name on belongs to it
    #[arg(trailing_var_arg = true, value_name = "COMMAND", required_unless_present = "bundle")]
    pub(crate) command: Vec<OsString>,
}

/// Options that would say what the config.json of a bundle says: refused beside one, not ignored.
const CONFIG_JSON_SAYS: [&str; 23] = [
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
    /// This directory is `/`, read-only
    #[arg(long, value_name = "DIR")]
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
    /// Writes go to the --rootfs directory itself
    #[arg(long)]
    pub(crate) rw: bool,
    /// Also show the host's /opt
    #[arg(long)]
    pub(crate) host_opt: bool,
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
    /// none: only a loopback interface; host: the host's network
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: Network,
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
pub(crate) struct ProcessArgs {
    /// Pass our stdin on; /dev/null without it
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// A terminal for the command; with -i ours is its keyboard and window
    #[arg(short, long, conflicts_with_all = ["log", "restart"])]
    pub(crate) tty: bool,
    /// Typed, these give our terminal back while the command goes on; empty for none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: DetachKeys,
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
    /// Write everything that happens there, one JSON object a line, as it happens
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// Write the exit report there as JSON, also when the command fails; `-` is stdout
    #[arg(long, value_name = "FILE|-")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of the whole container (they need a cgroup: see `orangery doctor`)")]
pub(crate) struct LimitArgs {
    /// Memory, such as 64M
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
    /// Swap on top of the memory
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory_swap: Option<u64>,
    /// Processors' worth of time, such as 0.5
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub(crate) cpus: Option<CpuQuota>,
    /// Share under contention, 1 to 10000; everybody's is 100
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(crate) cpu_weight: Option<u64>,
    /// Processors that it may use, such as 0-3,6
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(crate) pids: Option<u64>,
}

fn output_limit(text: &str) -> Result<OutputLimit, String> {
    let (size, action) = text.split_once(':').unwrap_or((text, "kill"));
    let action = match action {
        "kill" => OutputAction::Kill,
        "truncate" => OutputAction::Truncate,
        signal => {
            OutputAction::Signal(signals::number(signal).map_err(|error| format!("{error}, or kill or truncate"))?)
        }
    };
    Ok(OutputLimit { bytes: parse_size(size)?, action })
}

fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number, such as 32"))
}

fn cpus(text: &str) -> Result<CpuQuota, String> {
    parse_cpus(text).map(|(quota_us, period_us)| CpuQuota { quota_us, period_us })
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of each process (SOFT[:HARD], or unlimited)")]
pub(crate) struct RlimitArgs {
    /// Any resource by name, such as nofile=1024:4096 or memlock=64K
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) rlimit: Vec<Rlimit>,
    /// Open files
    #[arg(long, value_name = "N", value_parser = |text: &str| Rlimit::parse(Resource::Nofile, text))]
    pub(crate) nofile: Option<Rlimit>,
    /// Processes of the user
    #[arg(long, value_name = "N", value_parser = |text: &str| Rlimit::parse(Resource::Nproc, text))]
    pub(crate) nproc: Option<Rlimit>,
    /// Largest file
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| Rlimit::parse(Resource::Fsize, text))]
    pub(crate) fsize: Option<Rlimit>,
    /// Largest core file
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| Rlimit::parse(Resource::Core, text))]
    pub(crate) core: Option<Rlimit>,
    /// Stack
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| Rlimit::parse(Resource::Stack, text))]
    pub(crate) stack: Option<Rlimit>,
    /// CPU time in seconds
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| Rlimit::parse(Resource::Cpu, text))]
    pub(crate) cpu_time: Option<Rlimit>,
}

impl RlimitArgs {
    /// All that were given.
    pub(crate) fn all(&self) -> Vec<Rlimit> {
        let named = [self.nofile, self.nproc, self.fsize, self.core, self.stack, self.cpu_time];
        self.rlimit.iter().copied().chain(named.into_iter().flatten()).collect()
    }
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
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "restart")]
    pub(crate) timeout_idle: Option<Duration>,
    /// Kill the whole container when its processes have used this much processor time together
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) timeout_cpu: Option<Duration>,
    /// Kill this long after a TERM that was forwarded; without it the command decides
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) kill_after: Option<Duration>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Names and places")]
pub(crate) struct PlaceArgs {
    /// The container's name; random by default
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// A label for your own bookkeeping
    #[arg(long, value_name = "K=V", value_parser = label)]
    pub(crate) label: Vec<(String, String)>,
    /// An existing cgroup to make ours in; our own by default
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<PathBuf>,
    /// Where our own state lives while we do
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is no label: write key=value")),
    }
}

/// The command line of this process; or, for help and errors, how to end it.
pub(crate) fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        if error.use_stderr() {
            return Failure::from_clap(&error).tell(Cli::wants_json(std::env::args_os()));
        }
        // Help or version; a closed stdout is nobody's loss.
        let _ = error.print();
        ExitCode::SUCCESS
    })
}
