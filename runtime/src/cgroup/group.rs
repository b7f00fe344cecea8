//! One container's groups: born empty with their limits already written, changed, removed.

use super::detect::Controller;
use super::dir::Dir;
use super::error::{CgroupError, unsupported};
use super::limits::Limits;
use super::parents::Parents;
use super::place::Place;
use super::setting::{Before, Setting, apply};
use super::{io, nested, v1, v2};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Result<T> = std::result::Result<T, CgroupError>;

/// One container's directories, one in each hierarchy that it needs. Holds at most one descriptor (the v2 directory);
/// everything else is opened when needed, relative to the supervisor's own directories.
///
/// Dropping it removes nothing: a container may outlive its supervisor. Call [`remove`](Group::remove).
#[derive(Debug)]
pub struct Group {
    pub(super) parents: Arc<Parents>,
    pub(super) id: String,
    pub(super) v2: bool,
    /// Which of `parents.v1` this group has a directory in.
    members: Vec<usize>,
    /// Where it has one for groups below it alone.
    pub(super) guests: Mutex<Vec<usize>>,
    /// v2: its processes live in a leaf, so that groups below it can have controllers.
    pub(super) split: AtomicBool,
    /// It, or a group below it, may have limits of devices.
    throttled: AtomicBool,
}

/// Where a process is born.
#[derive(Debug)]
pub struct Spot {
    pub(crate) v2: Option<OwnedFd>,
    pub(crate) tasks: Vec<OwnedFd>,
}

/// A directory of a group: while it is there, and after, no other has this number in its file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupIdentity {
    device: u64,
    inode: u64,
}

