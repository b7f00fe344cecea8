//! A container that waits behind its gate for somebody who comes later.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::super::start::directory;
use super::super::stdio::{self, Ends};
use super::super::supply::{Supply, some};
use super::super::{cgroup_error, create, join, trees};
use super::{Beside, Hooked, Listening, Made, Maker, StandIn, Until, Word, heard};
use crate::cgroup::{Cgroups, Group};
use crate::durable::Identity;
use crate::error::{Error, ErrorKind, Errors};
use crate::network::device;
use crate::plan::Plan;
use crate::plan::container::{Context, plan};
use crate::plan::idmap::IdMap;
use crate::plan::machine::{Allotment, HostLayout};
use crate::plan::wire::Tree;
use crate::resctrl;
use crate::rootfs::Layering;
use crate::spec::check::{self, CheckedProcess, CheckedSpec};
use crate::spec::{ContainerSpec, Network, ProcessSpec, Rootfs, Stdio};

/// A container to be made.
#[expect(missing_debug_implementations, reason = "it has a function in it")]
pub struct Order<'a> {
    /// What it is.
    pub spec: ContainerSpec,
    /// Its command.
    pub main: ProcessSpec,
    /// Where its cgroup is, and how it is called there.
    pub cgroups: (&'a Cgroups, &'a str),
    /// Who is in that cgroup already, which somebody else has made around it; it is let go when the container is in there. `None`: the
    /// cgroup is made, or is one that nobody is in.
    pub stand_in: Option<StandIn>,
    /// A directory, and a name in it, that is removed with all that is in it unless the container is [left](Made::leave): what
    /// is written down of it. From the moment on in which its cgroup goes as well: who is killed before leaves word of that.
    pub owns: (&'a Path, &'a str),
    /// That directory itself, open and locked (flock(2)): the keeper of a command that was killed keeps the lock until it has
    /// removed everything, so that nobody makes another one of the same name meanwhile, which it would take for its own.
    pub lock: OwnedFd,
    /// What the command waits at until a byte can be read from it: never an end of file while nobody has come yet.
    pub gate: OwnedFd,
    /// Where it reports: both ends, the reading one first and non-blocking.
    pub report: (OwnedFd, OwnedFd),
    /// For the programs of its bundle that run while it is made.
    pub hooked: Hooked<'a>,
    /// For a filter that asks.
    pub listening: Listening<'a>,
    /// Called when its cgroup is there, and again when its first process is, before anything else is done: who is killed later has
    /// written down what they are.
    pub told: &'a mut dyn FnMut(&Born<'_>) -> Result<(), Error>,
}

/// What there is of a container that is being made.
#[derive(Debug)]
pub struct Born<'a> {
    /// Its first process; `None`: it is about to be born.
    pub init: Option<Identity>,
    /// Its cgroup.
    pub group: Option<&'a Group>,
    /// Its ids, where it has its own.
    pub ids: Option<&'a IdMap>,
    /// Groups of resctrl that were made for it, inner ones first: they go with it.
    pub shares: &'a [PathBuf],
}

/// What of an order is needed from its first process on.
struct Rest<'a> {
    cgroups: &'a Cgroups,
    ids: Option<IdMap>,
    gate: OwnedFd,
    report: (OwnedFd, OwnedFd),
    hooked: Hooked<'a>,
    listening: Listening<'a>,
    stand_in: Option<StandIn>,
    told: &'a mut dyn FnMut(&Born<'_>) -> Result<(), Error>,
}

/// A process, or why there is none.
type Spawned = Result<(i32, OwnedFd), Error>;

/// It has come to a gate.
fn is_ready(report: &OwnedFd, plan: &Plan, until: &Until<'_>) -> Result<(), Error> {
    if heard(report, plan, until)? == Word::Ready {
        return Ok(());
    }
    let what = "the container's first process was killed while it was made";
    Err(Error::new(ErrorKind::Creation, what)
        .with_hint("a memory or process limit may be too small for it; the smallest that works here is about 1 MiB"))
}

impl Made {
    fn hooks(&mut self, spec: &CheckedSpec, hooked: Hooked<'_>) -> Result<(), Error> {
        let copy = self.pidfd.try_clone().map_err(|error| Error::system("cannot duplicate a pidfd", error))?;
        let (group, ids) = (self.group.take(), self.ids.clone());
        let container = spec.container();
        let own_network = container.network != Network::Host;
        let beside = Beside {
            init: (self.pid, &copy),
            spec: container,
            ids: ids.as_ref(),
            own_network,
            group: group.as_ref(),
            below: &[],
        };
        let ran = self.maker().and_then(|maker| maker.hooks_of_creation(&beside, hooked));
        self.group = group;
        ran
    }
}

/// The network namespace of a process that nobody has reaped.
fn network_of(pid: i32, pidfd: &OwnedFd) -> Result<OwnedFd, Error> {
    crate::sys::network_namespace(pidfd).or_else(|_| {
        let opened = std::fs::File::open(format!("/proc/{pid}/ns/net"));
        opened.map(OwnedFd::from).map_err(|error| Error::system("cannot open the container's network namespace", error))
    })
}

