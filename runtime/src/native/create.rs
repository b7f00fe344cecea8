//! Creating a container: check, allot, plan, clone, wait until it says that it is ready. Whatever fails, and wherever
//! the future is dropped, what was made is given back: [`Undo`] owns it until the container does.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::container::{Core, NativeContainer};
use super::janitor::{Name, Rests, Work};
use super::report::{Report, Said, step_error};
use super::stdio::{self, Ends};
use super::{Inner, Point, cgroup_error, trees};
use crate::cgroup::Group;
use crate::error::{Error, ErrorKind, Errors};
use crate::plan::container::{Context, plan};
use crate::plan::machine::{Allotment, IdMap};
use crate::plan::process::{self, Joining};
use crate::plan::{Need, Plan};
use crate::spec::check::{self, CheckedSpec};
use crate::spec::{ContainerSpec, Network, ProcessSpec};

/// What has been made so far. Dropped, it hands everything to the janitor.
pub(super) struct Undo {
    rests: Option<Rests>,
    janitor: mpsc::UnboundedSender<Work>,
}

impl Undo {
    /// Give it back now and wait for it. Dropped meanwhile, the janitor goes on.
    async fn now(mut self) {
        if let Some(rests) = &self.rests {
            rests.remove().await;
        }
        self.rests = None;
    }

    /// The container's pid 1 exists: from now on giving back means to end it first.
    fn born(&mut self, init: &Arc<OwnedFd>) {
        if let Some(rests) = &mut self.rests {
            rests.init = Some(Arc::clone(init));
        }
    }

    fn keep(mut self) -> Rests {
        self.rests.take().unwrap_or_default()
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(rests) = self.rests.take() {
            let _ = self.janitor.send(Work::Remove(rests));
        }
    }
}

/// Everything that is decided and opened before the keeper is asked.
struct Prepared {
    spec: CheckedSpec,
    ids: Option<IdMap>,
    allotment: Allotment,
    files: Vec<OwnedFd>,
    undo: Undo,
}

fn one(error: Error) -> Errors {
    Errors(vec![error])
}

pub(super) async fn create(
    inner: Arc<Inner>,
    spec: ContainerSpec,
    main: ProcessSpec,
) -> Result<NativeContainer, Errors> {
    let for_thread = Arc::clone(&inner);
    // Directories in cgroupfs, lock files, memfds: short, but they may block; not on the caller's thread.
    let prepared = tokio::task::spawn_blocking(move || {
        let checked = for_thread.check(spec, main)?;
        let (ids, undo) = begin(&for_thread, &checked).map_err(one)?;
        Ok::<_, Errors>(prepare(&for_thread, checked, ids, undo))
    });
    let prepared =
        prepared.await.map_err(|_| one(Error::new(ErrorKind::System, "the preparing thread panicked")))??;
    let made = match prepared {
        Ok(prepared) => make_trees(&inner, prepared).await,
        Err(failed) => Err(failed),
    };
    let (mut prepared, trees) = match made {
        Ok(made) => made,
        Err((error, undo)) => {
            undo.now().await;
            return Err(one(error));
        }
    };
    prepared.allotment.trees = if trees.is_empty() { Vec::new() } else { trees::wanted(&prepared.spec) };
    born(inner, prepared, trees).await.map_err(one)
}

/// What is given back by being dropped: ids and name.
fn begin(inner: &Inner, spec: &CheckedSpec) -> Result<(Option<IdMap>, Undo), Error> {
    let id = spec.container().id.as_str();
    let (ids, range) = inner.ids(spec)?;
    inner.faults.pass(id, Point::IdRange)?;
    check::check_mapped(spec.main(), ids.as_ref())?;
    let name = Name::take(&inner.names, id)?;
    Ok((ids, Undo { rests: Some(Rests::new(name, range)), janitor: inner.janitor.clone() }))
}

