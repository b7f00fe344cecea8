//! A checked spec becomes an isolated Linux process. Knows no actors, no streams.
//!
//! ```text
//!  supervisor process                     keeper process                the container
//!  (1) spec ─ check ─► CheckedSpec
//!  (2) plan ─► bytes  ── socket ──►  (3) clone3, id maps  ──►  child walks the plan: mounts,
//!      cgroup, id range, files           peek, record, reap        pivot_root, ... stub init or exec
//!      pidfd, exit records  ◄── socket ──┘
//! ```
//!
//! [`Runtime`] and [`Container`] are what the actors see; [`native::NativeRuntime`] is ours. The phases are types:
//! a [`Container`] exists when its namespaces, cgroup and pid 1 exist and nothing of the user's runs; a
//! [`Started`] process has been exec'd.
#![cfg_attr(docsrs, feature(doc_cfg))]

use std::future::Future;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;

pub mod cgroup;
pub mod doctor;
pub mod drivers;
pub mod durable;
pub mod error;
pub mod hand;
pub mod ids;
pub mod keeper;
pub mod native;
pub mod network;
pub mod plan;
pub mod resctrl;
pub mod rootfs;
pub mod seccomp;
pub mod spec;
pub mod sys;
pub mod systemd;

pub use error::{Error, ErrorKind, Errors};
pub use keeper::{Deadline, Lease};
pub use plan::wire::Rung;
pub use spec::{ContainerSpec, ProcessSpec};

/// A future that an actor can hold.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// How a process ended, as the kernel told its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal {
        /// Its number.
        signal: i32,
        /// A core was written.
        core_dumped: bool,
    },
    /// Nobody can know: the keeper was gone and the kernel keeps no record.
    Lost,
}

/// What one process used, from its parent's wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Rusage {
    /// User time in microseconds.
    pub user_us: u64,
    /// System time in microseconds.
    pub system_us: u64,
    /// Largest resident set in KiB.
    pub max_rss_kib: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
}

/// The first of the two facts about an end: how, with what resources, when. The second is the container's evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// Code or signal.
    pub status: ExitStatus,
    /// Resources; `None` when only the pidfd told the exit.
    pub rusage: Option<Rusage>,
    /// CLOCK_MONOTONIC in nanoseconds when it was seen.
    pub at_ns: u64,
}

impl Exit {
    /// An exit as a test or a driver knows it.
    #[must_use]
    pub fn new(status: ExitStatus, rusage: Option<Rusage>, at_ns: u64) -> Self {
        Self { status, rusage, at_ns }
    }
}

/// A process that has been exec'd, with everything that belongs to whoever watches it.
#[derive(Debug)]
pub struct Started {
    /// Its process id in the supervisor's pid namespace; for display, never for signalling.
    pub pid: i32,
    /// Its pidfd. Shared with handles, so that a kill needs no mailbox.
    pub pidfd: Arc<OwnedFd>,
    /// How it ends. Resolves once; a closed channel means that the keeper is gone: ask [`Container::exit_of`].
    pub exit: tokio::sync::oneshot::Receiver<Exit>,
    /// Our end of its standard input, where [`spec::Stdio::Piped`] was asked for.
    pub stdin: Option<OwnedFd>,
    /// Our end of its standard output. Of a process with a terminal: the master, open once more.
    pub stdout: Option<OwnedFd>,
    /// Our end of its standard error.
    pub stderr: Option<OwnedFd>,
    /// The master of its terminal, where [`ProcessSpec::tty`] was asked for. The terminal is hung up when this and
    /// [`Started::stdout`] are closed.
    pub tty: Option<OwnedFd>,
    /// Who answers the calls that its filters ask about: for [`seccomp::Listener`]. `None` where no filter asks.
    pub listener: Option<OwnedFd>,
    /// The group that carries its own limits, where it has any.
    pub group: Option<native::OwnGroup>,
    /// What the keeper holds of it, where [`ProcessSpec::hold`] asked for that.
    pub held: Option<durable::Holds>,
}

