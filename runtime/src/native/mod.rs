//! (3) in the way of the data: our runtime. The order of calls, and who owns what until it is given back.

pub(crate) mod adopted;
mod again;
mod container;
mod create;
pub(crate) mod driven;
mod durable;
mod ending;
mod evidence;
mod exit;
mod fault;
mod held;
pub(crate) mod helper;
mod janitor;
mod join;
mod kept;
mod off_thread;
mod once;
mod own_group;
mod proc_stats;
mod provided;
mod reach;
mod record;
mod report;
pub(crate) mod serving;
mod session;
pub mod single;
mod space;
mod start;
pub mod state;
mod stdio;
mod stop;
mod supply;
mod trees;
mod unmet;
mod without;
mod writable;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use crate::cgroup::Cgroups;
use crate::error::{Error, ErrorKind, Errors};
use crate::ids::Ranges;
use crate::keeper::{self, Client, Present};
use crate::plan::idmap::IdMap;
use crate::plan::{Machine, Plan};
use crate::rootfs::Layering;
use crate::spec::check::{self, CheckedSpec};
use crate::spec::{ContainerSpec, ProcessSpec};
use crate::{BoxFuture, Container, Runtime};

pub use crate::keeper::{KeeperNews, Replaced};
pub use exit::exit_of;
pub(crate) use exit::exit_without;
use exit::reap;
pub use fault::{Faults, Point};
use janitor::Janitor;
use kept::Kept;
pub use own_group::OwnGroup;
pub(crate) use reach::errand;
use state::Instance;
pub use without::Without;

/// What becomes of the containers when their supervisor goes, however it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// All of them are killed and removed.
    #[default]
    Kill,
    /// They live on without us and without the keeper, children of the nearest subreaper, and nothing sweeps their cgroups:
    /// for a command line that makes a container and goes. Dropping a [`Container`] does nothing then; deleting one
    /// removes it. Their range of ids is free for others as soon as we are gone.
    Release,
    /// They live on, and the keeper goes on without us: it records how processes end, carries out deadlines, empties what
    /// was [stored](keeper::Client::store) with a log, and waits behind [`Options::door`] for whoever
    /// [adopts](keeper::adopt()) it. With nothing to hold it removes everything and ends. Dropping a [`Container`] does
    /// nothing then; deleting one removes it. What the next supervisor needs to know beside that is for its user to write
    /// down ([`durable`](crate::durable)): a container of [`NativeRuntime::durable`] that is [not](Container::written_down) ends
    /// with this process, and when it is dropped. Their range of ids is free for others as soon as we are gone, but with
    /// [`NativeRuntime::durable`], which lends the keeper its lock.
    Keep,
}

/// How to start a [`NativeRuntime`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options {
    /// Where instance directories are made; `/run/orangery` or `$XDG_RUNTIME_DIR/orangery` if unset.
    pub state_dir: Option<PathBuf>,
    /// In which ways a root of layers may be made, tried in this order; [all](Layering::ALL) if empty. What cannot be had is
    /// followed by the next, which [`Container::root_way`] says.
    pub layering: Vec<Layering>,
    /// An existing cgroup to make ours in.
    pub cgroup_parent: Option<PathBuf>,
    /// Start the keeper from this file instead of a memfd; it is written if it is missing or another version.
    pub keeper_path: Option<PathBuf>,
    /// Use no cgroups at all.
    pub no_cgroups: bool,
    /// What our end means.
    pub end: End,
    /// Where the next supervisor comes, with [`End::Keep`]: the path of a socket in a directory that only this user can
    /// enter. One that nobody listens at any more is replaced.
    pub door: Option<PathBuf>,
    /// What becomes of the containers of an earlier supervisor when its keeper is gone as well: of
    /// [`NativeRuntime::durable`].
    pub orphans: Orphans,
    /// This process becomes a subreaper (`PR_SET_CHILD_SUBREAPER`), of [`NativeRuntime::durable`]: what the keeper was the parent
    /// of falls to it when the keeper dies, so that it is told how that ends, also before Linux 6.15. For the whole process, and
    /// for good: orphans of its other children fall to it as well, and are not waited for here.
    pub subreaper: bool,
    /// Where the keeper, and each that comes after it, tells what it and its children do, a line each; `None`: on the
    /// descriptor that `ORANGERY_KEEPER_TRACE` names. A socket has to answer each line `keeper PID has ...`
    /// ([`Moment`](crate::plan::wire::Moment)) with a byte: the keeper does nothing else until it has, or has been closed.
    pub keeper_trace: Option<Arc<OwnedFd>>,
    /// As on a kernel that has less: for tests of what is done instead.
    pub without: Without,
    /// Where to fail: for tests of the clean-up.
    pub faults: Faults,
}