/// With an error comes what has to be undone, which is not for this thread to wait for.
fn prepare(inner: &Inner, spec: CheckedSpec, ids: Option<IdMap>, mut undo: Undo) -> Result<Prepared, (Error, Undo)> {
    match allot(inner, &spec, ids.clone(), &mut undo).and_then(|allotment| Ok((allotment, stage(inner, &spec)?))) {
        Ok((allotment, files)) => Ok(Prepared { spec, ids, allotment, files, undo }),
        Err(error) => Err((error, undo)),
    }
}

/// The container's cgroup, and what the plan must know of it.
fn allot(inner: &Inner, spec: &CheckedSpec, ids: Option<IdMap>, undo: &mut Undo) -> Result<Allotment, Error> {
    let id = spec.container().id.as_str();
    let group = inner.cgroups()?.create(id, &spec.container().limits).map_err(|error| {
        let made = cgroup_error(&error);
        if error.is_exists() { made.with_field("id") } else { made }
    })?;
    let group = Arc::new(group);
    if let Some(rests) = &mut undo.rests {
        rests.group = Some(Arc::clone(&group));
    }
    inner.faults.pass(id, Point::Cgroup)?;
    let tasks = group.tasks().map_err(|error| cgroup_error(&error))?.len();
    let tasks = u16::try_from(tasks).unwrap_or(u16::MAX);
    Ok(Allotment { ids, cgroup: group.has_birth(), tasks, trees: Vec::new() })
}

/// The staged files' contents.
fn stage(inner: &Inner, spec: &CheckedSpec) -> Result<Vec<OwnedFd>, Error> {
    let files = (0u16..).zip(&spec.container().files).map(|(index, file)| {
        let made = content(&file.content)?;
        inner.faults.pass(&spec.container().id, Point::StagedFile(index)).map(|()| made)
    });
    files.collect()
}

/// A staged file's content as a memfd: it never travels through a message.
fn content(bytes: &[u8]) -> Result<OwnedFd, Error> {
    use std::io::Write as _;
    let failed = |error: std::io::Error| Error::system("cannot stage a file", error).with_field("files");
    let fd = rustix::fs::memfd_create("orangery-file", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|error| failed(error.into()))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).map_err(failed)?;
    Ok(file.into())
}

/// Id-mapped trees, where we have the rights and the container has its own ids.
async fn make_trees(inner: &Arc<Inner>, prepared: Prepared) -> Result<(Prepared, Vec<OwnedFd>), (Error, Undo)> {
    let ids = prepared.ids.as_ref().filter(|_| inner.machine.privileged);
    let Some(ids) = ids.filter(|_| !trees::wanted(&prepared.spec).is_empty()) else {
        return Ok((prepared, Vec::new()));
    };
    let userns = match inner.userns(ids).await {
        Ok(userns) => userns,
        Err(error) => return Err((error, prepared.undo)),
    };
    let for_thread = Arc::clone(inner);
    // The sources are the user's: a path to them may lead over a network, or to a file system that does not answer.
    let made = tokio::task::spawn_blocking(move || {
        let pass = |point| for_thread.faults.pass(&prepared.spec.container().id, point);
        let made = pass(Point::UserNamespace)
            .and_then(|()| trees::make(&prepared.spec, &userns, |index| pass(Point::Tree(index))));
        match made {
            Ok(trees) => Ok((prepared, trees)),
            Err(error) => Err((error, prepared.undo)),
        }
    });
    match made.await {
        Ok(made) => made,
        // What was prepared went with the panic, to the janitor.
        Err(_) => {
            let error = Error::new(ErrorKind::System, "the thread that copies mounts panicked");
            Err((error, Undo { rests: None, janitor: inner.janitor.clone() }))
        }
    }
}

