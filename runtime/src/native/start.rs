//! Start a runtime: its instance, its cgroups, its keeper.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use rustix::process::{Resource, getrlimit};

use super::janitor::{self, Janitor};
use super::state::{self, Instance};
use super::{Driver, End, Inner, NativeRuntime, Options, cgroup_error, join, off_thread};
use crate::cgroup::{Cgroups, Config};
use crate::error::Error;
use crate::ids::Ranges;
use crate::keeper::{self, Client, Present};
use crate::plan::Machine;
use crate::plan::idmap::IdMap;
use crate::plan::machine::HostLayout;
use crate::plan::wire;
use crate::rootfs::Layering;

/// What a runtime is made of.
pub(super) struct Parts {
    pub(super) keeper: Speaking,
    pub(super) cgroups: Cgroups,
    pub(super) ranges: Option<Ranges>,
    pub(super) instance: Instance,
}

/// A keeper that we have the conversation with.
pub(super) struct Speaking {
    pub(super) client: Client,
    pub(super) driver: keeper::Driver,
    pub(super) pid: u32,
    pub(super) privileged: bool,
    pub(super) enters_pidns: bool,
    /// All ids of its own user namespace, where that has more than one.
    pub(super) ids: Option<IdMap>,
}

impl Speaking {
    /// With one that was just launched, whose requests begin at `first`.
    pub(super) fn with(mut launched: keeper::Launched, first: u64) -> Self {
        let ids = launched.ids.take();
        let keeper::Launched { pid, enters_pidns, privileged, .. } = launched;
        let (client, driver) = Client::joining(launched, first);
        Self { client, driver, pid, privileged, enters_pidns, ids }
    }
}

impl NativeRuntime {
    /// Start the keeper, make our cgroup directories and the instance directory, and sweep what dead supervisors left.
    ///
    /// # Errors
    /// The keeper does not start, the state directory or the configured cgroup cannot be used.
    pub fn start(options: Options) -> Result<(NativeRuntime, Driver), Error> {
        let (end, door) = match (options.end, &options.door) {
            (End::Kill, None) => (wire::End::Kill, None),
            (End::Release, None) => (wire::End::Release, None),
            (End::Keep, Some(path)) => (wire::End::Keep, Some(keeper::listen(path)?)),
            (End::Keep, None) => return Err(Error::invalid("door", "the next supervisor needs a place to come to")),
            (_, Some(_)) => return Err(Error::invalid("door", "it is for containers that are kept (end)")),
        };
        let mut instance = Instance::create(options.state_dir.as_deref())?;
        instance.sweep_dead();
        let cgroups = open_cgroups(&options, instance.name(), Vec::new())?;
        if options.end == End::Kill {
            instance.record(&roots(&cgroups))?;
        }
        let keeper = Speaking::with(keeper::launch(options.keeper_path.as_deref())?, 1);
        keeper.client.hello(end, trace_fd(&options)?, door)?;
        register(&keeper.client, &cgroups, &instance)?;
        let ranges = ranges(&keeper, &instance)?;
        Ok(assemble(options, Parts { keeper, cgroups, ranges, instance }))
    }
}

/// The ranges of ids, where the keeper may use them.
pub(super) fn ranges(keeper: &Speaking, instance: &Instance) -> Result<Option<Ranges>, Error> {
    keeper.privileged.then(|| Ranges::open(&state::ids_file(instance.base()))).transpose()
}

/// Paths of our cgroup directories.
pub(super) fn roots(cgroups: &Cgroups) -> Vec<PathBuf> {
    cgroups.roots().into_iter().map(|root| root.path).collect()
}

