//! Creating a container: check, allot, plan, clone, wait until it says that it is ready. Whatever fails, and wherever
//! the future is dropped, what was made is given back: [`Undo`] owns it until the container does.

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::container::{Core, Gated, Idle, Made, Main, NativeContainer, spawn};
use super::helper::Helper;
use super::janitor::{Name, Rests, Stub, Work};
use super::off_thread::off_thread;
use super::provided::{Network as Wired, Root, network_namespace};
use super::report::{Report, Said, step_error};
use super::serving::Served;
use super::stdio::{self, Ends};
use super::supply::{Supply, some};
use super::writable::Way;
use super::{Inner, Point, cgroup_error, join, trees, writable};
use crate::cgroup::{Group, OomEvidence};
use crate::durable::{FirstRecord, Kind, Part, Storing};
use crate::error::{Error, ErrorKind, Errors};
use crate::keeper::Which;
use crate::network::pasta::Wired as Pasta;
use crate::network::{NetworkLink, device};
use crate::plan::container::{Context, plan};
use crate::plan::idmap::IdMap;
use crate::plan::machine::Allotment;
use crate::plan::process::{self, Joining};
use crate::plan::server::Shape;
use crate::plan::wire::{NEWCGROUP, NEWNS, NEWPID};
use crate::plan::{Need, Plan};
use crate::rootfs::{Layering, RootWay};
use crate::spec::check::{self, CheckedSpec};
use crate::spec::{Access, ContainerSpec, Enforcement, Network, ProcessSpec, UserNamespace};

/// What has been made so far. Dropped, it hands everything to the janitor.
pub(super) struct Undo {
    rests: Option<Rests>,
    janitor: mpsc::UnboundedSender<Work>,
}

impl Undo {
    pub(super) fn new(inner: &Inner) -> Self {
        Self { rests: None, janitor: inner.janitor.clone() }
    }

    pub(super) fn rests(&mut self) -> &mut Rests {
        self.rests.get_or_insert_default()
    }

    /// For a thread that adds to it, and that may outlive this future.
    pub(super) fn lend(&mut self) -> Self {
        Self { rests: self.rests.take(), janitor: self.janitor.clone() }
    }

    /// What was lent.
    pub(super) fn take_back(&mut self, mut lent: Self) {
        self.rests = lent.rests.take();
    }

    /// Give it back now and wait for it. Dropped meanwhile, the janitor goes on.
    pub(super) async fn now(mut self) {
        if let Some(rests) = &self.rests {
            rests.remove().await;
        }
        self.rests = None;
    }

