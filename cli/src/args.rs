//! What can be typed. Values are parsed by the library's own parsers; nothing here looks at the machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, ValueEnum};
use orangery::runtime::rootfs::Layering;
use orangery::runtime::spec::size::parse_duration;

use crate::terminal::detach::DetachKeys;

mod act;
mod client;
mod inside;
mod limits;
mod logs;
mod look;
mod preset;
mod probes;
mod refused;
mod restart;
mod rootfs;
mod serve;
mod setup;
mod stop;
mod up;
mod work;

pub(crate) use act::{DownArgs, EndArgs, KillArgs, NamesArgs, PauseArgs, RmArgs, UpdateArgs, WaitArgs};
pub(crate) use client::DaemonArgs;
pub(crate) use inside::{AttachArgs, ExecArgs, History};
pub(crate) use limits::{Enforcing, LimitArgs};
pub(crate) use logs::{LogArgs, LogFormat, LogOf, LogStream, LogsArgs};
pub(crate) use look::{EventsArgs, EventsFrom, InspectArgs, PsArgs, StatsArgs};
pub(crate) use probes::ProbeArgs;
pub(crate) use rootfs::{RemoveArgs, RootfsAct, RootfsArgs, UnpackArgs};
pub(crate) use serve::ServeArgs;
pub(crate) use setup::SetupArgs;
pub(crate) use up::{GroupArgs, OwnArgs, ServiceArgs, TopArgs, UpArgs};
pub(crate) use work::{Network, RootArgs, TimeArgs, Userns, Words, WorkArgs};

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
    /// Show the output of a container of the daemon, or a log that `run --log` has written or is writing
    #[command(after_help = logs::HELP)]
    Logs(LogsArgs),
    /// Supervise services together, as a file says
    #[command(after_help = up::HELP)]
    Up(UpArgs),
    /// Print what a file of `up` can say, as JSON schema
    #[command(after_help = up::SCHEMA_HELP)]
    Schema,
    /// Say what this machine can do, what is missing, and how to get it
    #[command(after_help = DOCTOR_HELP)]
    Doctor,
    /// Prepare this machine for an ordinary user's sandboxes; run once, by root
    #[command(after_help = setup::HELP)]
    Setup(SetupArgs),
    /// Make root file systems of archives and directories, and remove them, without root
    #[command(after_help = rootfs::HELP)]
    Rootfs(RootfsArgs),
    /// Be the daemon: supervise containers for other commands, over HTTP on a socket
    #[command(after_help = serve::HELP)]
    Serve(ServeArgs),
    /// List the containers of the daemon
    #[command(after_help = look::PS_HELP)]
    Ps(PsArgs),
    /// Show all that the daemon knows of containers
    #[command(after_help = look::INSPECT_HELP)]
    Inspect(InspectArgs),
    /// Run a further command in a container of the daemon, and exit as it does
    #[command(after_help = inside::EXEC_HELP)]
    Exec(Box<ExecArgs>),
    /// Be at a container's command: see what it writes, type at it
    #[command(after_help = inside::ATTACH_HELP)]
    Attach(AttachArgs),
    /// Wait for a container's end, and exit as its command did
    #[command(after_help = act::WAIT_HELP)]
    Wait(WaitArgs),
    /// Start containers that have ended, or were not started yet
    Start(NamesArgs),
    /// End containers gently, and wait for that
    #[command(after_help = act::STOP_HELP)]
    Stop(EndArgs),
    /// Send a signal; without one, kill everything in a container
    #[command(after_help = act::KILL_HELP)]
    Kill(KillArgs),
    /// Hold everything in containers
    Pause(PauseArgs),
    /// Let what is paused go on
    Resume(NamesArgs),
    /// Change limits and properties of containers while they run
    #[command(after_help = act::UPDATE_HELP)]
    Update(Box<UpdateArgs>),
    /// Show what a container uses
    #[command(after_help = look::STATS_HELP)]
    Stats(StatsArgs),
    /// Show what happens, as it happens
    #[command(after_help = look::EVENTS_HELP)]
    Events(EventsArgs),
    /// Take away containers that have ended
    #[command(after_help = act::RM_HELP)]
    Rm(RmArgs),
    /// Stop the services of an `up --detach` in reverse order, and take them away
    Down(DownArgs),
    /// Print a script that completes command lines of orangery in a shell
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Shells that can be completed in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Subcommand {
    /// What a preset says where nothing else was said.
    fn with_preset(&mut self) -> Result<(), clap::Error> {
        let (args, runs) = match self {
            Self::Run(args) => (args, true),
            Self::Explain(args) => (args, false),
            _ => return Ok(()),
        };
        args.work.with_preset();
        if runs && args.command.is_empty() && args.work.root.bundle.is_none() {
            let mut command = Cli::command();
            let what = "the following required arguments were not provided: <COMMAND>...";
            return Err(command.error(clap::error::ErrorKind::MissingRequiredArgument, what));
        }
        Ok(())
    }
}

const COMPLETIONS_HELP: &str = "\
Examples:
  orangery completions bash > ~/.local/share/bash-completion/completions/orangery
  orangery completions zsh > ~/.zfunc/_orangery         with fpath+=~/.zfunc in front of compinit
  orangery completions fish > ~/.config/fish/completions/orangery.fish";

const TOP_EXAMPLES: &str = "\
Examples:
  orangery run -- sh -c 'echo hello; exit 3'          a command, its output, its exit code
  orangery run --memory 64M --timeout 2s -- ./a.out   with limits
  orangery explain --memory 64M -- ./a.out            what that would do
  orangery up services.toml                           several services, supervised together
  orangery doctor                                     whether this machine can do it
  orangery run --detach --name web -- ./web           in the daemon (orangery serve), which keeps it running
  orangery logs --follow web                          what it writes; orangery ps, exec, attach, stop, ... likewise";