/// Interfaces of the host's, which come back unless it is left.
fn give(spec: &CheckedSpec, made: &mut Made) -> Result<(), Error> {
    let devices = &spec.container().net_devices;
    if !devices.is_empty() {
        let namespace = network_of(made.pid, &made.pidfd)?;
        made.lent = Some(device::lend(devices, namespace.as_fd())?);
    }
    Ok(())
}

impl Maker {
    /// Make a container, up to its gate. All that can be refused has been by then: what comes after the gate is the filter and
    /// the `execve` of a program that is there.
    ///
    /// # Errors
    /// Every refusal of the spec; the step that failed. Nothing is left of it then.
    pub fn create(mut self, order: Order<'_>) -> Result<Made, Errors> {
        let one = |error: Error| Errors(vec![error]);
        let Order { mut spec, mut main, cgroups: (cgroups, name), stand_in, owns, lock, gate, report, .. } = order;
        let (hooked, listening, told) = (order.hooked, order.listening, order.told);
        let (report, theirs) = report;
        // It is where they are.
        spec.cgroups_path = None;
        super::home::of_new(&spec, &mut main);
        if !(spec.listed && matches!(spec.rootfs, Rootfs::Dir { .. })) {
            self.machine.host = HostLayout::read();
        }
        let spec = check::check(spec, main, &self.machine, cgroups)?;
        let ids = self.ids(&spec).map_err(one)?;
        check::check_mapped(spec.main(), ids.as_ref()).map_err(one)?;
        // What is registered is held; the gate is nobody's once the keeper removes what it is told of.
        self.brief.register(Tree::Files, lock, "gate").map_err(one)?;
        let group = self.group(&spec, (cgroups, name, stand_in.as_ref().map(StandIn::pid)), owns).map_err(one)?;
        let rest = Rest { cgroups, ids, gate, report: (report, theirs), hooked, listening, stand_in, told };
        self.born(&spec, group, rest).map_err(one)
    }

    /// Its cgroup, which goes with the keeper unless it is left.
    fn group(
        &mut self,
        spec: &CheckedSpec,
        (cgroups, name, around): (&Cgroups, &str, Option<i32>),
        owns: (&Path, &str),
    ) -> Result<Group, Error> {
        let limits = &spec.container().limits;
        let group = match around {
            Some(pid) => cgroups.complete(name, limits, pid),
            None => cgroups.take(name, limits),
        };
        let group = group.map_err(|error| cgroup_error(&error))?;
        let mut registered = || {
            for root in cgroups.roots() {
                // Ours is the group, not what it lies in.
                let above = directory(&root.path)?;
                self.brief.register(Tree::Cgroup, above, name)?;
            }
            create::restrict(&group, spec)?;
            self.brief.register(Tree::Files, directory(owns.0)?, owns.1)
        };
        match registered() {
            Ok(()) => Ok(group),
            Err(error) => Err(self.without(&group, error)),
        }
    }

    /// What its group of resctrl is entered by; one of its own goes with the keeper unless it is left.
    fn shares(&mut self, spec: &CheckedSpec) -> Result<(Vec<OwnedFd>, Vec<PathBuf>), Error> {
        let none = (Vec::new(), Vec::new());
        let Some(rdt) = &spec.container().intel_rdt else { return Ok(none) };
        let Some(root) = resctrl::mounted() else { return Ok(none) };
        let prepared = resctrl::prepare(&root, &spec.container().id, rdt)?;
        for (parent, name) in &prepared.own {
            self.brief.register(Tree::Files, directory(parent)?, name)?;
        }
        Ok((prepared.tasks, prepared.own.iter().map(|(parent, name)| parent.join(name)).collect()))
    }

    /// It failed: whoever has killed the keeper has left the group, and nobody is in it.
    fn without(&mut self, group: &Group, error: Error) -> Error {
        if !self.brief.end() {
            super::gone(group);
        }
        error
    }