/// What becomes of containers whose supervisor and keeper were both killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Orphans {
    /// What lives can be claimed, by its cgroup and the inode of its pidfd; its streams are lost, and how what has ended
    /// meanwhile did so.
    #[default]
    Adopt,
    /// They are killed and removed.
    Kill,
}

/// Namespaces, cgroups and a keeper. Cheap to clone.
#[derive(Clone, Debug)]
pub struct NativeRuntime {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    keeper: Client,
    present: Arc<Present>,
    machine: Machine,
    cgroups: Mutex<Option<Arc<Cgroups>>>,
    ranges: Option<Ranges>,
    shared: Mutex<Option<Arc<crate::ids::Range>>>,
    /// All ids of an unprivileged keeper's namespace, where that has more than one.
    keepers_ids: Option<IdMap>,
    janitor: mpsc::UnboundedSender<janitor::Work>,
    instance: Mutex<Option<Instance>>,
    faults: Faults,
    /// Containers outlive us.
    releases: bool,
    /// They do once they are [written down](Container::written_down), and not before.
    durable: bool,
    without: Without,
    layering: Vec<Layering>,
    names: janitor::Names,
    /// For what counters cost to read.
    threads: off_thread::Few,
    /// User namespaces for id-mapped mounts.
    userns: Mutex<Kept<IdMap, Arc<OwnedFd>>>,
}

/// How long a shutdown waits for what is being removed.
const SHUTDOWN: std::time::Duration = std::time::Duration::from_secs(10);

/// What must run on a tokio thread as long as the runtime is used: the keeper's conversation and the janitor.
#[derive(Debug)]
pub struct Driver {
    keeper: keeper::Driver,
    janitor: Janitor,
}

impl Driver {
    /// [`Driver::run_telling`], and nobody is told.
    pub async fn run(self) {
        self.run_telling(|_| ()).await;
    }

    /// Ends when the keeper has ended and the runtime was shut down, or is used by nobody any more. What must be given
    /// back is given back without a keeper too. `tell` hears what becomes of the keeper: of one that dies beside a
    /// [durable](NativeRuntime::durable) runtime, that another one is there; at last, and once, that there is none any more,
    /// for whatever reason.
    pub async fn run_telling(self, tell: impl FnMut(KeeperNews)) {
        let Driver { keeper, janitor } = self;
        let janitor = tokio::spawn(janitor.run());
        keeper.run_telling(tell).await;
        let _ = janitor.await;
    }
}

impl NativeRuntime {
    /// The plan of a container, as `explain` prints it and the keeper would execute it; nothing is made.
    ///
    /// # Errors
    /// Every refusal of the spec.
    pub fn plan(&self, spec: ContainerSpec, main: ProcessSpec) -> Result<(Plan, Option<Plan>), Errors> {
        create::dry(&self.inner, spec, main)
    }

    /// The conversation with the keeper: for what is to be stored there.
    #[must_use]
    pub fn keeper(&self) -> &Client {
        &self.inner.keeper
    }

    /// Process id of the present keeper, for display.
    #[must_use]
    pub fn keeper_pid(&self) -> u32 {
        self.inner.present.pid.load(Ordering::Acquire)
    }

    /// How many keepers have died beside this runtime and were replaced by another one: of a
    /// [durable](NativeRuntime::durable) one.
    #[must_use]
    pub fn keepers_replaced(&self) -> u32 {
        self.inner.present.replaced.load(Ordering::Acquire)
    }

    /// What this runtime has made for itself and removes at its end: the instance directory, and its cgroups. Nothing after
    /// the shutdown.
    #[must_use]
    pub fn places(&self) -> (Option<PathBuf>, Vec<PathBuf>) {
        let instance = self.inner.instance.lock().unwrap_or_else(PoisonError::into_inner);
        let files = instance.as_ref().map(|instance| instance.base().join(instance.name()));
        let cgroups = self.inner.cgroups().map_or_else(|_| Vec::new(), |cgroups| cgroups.roots());
        (files, cgroups.into_iter().map(|root| root.path).collect())
    }

    /// Requests that wait to be sent to the keeper, and those that it has not answered yet.
    #[must_use]
    pub fn keeper_load(&self) -> (u64, u64) {
        self.inner.keeper.load()
    }

    /// The keeper is gone, and there is no other one: what runs goes on, nothing new can be started.
    #[must_use]
    pub fn keeper_is_dead(&self) -> bool {
        self.inner.keeper.is_dead()
    }

