//! A container by the program: check, allot, write its bundle, call, claim its first process. As with our own, `Undo` owns what is
//! made until the container does.

use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use super::Known;
use super::call::Call;
use super::container::{Brought, Driven, write};
use crate::Exit;
use crate::cgroup::OomEvidence;
use crate::drivers::{self, Layout, refused};
use crate::durable::FirstRecord;
use crate::error::{Error, ErrorKind, Errors};
use crate::keeper::Spawned;
use crate::native::container::{Core, Idle, Made, Main, NativeContainer};
use crate::native::create::{Undo, allot};
use crate::native::janitor::Rests;
use crate::native::off_thread::off_thread;
use crate::native::provided::Root;
use crate::native::writable::{self, Way};
use crate::native::{Inner, Point, cgroup_error, stdio, trees};
use crate::plan::Need;
use crate::plan::driver::Host;
use crate::plan::machine::Allotment;
use crate::plan::process::Joining;
use crate::plan::wire::{NEWCGROUP, NEWPID};
use crate::spec::check::CheckedSpec;
use crate::spec::{ContainerSpec, Network, ProcessSpec, UserNamespace};

fn one(error: Error) -> Errors {
    Errors(vec![error])
}

pub(super) async fn create(
    inner: Arc<Inner>,
    known: Arc<Known>,
    spec: ContainerSpec,
    main: ProcessSpec,
) -> Result<NativeContainer, Errors> {
    let flavour = known.flavour(&inner).await.map_err(one)?;
    let no = refused::container(&spec, &main, Some(flavour));
    if !no.is_empty() {
        return Err(Errors(no));
    }
    let mut undo = Undo::new(&inner);
    match make(&inner, &known, spec, main, &mut undo).await {
        Ok((allotted, driven, before, born)) => {
            let rests = undo.keep();
            let made = made(allotted, &driven, rests, before, born);
            Ok(NativeContainer::new(Arc::new(Core::new(inner, made))))
        }
        Err(errors) => {
            undo.now().await;
            Err(errors)
        }
    }
}

type Allotted = (CheckedSpec, Allotment);

async fn make(
    inner: &Arc<Inner>,
    known: &Arc<Known>,
    spec: ContainerSpec,
    main: ProcessSpec,
    undo: &mut Undo,
) -> Result<(Allotted, Arc<Driven>, OomEvidence, Born), Errors> {
    let mut spec = spec;
    if let Some(provider) = spec.rootfs_provider.clone() {
        undo.rests().root = Some(Root::prepare(&*provider, &mut spec).await.map_err(one)?);
        inner.faults.pass(&spec.id, Point::RootfsPrepared).map_err(one)?;
    }
    let (for_thread, for_driven, mut lent) = (Arc::clone(inner), Arc::clone(known), undo.lend());
    let prepared = off_thread(move || {
        let prepared = prepare(&for_thread, &for_driven, spec, main, &mut lent);
        (prepared, lent)
    });
    let (prepared, lent) =
        prepared.await.map_err(|_| one(Error::new(ErrorKind::System, "the preparing thread panicked")))?;
    undo.take_back(lent);
    let ((spec, allotment), driven) = prepared?;
    let (spec, trees) = copy_trees(inner, spec, &allotment).await.map_err(one)?;
    let group = undo.rests().group.clone();
    let before = group.as_ref().map(|group| group.oom()).unwrap_or_default();
    let config = config(&driven, &spec, &allotment).map_err(one)?;
    write(driven.dir.join("config.json"), config).await.map_err(one)?;
    let born = born(&driven, &spec, &allotment, trees, undo).await.map_err(one)?;
    Ok(((spec, allotment), driven, before, born))
}

/// Ids, name, group and bundle.
fn prepare(
    inner: &Arc<Inner>,
    known: &Arc<Known>,
    spec: ContainerSpec,
    main: ProcessSpec,
    undo: &mut Undo,
) -> Result<(Allotted, Arc<Driven>), Errors> {
    let mut spec = inner.check(spec, main)?;
    refused::rest(&spec)?;
    refused::user(&spec, inner.has_one_id())?;
    refused::layering(spec.container(), &inner.layering)?;
    let allotment = allot(inner, &mut spec, undo.rests()).map_err(one)?;
    let driven = Driven::new(inner, known, &spec);
    undo.rests().driven = Some(Arc::clone(&driven));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&driven.dir);
    made.map_err(|error| one(Error::system(format!("cannot make {}", driven.dir.display()), error)))?;
    Ok(((spec, allotment), driven))
}

/// What is the host's, with the container's ids where it has its own.
async fn copy_trees(
    inner: &Arc<Inner>,
    spec: CheckedSpec,
    allotment: &Allotment,
) -> Result<(CheckedSpec, Vec<(Need, Option<OwnedFd>)>), Error> {
    let needs = trees::wanted(&spec, inner.machine.privileged, false);
    let ids = allotment.ids.clone().filter(|_| inner.machine.privileged);
    let mut mapped = Vec::new();
    for map in trees::maps(&spec, &needs, ids.as_ref()) {
        let userns = inner.userns(&map).await?;
        mapped.push((map, userns));
    }
    let made = off_thread(move || {
        let make = |need| Ok((need, Some(trees::make(&spec, need, None, (ids.as_ref(), &mapped))?)));
        let made = needs.into_iter().map(make).collect::<Result<_, Error>>();
        made.map(|made| (spec, made))
    });
    made.await.map_err(|_| Error::new(ErrorKind::System, "the thread that copies mounts panicked"))?
}