/// Hands out the descriptors of a plan's needs, in order.
pub(super) struct Supply {
    pub(super) report: Option<OwnedFd>,
    pub(super) gate: Option<OwnedFd>,
    pub(super) init: Option<OwnedFd>,
    pub(super) trees: Vec<Option<(u16, OwnedFd)>>,
    pub(super) files: Vec<Option<OwnedFd>>,
    pub(super) stdio: Vec<Option<OwnedFd>>,
    pub(super) tasks: Vec<Option<OwnedFd>>,
    pub(super) namespaces: Vec<(usize, Option<OwnedFd>)>,
    pub(super) channel: Option<OwnedFd>,
}

impl Supply {
    pub(super) fn new(report: OwnedFd) -> Self {
        let none = || Vec::new();
        Self {
            report: Some(report),
            gate: None,
            init: None,
            trees: Vec::new(),
            files: none(),
            stdio: none(),
            tasks: none(),
            namespaces: Vec::new(),
            channel: None,
        }
    }

    pub(super) fn all(mut self, plan: &Plan, group: Option<&Group>) -> Result<Vec<OwnedFd>, Error> {
        plan.needs().iter().map(|need| self.one(*need, group)).collect()
    }

    fn one(&mut self, need: Need, group: Option<&Group>) -> Result<OwnedFd, Error> {
        let at = |list: &mut Vec<Option<OwnedFd>>, index: u16| list.get_mut(usize::from(index)).and_then(Option::take);
        let found = match need {
            Need::Report => self.report.take(),
            Need::Gate => self.gate.take(),
            Need::Init => self.init.take(),
            Need::Cgroup => match group.map(Group::birth) {
                Some(birth) => birth.map_err(|error| cgroup_error(&error))?,
                None => None,
            },
            Need::Namespace(index) => {
                let place = self.namespaces.iter_mut().find(|(kind, _)| *kind == usize::from(index));
                place.and_then(|(_, fd)| fd.take())
            }
            Need::Tasks(index) => at(&mut self.tasks, index),
            Need::Tree(index) => {
                let place =
                    self.trees.iter_mut().find(|tree| tree.as_ref().is_some_and(|(number, _)| *number == index));
                place.and_then(Option::take).map(|(_, fd)| fd)
            }
            Need::File(index) => at(&mut self.files, index),
            Need::Stdio(index) => at(&mut self.stdio, index),
            Need::Preserved(index) => at(&mut self.stdio, index + 3),
            Need::Channel => self.channel.take(),
        };
        found.ok_or_else(|| {
            Error::new(ErrorKind::System, format!("the plan needs a descriptor that was not prepared: {need}"))
        })
    }
}

pub(super) fn some<T>(list: Vec<T>) -> Vec<Option<T>> {
    list.into_iter().map(Some).collect()
}

async fn born(inner: Arc<Inner>, prepared: Prepared, trees: Vec<OwnedFd>) -> Result<NativeContainer, Error> {
    let Prepared { spec, ids, allotment, files, mut undo } = prepared;
    let group = undo.rests.as_ref().and_then(|rests| rests.group.clone());
    // Counters at birth, read while the keeper works.
    let for_counters = group.clone();
    let before = tokio::task::spawn_blocking(move || for_counters.map(|group| group.oom()).unwrap_or_default());
    let made = ask(&inner, &spec, &allotment, &mut undo, files, trees).await;
    let before = before.await.unwrap_or_default();
    let born = match made {
        Ok(born) => born,
        Err(error) => {
            undo.now().await;
            return Err(error);
        }
    };
    let joining = Joining {
        ids,
        own_network: spec.container().network == Network::None,
        cgroup: allotment.cgroup,
        tasks: allotment.tasks,
    };
    Ok(NativeContainer::new(Arc::new(Core::new(inner, spec, joining, undo.keep(), before, born))))
}

/// What a successful birth leaves in our hands.
pub(super) struct Born {
    pub(super) pid: i32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) exit: tokio::sync::oneshot::Receiver<crate::Exit>,
    pub(super) report: Report,
    pub(super) plan: Plan,
    /// The start gate and the streams of a command that waits behind it.
    pub(super) waiting: Option<(OwnedFd, Ends)>,
}

