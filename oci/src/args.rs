//! The command line, in runc's words.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// What was asked for.
#[derive(Debug, Parser)]
#[command(
    name = "orangery-oci",
    version = concat!(env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0"),
    about = "An OCI runtime: containers of bundles, in runc's words",
    disable_help_subcommand = true
)]
pub(crate) struct Arguments {
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
    #[arg(long, global = true, value_enum, default_value = "auto", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) rootless: Rootless,
    /// Who makes cgroups
    #[arg(long, global = true, value_enum, default_value = "cgroupfs")]
    pub(crate) cgroup_manager: CgroupManager,
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
    },
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
}

/// A container that is started at once.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Leave it to be deleted by somebody else
    #[arg(long, conflicts_with = "detach")]
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