    /// `v2`, `v1`, `hybrid`, or `none` and why.
    #[must_use]
    pub fn cgroup_mode(&self) -> (String, Option<String>) {
        self.inner.cgroups().map_or_else(
            |_| ("none".into(), Some("shut down".into())),
            |cgroups| (cgroups.mode().to_string(), cgroups.why_none().map(str::to_owned)),
        )
    }

    /// Whether the cgroups of containers count their processor time.
    #[must_use]
    pub fn counts_cpu(&self) -> bool {
        self.inner.cgroups().is_ok_and(|cgroups| cgroups.counts_cpu())
    }
}

impl Inner {
    fn cgroups(&self) -> Result<Arc<Cgroups>, Error> {
        let cgroups = self.cgroups.lock().unwrap_or_else(PoisonError::into_inner);
        cgroups.clone().ok_or_else(|| Error::new(ErrorKind::State, "the runtime is shut down"))
    }

    fn check(&self, spec: ContainerSpec, main: ProcessSpec) -> Result<CheckedSpec, Errors> {
        let cgroups = self.cgroups().map_err(|error| Errors(vec![error]))?;
        if spec.cgroups_path.is_some() {
            let why = "a supervisor's containers lie below its own cgroup";
            let refused = Error::new(ErrorKind::Unsupported, why).with_field("linux.cgroupsPath");
            return Err(Errors(vec![refused.with_hint("orangery-oci makes it where the bundle says")]));
        }
        if spec.intel_rdt.is_some() {
            let why = "a supervisor keeps no groups of resctrl";
            let refused = Error::new(ErrorKind::Unsupported, why).with_field("intel_rdt");
            return Err(Errors(vec![refused.with_hint("orangery-oci does, for what it makes")]));
        }
        if !spec.hooks.is_empty() {
            let why = "a supervisor runs no programs of a bundle beside its containers";
            let refused = Error::new(ErrorKind::Unsupported, why).with_field("hooks");
            return Err(Errors(vec![refused.with_hint("orangery-oci runs them")]));
        }
        if spec.filter_listener.is_some() {
            let why = "a supervisor gives the listener of a filter to whoever has started the process";
            let refused = Error::new(ErrorKind::Unsupported, why).with_field("linux.seccomp.listenerPath");
            return Err(Errors(vec![refused.with_hint("orangery-oci sends it over a socket")]));
        }
        check::check(spec, main, &self.machine, &cgroups)
    }

    /// The id map of a container, and the range that it holds.
    fn ids(&self, spec: &CheckedSpec) -> Result<(Option<IdMap>, Option<Arc<crate::ids::Range>>), Error> {
        use crate::spec::UserNamespace::{Host, Own, Shared};
        let kind = spec.container().user_namespace;
        if let Some(ids) = spec.joined_ids() {
            return Ok((Some(ids.clone()), None));
        }
        if let Some(maps) = &spec.container().id_maps {
            let keeper = (self.present.pid.load(Ordering::Relaxed), self.keepers_ids.as_ref());
            let ids = crate::ids::chosen::of(maps, (!self.machine.privileged).then_some(keeper))?;
            return Ok((Some(ids), None));
        }
        let Some(ranges) = &self.ranges else { return Ok((Some(self.unprivileged_ids(spec)), None)) };
        let range = match kind {
            Host => return Ok((None, None)),
            Own => Arc::new(ranges.take()?),
            Shared => {
                let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
                match &*shared {
                    Some(range) => Arc::clone(range),
                    None => Arc::clone(shared.insert(Arc::new(ranges.take()?))),
                }
            }
        };
        Ok((Some(IdMap::range(range.base(), crate::ids::COUNT)), Some(range)))
    }

    /// A user namespace with these maps, for id-mapped mounts, if there is one already.
    fn kept_userns(&self, ids: &IdMap) -> Option<Arc<OwnedFd>> {
        self.userns.lock().unwrap_or_else(PoisonError::into_inner).get(ids)
    }

    /// A user namespace with these maps, for id-mapped mounts.
    async fn userns(&self, ids: &IdMap) -> Result<Arc<OwnedFd>, Error> {
        if let Some(userns) = self.kept_userns(ids) {
            return Ok(userns);
        }
        let made = Arc::new(self.keeper.userns(&ids.uid.text(), &ids.gid.text()).await?);
        self.userns.lock().unwrap_or_else(PoisonError::into_inner).put(ids.clone(), Arc::clone(&made));
        Ok(made)
    }

