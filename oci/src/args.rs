//! The command line, in runc's words.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What was asked for.
#[derive(Debug, Parser)]
#[command(
    name = "orangery-oci",
    version = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0"),
    about = "An OCI runtime: containers of bundles, in runc's words",
    disable_help_subcommand = true,
    disable_version_flag = true
)]
pub(crate) struct Arguments {
    /// Print which program this is, and which specification it follows
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where containers are written down [default: /run/orangery-oci, or $XDG_RUNTIME_DIR/orangery-oci]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// File that errors and warnings are appended to, beside standard error
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// How they are written
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Say more
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// Whether lack of rights over cgroups is no error: `auto` is yes for an ordinary user
    #[arg(long, value_enum, default_value = "auto", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) rootless: Rootless,
    /// Who makes cgroups
    #[arg(long, global = true, value_enum, default_value = "cgroupfs")]
    pub(crate) cgroup_manager: CgroupManager,
    /// The same as --cgroup-manager systemd
    #[arg(long, global = true)]
    pub(crate) systemd_cgroup: bool,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// See [`Global::rootless`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rootless {
    True,
    False,
    Auto,
}

/// See [`Global::cgroup_manager`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CgroupManager {
    /// We do, by their files.
    Cgroupfs,
    /// Nobody: the container stays in the caller's.
    Disabled,
    /// systemd, as units of its own: `linux.cgroupsPath` is `slice:prefix:name` then.
    Systemd,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a container whose command waits for `start`
    Create(Create),
    /// Let the command of a container that was made run
    Start {
        /// Its name
        id: String,
    },
    /// Make a container, let its command run, and wait for its end
    Run(Run),
    /// Print what is known of a container, as JSON
    State {
        /// Its name
        id: String,
    },
    /// Send a signal to a container's first process
    Kill(Kill),
    /// Remove what is left of a container that has ended, or has not been started
    Delete {
        /// Its name
        id: String,
        /// Also one that runs, which is killed; one that does not exist is no error
        #[arg(short, long)]
        force: bool,
        /// The name is a regular expression: all whose name has it in it
        #[arg(short, long)]
        regex: bool,
    },
    /// Start a further process in a container
    Exec(Exec),
    /// List the processes of a container
    Ps {
        /// A table, or JSON
        #[arg(short, long, value_enum, default_value = "table")]
        format: Format,
        /// Its name
        id: String,
        /// Options of ps(1), whose lines about them are printed [default: -ef, or our own table where there is no ps]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<OsString>,
    },
    /// Let all processes of a container stand still
    Pause {
        /// Its name
        id: String,
    },
    /// Let them go on
    Resume {
        /// Its name
        id: String,
    },
    /// Print the counters of a container, and its OOM kills, one JSON object a line
    Events {
        /// Its name
        id: String,
        /// Once
        #[arg(long)]
        stats: bool,
        /// Time between them: 5s, 100ms, 1m30s, or a number of seconds
        #[arg(long, default_value = "5s", value_parser = duration)]
        interval: Duration,
    },
    /// Give a container other limits
    Update(Update),
    /// Print what this runtime can do, as JSON
    Features,
    /// Write a config.json to begin with
    Spec {
        /// Where
        #[arg(short, long, default_value = ".", value_name = "DIR")]
        bundle: PathBuf,
        /// For an ordinary user
        #[arg(long = "rootless", id = "for an ordinary user")]
        rootless: bool,
    },
    /// Refused: containers are not written to files
    #[command(hide = true)]
    Checkpoint(Unsupported),
    /// Refused: no containers come from files
    #[command(hide = true)]
    Restore(Unsupported),
    /// List containers
    List {
        /// Names alone
        #[arg(short, long)]
        quiet: bool,
        /// A table, or JSON
        #[arg(short, long, value_enum, default_value = "table")]
        format: Format,
    },
}