pub(super) fn assemble(options: Options, parts: Parts) -> (NativeRuntime, Driver) {
    let Parts { keeper, cgroups, ranges, instance } = parts;
    let Speaking { client, driver, pid, privileged, enters_pidns, ids } = keeper;
    let (sender, janitor) = Janitor::new();
    let machine = machine(pid, privileged, enters_pidns, HostLayout::read());
    let inner = Inner {
        keeper: client,
        present: Arc::new(Present { pid: AtomicU32::new(pid), ..Present::default() }),
        machine,
        cgroups: Mutex::new(Some(Arc::new(cgroups))),
        ranges,
        shared: Mutex::new(None),
        keepers_ids: ids,
        janitor: sender,
        instance: Mutex::new(Some(instance)),
        faults: options.faults,
        releases: options.end != End::Kill,
        // Anybody else who keeps has said where the door is.
        durable: options.end == End::Keep && options.door.is_none(),
        without: options.without,
        layering: if options.layering.is_empty() { Layering::ALL.into() } else { options.layering },
        names: janitor::Names::default(),
        userns: Mutex::default(),
        threads: off_thread::Few::default(),
    };
    (NativeRuntime { inner: Arc::new(inner) }, Driver { keeper: driver, janitor })
}

/// The facts that plans depend on, with this keeper.
pub(super) fn machine(keeper: u32, privileged: bool, enters_pidns: bool, host: HostLayout) -> Machine {
    Machine {
        privileged,
        whole: privileged && crate::sys::has_all_ids(),
        enters_pidns,
        nofile: nofile(),
        host,
        cgroup2: knows_cgroup2(),
        cgroup1: crate::cgroup::legacy_hierarchies(),
        user_namespace: join::keepers_own(keeper).filter(|_| !privileged),
        counts_by_namespace: crate::sys::probe::counts_by_namespace(),
    }
}

/// Make our cgroup directories, or open them at `places`.
pub(super) fn open_cgroups(options: &Options, instance: &str, places: Vec<PathBuf>) -> Result<Cgroups, Error> {
    if options.no_cgroups {
        return Ok(Cgroups::none("switched off"));
    }
    let (parent, instance) = (options.cgroup_parent.clone(), instance.to_owned());
    let config = Config { parent, instance, places, without_kill: options.without.cgroup_kill };
    Cgroups::open(&config).map_err(|error| cgroup_error(&error).with_field("cgroup_parent"))
}

/// The instance comes last: as long as it is there, so may be the others.
pub(super) fn register(client: &Client, cgroups: &Cgroups, instance: &Instance) -> Result<(), Error> {
    for root in cgroups.roots() {
        client.register(wire::Tree::Cgroup, root.parent, &root.name)?;
    }
    client.register(wire::Tree::Files, directory(instance.base())?, instance.name())
}

/// A directory that something is to be removed from.
pub(super) fn directory(path: &std::path::Path) -> Result<OwnedFd, Error> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty())
        .map_err(|error| Error::system("cannot open the state directory", error))
}

/// [`Options::keeper_trace`], or `ORANGERY_KEEPER_TRACE=FD`: the keeper tells each step and errno on this descriptor.
pub(super) fn trace_fd(options: &Options) -> Result<Option<OwnedFd>, Error> {
    if let Some(trace) = &options.keeper_trace {
        let copy = trace.try_clone().map_err(|error| Error::system("cannot duplicate the trace", error));
        return copy.map_err(|error| error.with_field("keeper_trace")).map(Some);
    }
    let Some(text) = std::env::var_os("ORANGERY_KEEPER_TRACE") else { return Ok(None) };
    let refused = |why: String| Error::invalid("ORANGERY_KEEPER_TRACE", why);
    let number: u32 = text
        .to_str()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| refused(format!("{} is no descriptor number", text.display())))?;
    // Opened anew through /proc, so that no number is ever turned into an owned descriptor.
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::APPEND | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/self/fd/{number}"), flags, rustix::fs::Mode::empty()).map(Some).map_err(|error| {
        refused(format!("descriptor {number} cannot be written")).with_errno(Some(error.raw_os_error()))
    })
}

fn knows_cgroup2() -> bool {
    let known = crate::sys::text("/proc/filesystems").unwrap_or_default();
    known.split(|byte| *byte == b'\n').any(|line| line.ends_with(b"\tcgroup2"))
}

fn nofile() -> (u64, u64) {
    let limit = getrlimit(Resource::Nofile);
    (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX))
}