const RUN_HELP: &str = "\
Exit code: the command's own; 128+n when signal n ended it; 124 the timeout or the silence did; 125 orangery itself failed;
126 the command cannot be executed; 127 it was not found.

Signals: INT, TERM, QUIT and HUP go to the command. A second INT kills the whole container.

With --detach the daemon runs it: the name is printed when it has been started, and `orangery ps, logs, exec, attach, wait,
stop, rm` do the rest. With -i its stdin stays open for `attach`.

Terminal: with -it every key goes to the command, ^C too; its window has the size of ours. Closing ours hangs the command's
up, and kills it ten seconds later. The detach keys give ours back: the command goes on, without input.

Without --rootfs the sandbox sees the host's programs (/usr, /bin, /lib, /nix, a small /etc), read-only, and nothing
else of it; /tmp, /run, /var, /root and /home are private, empty, writable and of bounded size.

Examples:
  orangery run -- sh -c 'id; ls /'
  orangery run --memory 256M --cpus 0.5 --pids 32 --timeout 10s -- python3 -c 'print(6 * 7)'
  orangery run --preset judge --timeout 5s -- ./submission
  printf 'a b c' | orangery run -i -- wc -w
  orangery run -it -- bash
  orangery run --mount type=bind,src=.,dst=/src,ro --workdir /src -- make -n
  orangery run --rootfs ./alpine --writable -- /bin/sh -c 'apk info'
  orangery run --runtime crun --rootfs ./alpine -- /bin/sh -c 'apk info'
  orangery run --rootfs alpine-minirootfs.tar.gz --rw -- /bin/sh -c 'apk info'
  orangery run --join net=/proc/4711/ns/net -- ip address
  orangery run --restart on-failure:5 --restart-delay 1s -- ./flaky
  orangery run --restart always --health-tcp 8080 --health-interval 5s -- ./server
  orangery run --report report.json --output-limit 1M -- ./submission
  orangery run --detach --name web --restart always -- ./web";

const EXPLAIN_HELP: &str = "\
Takes every option of `orangery run`. The plan is decoded from the very bytes that would be executed.

Examples:
  orangery explain -- true
  orangery explain --preset judge                      every choice of a preset, and why
  orangery explain --json --memory 64M -- true | jq '.container.steps[].words'";

const DOCTOR_HELP: &str = "\
Each feature is probed by using it, never by a version number. Exit code: 0 when sandboxes can run here, else 1.

Examples:
  orangery doctor
  orangery doctor --json | jq -r '.findings[] | select(.state != \"ok\") | .fix // empty'";

/// The options of `run` and `explain`.
#[derive(Debug, Args)]
// What a service of `up` can have, and one run with our own streams cannot.
#[command(mut_arg("timeout_idle", |arg| arg.conflicts_with("restart")))]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) stop: StopArgs,
    #[command(flatten)]
    pub(crate) probes: ProbeArgs,
    /// Hand it to the daemon, print its name, and end
    #[arg(short, long, conflicts_with_all = ["events", "report", "kill_after", "PlaceArgs"], help_heading = "The daemon")]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) daemon: DaemonArgs,
    /// The container's name; random by default
    #[arg(long, value_name = "NAME", help_heading = "Names and places")]
    pub(crate) name: Option<String>,
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The command and its arguments; everything from its name on belongs to it
    #[arg(trailing_var_arg = true, value_name = "COMMAND", required_unless_present_any = ["bundle", "preset"])]
    pub(crate) command: Vec<OsString>,
}

impl RunArgs {
    /// What is said beside the options that describe the work.
    pub(crate) fn words(&self) -> Words<'_> {
        Words { command: &self.command, name: self.name.as_deref(), tty: self.process.tty }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "The command")]
pub(crate) struct ProcessArgs {
    /// Pass our stdin on; /dev/null without it
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// A terminal for the command; with -i ours is its keyboard and window
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Typed, these give our terminal back while the command goes on; empty for none
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: DetachKeys,
    /// Write everything that happens there, one JSON object a line, as it happens
    #[arg(long, value_name = "FILE")]
    pub(crate) events: Option<PathBuf>,
    /// Write the exit report there as JSON, also when the command fails; `-` is stdout
    #[arg(long, value_name = "FILE|-")]
    pub(crate) report: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Time")]
pub(crate) struct StopArgs {
    /// Kill this long after a TERM that was forwarded; without it the command decides
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "stop")]
    pub(crate) kill_after: Option<Duration>,
}

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Names and places")]
pub(crate) struct PlaceArgs {
    /// An existing cgroup to make ours in; our own by default
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<PathBuf>,
    /// Where our own state lives while we do
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// How a --writable root may be made, the first that can be had [overlay,fuse-overlayfs,copy]
    #[arg(long, value_name = "WAY,...", value_delimiter = ',')]
    pub(crate) layering: Vec<Layering>,
    /// Have this program make the containers: crun, runc, youki, orangery-oci, by name or path. They need a --rootfs; what else they cannot
    /// have is refused (docs/drivers.md)
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) runtime: Option<PathBuf>,
}

/// The command line of this process, with how it was written; or, for help and errors, how to end it.
pub(crate) fn parse() -> Result<(Cli, ArgMatches), ExitCode> {
    let matches = Cli::command().try_get_matches();
    let cli = matches.and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches)?;
        cli.subcommand.with_preset()?;
        Ok((cli, matches))
    });
    cli.map_err(|error| {
        if error.use_stderr() {
            return refused::refusal(&error).tell(Cli::wants_json(std::env::args_os()));
        }
        // Help or version; a closed stdout is nobody's loss.
        let _ = error.print();
        ExitCode::SUCCESS
    })
}