impl Command {
    /// As it is written.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Start { .. } => "start",
            Self::Run(_) => "run",
            Self::State { .. } => "state",
            Self::Kill(_) => "kill",
            Self::Delete { .. } => "delete",
            Self::Exec(_) => "exec",
            Self::Ps { .. } => "ps",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Events { .. } => "events",
            Self::Update(_) => "update",
            Self::Features => "features",
            Self::Spec { .. } => "spec",
            Self::Checkpoint(_) => "checkpoint",
            Self::Restore(_) => "restore",
            Self::List { .. } => "list",
        }
    }
}

/// Words of a command that callers know of others.
#[derive(Debug, Args)]
pub(crate) struct Unsupported {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    words: Vec<OsString>,
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

/// What a container is made of.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name
    pub(crate) id: String,
    /// Directory with its config.json
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// Its configuration, relative to the bundle, by which it is read all the same
    #[arg(short = 'f', long, default_value = "config.json", value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Socket that gets the master of its terminal
    #[arg(long, value_name = "PATH")]
    pub(crate) console_socket: Option<PathBuf>,
    /// File that gets the number of its first process
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Socket that gets the pidfd of its first process
    #[arg(long, value_name = "PATH")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Further descriptors that it inherits, from 3 up
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: usize,
    /// Enter its root by chroot, for a host that runs from an initramfs: with CAP_SYS_CHROOT it can be left again
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// No session keyring of its own: it has an empty one that is not counted for it, never the caller's
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
}

/// A container that is started at once.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Leave it to be deleted by somebody else, as --detach does too
    #[arg(long)]
    pub(crate) keep: bool,
}

/// A signal.
#[derive(Debug, Args)]
pub(crate) struct Kill {
    /// Whose
    pub(crate) id: String,
    /// Its name, with or without SIG, or its number
    #[arg(default_value = "SIGTERM")]
    pub(crate) signal: String,
    /// To all processes of the container
    #[arg(short, long)]
    pub(crate) all: bool,
}

/// A further process.
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The container
    pub(crate) id: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<OsString>,
    /// File with the `process` of a config.json, instead of a command
    #[arg(short, long, value_name = "FILE", conflicts_with = "command")]
    pub(crate) process: Option<PathBuf>,
    /// A terminal of its own
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// KEY=VALUE, beside the container's environment
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) env: Vec<String>,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// Who it runs as: UID[:GID], or a name of the container's
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Supplementary groups, beside the container's
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// Further capabilities
    #[arg(short, long, value_name = "CAP")]
    pub(crate) cap: Vec<String>,
    /// It may not gain privileges
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// AppArmor profile, instead of the container's
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// SELinux label, instead of the container's
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// File that gets its number
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Socket that gets the master of its terminal
    #[arg(long, value_name = "PATH")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Socket that gets its pidfd
    #[arg(long, value_name = "PATH")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Further descriptors that it inherits, from 3 up
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) preserve_fds: usize,
    /// A group below the container's that is there already, for all hierarchies or for those of controllers of version 1
    #[arg(long, value_name = "[CONTROLLER,...:]PATH")]
    pub(crate) cgroup: Vec<String>,
    /// Also in a container that is paused: it goes on with it
    #[arg(long)]
    pub(crate) ignore_paused: bool,
}

/// Units of a duration, longer ones first where one begins as another does, and their nanoseconds.
const UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("\u{b5}s", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// A number of seconds, or a duration as Go writes it: `1m30s`, `100ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration above 0, as 5s, 100ms and 1m30s are");
    let (mut left, mut nanoseconds) = (text, 0.0);
    if left.parse::<u32>().is_ok() {
        nanoseconds = left.parse::<f64>().map_err(|_| wrong())? * 1e9;
        left = "";
    }
    while !left.is_empty() {
        let end = left.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, rest) = left.split_at(end);
        let (unit, of_unit) = UNITS.iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(wrong)?;
        nanoseconds += number.parse::<f64>().map_err(|_| wrong())? * of_unit;
        left = rest.strip_prefix(unit).unwrap_or_default();
    }
    let found = Duration::try_from_secs_f64(nanoseconds / 1e9).ok();
    // What is waited for is a time of the kernel's, whose seconds have a sign.
    found.filter(|found| !found.is_zero() && i64::try_from(found.as_secs()).is_ok()).ok_or_else(wrong)
}