    /// The ids of a process outside, where we may give things away.
    fn owner(&self, process: &check::CheckedProcess, ids: Option<&IdMap>) -> stdio::Owner {
        stdio::Owner::of(process.ids(), ids, self.machine.privileged)
    }

    /// An ordinary user has no other id than its own.
    fn has_one_id(&self) -> bool {
        !self.machine.privileged && self.keepers_ids.is_none()
    }

    /// In the keeper's namespace 0 is its user and 1.. are the subordinate ids. Without those the one id that exists
    /// is called what the main process wants to be.
    fn unprivileged_ids(&self, spec: &CheckedSpec) -> IdMap {
        match &self.keepers_ids {
            Some(ids) => ids.clone(),
            None => {
                let (uid, gid) = spec.main().ids();
                IdMap::single(uid, gid, 0, 0)
            }
        }
    }
}

impl Runtime for NativeRuntime {
    fn create(&self, spec: ContainerSpec, main: ProcessSpec) -> BoxFuture<Result<Box<dyn Container>, Errors>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let container = create::create(inner, spec, main).await?;
            Ok(Box::new(container) as Box<dyn Container>)
        })
    }

    fn check(&self, spec: &ContainerSpec, main: &ProcessSpec) -> Result<(), Errors> {
        self.inner.check(spec.clone(), main.clone()).map(drop)
    }

    fn shutdown(&self) -> BoxFuture<()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let (sender, done) = tokio::sync::oneshot::channel();
            if inner.janitor.send(janitor::Work::Finish(sender)).is_ok() {
                // What the kernel does not let go is the keeper's to remove, at its end.
                let _ = tokio::time::timeout(SHUTDOWN, done).await;
            }
            let _ = tokio::time::timeout(SHUTDOWN, inner.keeper.taken_back()).await;
            let cgroups = inner.cgroups.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(cgroups);
            let shared = inner.shared.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(shared) = shared.filter(|_| inner.releases) {
                shared.leave();
            }
            inner.keeper.close();
            drop(inner.instance.lock().unwrap_or_else(PoisonError::into_inner).take());
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.close();
    }
}

fn cgroup_error(error: &crate::cgroup::CgroupError) -> Error {
    let kind = if error.is_permission() {
        ErrorKind::Permission
    } else if error.is_exists() {
        ErrorKind::Exists
    } else if error.is_unsupported() {
        ErrorKind::Unsupported
    } else {
        ErrorKind::System
    };
    // The errno is appended by our own Display.
    let mut what = format!("cannot {} {}", error.operation(), error.path().display());
    if let Some(reason) = error.reason() {
        what = format!("{what}: {reason}");
    }
    let made = Error::new(kind, what).with_errno(error.errno());
    match error.field() {
        Some("cgroupsPath") => made.with_field("linux.cgroupsPath"),
        Some(field) => made.with_field(format!("limits.{field}")),
        None => made,
    }
}

/// The process behind a pidfd has not ended, so that its number has been its own up to now.
pub(crate) fn lives(pidfd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    matches!(poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&Timespec::default())), Ok(0))
}

/// The processes in the pid namespace of this one and in those below it, each by its number here and a pidfd: those of a container that has
/// no cgroup. All processes of the machine are looked at; who is born meanwhile may be missing.
///
/// # Errors
/// [`ErrorKind::State`]: that process has ended.
pub fn in_its_pid_namespace(pid: i32, pidfd: &OwnedFd) -> Result<Vec<(i32, OwnedFd)>, Error> {
    let members = space::Space::of(pid, pidfd)?.members()?;
    Ok(members.into_iter().map(|member| (member.key.0, member.pidfd)).collect())
}

/// Send a signal through a pidfd: 1 to 31, or 34 to 64 (SIGRTMIN to SIGRTMAX). 32 and 33 belong to the C library.
///
/// # Errors
/// [`ErrorKind::State`] when the process is gone, [`ErrorKind::Invalid`] for a number that is no signal.
pub fn signal(pidfd: &OwnedFd, signal: i32) -> Result<(), Error> {
    if !matches!(signal, 1..=31 | 34..=64) {
        return Err(Error::invalid("signal", format!("{signal} is no signal: 1 to 31 and 34 to 64 are")));
    }
    crate::sys::pidfd_send_signal(pidfd, signal).map_err(|error| {
        let gone = error.raw_os_error() == Some(libc::ESRCH);
        let kind = if gone { ErrorKind::State } else { ErrorKind::Permission };
        Error::system("cannot signal the process", error).with_kind(kind)
    })
}

/// CLOCK_MONOTONIC in nanoseconds.
#[must_use]
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}