    pub(super) fn keep(mut self) -> Rests {
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
    allotment: Allotment,
    files: Vec<OwnedFd>,
    trees: Vec<OwnedFd>,
    /// Trees that are not made yet.
    wanted: Vec<Need>,
    /// What the copy of its root lies in.
    copy: Option<Arc<OwnedFd>>,
}

fn one(error: Error) -> Errors {
    Errors(vec![error])
}

pub(super) async fn create(
    inner: Arc<Inner>,
    spec: ContainerSpec,
    main: ProcessSpec,
) -> Result<NativeContainer, Errors> {
    if !writable::asks(&spec) {
        return once(inner, spec, main, Way::default()).await;
    }
    let mut why = None;
    let mut ways = inner.layering.iter().copied().peekable();
    while let Some(layering) = ways.next() {
        let last = ways.peek().is_none();
        if layering == Layering::Copy {
            // All of it would be copied first, into a size that nobody has looked at: of zero bytes is without a bound.
            let (for_thread, asked, command) = (Arc::clone(&inner), spec.clone(), main.clone());
            let checked = off_thread(move || for_thread.check(asked, command).map(drop)).await;
            checked.map_err(|_| one(Error::new(ErrorKind::System, "the checking thread panicked")))??;
        }
        let begun = writable::begin(&inner, &spec, layering, why.clone()).await;
        let made = match begun {
            Ok(way) => once(Arc::clone(&inner), spec.clone(), main.clone(), way).await,
            Err(error) => Err(Errors(vec![error])),
        };
        match made.as_ref().err().and_then(|errors| writable::no_way(layering, errors)) {
            Some(reason) if !last => why = Some(writable::and(why, layering, &reason)),
            _ => return made.map_err(|errors| writable::besides(why.as_deref(), errors)),
        }
    }
    let none = "there is no way in which such a root may be made";
    Err(one(Error::new(ErrorKind::Unsupported, none).with_field("rootfs")))
}

/// `way`: how its root is made, where that is one of layers.
async fn once(inner: Arc<Inner>, spec: ContainerSpec, main: ProcessSpec, way: Way) -> Result<NativeContainer, Errors> {
    let mut undo = Undo::new(&inner);
    match make(&inner, spec, main, &way, &mut undo).await {
        Ok((spec, joining, before, born)) => {
            let rests = undo.keep();
            let maps = inner.machine.privileged && joining.ids.is_some();
            writable::told(&spec.container().id, &way);
            let made = made(spec, joining, rests, before, born, |spec| writable::way(spec, maps, &way));
            Ok(NativeContainer::new(Arc::new(Core::new(inner, made))))
        }
        Err(errors) => {
            undo.now().await;
            Err(errors)
        }
    }
}

fn made(
    spec: CheckedSpec,
    joining: Joining,
    rests: Rests,
    before: OomEvidence,
    born: Born,
    root_way: impl FnOnce(&ContainerSpec) -> RootWay,
) -> Made {
    let (shares_pids, own_network) = (spec.joins(NEWPID), spec.own_network());
    let shared_range = spec.container().user_namespace == UserNamespace::Shared && spec.joined_ids().is_none();
    let (unmet, ground) = (spec.unmet().to_vec(), spec.ground());
    let (container, main) = spec.into_parts();
    let root_way = Some(root_way(&container));
    let Born { pid, request, exit, report, plan, mut storing, waiting, .. } = born;
    if let Some(storing) = &mut storing {
        // It waits for its start, or is what it is to be: ours is not the end of it.
        storing.keep();
    }
    let (main_ids, hold) = (main.ids(), main.spec().hold.clone());
    let (first, main, waiting, idle) = match waiting {
        // Behind the gate its descriptors have been handed over already.
        Some((gate, ends)) => {
            let gated = Gated { gate, ends, report, plan: Some(plan), exit, storing, hold };
            (FirstRecord::Command, None, Some(gated), None)
        }
        None if container.idle => (FirstRecord::Idle, None, None, Some(Idle { exit, storing })),
        None => (FirstRecord::Stub, Some(Main::Checked(Box::new(main))), None, None),
    };
    Made {
        container,
        joining,
        rests,
        before,
        main_ids,
        init_pid: pid,
        request,
        first,
        shares_pids,
        own_network,
        shared_range,
        unmet,
        ground,
        main,
        waiting,
        idle,
        root_way,
    }
}

/// All of a creation; what it makes is in `undo` before the next await.
async fn make(
    inner: &Arc<Inner>,
    mut spec: ContainerSpec,
    main: ProcessSpec,
    way: &Way,
    undo: &mut Undo,
) -> Result<(CheckedSpec, Joining, OomEvidence, Born), Errors> {
    if let Some(provider) = spec.rootfs_provider.clone() {
        undo.rests().root = Some(Root::prepare(&*provider, &mut spec).await.map_err(one)?);
        inner.faults.pass(&spec.id, Point::RootfsPrepared).map_err(one)?;
    }
    let (for_thread, mut lent, way) = (Arc::clone(inner), undo.lend(), way.clone());
    // Directories in cgroupfs, lock files, memfds: short, but they may block; not on the caller's thread.
    let prepared = off_thread(move || {
        let prepared = prepare(&for_thread, spec, main, way, lent.rests());
        (prepared, lent)
    });
    let (prepared, lent) =
        prepared.await.map_err(|_| one(Error::new(ErrorKind::System, "the preparing thread panicked")))?;
    undo.take_back(lent);
    let prepared = make_trees(inner, prepared?).await.map_err(one)?;
    born(inner, prepared, undo.rests()).await.map_err(one)
}

fn prepare(
    inner: &Inner,
    spec: ContainerSpec,
    main: ProcessSpec,
    way: Way,
    rests: &mut Rests,
) -> Result<Prepared, Errors> {
    let mut spec = inner.check(spec, main)?;
    let allotment = Allotment { layering: way.layering, ..allot(inner, &mut spec, rests).map_err(one)? };
    let files = stage(inner, &spec).map_err(one)?;
    tracing::debug!(own_ids = allotment.ids.is_some(), cgroup = rests.group.is_some(), "prepared");
    let ids = mapping(inner, &allotment);
    let wanted = trees::wanted(&spec, ids.is_some(), way.copy.is_some());
    let maps = trees::maps(&spec, &wanted, ids);
    let kept = maps.into_iter().map(|map| inner.kept_userns(&map).map(|userns| (map, userns))).collect();
    let prepared = Prepared { spec, allotment, files, trees: Vec::new(), wanted, copy: way.copy };
    match kept {
        // The keeper has to be asked for a user namespace first; everywhere else one trip to a thread is enough.
        None => Ok(prepared),
        Some(mapped) => copy_trees(inner, prepared, &mapped).map_err(one),
    }
}

/// The container's ids, where we may map files to them.
fn mapping<'a>(inner: &Inner, allotment: &'a Allotment) -> Option<&'a IdMap> {
    allotment.ids.as_ref().filter(|_| inner.machine.privileged)
}