fn layout<'a>(
    driven: &'a Driven,
    spec: &'a CheckedSpec,
    allotment: &'a Allotment,
    cgroup: Option<&'a str>,
) -> Layout<'a> {
    let unified = driven.known.hierarchies.unified;
    Layout { spec, ids: allotment.ids.as_ref(), cgroup, place: driven.known.place, unified }
}

fn config(driven: &Driven, spec: &CheckedSpec, allotment: &Allotment) -> Result<String, Error> {
    let path = driven.known.hierarchies.of_container(&spec.container().id);
    let config = drivers::config::config(&layout(driven, spec, allotment, path.as_deref()));
    config.map(|config| config.to_string()).map_err(|why| Error::invalid("filters", why))
}

/// The calls that make it, up to where nothing of the user's runs.
async fn born(
    driven: &Arc<Driven>,
    spec: &CheckedSpec,
    allotment: &Allotment,
    trees: Vec<(Need, Option<OwnedFd>)>,
    undo: &mut Undo,
) -> Result<Born, Error> {
    let inner = &driven.inner;
    let without_init = spec.container().without_init;
    let scratch = drivers::scratch(&layout(driven, spec, allotment, None));
    let init = driven.known.dir.join("init");
    let owner = allotment.ids.as_ref().map_or(Some((0, 0)), |ids| ids.outside(0, 0)).unwrap_or_default();
    let needs: Vec<Need> = trees.iter().map(|(need, _)| *need).collect();
    let host =
        Host { spec, trees: &needs, scratch: &scratch, owner, init: (!without_init).then_some(init.as_os_str()) };
    let mut call = Call { host: Some(host), trees, oom_score_adj: spec.main().spec().oom_score_adj, ..Call::default() };
    let mut ends = stdio::Ends::default();
    if without_init {
        ends = stdio::open(spec.main(), inner.owner(spec.main(), allotment.ids.as_ref()))?;
        call.stdio = std::mem::take(&mut ends.theirs);
        call.runs = spec.main().spec().argv.first().map(|word| word.to_string_lossy().into_owned());
        if spec.main().spec().shares_keyring {
            call.args.push("--no-new-keyring".into());
        }
    }
    let group = undo.rests().group.clone();
    let tty = spec.main().spec().tty.filter(|_| without_init);
    let Brought { process, terminal } = driven.create(call, tty, group.as_ref()).await?;
    let Spawned { id, pid, pidfd, exit, .. } = process;
    ends.has_terminal(terminal);
    undo.rests().born(Arc::new(pidfd.claim()?));
    if let Some(group) = &group {
        // Some make the group anew, or write what they take for no limit.
        group.update(&spec.container().limits).map_err(|error| cgroup_error(&error))?;
    }
    if !without_init {
        driven.start(None).await?;
        return Ok(Born { request: id, pid, exit: Some(exit) });
    }
    *driven.main.lock().unwrap_or_else(PoisonError::into_inner) = Some((ends, exit));
    Ok(Born { request: id, pid, exit: None })
}

/// Its first process.
struct Born {
    request: u64,
    pid: i32,
    /// How that ends, where it is not the command.
    exit: Option<oneshot::Receiver<Exit>>,
}

fn made((spec, allotment): Allotted, driven: &Driven, rests: Rests, before: OomEvidence, born: Born) -> Made {
    let joining = Joining {
        own_network: spec.container().network == Network::None,
        own_time: false,
        common: 0,
        cgroup: allotment.cgroup,
        governs_cgroups: spec.governs(NEWCGROUP),
        tasks: allotment.tasks,
        ids: allotment.ids,
        trees: Vec::new(),
        disk: spec.container().disk,
        console: false,
    };
    let (shares_pids, own_network) = (spec.joins(NEWPID), spec.own_network());
    let shared_range = spec.container().user_namespace == UserNamespace::Shared;
    let (unmet, ground) = (spec.unmet().to_vec(), spec.ground());
    let (container, main) = spec.into_parts();
    let main_ids = main.ids();
    let maps = driven.inner.machine.privileged && joining.ids.is_some();
    let root_way = writable::way(&container, maps, &Way::default());
    tracing::debug!(init_pid = born.pid, program = %driven.known.program.name(), "created");
    let idle = born.exit.filter(|_| container.idle).map(|exit| Idle { exit, storing: None });
    let main = (!container.idle && !container.without_init).then(|| Main::Checked(Box::new(main)));
    Made {
        container,
        joining,
        rests,
        before,
        main_ids,
        init_pid: born.pid,
        request: born.request,
        first: FirstRecord::Stub,
        shares_pids,
        own_network,
        shared_range,
        unmet,
        ground,
        main,
        waiting: None,
        idle,
        root_way: Some(root_way),
    }
}
