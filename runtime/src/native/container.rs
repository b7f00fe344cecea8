//! A container of ours: what is done to it, and what it leaves as evidence.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tokio::sync::{Notify, OnceCell, oneshot};

use super::driven::{Brought, Driven};
use super::janitor::{Rests, Work};
use super::off_thread::off_thread;
use super::own_group::OwnGroup;
use super::report::{Report, Said, failed_before, step_error};
use super::session;
use super::space;
use super::stdio::{self, Ends, Exec};
use super::stop::{self, Stopped};
use super::supply::{Seer, Supply, some};
use super::{Inner, Point, cgroup_error, lives};
use crate::cgroup::{Group, Limits, Oom, OomEvidence, Stats};
use crate::durable::{Beside, ContainerRecord, FirstRecord, Storing};
use crate::error::{Error, ErrorKind, Errors};
use crate::hand::{Hand, Identity};
use crate::keeper::{Client, Deadline, Lease, Spawned};
use crate::network::NetworkProperties;
use crate::plan::idmap::IdMap;
use crate::plan::process::{self, Joining};
use crate::plan::wire;
use crate::plan::{Need, Plan};
use crate::rootfs::{RootWay, RootfsUsage};
use crate::spec::check::{self, CheckedProcess};
use crate::spec::{ContainerSpec, Enforcement, Ground, Hold, ProcessSpec, UnmetLimit, User};
use crate::{Act, BoxFuture, Container, Evidence, Exit, Held, Pause, Pty, Root, Started};

/// Everything that is shared between the container, its futures and its removal.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) inner: Arc<Inner>,
    container: ContainerSpec,
    /// Who the main process runs as, in the container's ids.
    main_ids: (u32, u32),
    /// The main process until it is started: the descriptors that it brings are its own from then on.
    main: Mutex<Option<Main>>,
    joining: Joining,
    pub(super) rests: Rests,
    /// How its root is made; `None`: whoever made it did not write that down.
    pub(super) root_way: Option<RootWay>,
    init_pid: i32,
    /// The request that has made it, and what came of it.
    pub(super) request: u64,
    pub(super) first: FirstRecord,
    /// Its range of ids is that of several.
    pub(super) shared_range: bool,
    /// It shares its pid namespace with others, so that its end is not that of its first process alone.
    pub(super) shares_pids: bool,
    /// Nobody else is in its network.
    pub(super) own_network: bool,
    /// The limits that do not hold, and what its processes get in their place.
    pub(super) unmet: Mutex<Vec<UnmetLimit>>,
    /// What could stand in the place of one.
    pub(super) ground: Ground,
    pub(super) before: OomEvidence,
    paused: Mutex<Paused>,
    /// Written by who changes `paused`; read by who starts a process, so that none is missed.
    pausing: tokio::sync::RwLock<()>,
    /// The command behind the start gate, where it is pid 1 itself.
    pub(super) waiting: Mutex<Option<Gated>>,
    /// How the stub init ends, where it is the main process.
    pub(super) idle: Mutex<Option<Idle>>,
    pub(super) started: AtomicBool,
    pub(super) finished: OnceCell<Evidence>,
    /// Said when it has.
    pub(super) over: Notify,
    /// The cgroup went at the first attempt.
    pub(super) removed: AtomicBool,
    pub(super) deleted: OnceCell<()>,
    /// Held to write while the group is prepared for groups below it.
    pub(super) births: tokio::sync::RwLock<()>,
    /// The number of the next process with limits of its own; 0: an earlier supervisor had some.
    pub(super) execs: AtomicU64,
}

/// How it is held.
#[derive(Clone, Debug, Default)]
pub(super) enum Paused {
    #[default]
    No,
    Frozen,
    Stopped(Stopped),
}

/// The main process, before it is started.
#[derive(Debug)]
pub(super) enum Main {
    Checked(Box<CheckedProcess>),
    /// Of a container of an earlier supervisor: checked when it is started.
    Asked(Box<ProcessSpec>),
}

/// The stub as a main process: how it ends, and what is held of it.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) exit: oneshot::Receiver<Exit>,
    pub(super) storing: Option<Storing>,
}