/// The container's ids, name and cgroup, and what the plan must know of them.
pub(super) fn allot(inner: &Inner, spec: &mut CheckedSpec, rests: &mut Rests) -> Result<Allotment, Error> {
    let id = spec.container().id.clone();
    let id = id.as_str();
    let (ids, range) = inner.ids(spec)?;
    inner.faults.pass(id, Point::IdRange)?;
    check::check_mapped(spec.main(), ids.as_ref())?;
    rests.hold(Name::take(&inner.names, id)?, range);
    let group = rests.group.insert(Arc::new(make_group(inner, spec)?));
    restrict(group, spec)?;
    inner.faults.pass(id, Point::Cgroup)?;
    let tasks = group.tasks().map_err(|error| cgroup_error(&error))?.len();
    let tasks = u16::try_from(tasks).unwrap_or(u16::MAX);
    let legacy = inner.cgroups()?.legacy(&spec.container().limits);
    Ok(Allotment {
        ids,
        cgroup: group.has_birth(),
        tasks,
        legacy,
        trees: Vec::new(),
        tied: inner.durable,
        ..Allotment::default()
    })
}

/// Before anybody is in it.
pub(super) fn restrict(group: &Group, spec: &CheckedSpec) -> Result<(), Error> {
    let rules = &spec.container().device_rules;
    if rules.is_empty() {
        return Ok(());
    }
    match group.allow_devices(rules) {
        Err(error) if spec.container().device_rules_if_possible => {
            tracing::warn!(%error, "the devices of the container are not restricted");
            Ok(())
        }
        done => done.map_err(|error| cgroup_error(&error)),
    }
}

/// With its limits; without those that the kernel refuses where the container does without them.
fn make_group(inner: &Inner, spec: &mut CheckedSpec) -> Result<Group, Error> {
    let cgroups = inner.cgroups()?;
    loop {
        let container = spec.container();
        let dispensable = container.enforcement != Enforcement::Required;
        let error = match cgroups.create(&container.id, &container.limits) {
            Ok(group) => return Ok(group),
            Err(error) => error,
        };
        let told = cgroup_error(&error);
        match error.field() {
            _ if error.is_exists() => return Err(told.with_field("id")),
            Some(field) if dispensable && spec.do_without(field, told.to_string()) => {}
            _ => return Err(told),
        }
    }
}

/// The staged files' contents.
fn stage(inner: &Inner, spec: &CheckedSpec) -> Result<Vec<OwnedFd>, Error> {
    let files = (0u16..).zip(&spec.container().files).map(|(index, file)| {
        let made = content(&file.content)?;
        inner.faults.pass(&spec.container().id, Point::StagedFile(index)).map(|()| made)
    });
    files.collect()
}