impl Started {
    /// Without streams.
    pub(crate) fn bare(pid: i32, pidfd: Arc<OwnedFd>, exit: tokio::sync::oneshot::Receiver<Exit>) -> Self {
        let (stdin, stdout, stderr, tty, listener) = (None, None, None, None, None);
        Self { pid, pidfd, exit, stdin, stdout, stderr, tty, listener, group: None, held: None }
    }
}

/// What is done to a container at a [`Deadline`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Act {
    /// Kill every process of it, frozen or not.
    Kill,
    /// Let it go on after a [`Container::pause`].
    Thaw,
    /// Send this signal to the process behind this pidfd.
    Signal(Arc<OwnedFd>, i32),
    /// Write these bytes, at most 64, to this file: a limit, a frequency, whatever a file of the kernel takes.
    Write(Arc<OwnedFd>, Vec<u8>),
    /// Ask a process to end before it is made to: each of these signals at its time, followed by CONT, and the kill at the
    /// deadline, of this process first. [`Lease::sent`] says how far it has come.
    Ladder {
        /// Whom the signals are for.
        to: Arc<OwnedFd>,
        /// In the order of their times, none after the deadline, at most 16.
        rungs: Vec<Rung>,
        /// The kill is that of every process of the container, else of this one alone.
        all: bool,
    },
}

/// A pseudoterminal of a container.
#[derive(Debug)]
pub struct Pty {
    /// The end that reads what is printed and writes what is typed.
    pub master: OwnedFd,
    /// The end that processes have; it belongs to the user of the main process.
    pub slave: OwnedFd,
}

/// What a container's cgroup says after its last process is gone, before the cgroup is removed.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Evidence {
    /// OOM kills and whose limit it was.
    pub oom: cgroup::Oom,
    /// Counters.
    pub stats: cgroup::Stats,
    /// What the verdict rests on, and forks that were refused, where there was either.
    pub counters: Vec<cgroup::Counter>,
    /// `v2`, `v1`, `hybrid` or `none`.
    pub cgroup_mode: String,
}

/// What of a container is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Held {
    /// Its processes, at most [`Held::MOST`] of them; none of those that have ended and were not reaped.
    pub processes: Vec<HeldProcess>,
    /// The directories of its cgroup.
    pub cgroups: Vec<PathBuf>,
}

impl Held {
    /// So many processes are told of at most.
    pub const MOST: usize = 64;
}

/// A process that is still there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldProcess {
    /// In the supervisor's pid namespace; for display.
    pub pid: i32,
    /// As proc_pid_stat(5) has it: `D` is a wait that no signal ends.
    pub state: char,
    /// Its command name, which it can choose itself.
    pub name: String,
}

/// The root directory of a container, and what keeps its mounts: once the last process of a mount namespace is gone, the
/// kernel takes the mounts apart unless somebody holds the namespace itself.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
    /// Never read: held.
    _mounts: OwnedFd,
}

impl Root {
    /// A directory (O_PATH) and the mount namespace that it lies in.
    #[must_use]
    pub fn new(dir: OwnedFd, mounts: OwnedFd) -> Self {
        Self { dir, _mounts: mounts }
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// How the processes of a container are held.
///
/// ```
/// use orangery_runtime::Pause;
/// assert_eq!(Pause::default(), Pause::Freeze);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Pause {
    /// By the cgroup's freezer: all at once, unseen by the processes.
    #[default]
    Freeze,
    /// By SIGSTOP to each of them, which needs no cgroup. Weaker: their parents can see it, SIGCONT (also ours, in a
    /// stop) lets one of them go on, and while they are being stopped, one after the other, those that still run notice.
    Stop,
    /// By the freezer where there is one, else by SIGSTOP; [`Container::paused`] says which it was.
    Any,
}

impl Pause {
    /// In what it is weaker than the freezer, in words; `None`: in nothing.
    #[must_use]
    pub fn weakness(self) -> Option<&'static str> {
        match self {
            Self::Freeze => None,
            Self::Stop | Self::Any => Some(
                "SIGSTOP to each process: their parents can see it, SIGCONT from inside lets one go on, and they are stopped \
                 one after the other",
            ),
        }
    }
}