/// A number of bytes, with the units that runc takes: `50M`, `1g`, `64KiB`.
fn bytes(text: &str) -> Result<i64, String> {
    let lower = text.to_ascii_lowercase();
    let number = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, shift) = match number.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => {
            let shift = "kmgtp".find(unit).ok_or_else(|| format!("{text:?} has no unit of k, m, g, t and p"))?;
            (number.get(..at).unwrap_or_default(), 10 * (u32::try_from(shift).unwrap_or(0) + 1))
        }
        _ => (number, 0),
    };
    let wrong = || format!("{text:?} is no number of bytes");
    number.trim().parse::<i64>().ok().and_then(|number| number.checked_mul(1 << shift)).ok_or_else(wrong)
}

/// Other limits.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Whose
    pub(crate) id: String,
    /// File with the `linux.resources` of a config.json, instead of the options; - is standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Bytes, or 50M and the like; -1 is no limit
    #[arg(long, allow_negative_numbers = true, value_parser = bytes)]
    pub(crate) memory: Option<i64>,
    /// The same of memory and swap together; -1 is no limit
    #[arg(long, allow_negative_numbers = true, value_parser = bytes)]
    pub(crate) memory_swap: Option<i64>,
    /// Bytes below which memory is not taken away where others have some (version 1: its soft limit)
    #[arg(long, value_parser = bytes)]
    pub(crate) memory_reservation: Option<i64>,
    /// Microseconds in each period; -1 is no limit
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Microseconds
    #[arg(long)]
    pub(crate) cpu_period: Option<u64>,
    /// Microseconds beyond the quota that may be saved up; 0 is none
    #[arg(long)]
    pub(crate) cpu_burst: Option<u64>,
    /// 1: it runs when nobody else does; 0: as everybody
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) cpu_idle: Option<i64>,
    /// Microseconds of real-time scheduling in each of its periods, of version 1
    #[arg(long)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Microseconds, of version 1
    #[arg(long)]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Share of the throughput of disks, 10 to 1000
    #[arg(long)]
    pub(crate) blkio_weight: Option<u16>,
    /// Shares of version 1, 1024 are everybody's
    #[arg(long, visible_alias = "cpu-shares")]
    pub(crate) cpu_share: Option<u64>,
    /// CPUs, as 0-3,6
    #[arg(long)]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long)]
    pub(crate) cpuset_mems: Option<String>,
    /// Processes and threads; -1 is no limit
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Lines of the schemata of its own group of resctrl: its part of a cache, L3:0=7f0;1=1f
    #[arg(long, value_name = "LINES")]
    pub(crate) l3_cache_schema: Option<String>,
    /// The same of memory bandwidth: MB:0=20;1=70
    #[arg(long, value_name = "LINES")]
    pub(crate) mem_bw_schema: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{bytes, duration};

    #[test]
    fn times_are_written_as_go_writes_them() {
        for (text, ms) in
            [("5", 5000), ("1s", 1000), ("100ms", 100), ("1m30s", 90_000), ("1.5s", 1500), ("1h", 3_600_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "0", "0s", "-1s", "s", "5x", "1 s", "5s1", "1.2.3s", "99999999999999999999h", "NaN", "inf"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_have_units() {
        for (text, number) in [("-1", -1), ("0", 0), ("50M", 50 << 20), ("1g", 1 << 30), ("64KiB", 64 << 10), ("7b", 7)]
        {
            assert_eq!(bytes(text), Ok(number), "{text}");
        }
        for text in ["", "M", "5x", "1.5G", "99999999999g", "5 5"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