/// A command behind its start gate.
#[derive(Debug)]
pub(super) struct Gated {
    pub(super) gate: OwnedFd,
    pub(super) ends: Ends,
    pub(super) report: Report,
    /// `None`: an earlier supervisor had it.
    pub(super) plan: Option<Plan>,
    pub(super) exit: oneshot::Receiver<Exit>,
    pub(super) storing: Option<Storing>,
    pub(super) hold: Option<Hold>,
}

/// What a container is made of.
pub(super) struct Made {
    pub(super) container: ContainerSpec,
    pub(super) joining: Joining,
    pub(super) rests: Rests,
    pub(super) before: OomEvidence,
    pub(super) main_ids: (u32, u32),
    pub(super) init_pid: i32,
    pub(super) request: u64,
    pub(super) first: FirstRecord,
    pub(super) shares_pids: bool,
    pub(super) own_network: bool,
    pub(super) shared_range: bool,
    pub(super) unmet: Vec<UnmetLimit>,
    pub(super) ground: Ground,
    pub(super) main: Option<Main>,
    pub(super) waiting: Option<Gated>,
    pub(super) idle: Option<Idle>,
    pub(super) root_way: Option<RootWay>,
}

impl Core {
    pub(super) fn new(inner: Arc<Inner>, made: Made) -> Self {
        let Made { container, joining, rests, before, main_ids, init_pid, request, first, .. } = made;
        Self {
            inner,
            container,
            main_ids,
            main: Mutex::new(made.main),
            joining,
            rests,
            root_way: made.root_way,
            init_pid,
            request,
            first,
            shared_range: made.shared_range,
            shares_pids: made.shares_pids,
            own_network: made.own_network,
            unmet: Mutex::new(made.unmet),
            ground: made.ground,
            before,
            paused: Mutex::default(),
            pausing: tokio::sync::RwLock::default(),
            waiting: Mutex::new(made.waiting),
            idle: Mutex::new(made.idle),
            started: AtomicBool::new(false),
            finished: OnceCell::new(),
            over: Notify::new(),
            removed: AtomicBool::new(false),
            deleted: OnceCell::new(),
            births: tokio::sync::RwLock::new(()),
            execs: AtomicU64::new(1),
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.container.id
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(super) fn joining(&self) -> &Joining {
        &self.joining
    }

    /// Ids of the main process in the container.
    pub(super) fn main_ids(&self) -> (u32, u32) {
        self.main_ids
    }

    pub(super) fn init_pidfd(&self) -> Result<OwnedFd, Error> {
        self.rests.init()?.try_clone().map_err(|error| Error::system("cannot duplicate a pidfd", error))
    }

    pub(super) fn init_pid(&self) -> i32 {
        self.init_pid
    }

    pub(super) fn group(&self) -> Option<&Group> {
        self.rests.group.as_deref()
    }

    pub(super) fn enforcement(&self) -> Enforcement {
        self.container.enforcement
    }

    /// The group of a living container, for its limits.
    pub(super) fn limited(&self) -> Result<&Group, Error> {
        self.alive()?;
        let none = || Error::new(ErrorKind::Unsupported, "this container has no cgroup").with_field("limits");
        self.group().ok_or_else(none)
    }

    pub(super) fn alive(&self) -> Result<(), Error> {
        if self.finished.initialized() {
            return Err(Error::new(ErrorKind::State, "the container has ended"));
        }
        Ok(())
    }

    /// The main process behind its gate, or the first exec, or the stub that is there already.
    pub(super) async fn start(self: Arc<Self>) -> Result<Started, Error> {
        if self.started.swap(true, Ordering::AcqRel) {
            return Err(Error::new(ErrorKind::State, "the container was started already"));
        }
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Idle { exit, storing }) = idle {
            return Ends::default().started(self.exec_of(self.init_pid, self.rests.init()?, exit), storing);
        }
        if let Some(driven) = &self.rests.driven
            && let Some((ends, exit)) = driven.start_main().await?
        {
            return ends.started(self.exec_of(self.init_pid, self.rests.init()?, exit), None);
        }
        let gated = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        match gated {
            Some(gated) => self.open_gate(gated).await,
            None => {
                let main = self.main.lock().unwrap_or_else(PoisonError::into_inner).take();
                let twice = || Error::new(ErrorKind::State, "the container was started already");
                let main = match main.ok_or_else(twice)? {
                    Main::Checked(main) => *main,
                    Main::Asked(main) => self.looked_up(*main).await?,
                };
                let trees = self.own_trees(&main).await?;
                self.exec_checked(main, trees, true).await
            }
        }
    }

    async fn open_gate(&self, gated: Gated) -> Result<Started, Error> {
        let Gated { gate, mut ends, report, plan, exit, mut storing, hold } = gated;
        if let Some(storing) = &mut storing {
            // What does not come to its exec is not held any more.
            storing.start();
        }
        let opened = rustix::net::send(&gate, &[1], rustix::net::SendFlags::NOSIGNAL);
        drop(gate);
        // Without a plan an earlier supervisor may have opened it: the command is past it, or dead, which its exit tells.
        if let (Err(error), Some(plan)) = (opened, &plan) {
            running(&report, Some(plan)).await?;
            let what = "the command was killed while it waited to be started";
            return Err(Error::system(what, error).with_kind(ErrorKind::State));
        }
        running(&report, plan.as_ref()).await?;
        ends.receive(storing.as_mut(), hold.as_ref()).await?;
        ends.started(self.exec_of(self.init_pid, self.rests.init()?, exit), storing)
    }

    fn exec_of(&self, pid: i32, pidfd: Arc<OwnedFd>, exit: oneshot::Receiver<Exit>) -> Exec {
        Exec { pid, pidfd, exit, group: None, without_pidfs: self.inner.without.pidfs }
    }

    /// A further process: names are looked up in the container as it is now.
    fn checked(&self, mut spec: ProcessSpec) -> Result<CheckedProcess, Error> {
        self.give_in_place(&mut spec);
        let root = match &spec.user {
            User::Name(_) => Some(self.root()?),
            _ => None,
        };
        let (machine, cgroups) = (&self.inner.machine, self.inner.cgroups()?);
        let root = root.as_ref().map(AsFd::as_fd);
        let checked = check::check_further(spec, &self.container, root, machine, &cgroups);
        let checked = checked.map_err(Errors::into_one)?;
        check::check_mapped(&checked, self.joining.ids.as_ref())?;
        Ok(checked)
    }

    /// The same, on a thread that may wait where files of the container's or the host's are looked at: they may be somebody's who does
    /// not answer.
    async fn looked_up(self: &Arc<Self>, spec: ProcessSpec) -> Result<CheckedProcess, Error> {
        if !matches!(spec.user, User::Name(_)) && spec.mounts.is_empty() {
            return self.checked(spec);
        }
        let this = Arc::clone(self);
        let checked = off_thread(move || this.checked(spec)).await;
        checked.map_err(|_| Error::new(ErrorKind::System, "the checking thread panicked"))?
    }

    fn goes_on(&self) -> Result<(), Error> {
        if matches!(*self.paused(), Paused::No) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::State, "the container is paused").with_hint("resume it first"))
    }

    async fn exec(self: Arc<Self>, spec: ProcessSpec) -> Result<Started, Error> {
        self.alive()?;
        self.goes_on()?;
        let checked = self.looked_up(spec).await?;
        // Before it: a source on a file system that does not answer holds up nobody's pause.
        let trees = self.own_trees(&checked).await?;
        let _none_missed = self.pausing.read().await;
        self.goes_on()?;
        self.exec_checked(checked, trees, false).await
    }

    async fn exec_checked(
        &self,
        process: CheckedProcess,
        trees: Vec<(u16, OwnedFd)>,
        main: bool,
    ) -> Result<Started, Error> {
        if let Some(driven) = &self.rests.driven {
            return self.exec_driven(driven, &process).await;
        }
        let (id, faults) = (self.container.id.as_str(), &self.inner.faults);
        let own = self.own_group(&process.spec().limits).await?;
        // No group may be split while somebody is being born into it.
        let _born = self.births.read().await;
        let tasks = own.as_ref().map_or_else(|| self.tasks(), OwnGroup::tasks)?;
        let joining = Joining {
            tasks: u16::try_from(tasks.len()).unwrap_or(u16::MAX),
            trees: trees.iter().map(|(index, _)| *index).collect(),
            console: main && self.joining.console,
            ..self.joining.clone()
        };
        let plan = process::plan(&process, &joining, &self.inner.machine);
        plan.fits()?;
        let plan = faults.plan(id, plan, Point::ProcessStep);
        let (report_read, report_write) = stdio::pipe()?;
        let mut ends = stdio::open(&process, self.inner.owner(&process, self.joining.ids.as_ref()))?;
        let mut supply = Supply::new(report_write);
        supply.stdio = std::mem::take(&mut ends.theirs);
        supply.channel = ends.channel()?;
        supply.init = Some(self.init_pidfd()?);
        supply.seen_by = Seer::of(joining.ids.as_ref(), || self.shares_pids, &self.inner.machine);
        let hold = process.spec().hold.clone();
        if plan.needs().contains(&process::CGROUP_NAMESPACE) {
            supply.namespaces.push((wire::JOIN_CGROUP, Some(self.of_init("ns/cgroup", OFlags::RDONLY)?)));
        }
        supply.tasks = some(tasks);
        supply.trees = trees.into_iter().map(|(index, tree)| (Need::Bind(index), Some(tree))).collect();
        let group = own.as_ref().and_then(OwnGroup::birthplace).or(self.group());
        let fds = supply.all(&plan, group)?;
        // Who reads at the other end of a descriptor of its own sees the end of it with the process's.
        drop(process);
        faults.pass(id, Point::ProcessDescriptors)?;
        let keeper = &self.inner.keeper;
        let mut storing = match &hold {
            Some(hold) => Some(Storing::begin(keeper, hold, &ends.parts(hold, &report_read)).await?),
            None => None,
        };
        faults.pass(id, Point::ProcessStored)?;
        let report = Report::new(report_read, storing.is_some())?;
        let spawned = spawn(keeper, storing.as_mut(), &plan, fds).await.map_err(|error| self.or_ended(error))?;
        faults.pass(id, Point::ProcessBorn)?;
        running(&report, Some(&plan)).await.map_err(|error| self.or_ended(error))?;
        ends.receive(storing.as_mut(), hold.as_ref()).await?;
        faults.pass(id, Point::ProcessRunning)?;
        tracing::debug!(pid = spawned.pid, "exec'd");
        let pidfd = Arc::new(spawned.pidfd.claim()?);
        let exec = Exec { group: own, ..self.exec_of(spawned.pid, Arc::clone(&pidfd), spawned.exit) };
        ends.started(exec, storing).inspect_err(|_| {
            // Nobody has it.
            let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
        })
    }

    /// By the program that has made it.
    async fn exec_driven(&self, driven: &Arc<Driven>, process: &CheckedProcess) -> Result<Started, Error> {
        let mut ends = stdio::open(process, self.inner.owner(process, self.joining.ids.as_ref()))?;
        let theirs = std::mem::take(&mut ends.theirs);
        let brought = driven.exec(process, theirs, self.rests.group.as_ref()).await;
        let Brought { process, terminal } = brought.map_err(|error| self.or_ended(error))?;
        let Spawned { pid, pidfd, exit, .. } = process;
        ends.has_terminal(terminal);
        ends.started(self.exec_of(pid, Arc::new(pidfd.claim()?), exit), None)
    }

    fn tasks(&self) -> Result<Vec<OwnedFd>, Error> {
        match self.group() {
            Some(group) if self.joining.tasks > 0 => group.tasks().map_err(|error| cgroup_error(&error)),
            _ => Ok(Vec::new()),
        }
    }

    /// A group for the limits of one process, where it has any.
    async fn own_group(&self, limits: &Limits) -> Result<Option<OwnGroup>, Error> {
        if limits.is_empty() {
            return Ok(None);
        }
        let Some(group) = self.rests.group.clone() else {
            let why = "this container has no cgroup";
            return Err(Error::new(ErrorKind::Unsupported, why).with_field("limits"));
        };
        let _alone = self.births.write().await;
        let name = self.name_below(&group).await;
        let (limits, mode) = (limits.clone(), self.mode());
        // Directories in cgroupfs, and on v2 the move of what lives there: not on the caller's thread.
        let made = off_thread(move || OwnGroup::make(group, &name, &limits, mode));
        made.await.map_err(|_| Error::new(ErrorKind::System, "the preparing thread panicked"))?.map(Some)
    }

    /// The trees for the mounts of one process, id-mapped where the container has ids of its own. Where we may not make them there are
    /// none: `check_further` has refused them.
    async fn own_trees(&self, process: &CheckedProcess) -> Result<Vec<(u16, OwnedFd)>, Error> {
        let mut trees = Vec::new();
        if self.rests.driven.is_some() {
            return Ok(trees);
        }
        let mounts = process.spec().mounts.iter().enumerate();
        for (index, mount) in mounts.filter(|_| self.inner.machine.privileged) {
            let Some(path) = mount.source.path() else { continue };
            let userns = match &self.joining.ids {
                Some(ids) => Some(self.inner.userns(ids).await?),
                None => None,
            };
            let field = |error: Error| error.with_field(format!("mounts[{index}].source"));
            let path = path.to_owned();
            let tree = off_thread(move || super::trees::of_host(&path, userns.as_deref())).await;
            let tree =
                tree.map_err(|_| Error::new(ErrorKind::System, "the preparing thread panicked"))?.map_err(field)?;
            trees.push((u16::try_from(index).unwrap_or(u16::MAX), tree));
        }
        Ok(trees)
    }

    fn lives(&self) -> bool {
        self.rests.init().is_ok_and(|init| lives(&init))
    }

    /// Entering the namespaces of a container that has just ended fails in ways that do not say so.
    pub(super) fn or_ended(&self, error: Error) -> Error {
        if self.lives() { error } else { Error::new(ErrorKind::State, "the container has ended") }
    }

    fn root(&self) -> Result<Root, Error> {
        self.alive()?;
        if self.rests.serving.is_some() && self.joining.ids.is_some() {
            // fuse(4): nobody above the user namespace that has mounted it gets in.
            let what = "files of a root that fuse-overlayfs serves can be reached from inside alone";
            let hint = "use a command in the container, and numbers for users; or do without fuse-overlayfs (layering)";
            return Err(Error::new(ErrorKind::Unsupported, what).with_field("rootfs").with_hint(hint));
        }
        let dir = self.of_init("root", OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(Root::new(dir, self.of_init("ns/mnt", OFlags::RDONLY)?))
    }

    /// What /proc has of its first process.
    fn of_init(&self, what: &str, flags: OFlags) -> Result<OwnedFd, Error> {
        let path = format!("/proc/{}/{what}", self.init_pid);
        let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty());
        // The number was the container's if its process still lives after it was used.
        match opened {
            _ if !self.lives() => Err(Error::new(ErrorKind::State, "the container has ended")),
            Ok(opened) => Ok(opened),
            // Whoever lives has all of these; who is about to end lets go of them before that is seen.
            Err(Errno::NOENT | Errno::SRCH) => Err(Error::new(ErrorKind::State, "the container has ended")),
            Err(error) => Err(Error::system(format!("cannot open the container's {what}"), error)),
        }
    }

    pub(super) fn mode(&self) -> String {
        self.inner.cgroups().map_or_else(|_| "none".into(), |cgroups| cgroups.mode().to_string())
    }

    pub(super) fn paused(&self) -> MutexGuard<'_, Paused> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pause(self: Arc<Self>, how: Pause) -> Result<(), Error> {
        self.alive()?;
        let _alone = self.pausing.write().await;
        if !matches!(*self.paused(), Paused::No) {
            return Ok(());
        }
        match how {
            Pause::Freeze => self.freeze().await,
            Pause::Any => match self.freeze().await {
                Err(error) if error.kind() == ErrorKind::Unsupported => self.halt().await,
                frozen => frozen,
            },
            Pause::Stop => self.halt().await,
        }
    }

    async fn halt(self: &Arc<Self>) -> Result<(), Error> {
        if self.shares_pids {
            return Err(others_too());
        }
        let core = Arc::clone(self);
        let stopped = blocking(move || stop::stop(core.init_pid, &*core.rests.init()?)).await?;
        *self.paused() = Paused::Stopped(stopped);
        Ok(())
    }

    async fn resume(self: Arc<Self>) -> Result<(), Error> {
        self.alive()?;
        let _alone = self.pausing.write().await;
        let how = self.paused().clone();
        match how {
            Paused::No => return Ok(()),
            Paused::Frozen => self.thaw().await?,
            Paused::Stopped(before) => {
                let core = Arc::clone(&self);
                blocking(move || stop::resume(core.init_pid, &*core.rests.init()?, &before)).await?;
            }
        }
        *self.paused() = Paused::No;
        Ok(())
    }

    /// What is done to go on after a pause that may outlive who has asked for it.
    async fn let_go(self: Arc<Self>) -> Result<Vec<Act>, Error> {
        self.alive()?;
        // Nobody pauses or resumes it meanwhile, and what is stopped forks nobody.
        let _alone = self.pausing.write().await;
        let how = self.paused().clone();
        match how {
            Paused::No => Ok(Vec::new()),
            Paused::Frozen => Ok(vec![Act::Thaw]),
            Paused::Stopped(before) => {
                let core = Arc::clone(&self);
                let held = blocking(move || stop::held(core.init_pid, &*core.rests.init()?, &before)).await?;
                Ok(held.into_iter().map(|pidfd| Act::Signal(Arc::new(pidfd), libc::SIGCONT)).collect())
            }
        }
    }

    /// The group that knows its processes, where there are cgroups.
    fn listing(&self) -> Option<&Group> {
        self.group().filter(|group| !group.paths().is_empty())
    }

    async fn kill_session(self: Arc<Self>, leader: i32) -> Result<(), Error> {
        let core = Arc::clone(&self);
        // Its group lists few; all processes of the machine have to be looked at without one.
        let listed = move || match core.listing() {
            Some(group) => group.processes().map_err(|error| cgroup_error(&error)),
            None => stop::numbers(core.init_pid, &*core.rests.init()?),
        };
        blocking(move || session::end(leader, listed)).await.map_err(|error| self.or_ended(error))
    }

    /// By its pid namespace where that is its own, else by its group.
    async fn holds(self: Arc<Self>, pid: i32) -> bool {
        let core = Arc::clone(&self);
        let look = move || match core.listing() {
            _ if !core.shares_pids => stop::is_inside(core.init_pid, &*core.rests.init()?, pid),
            Some(group) => {
                let inside = group.processes().map_err(|error| cgroup_error(&error))?.contains(&pid);
                Ok((inside || space::is_there(pid)).then_some(inside))
            }
            None => Ok(None),
        };
        match blocking(look).await {
            Ok(Some(inside)) => inside,
            Ok(None) => self.own_network,
            Err(_) => false,
        }
    }

    async fn freeze(&self) -> Result<(), Error> {
        let group = self.group().ok_or_else(no_freezer)?;
        // Before it is so: a kill that comes now must thaw.
        *self.paused() = Paused::Frozen;
        group.freeze().map_err(|error| {
            *self.paused() = Paused::No;
            freezer_error(&error)
        })?;
        group.wait_frozen(true).await.map_err(|error| {
            let _ = group.thaw();
            *self.paused() = Paused::No;
            freezer_error(&error)
        })
    }

    async fn thaw(&self) -> Result<(), Error> {
        let group = self.group().ok_or_else(no_freezer)?;
        group.thaw().map_err(|error| freezer_error(&error))?;
        group.wait_frozen(false).await.map_err(|error| freezer_error(&error))
    }
}

