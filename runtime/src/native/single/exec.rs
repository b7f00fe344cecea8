//! A further process of a container that somebody else has made.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::super::supply::{Seer, Supply, some};
use super::super::{cgroup_error, lives, stdio};
use super::{Listening, Made, Maker, Until, Word, heard};
use crate::cgroup::{Cgroups, Group, Spot};
use crate::error::{Error, ErrorKind, Errors};
use crate::plan::idmap::IdMap;
use crate::plan::process::{self, Joining};
use crate::plan::wire::{JOIN_CGROUP, NEWCGROUP, NEWIPC, NEWUTS};
use crate::plan::{Machine, Plan};
use crate::resctrl;
use crate::spec::check::{self, CheckedProcess};
use crate::spec::{ContainerSpec, ProcessSpec, User};

/// The container that a process is started in.
#[derive(Debug)]
pub struct Beside<'a> {
    /// Its first process, which lives: by both, so that the number is its own.
    pub init: (i32, &'a OwnedFd),
    /// What it was made of.
    pub spec: &'a ContainerSpec,
    /// Its ids, where it has its own.
    pub ids: Option<&'a IdMap>,
    /// It has a network namespace that is not ours.
    pub own_network: bool,
    /// Its cgroup.
    pub group: Option<&'a Group>,
    /// Groups below that, where the process is to be: each in the hierarchy of a controller of version 1, or in all.
    pub below: &'a [(Option<String>, PathBuf)],
}

impl Maker {
    /// Start a process in it: it runs when this comes back.
    ///
    /// # Errors
    /// Every refusal; the step that failed; [`ErrorKind::State`] when the container has ended.
    pub fn exec(
        mut self,
        beside: &Beside<'_>,
        mut process: ProcessSpec,
        listening: Listening<'_>,
    ) -> Result<Made, Errors> {
        let one = |error: Error| Errors(vec![error]);
        let root = of_init(beside, "root", OFlags::PATH | OFlags::DIRECTORY).map_err(one)?;
        super::home::of_living(&root, &mut process);
        drop(root);
        let (process, plan, tasks) = self.planned(beside, process, process::plan)?;
        let started = || -> Result<(i32, OwnedFd, stdio::Ends), Error> {
            let (report, theirs) = stdio::pipe()?;
            rustix::fs::fcntl_setfl(&report, OFlags::NONBLOCK)
                .map_err(|error| Error::system("cannot prepare the report pipe", error))?;
            let mut ends = self.streams(&process, beside.ids)?;
            let mut supply = Supply::new(theirs);
            supply.stdio = std::mem::take(&mut ends.theirs);
            supply.channel = ends.channel()?;
            supply.tasks = some(tasks);
            beside.supply(&mut supply, &plan, &self.machine)?;
            let (pid, pidfd) = self.brief.spawn(&plan, supply.all(&plan, beside.group)?)?;
            let halt = self.halt.clone();
            let until = Until { init: Some(beside.init.1), halt: halt.as_deref(), ..Until::default() };
            if let Some(listener) = ends.listener(|channel| until.wait([Some(channel)]).map(drop))? {
                listening(listener, pid)?;
            }
            match heard(&report, &plan, &until)? {
                Word::End => Ok((pid, pidfd, ends)),
                Word::Ready => Err(Error::new(ErrorKind::Keeper, "a running process said that it is ready")),
            }
        };
        let (pid, pidfd, ends) = started().map_err(|error| one(or_ended(beside, error)))?;
        let mut made = Made { maker: Some(self), pid, pidfd, group: None, ids: None, tty: None, lent: None };
        made.hear(ends).map_err(one)?;
        Ok(made)
    }

    /// A further process, checked, its plan, and what that needs of the cgroup.
    pub(super) fn planned(
        &self,
        beside: &Beside<'_>,
        process: ProcessSpec,
        plan: fn(&CheckedProcess, &Joining, &Machine) -> Plan,
    ) -> Result<(CheckedProcess, Plan, Vec<OwnedFd>), Errors> {
        let one = |error: Error| Errors(vec![error]);
        let root = match &process.user {
            User::Name(_) => Some(of_init(beside, "root", OFlags::PATH | OFlags::DIRECTORY).map_err(one)?),
            _ => None,
        };
        let none = Cgroups::none("limits are the container's");
        let root = root.as_ref().map(AsFd::as_fd);
        let process = check::check_further(process, beside.spec, root, &self.machine, &none)?;
        check::check_mapped(&process, beside.ids).map_err(one)?;
        let (joining, tasks) = self.joining(beside).map_err(|error| one(or_ended(beside, error)))?;
        let plan = plan(&process, &joining, &self.machine);
        plan.fits().map_err(one)?;
        Ok((process, plan, tasks))
    }

    /// What it joins, and what that needs of the cgroup.
    pub(super) fn joining(&self, beside: &Beside<'_>) -> Result<(Joining, Vec<OwnedFd>), Error> {
        let mut tasks = beside.spot()?.map_or_else(Vec::new, |spot| spot.tasks);
        if let Some(rdt) = &beside.spec.intel_rdt
            && let Some(root) = resctrl::mounted()
        {
            tasks.extend(resctrl::tasks(&root, &beside.spec.id, rdt)?);
        }
        let joining = Joining {
            ids: beside.ids.cloned(),
            own_network: beside.own_network,
            own_time: !is_ours(beside, "time").unwrap_or(beside.spec.time.is_none()),
            common: common(beside),
            cgroup: beside.group.is_some_and(Group::has_birth),
            governs_cgroups: true,
            tasks: u16::try_from(tasks.len()).unwrap_or(u16::MAX),
            trees: Vec::new(),
            disk: beside.spec.disk,
            console: false,
        };
        Ok((joining, tasks))
    }
}