async fn ask(
    inner: &Inner,
    spec: &CheckedSpec,
    allotment: &Allotment,
    undo: &mut Undo,
    files: Vec<OwnedFd>,
    trees: Vec<OwnedFd>,
) -> Result<Born, Error> {
    let group = undo.rests.as_ref().and_then(|rests| rests.group.clone());
    let group = group.as_deref();
    let id = spec.container().id.as_str();
    let plan = plan(&Context { spec, machine: &inner.machine, allotment });
    plan.fits()?;
    let plan = inner.faults.plan(id, plan, Point::ContainerStep);
    let (report_read, report_write) = stdio::pipe()?;
    let mut supply = Supply::new(report_write);
    supply.files = some(files);
    for (kind, fd) in spec.joined() {
        let copy = fd.try_clone().map_err(|error| Error::system("cannot duplicate a namespace", error))?;
        supply.namespaces.push((*kind, Some(copy)));
    }
    supply.trees = some(allotment.trees.iter().copied().zip(trees).collect());
    supply.tasks = some(group.map_or_else(|| Ok(Vec::new()), Group::tasks).map_err(|error| cgroup_error(&error))?);
    let mut waiting = None;
    if spec.container().without_init {
        let (gate_read, gate_write) = stdio::gate()?;
        let mut opened = stdio::open(spec.main().spec(), inner.owner(spec.main(), allotment.ids.as_ref()))?;
        supply.gate = Some(gate_read);
        supply.stdio = some(std::mem::take(&mut opened.theirs));
        waiting = Some((gate_write, opened));
    }
    let fds = supply.all(&plan, group)?;
    inner.faults.pass(id, Point::ContainerDescriptors)?;
    let report = Report::new(report_read)?;
    let spawned = match inner.keeper.spawn(&plan, fds).await {
        Ok(spawned) => spawned,
        // The child's own word is nearer to the truth than what its death has led to.
        Err(error) if inner.keeper.is_dead() => return Err(error),
        Err(error) => match report.next().await {
            Ok(Said::Failed(step, errno)) => return Err(step_error(&plan, step, errno)),
            _ => return Err(error),
        },
    };
    let pidfd = Arc::new(spawned.pidfd.claim()?);
    undo.born(&pidfd);
    inner.faults.pass(id, Point::ContainerBorn)?;
    match report.next().await? {
        Said::Ready => {}
        Said::Failed(step, errno) => return Err(step_error(&plan, step, errno)),
        Said::End => {
            let what = "the container's first process was killed while it was made";
            return Err(Error::new(ErrorKind::Creation, what).with_hint(
                "a memory or process limit may be too small for it; the smallest that works here is about 1 MiB",
            ));
        }
    }
    Ok(Born { pid: spawned.pid, pidfd, exit: spawned.exit, report, plan, waiting })
}

/// The plans of a container and its main process as they would be, with nothing made: as if in the mode that this
/// machine offers.
pub(super) fn dry(inner: &Inner, spec: ContainerSpec, main: ProcessSpec) -> Result<(Plan, Option<Plan>), Errors> {
    let spec = inner.check(spec, main)?;
    let cgroups = inner.cgroups().map_err(one)?;
    let (ids, _range) = inner.ids(&spec).map_err(one)?;
    check::check_mapped(spec.main(), ids.as_ref()).map_err(one)?;
    let (cgroup, tasks) = cgroups.membership(&spec.container().limits);
    let trees = if inner.machine.privileged && ids.is_some() { trees::wanted(&spec) } else { Vec::new() };
    let allotment = Allotment { ids: ids.clone(), cgroup, tasks, trees };
    let container = plan(&Context { spec: &spec, machine: &inner.machine, allotment: &allotment });
    container.fits().map_err(one)?;
    let own_network = spec.container().network == Network::None;
    let joining = Joining { ids, own_network, cgroup, tasks };
    let main = (!spec.container().without_init).then(|| process::plan(spec.main(), &joining, &inner.machine));
    Ok((container, main))
}