fn no_freezer() -> Error {
    let error = Error::new(ErrorKind::Unsupported, "there is no freezer for this container").with_field("pause");
    error.with_hint("a pause by SIGSTOP (Pause::Stop) needs none")
}

/// SIGSTOP finds its processes by their pid namespace.
fn others_too() -> Error {
    let what =
        "this container shares its pid namespace with processes that are not its own, which would be stopped too";
    Error::new(ErrorKind::Unsupported, what).with_field("pause").with_hint("a pause by the freezer stops its own alone")
}

fn freezer_error(error: &crate::cgroup::CgroupError) -> Error {
    if error.is_unsupported() { no_freezer() } else { cgroup_error(error) }
}

/// Off the loop that everything else runs on.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let done = off_thread(act).await;
    done.unwrap_or_else(|error| Err(Error::new(ErrorKind::System, error.to_string())))
}

impl Drop for Core {
    fn drop(&mut self) {
        if self.inner.releases {
            self.rests.leave();
        }
        if self.deleted.initialized() || self.inner.releases {
            return;
        }
        let _ = self.kill();
        let rests = std::mem::take(&mut self.rests);
        let _ = self.inner.janitor.send(Work::Remove(rests));
    }
}

/// Start a process; what is held of it is its own from the moment that it is there.
pub(super) async fn spawn(
    keeper: &Client,
    storing: Option<&mut Storing>,
    plan: &Plan,
    fds: Vec<OwnedFd>,
) -> Result<Spawned, Error> {
    let Some(storing) = storing else { return keeper.spawn(plan, fds).await };
    let spawned = keeper.spawn_kept(storing.request(), plan, fds).await?;
    storing.born(spawned.place);
    Ok(spawned)
}