impl Beside<'_> {
    /// Where a process is born.
    fn spot(&self) -> Result<Option<Spot>, Error> {
        let Some(group) = self.group else { return Ok(None) };
        let spot = match self.below.is_empty() && group.is_divided() {
            true => group.spot_beside(&self.of_init_in_v2()?),
            false => group.spot(self.below),
        };
        spot.map(Some).map_err(|error| cgroup_error(&error))
    }

    /// The group of version 2 that its first process is in: an init that divides what it has moves itself.
    fn of_init_in_v2(&self) -> Result<PathBuf, Error> {
        let text = std::fs::read_to_string(format!("/proc/{}/cgroup", self.init.0))
            .map_err(|error| Error::system("cannot read the container's cgroup", error));
        let text = text.map_err(|error| or_ended(self, error))?;
        if !lives(self.init.1) {
            return Err(Error::new(ErrorKind::State, "the container has ended"));
        }
        Ok(text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().into())
    }

    /// What a plan beside it needs of its first process.
    pub(super) fn supply(&self, supply: &mut Supply, plan: &Plan, machine: &Machine) -> Result<(), Error> {
        let init = self.init.1.try_clone();
        supply.init = Some(init.map_err(|error| Error::system("cannot duplicate a pidfd", error))?);
        supply.birth = self.spot()?.and_then(|spot| spot.v2);
        supply.seen_by = Seer::of(self.ids, || shares_pids(self), machine);
        if plan.needs().contains(&process::CGROUP_NAMESPACE) {
            supply.namespaces.push((JOIN_CGROUP, Some(of_init(self, "ns/cgroup", OFlags::RDONLY)?)));
        }
        Ok(())
    }
}

/// Entering the namespaces of a container that has just ended fails in ways that do not say so.
pub(super) fn or_ended(beside: &Beside<'_>, error: Error) -> Error {
    if lives(beside.init.1) { error } else { Error::new(ErrorKind::State, "the container has ended") }
}

/// Whether this namespace of its is ours as well. It may have joined another one, of which nothing is written down. `None` where the kernel
/// has no such namespaces (time before 5.6), or its process has ended.
fn is_ours(beside: &Beside<'_>, kind: &str) -> Option<bool> {
    let identity = |fd: &OwnedFd| rustix::fs::fstat(fd).ok().map(|stat| (stat.st_dev, stat.st_ino));
    let path = format!("/proc/self/ns/{kind}");
    let ours = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty()).ok()?;
    let theirs = of_init(beside, &format!("ns/{kind}"), OFlags::PATH).ok()?;
    Some(identity(&theirs)? == identity(&ours)?)
}

/// Its first process is not the first of its pid namespace, as far as that can be told: others' are in there.
fn shares_pids(beside: &Beside<'_>) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", beside.init.0)).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.and_then(|numbers| numbers.split_whitespace().last()) != Some("1")
}

/// See [`Joining::common`].
fn common(beside: &Beside<'_>) -> u64 {
    let kinds = [("ipc", NEWIPC), ("uts", NEWUTS), ("cgroup", NEWCGROUP)];
    kinds.into_iter().filter(|(name, _)| is_ours(beside, name) == Some(true)).map(|(_, flag)| flag).sum()
}

/// What /proc has of its first process.
fn of_init(beside: &Beside<'_>, what: &str, flags: OFlags) -> Result<OwnedFd, Error> {
    of_process(beside.init, what, flags)
}

fn of_process((pid, pidfd): (i32, &OwnedFd), what: &str, flags: OFlags) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{pid}/{what}");
    let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty());
    // The number was the container's if its process still lives after it was used.
    match opened {
        Ok(opened) if lives(pidfd) => Ok(opened),
        Err(error) if lives(pidfd) && error != Errno::NOENT && error != Errno::SRCH => {
            Err(Error::system(format!("cannot open the container's {what}"), error))
        }
        // Whoever lives has all of these; who is about to end lets go of them before that is seen.
        _ => Err(Error::new(ErrorKind::State, "the container has ended")),
    }
}

/// The user namespace that the keeper lived in by which a container was made whose first process is this: the one, of those that it
/// lies in, that lies in ours. `None`: it lies in none.
pub(super) fn keepers_namespace(init: (i32, &OwnedFd)) -> Result<Option<OwnedFd>, Error> {
    let failed = |error| Error::system("cannot look at the container's user namespace", error);
    let identity = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
    let ours = rustix::fs::open("/proc/self/ns/user", OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty());
    let ours = ours.and_then(|ours| identity(&ours)).map_err(|error| failed(error.into()))?;
    let mut at = of_process(init, "ns/user", OFlags::RDONLY)?;
    loop {
        let above = match crate::sys::parent_namespace(&at) {
            Ok(above) => above,
            // What lies above ours is not shown.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if identity(&above).map_err(|error| failed(error.into()))? == ours {
            return Ok(Some(at));
        }
        at = above;
    }
}