/// [`stage`], for who has no faults to pass.
pub(super) fn contents(spec: &CheckedSpec) -> Result<Vec<OwnedFd>, Error> {
    spec.container().files.iter().map(|file| content(&file.content)).collect()
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

/// Id-mapped mount trees, where their user namespace has to be made first.
async fn make_trees(inner: &Arc<Inner>, prepared: Prepared) -> Result<Prepared, Error> {
    if prepared.wanted.is_empty() {
        return Ok(prepared);
    }
    let mut mapped = trees::Mapped::new();
    for map in trees::maps(&prepared.spec, &prepared.wanted, mapping(inner, &prepared.allotment)) {
        let userns = inner.userns(&map).await?;
        mapped.push((map, userns));
    }
    let for_thread = Arc::clone(inner);
    let made = off_thread(move || copy_trees(&for_thread, prepared, &mapped));
    made.await.map_err(|_| Error::new(ErrorKind::System, "the thread that copies mounts panicked"))?
}

/// Mount trees: what we were given, and id-mapped ones where we have the rights and the container has its own ids. On a
/// thread that may block: the sources are the user's, and a path to them may lead over a network, or to a file system that
/// does not answer.
fn copy_trees(inner: &Inner, mut prepared: Prepared, mapped: &trees::Mapped<Arc<OwnedFd>>) -> Result<Prepared, Error> {
    let wanted = std::mem::take(&mut prepared.wanted);
    if wanted.is_empty() {
        return Ok(prepared);
    }
    let pass = |point| inner.faults.pass(&prepared.spec.container().id, point);
    if !mapped.is_empty() {
        pass(Point::UserNamespace)?;
    }
    let ids = mapping(inner, &prepared.allotment);
    for need in &wanted {
        prepared.trees.push(trees::make(&prepared.spec, *need, prepared.copy.as_ref(), (ids, mapped))?);
        match need {
            Need::Layer(index) => pass(Point::Layer(*index))?,
            Need::Bind(index) => pass(Point::Bind(*index))?,
            _ => {}
        }
    }
    prepared.allotment.trees = wanted;
    Ok(prepared)
}

async fn born(
    inner: &Arc<Inner>,
    prepared: Prepared,
    rests: &mut Rests,
) -> Result<(CheckedSpec, Joining, OomEvidence, Born), Error> {
    let Prepared { mut spec, allotment, files, trees, .. } = prepared;
    // Counters at birth, read while the keeper works.
    let for_counters = rests.group.clone();
    let before = inner.threads.off_thread(move || for_counters.map(|group| group.oom()).unwrap_or_default());
    let (before, made) = tokio::join!(before, ask(inner, &spec, &allotment, rests, files, trees));
    let before = before.unwrap_or_default();
    let born = made?;
    spec.forget_mounts();
    wire(inner, &spec, &allotment, &born, rests).await?;
    let joining = Joining {
        own_network: spec.container().network == Network::None,
        own_time: spec.own_time(),
        common: spec.common(),
        cgroup: allotment.cgroup,
        governs_cgroups: spec.governs(NEWCGROUP),
        tasks: allotment.tasks,
        ids: allotment.ids,
        trees: Vec::new(),
        disk: spec.container().disk,
        console: !spec.joins(NEWNS),
    };
    Ok((spec, joining, before, born))
}

/// Its network, before anything of the user's runs.
async fn wire(
    inner: &Arc<Inner>,
    spec: &CheckedSpec,
    allotment: &Allotment,
    born: &Born,
    rests: &mut Rests,
) -> Result<(), Error> {
    let ContainerSpec { id, network_provider, pasta, net_devices, .. } = spec.container();
    if network_provider.is_none() && pasta.is_none() && net_devices.is_empty() {
        return Ok(());
    }
    let namespace = network_namespace(&inner.keeper, &born.pidfd).await?;
    inner.faults.pass(id, Point::NetworkNamespace)?;
    let to = if net_devices.is_empty() { None } else { Some(namespace.try_clone()) };
    let to = to.transpose().map_err(|error| Error::system("cannot duplicate a namespace", error))?;
    let link = NetworkLink::new(id, namespace);
    let network = match (network_provider, pasta) {
        (Some(provider), _) => Some(Wired::new(Arc::clone(provider), link)),
        (None, Some(pasta)) => {
            let helper = Helper::new(inner, Arc::clone(&born.pidfd), allotment.ids.clone());
            Some(Wired::pasta(Pasta::new(pasta.clone()), link.with_helper(helper)))
        }
        (None, None) => None,
    };
    if let Some(network) = network {
        // From here on the provider is asked to detach, whatever happens.
        let network = rests.network.insert(Arc::new(network));
        network.attach().await?;
        inner.faults.pass(id, Point::NetworkAttached)?;
    }
    let Some(to) = to else { return Ok(()) };
    // Last: what is in there when the container goes is not the host's any more.
    let devices = net_devices.clone();
    let given = off_thread(move || device::give(&devices, to.as_fd())).await;
    given.map_err(|_| Error::new(ErrorKind::System, "the thread that moves interfaces panicked"))?
}

/// What a successful birth leaves in our hands.
#[derive(Debug)]
struct Born {
    pid: i32,
    request: u64,
    pidfd: Arc<OwnedFd>,
    exit: oneshot::Receiver<crate::Exit>,
    report: Report,
    plan: Plan,
    /// What is held of it, where it is the main process.
    storing: Option<Storing>,
    /// The start gate and the streams of a command that waits behind it.
    waiting: Option<(OwnedFd, Ends)>,
}

async fn ask(
    inner: &Inner,
    spec: &CheckedSpec,
    allotment: &Allotment,
    rests: &mut Rests,
    files: Vec<OwnedFd>,
    trees: Vec<OwnedFd>,
) -> Result<Born, Error> {
    let group = rests.group.clone();
    let group = group.as_deref();
    let id = spec.container().id.as_str();
    let plan = plan(&Context { spec, machine: &inner.machine, allotment });
    plan.fits()?;
    let plan = inner.faults.plan(id, plan, Point::ContainerStep);
    let (report_read, report_write) = stdio::pipe()?;
    let mut supply = Supply::new(report_write);
    supply.files = some(files);
    join::supply(&mut supply, spec)?;
    supply.trees = allotment.trees.iter().copied().zip(trees.into_iter().map(Some)).collect();
    supply.tasks = some(group.map_or_else(|| Ok(Vec::new()), Group::tasks).map_err(|error| cgroup_error(&error))?);
    let mut waiting = None;
    if spec.container().without_init {
        let (gate_read, gate_write) = stdio::gate()?;
        let mut opened = stdio::open(spec.main(), inner.owner(spec.main(), allotment.ids.as_ref()))?;
        supply.gate = Some(gate_read);
        supply.stdio = std::mem::take(&mut opened.theirs);
        supply.channel = opened.channel()?;
        waiting = Some((gate_write, opened));
    } else if allotment.tied {
        let (theirs, ours) = stdio::gate()?;
        supply.gate = Some(theirs);
        rests.tie(ours);
    }
    let served = served(inner, spec, allotment, &plan, &mut supply)?;
    let fds = supply.all(&plan, group)?;
    tracing::debug!(bytes = plan.bytes().len(), descriptors = fds.len(), "planned");
    inner.faults.pass(id, Point::ContainerDescriptors)?;
    let hold = spec.main().spec().hold.as_ref();
    let mut storing = match (&waiting, hold) {
        (Some((gate, ends)), Some(hold)) => {
            let mut parts = ends.parts(hold, &report_read);
            parts.push(Part::new(Kind::Gate, gate));
            Some(Storing::begin(&inner.keeper, hold, &parts).await?)
        }
        (None, Some(hold)) if spec.container().idle => Some(Storing::begin(&inner.keeper, hold, &[]).await?),
        _ => None,
    };
    let report = Report::new(report_read, storing.is_some())?;
    let which = inner.keeper.which();
    let spawned = match spawn(&inner.keeper, storing.as_mut(), &plan, fds).await {
        Ok(spawned) => spawned,
        // The child's own word is nearer to the truth than what its death has led to.
        Err(error) if error.kind() == ErrorKind::Keeper => return Err(error),
        Err(error) => match report.next().await {
            Ok(Said::Failed(step, errno)) => return Err(step_error(&plan, step, errno)),
            _ => return Err(join::explained(error, spec)),
        },
    };
    let pidfd = Arc::new(spawned.pidfd.claim()?);
    // From now on giving back means to end it first.
    rests.born(Arc::clone(&pidfd));
    if waiting.is_none() && !spec.container().idle {
        let keeper = inner.keeper.clone();
        rests.of_no_interest(Stub { keeper, request: spawned.id, place: spawned.place });
    }
    inner.faults.pass(id, Point::ContainerBorn)?;
    let said = match served {
        Some(served) => served.until_ready(&report, rests).await?,
        None => report.next().await?,
    };
    match said {
        Said::Ready => tracing::debug!(init_pid = spawned.pid, "created"),
        Said::Failed(step, errno) => return Err(step_error(&plan, step, errno)),
        Said::End => return Err(killed(inner, &which).await),
    }
    let (request, pid, exit) = (spawned.id, spawned.pid, spawned.exit);
    Ok(Born { pid, request, pidfd, exit, report, plan, storing, waiting })
}

/// Where its root is to be served: what for.
fn served<'a>(
    inner: &'a Inner,
    spec: &CheckedSpec,
    allotment: &Allotment,
    plan: &Plan,
    supply: &mut Supply,
) -> Result<Option<Served<'a>>, Error> {
    if !plan.needs().contains(&Need::Served) {
        return Ok(None);
    }
    let (channel, theirs) = stdio::channel()?;
    supply.served = Some(theirs);
    let layers = spec.container().rootfs.directories().len().max(spec.container().root_mounts.len());
    let writable = spec.container().rootfs.access() == Some(Access::Overlay);
    Ok(Some(Served { inner, channel, ids: allotment.ids.clone(), shape: Shape { layers, writable } }))
}