/// End of file on the report pipe means: exec'd.
pub(super) async fn running(report: &Report, plan: Option<&Plan>) -> Result<(), Error> {
    loop {
        match (report.next().await?, plan) {
            (Said::End, _) => return Ok(()),
            (Said::Failed(step, errno), Some(plan)) => return Err(step_error(plan, step, errno)),
            (Said::Failed(step, errno), None) => return Err(failed_before(step, errno)),
            // An earlier supervisor may not have come to hear it.
            (Said::Ready, None) => {}
            (Said::Ready, Some(_)) => {
                return Err(Error::new(ErrorKind::Keeper, "a running process said that it is ready"));
            }
        }
    }
}

/// The handle that the actors hold.
#[derive(Debug)]
pub(super) struct NativeContainer {
    core: Arc<Core>,
}

impl NativeContainer {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

impl Container for NativeContainer {
    fn start(&self) -> BoxFuture<Result<Started, Error>> {
        Box::pin(Arc::clone(&self.core).start())
    }

    fn exec(&self, process: ProcessSpec) -> BoxFuture<Result<Started, Error>> {
        Box::pin(Arc::clone(&self.core).exec(process))
    }

    fn record(&self) -> Option<ContainerRecord> {
        self.core.record()
    }

    fn written_down(&self) {
        self.core.rests.let_go();
    }