/// Makes containers. The actors know this trait only.
pub trait Runtime: Send + Sync + 'static {
    /// Check the spec, make namespaces, cgroup and root file system, and pid 1: the stub init, or `main` waiting
    /// behind the start gate. Nothing of the user's runs yet.
    ///
    /// # Errors
    /// Every refusal of the spec at once, or the step that failed. Nothing is left behind.
    ///
    /// # Cancel safety
    /// Dropping the future undoes what was made; the undoing itself may finish a moment later.
    fn create(&self, spec: ContainerSpec, main: ProcessSpec) -> BoxFuture<Result<Box<dyn Container>, Errors>>;

    /// What `check` would say, without making anything.
    ///
    /// # Errors
    /// Every refusal at once.
    fn check(&self, spec: &ContainerSpec, main: &ProcessSpec) -> Result<(), Errors>;

    /// Kill what is left, end the keeper, remove our cgroup parents and state. Idempotent.
    fn shutdown(&self) -> BoxFuture<()>;
}

/// One container. Dropping it kills it; [`Container::delete`] also waits and removes.
pub trait Container: Send + Sync + 'static {
    /// Start the main process (once).
    ///
    /// # Errors
    /// [`ErrorKind::CommandNotFound`], [`ErrorKind::CommandNotExecutable`], or the step that failed.
    fn start(&self) -> BoxFuture<Result<Started, Error>>;

    /// Start another process in it.
    ///
    /// # Errors
    /// As for [`Container::start`]; [`ErrorKind::State`] after the container has ended or while it is paused.
    fn exec(&self, process: ProcessSpec) -> BoxFuture<Result<Started, Error>>;

    /// What the next supervisor needs to own it again, to be written down before it is started, and again after each pause and
    /// resume. `None` where the runtime has no such thing, and when it has ended.
    fn record(&self) -> Option<durable::ContainerRecord> {
        None
    }

    /// Its [record](Container::record) has been written down: from now on it outlives this process, and before it does not. A
    /// [durable](native::NativeRuntime::durable) runtime's container about which this was not said ends with this process, also
    /// where nobody is left to end it, and when it is dropped. Never blocks.
    fn written_down(&self) {}

    /// Kill every process of it, at once; callable from any thread, never blocks on an actor.
    ///
    /// # Errors
    /// Only when neither the cgroup nor the pidfd can be used.
    fn kill(&self) -> Result<(), Error>;

    /// How a process of it ends whose [`Started::exit`] tells nothing, as the keeper is gone: [`native::exit_of`].
    fn exit_of(&self, pidfd: Arc<OwnedFd>) -> BoxFuture<Exit> {
        Box::pin(native::exit_of(pidfd))
    }

    /// Kill what a further process of it has left behind: everything in the session that it began with its start. `leader`
    /// is its [`Started::pid`], and it may have ended a moment ago. A fake without real processes has nothing to do.
    ///
    /// # Errors
    /// They fork faster than they are killed; the container has ended.
    fn kill_session(&self, leader: i32) -> BoxFuture<Result<(), Error>> {
        let _ = leader;
        Box::pin(async { Ok(()) })
    }

    /// Whether the process with this number has sent what came over a socket of [`Container::socket`] as one of this
    /// container's. Where it has ended meanwhile, and nobody can look any more: whether nobody else can send there.
    fn holds(&self, pid: i32) -> BoxFuture<bool> {
        let _ = pid;
        Box::pin(async { true })
    }

    /// Hold all processes; resolves when they are held. Held already, one way or the other: nothing to do.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for [`Pause::Freeze`] without a freezer; [`ErrorKind::Exhausted`] for [`Pause::Stop`]
    /// when processes go on forking faster than they are stopped: all run again then.
    fn pause(&self, how: Pause) -> BoxFuture<Result<(), Error>>;

    /// Undo [`Container::pause`], the way it was done.
    ///
    /// # Errors
    /// As for pause.
    fn resume(&self) -> BoxFuture<Result<(), Error>>;

    /// What lets it go on after a [`Container::pause`]: an [`Act::Thaw`], or an [`Act::Signal`] for each process that was
    /// stopped, for [`Container::lease`]. Empty where it is not paused, or nobody could do it.
    ///
    /// # Errors
    /// The container has ended, or its processes cannot be listed.
    fn let_go(&self) -> BoxFuture<Result<Vec<Act>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Have something done to it at a time, by the keeper: whether this process is still able to or not. Dropping the
    /// lease cancels. A pause with a lease on [`Act::Thaw`] and [`Deadline::at_end`] does not outlive its holder.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the runtime has no keeper or the container no freezer, [`ErrorKind::Exhausted`] when
    /// no further deadline can be held, [`ErrorKind::Invalid`] for what is no signal or no file.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing armed.
    fn lease(&self, when: Deadline, act: Act) -> BoxFuture<Result<Lease, Error>> {
        let _ = (when, act);
        Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "this runtime holds no deadlines")) })
    }

    /// A socket in its network namespace (`socket(family, kind)`; flags such as SOCK_NONBLOCK may be in `kind`, close on
    /// exec always is). It stays there wherever it is used.
    ///
    /// # Errors
    /// The kernel's, [`ErrorKind::State`] when the container has ended, [`ErrorKind::Unsupported`] without a keeper.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    fn socket(&self, family: u32, kind: u32) -> BoxFuture<Result<OwnedFd, Error>> {
        let _ = (family, kind);
        Box::pin(async {
            Err(Error::new(ErrorKind::Unsupported, "this runtime makes no sockets").with_field("socket"))
        })
    }

    /// Have the keeper hold a descriptor as well, under a label as that of [`spec::Hold`], which nothing else of this state
    /// directory has: a further supervisor finds it by [`durable::Adopted::beside`].
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where the runtime has no keeper; [`ErrorKind::Invalid`] for a label that is none;
    /// [`ErrorKind::Exhausted`] when the keeper has no room or no descriptor left.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing held.
    fn hold_beside(&self, label: Vec<u8>, fd: OwnedFd) -> BoxFuture<Result<durable::Beside, Error>> {
        let _ = (label, fd);
        Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "this runtime holds no descriptors")) })
    }

    /// A new pseudoterminal in its devpts.
    ///
    /// # Errors
    /// The step that failed, with the field `pty`: there is no devpts at /dev/pts, or it has no terminal left;
    /// [`ErrorKind::State`] when the container has ended, [`ErrorKind::Unsupported`] without a keeper.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    fn pty(&self) -> BoxFuture<Result<Pty, Error>> {
        Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "this runtime makes no terminals").with_field("pty")) })
    }

    /// How it is held now: [`Pause::Freeze`] or [`Pause::Stop`]; `None`: it is not.
    fn paused(&self) -> Option<Pause> {
        None
    }

    /// Change limits of the running container; on an error the old ones hold. With [`spec::Enforcement::BestEffort`] what
    /// cannot be had is no error: it is returned, and all others hold.
    ///
    /// # Errors
    /// The field and the kernel's reason.
    fn update(&self, limits: cgroup::Limits) -> Result<Vec<spec::UnmetLimit>, Error>;

    /// Its limits that were asked for and do not hold, as it does without them.
    fn unmet(&self) -> Vec<spec::UnmetLimit> {
        Vec::new()
    }

    /// What puts the limits that are asked for here back to what they are now, in this order: an [`Act::Write`] each, for
    /// [`Container::lease`] before a [`Container::update`] that is to end with its holder.
    ///
    /// # Errors
    /// As an update would be refused; [`ErrorKind::Unsupported`] where the runtime has no such files.
    fn put_back(&self, limits: &cgroup::Limits) -> Result<Vec<Act>, Error> {
        let _ = limits;
        Err(Error::new(ErrorKind::Unsupported, "this runtime has no files of limits").with_field("limits"))
    }

    /// Counters now: of its cgroup, or, without one, of its processes ([`cgroup::Source`]). Reads files of the kernel's: blocks.
    fn stats(&self) -> cgroup::Stats;

    /// Wait until the OOM killer has taken more than `seen` processes of it: how many, and as far as the counters tell by
    /// then whose limit it was. Costs a descriptor while it is waited for.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where nobody counts that; [`ErrorKind::State`] when the container has ended.
    ///
    /// # Cancel safety
    /// Nothing is changed; may be dropped and called again.
    fn oom(&self, seen: u64) -> BoxFuture<Result<(u64, cgroup::Oom), Error>> {
        let _ = seen;
        Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "this runtime counts no OOM kills")) })
    }

    /// Send a signal to a process of this container by its pidfd.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when it is gone.
    fn signal(&self, pidfd: &OwnedFd, signal: i32) -> Result<(), Error> {
        native::signal(pidfd, signal)
    }

    /// Kill what is left, wait until the last process is gone, read the counters. What is empty by then may be removed.
    fn finish(&self) -> BoxFuture<Evidence>;

    /// [`Container::finish`], then remove everything. Idempotent: deleting a gone thing succeeds.
    ///
    /// # Errors
    /// What could not be removed.
    fn delete(&self) -> BoxFuture<Result<(), Error>>;

    /// The container's root directory for file copies. Opened while it lives, it stays usable after its end.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when it is gone.
    fn root(&self) -> Result<Root, Error>;

    /// In whose name the container's files are touched, to be tried in this order: first as its root, then as the user of
    /// its main process, where the two differ.
    ///
    /// Whatever a hostile container makes us open by a link, it could have opened itself; and a file system of its own
    /// user namespace refuses ids that are not mapped there (EOVERFLOW).
    fn identities(&self) -> Vec<hand::Identity> {
        vec![hand::Identity::Own]
    }

    /// Somebody who touches files for us, for [`Identity::Hand`](hand::Identity::Hand). It may outlive the container.
    ///
    /// # Errors
    /// [`ErrorKind::Keeper`] when there is no keeper, or the step that failed, with the field `user`;
    /// [`ErrorKind::Unsupported`] where the runtime has none.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    fn hand(&self, ids: (u32, u32)) -> BoxFuture<Result<hand::Hand, Error>> {
        let _ = ids;
        Box::pin(async { Err(Error::new(ErrorKind::Unsupported, "this runtime has no hands").with_field("user")) })
    }

    /// pid 1 of the container in the supervisor's pid namespace; for display.
    fn init_pid(&self) -> i32;

    /// How its network is wired, as its provider tells; `None` without one.
    fn network(&self) -> Option<network::NetworkProperties> {
        None
    }

    /// Resolves, with how, when what keeps its network going has ended while the container has not; where there is no such thing,
    /// as everywhere but with [`network::Pasta`], never. For one to ask.
    fn network_lost(&self) -> BoxFuture<String> {
        Box::pin(std::future::pending())
    }

    /// Change how its network is wired.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without a provider or where it cannot; [`ErrorKind::State`] after the end.
    fn change_network(&self, to: network::NetworkProperties) -> BoxFuture<Result<(), Error>> {
        drop(to);
        let refused = Error::new(ErrorKind::Unsupported, "nobody wires this container's network");
        Box::pin(async move { Err(refused.with_field("network_provider")) })
    }

    /// How it has its root file system; `None` where the runtime does not say.
    fn root_way(&self) -> Option<rootfs::RootWay> {
        None
    }

    /// Resolves, with how, when what serves its root file system has ended while the container has not: whatever it does with a
    /// file fails then. Where there is no such thing, as everywhere but with [`rootfs::Layering::FuseOverlayfs`], never. For one
    /// to ask.
    fn root_lost(&self) -> BoxFuture<String> {
        Box::pin(std::future::pending())
    }

    /// [That](Self::root_lost) had happened when it was killed, for whatever reason, or before a process of it ended by itself
    /// at `before_ns` ([`Exit::at_ns`]): what its processes did last came of it.
    fn root_was_lost(&self, before_ns: u64) -> bool {
        let _ = before_ns;
        false
    }

    /// How much its root file system takes, as its provider counts; `None` without one.
    ///
    /// # Errors
    /// The provider cannot tell.
    fn rootfs_usage(&self) -> BoxFuture<Result<Option<rootfs::RootfsUsage>, Error>> {
        Box::pin(async { Ok(None) })
    }

    /// What of it is still there, for who must say what cannot be ended. Reads files of the kernel's: blocks.
    fn held(&self) -> Held {
        Held::default()
    }

    /// cgroup mode and, for `none`, the reason; for display.
    fn cgroup_mode(&self) -> String;
}