/// Its first process has ended before it was ready; until then it goes with its keeper.
async fn killed(inner: &Inner, asked: &Which) -> Error {
    if inner.durable {
        match inner.keeper.is_another_than(asked).await {
            Ok(true) => return Error::new(ErrorKind::Keeper, "the keeper has died while the container was made"),
            Err(error) => return error,
            Ok(false) => {}
        }
    }
    let what = "the container's first process was killed while it was made";
    Error::new(ErrorKind::Creation, what)
        .with_hint("a memory or process limit may be too small for it; the smallest that works here is about 1 MiB")
}

/// The plans of a container and its main process as they would be, with nothing made: as if in the mode that this
/// machine offers.
pub(super) fn dry(inner: &Inner, spec: ContainerSpec, main: ProcessSpec) -> Result<(Plan, Option<Plan>), Errors> {
    if spec.rootfs_provider.is_some() {
        let why = "only a creation asks the provider of a root file system";
        return Err(one(Error::new(ErrorKind::Unsupported, why)
            .with_field("rootfs_provider")
            .with_hint("name the directory that it would be")));
    }
    let spec = inner.check(spec, main)?;
    let cgroups = inner.cgroups().map_err(one)?;
    let (ids, _range) = inner.ids(&spec).map_err(one)?;
    check::check_mapped(spec.main(), ids.as_ref()).map_err(one)?;
    let (cgroup, tasks) = cgroups.membership(&spec.container().limits);
    let layering = inner.layering.first().copied().unwrap_or_default();
    let copied = layering == Layering::Copy && writable::asks(spec.container());
    let trees = trees::wanted(&spec, inner.machine.privileged && ids.is_some(), copied);
    let legacy = cgroups.legacy(&spec.container().limits);
    let allotment =
        Allotment { ids: ids.clone(), cgroup, tasks, legacy, trees, tied: inner.durable, leaves: false, layering };
    let container = plan(&Context { spec: &spec, machine: &inner.machine, allotment: &allotment });
    container.fits().map_err(one)?;
    let own_network = spec.container().network == Network::None;
    let disk = spec.container().disk;
    let governs_cgroups = spec.governs(NEWCGROUP);
    let console = !spec.joins(NEWNS);
    let (own_time, common, trees) = (spec.own_time(), spec.common(), Vec::new());
    let joining = Joining { ids, own_network, own_time, common, cgroup, governs_cgroups, tasks, trees, disk, console };
    let further = !spec.container().without_init && !spec.container().idle;
    let main = further.then(|| process::plan(spec.main(), &joining, &inner.machine));
    Ok((container, main))
}