    fn kill(&self) -> Result<(), Error> {
        self.core.kill()
    }

    fn exit_of(&self, pidfd: Arc<OwnedFd>) -> BoxFuture<Exit> {
        Box::pin(super::exit_without(pidfd, self.core.inner.without))
    }

    fn kill_session(&self, leader: i32) -> BoxFuture<Result<(), Error>> {
        Box::pin(Arc::clone(&self.core).kill_session(leader))
    }

    fn holds(&self, pid: i32) -> BoxFuture<bool> {
        Box::pin(Arc::clone(&self.core).holds(pid))
    }

    fn pause(&self, how: Pause) -> BoxFuture<Result<(), Error>> {
        Box::pin(Arc::clone(&self.core).pause(how))
    }

    fn resume(&self) -> BoxFuture<Result<(), Error>> {
        Box::pin(Arc::clone(&self.core).resume())
    }

    fn lease(&self, when: Deadline, act: Act) -> BoxFuture<Result<Lease, Error>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { core.lease(when, act).await })
    }

    fn socket(&self, family: u32, kind: u32) -> BoxFuture<Result<OwnedFd, Error>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { core.socket(family, kind).await })
    }

    fn hold_beside(&self, label: Vec<u8>, fd: OwnedFd) -> BoxFuture<Result<Beside, Error>> {
        let keeper = self.core.inner.keeper.clone();
        Box::pin(async move { Beside::store(&keeper, &label, fd).await })
    }

    fn pty(&self) -> BoxFuture<Result<Pty, Error>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { core.pty().await })
    }

    fn update(&self, limits: Limits) -> Result<Vec<UnmetLimit>, Error> {
        self.core.update(limits)
    }

    fn unmet(&self) -> Vec<UnmetLimit> {
        self.core.unmet()
    }

    fn paused(&self) -> Option<Pause> {
        match &*self.core.paused() {
            Paused::No => None,
            Paused::Frozen => Some(Pause::Freeze),
            Paused::Stopped(_) => Some(Pause::Stop),
        }
    }

    fn let_go(&self) -> BoxFuture<Result<Vec<Act>, Error>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { core.let_go().await })
    }

    fn put_back(&self, limits: &Limits) -> Result<Vec<Act>, Error> {
        let files = self.core.limited()?.put_back(limits).map_err(|error| cgroup_error(&error))?;
        Ok(files.into_iter().map(|(file, now)| Act::Write(Arc::new(file), now)).collect())
    }

    fn stats(&self) -> Stats {
        match self.core.finished.get() {
            Some(evidence) => evidence.stats.clone(),
            None => self.core.counted(),
        }
    }

    fn finish(&self) -> BoxFuture<Evidence> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { core.finish().await })
    }

    fn delete(&self) -> BoxFuture<Result<(), Error>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { core.delete().await })
    }

    fn root(&self) -> Result<Root, Error> {
        self.core.root()
    }

    fn identities(&self) -> Vec<Identity> {
        let main = self.core.main_ids;
        let both = |ids: &IdMap| [ids.first_ids(), main].map(|(uid, gid)| ids.outside(uid, gid)).into_iter().flatten();
        let mut all: Vec<Identity> = match &self.core.joining.ids {
            // An ordinary user has no rights that the container lacks. Where it has ids beside its own, they are the
            // keeper's, by the same numbers.
            Some(ids) if !self.core.inner.machine.privileged => {
                let keepers = self.core.inner.keepers_ids.as_ref().filter(|keepers| *keepers == ids);
                let hands = keepers.into_iter().flat_map(both).filter(|outside| *outside != (0, 0));
                std::iter::once(Identity::Own).chain(hands.map(Identity::Hand)).collect()
            }
            Some(ids) => both(ids).map(Identity::Ids).collect(),
            None if !self.core.inner.machine.privileged => vec![Identity::Own],
            // Its root is the host's.
            None if main.0 == 0 => vec![Identity::Own],
            None => vec![Identity::Ids(main)],
        };
        all.dedup();
        all
    }

    fn hand(&self, ids: (u32, u32)) -> BoxFuture<Result<Hand, Error>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { core.hand(ids).await })
    }

    fn network(&self) -> Option<NetworkProperties> {
        self.core.rests.network.as_ref().map(|network| network.describe())
    }

    fn network_lost(&self) -> BoxFuture<String> {
        let network = self.core.rests.network.clone();
        Box::pin(async move {
            match network {
                Some(network) => network.lost().await,
                None => std::future::pending().await,
            }
        })
    }

    fn change_network(&self, to: NetworkProperties) -> BoxFuture<Result<(), Error>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            core.alive()?;
            match &core.rests.network {
                Some(network) => network.change(to).await,
                None => Err(Error::new(ErrorKind::Unsupported, "nobody wires this container's network")
                    .with_field("network_provider")),
            }
        })
    }

    fn root_way(&self) -> Option<RootWay> {
        self.core.root_way.clone()
    }

    fn root_was_lost(&self, before_ns: u64) -> bool {
        self.core.rests.serving.as_ref().is_some_and(|serving| serving.was_lost(before_ns))
    }

    fn root_lost(&self) -> BoxFuture<String> {
        let serving = self.core.rests.serving.clone();
        Box::pin(async move {
            match serving {
                Some(serving) => serving.ended().await,
                None => std::future::pending().await,
            }
        })
    }

    fn rootfs_usage(&self) -> BoxFuture<Result<Option<RootfsUsage>, Error>> {
        let root = self.core.rests.root.clone();
        Box::pin(async move {
            match root {
                Some(root) => root.usage().await.map(Some),
                None => Ok(None),
            }
        })
    }

    fn init_pid(&self) -> i32 {
        self.core.init_pid
    }

    fn oom(&self, seen: u64) -> BoxFuture<Result<(u64, Oom), Error>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move { core.oom(seen).await })
    }

    fn held(&self) -> Held {
        self.core.held()
    }

    fn cgroup_mode(&self) -> String {
        self.core.mode()
    }
}

impl Default for Evidence {
    /// Nothing was read.
    fn default() -> Self {
        Self {
            oom: Oom::Unknown { why: "the container has no cgroup".into() },
            stats: Stats::default(),
            counters: Vec::new(),
            cgroup_mode: "none".into(),
        }
    }
}