impl GroupIdentity {
    fn of(dir: Dir) -> Option<GroupIdentity> {
        let stat = rustix::fs::fstat(dir.into_fd()).ok()?;
        Some(GroupIdentity { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// Which kind of file a controller has for this group.
pub(super) enum Home {
    V1(Dir),
    V2(Dir),
}

impl Home {
    pub(super) fn dir(&self) -> &Dir {
        match self {
            Home::V1(dir) | Home::V2(dir) => dir,
        }
    }
}

impl Group {
    pub(super) fn create(parents: Arc<Parents>, id: &str, limits: &Limits) -> Result<Group> {
        let wanted = |(i, place): (usize, &Place)| parents.has_a_group(place, limits).then_some(i);
        let planned: Vec<usize> = parents.v1.iter().enumerate().filter_map(wanted).collect();
        let mut group = Group::empty(parents, id.into());
        match group.fill(&planned, limits) {
            Ok(()) => Ok(group),
            Err(error) => {
                // Only what this call made: a group that was there before is in none of the two lists.
                Err(match group.remove() {
                    Ok(()) => error,
                    Err(left) => error.with_reason(format!("and what was made is left: {left}")),
                })
            }
        }
    }

    /// One that is there in some hierarchies, of somebody else's making, around this process.
    pub(super) fn complete(parents: Arc<Parents>, id: &str, limits: &Limits, of: i32) -> Result<Group> {
        let mut group = Group::reopen(Arc::clone(&parents), id)?;
        group.places().try_for_each(|place| is_of_nobody_else(&place.dir.child(id)?, of))?;
        let mut made = Group::empty(parents, id.into());
        let written = made.fill_other(&mut group).and_then(|()| group.write(limits, true));
        match written {
            Ok(()) => Ok(group),
            Err(error) => {
                // What it had before goes with whoever has made it.
                let _ = made.remove();
                Err(error)
            }
        }
    }

    /// Make the directories that `there` lacks: they are this one's, and its from then on.
    fn fill_other(&mut self, there: &mut Group) -> Result<()> {
        let parents = Arc::clone(&self.parents);
        for (index, place) in parents.v1.iter().enumerate() {
            if !there.is_member(index) {
                self.make_v1(index)?;
                there.members.push(index);
            }
            if place.has(Controller::Cpuset) {
                v1::fill_cpuset(&place.dir, &place.dir.child(&there.id)?)?;
            }
        }
        Ok(())
    }

    /// Without any directory yet.
    pub(super) fn empty(parents: Arc<Parents>, id: String) -> Group {
        let guests = Mutex::default();
        let (split, throttled) = (AtomicBool::new(false), AtomicBool::new(false));
        Group { parents, id, v2: false, members: Vec::new(), guests, split, throttled }
    }

    pub(super) fn make_v2(&mut self) -> Result<()> {
        if let Some(place) = &self.parents.v2 {
            place.dir.make(&self.id)?;
            self.v2 = true;
        }
        Ok(())
    }

    pub(super) fn make_v1(&mut self, index: usize) -> Result<()> {
        self.parents.v1[index].dir.make(&self.id)?;
        self.members.push(index);
        Ok(())
    }

    pub(super) fn is_member(&self, index: usize) -> bool {
        self.members.contains(&index)
    }

    fn fill(&mut self, planned: &[usize], limits: &Limits) -> Result<()> {
        let parents = Arc::clone(&self.parents);
        self.make_v2()?;
        for index in planned {
            let place = &parents.v1[*index];
            self.make_v1(*index)?;
            if place.has(Controller::Cpuset) {
                v1::fill_cpuset(&place.dir, &place.dir.child(&self.id)?)?;
            }
        }
        self.write(limits, true)
    }

    /// The group of that name which is there already, for a supervisor that comes back to a living container.
    pub(super) fn reopen(parents: Arc<Parents>, id: &str) -> Result<Group> {
        // A removal may have been cut short, and a group below a container's is where its limits are alone.
        let v2 = parents.v2.as_ref().is_some_and(|place| place.dir.has(id));
        let members: Vec<usize> = (0..parents.v1.len()).filter(|i| parents.v1[*i].dir.has(id)).collect();
        if !v2 && members.is_empty() {
            return Err(CgroupError::sys("open", id, rustix::io::Errno::NOENT));
        }
        let split = parents.v2.as_ref().is_some_and(|place| v2 && place.dir.has(&format!("{id}/{}", nested::LEAF)));
        let (split, throttled) = (AtomicBool::new(split), AtomicBool::new(true));
        Ok(Group { v2, members, split, throttled, ..Group::empty(parents, id.into()) })
    }

    /// Of one that was reopened: it has been in these directories, by [`paths`](Group::paths), from its beginning; in the
    /// others only groups below it are.
    #[must_use]
    pub fn born_in(mut self, paths: &[PathBuf]) -> Group {
        let own = |index: &usize| paths.contains(&self.parents.v1[*index].dir.path().join(&self.id));
        let (members, guests) = self.members.iter().copied().partition(own);
        self.members = members;
        self.guests = Mutex::new(guests);
        self
    }

    /// Names of groups below it.
    pub fn below(&self) -> Vec<String> {
        let dirs = self.places().filter_map(|place| place.dir.child(&self.id).ok());
        dirs.flat_map(|dir| dir.names()).collect()
    }

    /// The group below it that is there already.
    ///
    /// # Errors
    /// There is no such group ([`is_gone`](CgroupError::is_gone)).
    pub fn reopen_nested(&self, name: &str) -> Result<Group> {
        Group::reopen(Arc::clone(&self.parents), &format!("{}/{name}", self.id))
    }

    /// The container's name.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// It has a v2 directory to be born in.
    pub fn has_birth(&self) -> bool {
        self.v2
    }

    /// The v2 directory for `CLONE_INTO_CGROUP` (5.7), opened `O_PATH` for each birth, so that a container costs no
    /// descriptor while it lives; on v2 and hybrid.
    ///
    /// # Errors
    /// The directory is gone, or no descriptor is left.
    pub fn birth(&self) -> Result<Option<OwnedFd>> {
        match self.v2_dir()? {
            Some(dir) if self.split.load(Ordering::Acquire) => Ok(Some(dir.child(nested::LEAF)?.into_fd())),
            dir => Ok(dir.map(Dir::into_fd)),
        }
    }

    /// The v1 `tasks` files, open for writing: the child, still single-threaded, writes `0` to each. Never
    /// `cgroup.procs` and never a number: that costs 7-11 ms after idle since 5.5. Empty on v2.
    ///
    /// # Errors
    /// A directory is gone, or no descriptor is left.
    pub fn tasks(&self) -> Result<Vec<OwnedFd>> {
        self.tasks_where(|_| true)
    }

    pub(super) fn tasks_where(&self, wanted: impl Fn(usize) -> bool) -> Result<Vec<OwnedFd>> {
        let wanted = self.members.iter().filter(|index| wanted(**index)).map(|index| &self.parents.v1[*index]);
        wanted.map(|place| place.dir.child(&self.id)?.file("tasks", OFlags::WRONLY)).collect()
    }

    /// Where a process is born that is to be in groups below this one, which are there: each is named for the hierarchy of a controller
    /// of version 1, or for all.
    ///
    /// # Errors
    /// There is no such group, or no such controller here.
    pub fn spot(&self, below: &[(Option<String>, PathBuf)]) -> Result<Spot> {
        let wrong = |path: &PathBuf, why: &str| unsupported("enter the cgroup", path, why).with_field("cgroup");
        for (controller, path) in below {
            if super::detect::normal(&Path::new("/").join(path)).is_none() {
                return Err(wrong(path, "it must not contain .."));
            }
            let known = |name: &String| self.v1_places().any(|place| place.is_called(name));
            if controller.as_ref().is_some_and(|name| !known(name)) {
                return Err(wrong(path, "there is no hierarchy of this controller here"));
            }
        }
        let of = |place: Option<&Place>| {
            let named = |(name, _): &&(Option<String>, PathBuf)| {
                name.as_ref().is_none_or(|name| place.is_some_and(|place| place.is_called(name)))
            };
            below.iter().rev().find(named).map(|(_, path)| path.strip_prefix("/").unwrap_or(path))
        };
        let inside = |dir: Dir, path: Option<&Path>| match path.filter(|path| !path.as_os_str().is_empty()) {
            Some(path) => dir.child(path),
            None => Ok(dir),
        };
        let v2 = match (of(None), self.v2_dir()?) {
            (Some(path), Some(dir)) => Some(inside(dir, Some(path))?.into_fd()),
            _ => self.birth()?,
        };
        let tasks = self
            .v1_places()
            .map(|place| inside(place.dir.child(&self.id)?, of(Some(place)))?.file("tasks", OFlags::WRONLY));
        Ok(Spot { v2, tasks: tasks.collect::<Result<_>>()? })
    }

    /// Groups below it have controllers of their own, and the kernel lets no further process into it (version 2).
    pub fn is_divided(&self) -> bool {
        let dir = self.v2_dir().ok().flatten();
        dir.and_then(|dir| dir.read("cgroup.subtree_control").ok()).is_some_and(|text| !text.trim().is_empty())
    }

    /// Where a process is born that is to be beside another one, whose group of version 2 is this, as `/proc/PID/cgroup` has it: there, if
    /// that is below ours.
    ///
    /// # Errors
    /// As [`Group::spot`].
    pub fn spot_beside(&self, path: &Path) -> Result<Spot> {
        let mut spot = self.spot(&[])?;
        let below = self.v2_dir()?.and_then(|dir| Some((below(dir.path(), path)?, dir)));
        if let Some((path, dir)) = below.filter(|(path, _)| spot.v2.is_some() && !path.as_os_str().is_empty()) {
            spot.v2 = Some(dir.child(path)?.into_fd());
        }
        Ok(spot)
    }

    /// Every directory, for people and records.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.places().map(|place| place.dir.path().join(&self.id)).collect()
    }

    /// Which directories these are, whatever else has their paths later.
    pub fn identity(&self) -> Vec<GroupIdentity> {
        self.places().filter_map(|place| GroupIdentity::of(place.dir.child(&self.id).ok()?)).collect()
    }

    /// Of a unit's: the directory by which systemd knows that it is there. That is the one of version 2, or, where there is none, the one
    /// in the hierarchy of version 1 that has no controllers; those that it has elsewhere may outlive the unit.
    #[must_use]
    pub fn has_unit(&self) -> bool {
        let known = match &self.parents.v2 {
            Some(place) => Some(place).filter(|_| self.v2),
            None => self.v1_places().find(|place| place.controllers.is_empty()),
        };
        known.is_some_and(|place| place.dir.has(&self.id))
    }

    /// Without the directories that are none of these: those are another's by now.
    #[must_use]
    pub fn that_are(mut self, known: &[GroupIdentity]) -> Group {
        let parents = Arc::clone(&self.parents);
        let is = |place: &Place| {
            let dir = place.dir.child(&self.id).ok();
            dir.and_then(GroupIdentity::of).is_some_and(|identity| known.contains(&identity))
        };
        let v2 = self.v2 && parents.v2.as_ref().is_some_and(is);
        let members = self.members.iter().copied().filter(|index| is(&parents.v1[*index])).collect();
        (self.v2, self.members) = (v2, members);
        self
    }

    /// Changes limits while the container runs. `None` fields stay as they are. All or nothing: after a failure the
    /// values changed before it are put back.
    ///
    /// A v1 hierarchy that the container is not in (none of its limits was asked at creation) cannot be added: moving
    /// somebody else's threads is not race free there. That is an unsupported error with the field.
    ///
    /// # Errors
    /// A field out of range or without a controller; the kernel's refusal (v1: EBUSY for a memory limit below what
    /// cannot be reclaimed), with the field.
    pub fn update(&self, limits: &Limits) -> Result<()> {
        self.parents.check(limits, false)?;
        self.parents.switch_on(limits)?;
        self.write(limits, false)
    }

    /// The files that [`update`](Group::update) would write to, with what they hold now, in the order in which that is to be
    /// put back: for somebody who carries it out later.
    ///
    /// # Errors
    /// As [`update`](Group::update) refuses; a file cannot be read.
    pub fn put_back(&self, limits: &Limits) -> Result<Vec<(OwnedFd, Vec<u8>)>> {
        self.parents.check(limits, false)?;
        self.parents.switch_on(limits)?;
        let file = |(dir, setting): &(&Dir, Setting)| {
            let now = dir.read(&setting.file)?;
            Ok((dir.file(&setting.file, OFlags::WRONLY)?, setting.put_back(&now).into_bytes()))
        };
        self.with_settings(limits, false, |writes| writes.iter().rev().map(file).collect())
    }

    /// What the limits are now that [`update`](Group::update) would change.
    ///
    /// # Errors
    /// As [`Group::put_back`].
    pub fn before(&self, limits: &Limits) -> Result<Before> {
        self.parents.check(limits, false)?;
        self.with_settings(limits, false, Before::of)
    }

    pub(super) fn write(&self, limits: &Limits, fresh: bool) -> Result<()> {
        self.may_be_throttled(limits);
        self.with_settings(limits, fresh, |writes| apply(writes, !fresh))
    }

    /// What is to be written for these limits, and where.
    fn with_settings<T>(
        &self,
        limits: &Limits,
        fresh: bool,
        then: impl FnOnce(&[(&Dir, Setting)]) -> Result<T>,
    ) -> Result<T> {
        let mut homes = Vec::new();
        for (controller, field) in super::parents::asked(limits) {
            if !homes.iter().any(|(c, _)| *c == controller) {
                let home = self.home(controller)?.ok_or_else(|| self.no_home(field.into_owned()))?;
                homes.push((controller, home));
            }
        }
        let mut writes: Vec<(&Dir, Setting)> = Vec::new();
        for (controller, home) in &homes {
            let settings = match home {
                Home::V1(dir) => v1_settings(*controller, limits, dir, fresh)?,
                Home::V2(dir) if *controller == Controller::Io => io::files::settings(limits, dir, false)?,
                Home::V2(_) => v2::settings(limits),
            };
            writes.extend(settings.into_iter().filter(|s| s.controller == *controller).map(|s| (home.dir(), s)));
            for other in limits.other.iter().filter(|other| other.home() == *controller) {
                let settings = other.settings(home.dir(), matches!(home, Home::V1(_)))?;
                writes.extend(settings.into_iter().map(|s| (home.dir(), s)));
            }
        }
        then(&writes)
    }

    pub(super) fn may_be_throttled(&self, limits: &Limits) {
        if !limits.io_max.is_empty() || limits.other.iter().any(|other| other.home() == Controller::Io) {
            self.throttled.store(true, Ordering::Release);
        }
    }

    /// Take away what limits the rates of devices, of groups below it too: with a kill. Who waits for a device at its limit feels no
    /// signal before its turn has come, which may be hours away.
    pub fn lift_io(&self) {
        if !self.throttled.swap(false, Ordering::AcqRel) {
            return;
        }
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let v1 = self.v1_places().chain(guests.iter().map(|index| &self.parents.v1[*index]));
        for (place, legacy) in v1.map(|place| (place, true)).chain(self.parents.v2.iter().map(|place| (place, false))) {
            if let Some(dir) = place.has(Controller::Io).then(|| place.dir.child(&self.id).ok()).flatten() {
                io::files::lift(&dir, legacy);
            }
        }
    }

    fn no_home(&self, field: String) -> CgroupError {
        let why = "the container was created without this v1 hierarchy; ask for the limit at creation";
        unsupported("change", &self.id, why).with_field(field)
    }

    /// Removes the directories, deepest first, with the groups that the workload made. Idempotent.
    ///
    /// # Errors
    /// [`is_busy`](CgroupError::is_busy) while a process is left: await [`wait_empty`](Group::wait_empty), read the
    /// counters, call again. Every hierarchy is tried; the first error is returned.
    pub fn remove(&self) -> Result<()> {
        let mut first = Ok(());
        let guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        for place in self.places().chain(guests.iter().map(|index| &self.parents.v1[*index])) {
            let removed = place.dir.remove_tree(OsStr::new(&self.id));
            first = first.and(removed);
        }
        first
    }

    /// The directory that has this controller's files; `None` if none of ours has them.
    pub(super) fn home(&self, controller: Controller) -> Result<Option<Home>> {
        if let Some(place) = self.v1_places().find(|place| place.has(controller)) {
            return Ok(Some(Home::V1(place.dir.child(&self.id)?)));
        }
        match &self.parents.v2 {
            Some(place) if self.v2 && controller == Controller::Core || place.has(controller) => {
                Ok(Some(Home::V2(place.dir.child(&self.id)?)))
            }
            _ => Ok(None),
        }
    }

    pub(super) fn v2_dir(&self) -> Result<Option<Dir>> {
        self.parents.v2.as_ref().filter(|_| self.v2).map(|place| place.dir.child(&self.id)).transpose()
    }

    pub(super) fn v1_places(&self) -> impl Iterator<Item = &Place> {
        self.members.iter().map(|i| &self.parents.v1[*i])
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.parents.v2.iter().filter(|_| self.v2).chain(self.v1_places())
    }
}

/// Nobody but this process is in there, and no group. Of a hierarchy that systemd does without, a group of that name may be anybody's.
fn is_of_nobody_else(dir: &Dir, pid: i32) -> Result<()> {
    let others = dir.read("cgroup.procs")?.lines().any(|line| line.trim().parse() != Ok(pid));
    if others || !dir.children()?.is_empty() {
        let exists = CgroupError::sys("use the cgroup", dir.path(), rustix::io::Errno::EXIST);
        return Err(exists.with_reason("others are in it: it is somebody else's").with_field("cgroupsPath"));
    }
    Ok(())
}

/// What of `path`, which is counted from the top of a hierarchy, is below `dir`, whose own path begins further up.
fn below(dir: &Path, path: &Path) -> Option<PathBuf> {
    let path = path.strip_prefix("/").ok()?;
    let mut above = path.ancestors().filter(|above| !above.as_os_str().is_empty() && dir.ends_with(above));
    Some(path.strip_prefix(above.next()?).ok()?.to_path_buf())
}

fn v1_settings(controller: Controller, limits: &Limits, dir: &Dir, fresh: bool) -> Result<Vec<Setting>> {
    Ok(match controller {
        Controller::Memory => {
            let now = if fresh { v1::MemoryNow::fresh(dir) } else { v1::MemoryNow::read(dir)? };
            if limits.memory_swap.is_some() && limits.memory.is_none() && now.limit >= v1::UNLIMITED {
                let why = "cgroup v1 only limits memory and swap together: memory is needed too";
                return Err(unsupported("limit swap of", dir.path(), why).with_field("memory_swap"));
            }
            v1::memory(limits, now)
        }
        Controller::Cpu => v1::cpu(limits),
        Controller::Io => io::files::settings(limits, dir, true)?,
        // The files of pids and cpuset have the same names and formats in both versions.
        _ => v2::settings(limits),
    })
}