    fn born(mut self, spec: &CheckedSpec, group: Group, rest: Rest<'_>) -> Result<Made, Error> {
        let Rest { cgroups, ids, gate, report: (report, theirs), hooked, listening, stand_in, told } = rest;
        let gates = spec.container().hooks.hold_up().then(|| gate.try_clone()).transpose();
        let gates = gates.map_err(|error| Error::system("cannot duplicate the start gate", error))?;
        let halt = self.halt.clone();
        let until = Until { halt: halt.as_deref(), ..Until::default() };
        let mut ends = self.streams(spec.main(), ids.as_ref())?;
        let (entered, shares) = self.shares(spec)?;
        told(&Born { init: None, group: Some(&group), ids: ids.as_ref(), shares: &shares })?;
        let spawned = self.spawned((spec, cgroups), ids.as_ref(), (&group, entered), (gate, theirs), &mut ends);
        let (plan, spawned) = spawned.map_err(|error| self.without(&group, error))?;
        let (pid, pidfd) = match spawned {
            Ok(born) => born,
            Err(error) if error.kind() == ErrorKind::Keeper => return Err(self.without(&group, error)),
            // The child's own word is nearer to the truth than what its death has led to.
            Err(error) => {
                heard(&report, &plan, &until)?;
                return Err(join::explained(error, spec));
            }
        };
        let mut made = Made { maker: Some(self), pid, pidfd, group: Some(group), ids, tty: None, lent: None };
        if let Some(stand_in) = stand_in {
            made.maker()?.relieve(stand_in)?;
        }
        let (group, ids) = (made.group.as_ref(), made.ids.as_ref());
        told(&Born { init: Some(made.identity()), group, ids, shares: &shares })?;
        if let Some(gate) = gates {
            is_ready(&report, &plan, &until)?;
            give(spec, &mut made)?;
            made.hooks(spec, hooked)?;
            rustix::io::write(&gate, &[1]).map_err(|error| Error::system("cannot open the gate of hooks", error))?;
        }
        if let Some(listener) = ends.listener(|channel| until.wait([Some(channel)]).map(drop))? {
            listening(listener, made.pid)?;
        }
        is_ready(&report, &plan, &until)?;
        made.hear(ends)?;
        // Last: what is in there when the container goes is not the host's any more. Hooks need it before.
        if !spec.container().hooks.hold_up() {
            give(spec, &mut made)?;
        }
        Ok(made)
    }

    /// Its first process, as the keeper says.
    fn spawned(
        &mut self,
        (spec, cgroups): (&CheckedSpec, &Cgroups),
        ids: Option<&IdMap>,
        (group, entered): (&Group, Vec<OwnedFd>),
        (gate, theirs): (OwnedFd, OwnedFd),
        ends: &mut Ends,
    ) -> Result<(Plan, Spawned), Error> {
        let mut tasks = group.tasks().map_err(|error| cgroup_error(&error))?;
        tasks.extend(entered);
        let mut supply = Supply::new(theirs);
        supply.files = some(create::contents(spec)?);
        supply.trees = self.trees(spec, ids)?;
        supply.gate = Some(gate);
        join::supply(&mut supply, spec)?;
        let allotment = Allotment {
            ids: ids.cloned(),
            cgroup: group.has_birth(),
            tasks: u16::try_from(tasks.len()).unwrap_or(u16::MAX),
            legacy: cgroups.legacy(&spec.container().limits),
            trees: supply.trees.iter().map(|(need, _)| *need).collect(),
            tied: false,
            leaves: true,
            layering: Layering::Overlay,
        };
        supply.tasks = some(tasks);
        supply.stdio = std::mem::take(&mut ends.theirs);
        supply.channel = ends.channel()?;
        let plan = plan(&Context { spec, machine: &self.machine, allotment: &allotment });
        plan.fits()?;
        let fds = supply.all(&plan, Some(group))?;
        // What goes with the keeper is known to it before there is anybody.
        self.brief.settle()?;
        let spawned = self.brief.spawn(&plan, fds);
        Ok((plan, spawned))
    }

    /// Id-mapped trees of what is the host's, where the container has ids of its own.
    fn trees(
        &mut self,
        spec: &CheckedSpec,
        ids: Option<&IdMap>,
    ) -> Result<Vec<(crate::plan::Need, Option<OwnedFd>)>, Error> {
        let ids = ids.filter(|_| self.machine.whole);
        let wanted = trees::wanted(spec, ids.is_some(), false);
        let mut mapped = trees::Mapped::new();
        for map in trees::maps(spec, &wanted, ids) {
            let userns = self.brief.userns(&map.uid.text(), &map.gid.text())?;
            mapped.push((map, userns));
        }
        let make = |need| Ok((need, Some(trees::make(spec, need, None, (ids, &mapped))?)));
        wanted.into_iter().map(make).collect()
    }

    /// Its standard streams, which become its own user's, so that it may open /dev/stdout anew.
    pub(super) fn streams(&self, process: &CheckedProcess, ids: Option<&IdMap>) -> Result<Ends, Error> {
        use rustix::fs::{FileType, Uid, fchown, fstat};
        let owner = stdio::Owner::of(process.ids(), ids, self.machine.privileged);
        let spec = process.spec();
        for (stream, (uid, _)) in
            [&spec.stdin, &spec.stdout, &spec.stderr].into_iter().zip(owner.ids.into_iter().cycle())
        {
            let Stdio::Fd(fd) = stream else { continue };
            let kind = fstat(fd.as_fd()).map(|stat| (stat.st_uid, FileType::from_raw_mode(stat.st_mode)));
            // Of a file of the host's only who has it open; of /dev/null nobody.
            if kind.is_ok_and(|(owner, kind)| owner != uid && kind == FileType::Fifo) {
                let _ = fchown(fd.as_fd(), Some(Uid::from_raw(uid)), None);
            }
        }
        stdio::open(process, owner)
    }
}
