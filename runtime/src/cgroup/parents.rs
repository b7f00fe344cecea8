//! What one supervisor holds: its directory in each usable hierarchy, the mode that follows from them, and why a
//! controller is missing.

use super::Mode;
use super::detect::{Controller, Hierarchy, Kind};
use super::error::{CgroupError, unsupported};
use super::io::{self, IoMax, IoWeight};
use super::limits::Limits;
use super::place::{Place, place_v1, place_v2};
use super::v2::describe;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

type Result<T> = std::result::Result<T, CgroupError>;

#[derive(Debug)]
pub(super) struct Parents {
    pub(super) v2: Option<Place>,
    pub(super) v1: Vec<Place>,
    why: Option<String>,
    refused: BTreeMap<Controller, String>,
    /// As before `cgroup.kill`.
    pub(super) without_kill: bool,
    /// The places are not ours, and stay; groups are made in all of them.
    pub(super) at_a_path: bool,
    closed: AtomicBool,
}

/// The fields that are set, with the controller each needs; of devices, each device's.
pub(super) fn asked(limits: &Limits) -> Vec<(Controller, Cow<'static, str>)> {
    let weights = limits.io_device_weight.iter().map(IoWeight::name);
    let devices = weights.chain(limits.io_max.iter().map(IoMax::name));
    let single = [
        (limits.memory.is_some(), Controller::Memory, "memory"),
        (limits.memory_swap.is_some(), Controller::Memory, "memory_swap"),
        (limits.cpu_quota.is_some(), Controller::Cpu, "cpu_quota"),
        (limits.cpu_weight.is_some(), Controller::Cpu, "cpu_weight"),
        (limits.cpuset_cpus.is_some(), Controller::Cpuset, "cpuset_cpus"),
        (limits.cpuset_mems.is_some(), Controller::Cpuset, "cpuset_mems"),
        (limits.pids.is_some(), Controller::Pids, "pids"),
        (limits.io_weight.is_some(), Controller::Io, "io_weight"),
    ];
    let single = single.into_iter().filter(|(set, ..)| *set);
    let single = single.map(|(_, controller, field)| (controller, Cow::Borrowed(field)));
    let others =
        limits.other.iter().filter(|other| !other.optional).map(|other| (other.home(), Cow::Owned(other.name.clone())));
    single.chain(devices.map(|field| (Controller::Io, Cow::Owned(field)))).chain(others).collect()
}

/// Whether a container needs a directory in this v1 hierarchy. Each costs a mkdir, a rmdir and the child's write to
/// `tasks`, so: memory always (only it tells of an OOM kill), the freezer and CPU accounting where no v2 group does
/// their work, the others when a limit asks.
pub(super) fn needs(place: &Place, limits: &Limits, has_v2: bool) -> bool {
    let asked = asked(limits);
    place.controllers.iter().any(|controller| match controller {
        Controller::Memory => true,
        Controller::Freezer | Controller::Cpuacct => !has_v2,
        other => asked.iter().any(|(c, _)| c == other),
    })
}

impl Parents {
    /// A container with these limits has a directory in this place of v1.
    pub(super) fn has_a_group(&self, place: &Place, limits: &Limits) -> bool {
        self.at_a_path || needs(place, limits, self.v2.is_some())
    }

    pub(super) fn none(why: String) -> Parents {
        let (v1, refused, closed) = (Vec::new(), BTreeMap::new(), AtomicBool::new(false));
        Parents { v2: None, v1, why: Some(why), refused, without_kill: false, at_a_path: false, closed }
    }

    /// Makes our directories. Nothing usable is no error, except below a parent that somebody configured.
    pub(super) fn open(found: &[Hierarchy], parent: Option<&Path>, instance: &str) -> Result<Parents> {
        let configured = parent.map(|path| inside(found, path)).transpose()?;
        let name = format!("orangery-{instance}");
        let mut parents = Parents::none(String::new());
        let mut failures: Vec<CgroupError> = Vec::new();
        let legacy = found.iter().any(|h| h.kind != Kind::V2);
        for hierarchy in found {
            if let Err(e) = parents.add(hierarchy, configured.as_deref(), &name, !legacy) {
                failures.push(e);
            }
        }
        parents.why = (parents.mode() == Mode::None).then(|| why_none(&failures));
        match (parent, parents.mode(), failures.into_iter().next()) {
            (Some(path), Mode::None, first) => {
                let nothing = || CgroupError::refused("use the configured parent", path, "no cgroup is mounted");
                Err(first.unwrap_or_else(nothing).with_field("parent"))
            }
            _ => Ok(parents),
        }
    }

    /// Opens our directories where they are already. One whose parent is gone is left out: nothing lives there.
    pub(super) fn reopen(found: &[Hierarchy], places: &[PathBuf], instance: &str) -> Result<Parents> {
        let name = format!("orangery-{instance}");
        let mut parents = Parents::none(String::new());
        let mut failures: Vec<CgroupError> = Vec::new();
        for hierarchy in found {
            // A mount may lie below another one.
            let nearer = |path: &Path| {
                let depth = hierarchy.top.path().components().count();
                found.iter().any(|h| path.starts_with(h.top.path()) && h.top.path().components().count() > depth)
            };
            let below = |path: &PathBuf| {
                let below = path.strip_prefix(hierarchy.top.path()).ok().filter(|_| !nearer(path));
                below.map(Path::to_path_buf)
            };
            let Some(names) = places.iter().find_map(below).and_then(|path| super::detect::normal(&path)) else {
                continue;
            };
            let Some((last, above)) = names.split_last() else { continue };
            if *last != *name {
                let why = format!("{} is not a directory of this supervisor", Path::new(last).display());
                return Err(CgroupError::refused("reopen", hierarchy.top.path(), why));
            }
            // Who else is in the parent now is no reason to leave those alone who live here.
            if let Err(e) = parents.add(hierarchy, Some(above), &name, false) {
                failures.push(e);
            }
        }
        parents.why = (parents.mode() == Mode::None).then(|| why_none(&failures));
        Ok(parents)
    }

    fn add(&mut self, hierarchy: &Hierarchy, parent: Option<&[OsString]>, name: &str, pure: bool) -> Result<()> {
        let Kind::V1(controllers) = &hierarchy.kind else {
            let placed = place_v2(hierarchy, parent, name, pure)?;
            self.refused.extend(placed.refused);
            self.v2 = Some(placed.place);
            return Ok(());
        };
        match place_v1(hierarchy, controllers, parent, name) {
            Ok(place) => {
                self.v1.push(place);
                Ok(())
            }
            Err(e) => {
                self.refused.extend(controllers.iter().map(|c| (*c, describe(&e))));
                Err(e)
            }
        }
    }

    pub(super) fn mode(&self) -> Mode {
        match (self.v2.is_some(), self.v1.is_empty()) {
            (true, true) => Mode::V2,
            (true, false) => Mode::Hybrid,
            (false, false) => Mode::V1,
            (false, true) => Mode::None,
        }
    }

    /// Nothing says any more why there is none, if there is one.
    pub(super) fn is_there(&mut self) {
        if self.mode() != Mode::None {
            self.why = None;
        }
    }

    pub(super) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.v2.iter().chain(&self.v1)
    }

    /// Why each asked limit cannot be had here.
    pub(super) fn refusals(&self, limits: &Limits) -> Vec<(String, String)> {
        let mut refusals = self.missing(limits);
        let legacy = self.v1.iter().any(|p| p.has(Controller::Memory));
        let twice = refusals.iter().any(|(field, _)| field == "memory_swap");
        if legacy && !twice && limits.memory_swap.is_some() && limits.memory.is_none() {
            let why = "cgroup v1 only limits memory and swap together: memory is needed too";
            refusals.push(("memory_swap".into(), why.into()));
        }
        refusals
    }

    /// The asked limits that have no controller or no file.
    fn missing(&self, limits: &Limits) -> Vec<(String, String)> {
        let refusal = |(controller, field): (Controller, Cow<'_, str>)| {
            let why = self.refusal(controller, &field, limits)?;
            Some((field.into_owned(), why))
        };
        asked(limits).into_iter().filter_map(refusal).collect()
    }

    fn refusal(&self, controller: Controller, field: &str, limits: &Limits) -> Option<String> {
        let other = limits.other.iter().find(|other| other.name == field);
        match (controller, other) {
            (Controller::Core, _) if self.v2.is_some() => return None,
            (Controller::Core, _) => return Some("it is of a group of version 2, and there is none".into()),
            (Controller::Unknown, Some(other)) => return Some(format!("no {} controller is known", other.controller)),
            _ => {}
        }
        let Some(place) = self.v1.iter().chain(&self.v2).find(|place| place.has(controller)) else {
            let known = self.refused.get(&controller).or(self.why.as_ref()).cloned();
            return Some(known.unwrap_or_else(|| format!("no {} controller is mounted", controller.name())));
        };
        let legacy = self.v1.iter().any(|p| p.has(controller));
        if let Some(other) = other {
            return other.lacks(legacy);
        }
        if controller == Controller::Io {
            return io::files::refusal(place, legacy, field, limits);
        }
        let file = needed_file(field, legacy);
        place.dir.lacks(file).then(|| format!("this kernel has no {file} ({})", place.dir.path().display()))
    }

    /// The first thing wrong with these limits, as an error.
    /// A change may give swap alone: the memory limit may be there already.
    pub(super) fn check(&self, limits: &Limits, fresh: bool) -> Result<()> {
        if let Some((field, why)) = limits.validate().into_iter().next() {
            return Err(CgroupError::refused("set limits", field, why).with_field(field));
        }
        let refusals = if fresh { self.refusals(limits) } else { self.missing(limits) };
        match refusals.into_iter().next() {
            Some((field, why)) => Err(unsupported("set limits", &field, why).with_field(field)),
            None => Ok(()),
        }
    }

    /// What these limits ask for and few others do is switched on for our groups.
    pub(super) fn switch_on(&self, limits: &Limits) -> Result<()> {
        let asked = asked(limits);
        let Some(place) = self.v2.as_ref().filter(|_| !self.at_a_path && asked.iter().any(|(one, _)| one.is_rare()))
        else {
            return Ok(());
        };
        // Beside version 1 each controller is in one hierarchy alone.
        let here = |one: Controller| place.has(one) && asked.iter().any(|(controller, _)| *controller == one);
        let refused = place.switch_on(&here);
        let first = asked.iter().find_map(|(controller, field)| Some((field, refused.get(controller)?)));
        first.map_or(Ok(()), |(field, why)| {
            Err(unsupported("set limits", field.as_ref(), why.clone()).with_field(field.clone()))
        })
    }

    /// Removes our directories; returns those that would not go.
    pub(super) fn close(&self) -> Vec<PathBuf> {
        if self.at_a_path {
            return Vec::new();
        }
        let left: Vec<PathBuf> = self.places().filter(|p| !p.close()).map(|p| p.dir.path().to_path_buf()).collect();
        self.closed.store(left.is_empty(), Ordering::Release);
        left
    }
}

impl Drop for Parents {
    /// The last holder (a container's group may outlive `Cgroups`) tries again what `close` could not.
    fn drop(&mut self) {
        if !self.closed.load(Ordering::Acquire) {
            self.close();
        }
    }
}

/// A file that exists where the kernel can do what the field asks; our own directory has the same files as a container's.
fn needed_file(field: &str, legacy: bool) -> &'static str {
    match (field, legacy) {
        ("memory", true) => "memory.limit_in_bytes",
        ("memory", false) => "memory.max",
        ("memory_swap", true) => "memory.memsw.limit_in_bytes",
        ("memory_swap", false) => "memory.swap.max",
        ("cpu_quota", true) => "cpu.cfs_quota_us",
        ("cpu_quota", false) => "cpu.max",
        ("cpu_weight", true) => "cpu.shares",
        ("cpu_weight", false) => "cpu.weight",
        ("cpuset_cpus", _) => "cpuset.cpus",
        ("cpuset_mems", _) => "cpuset.mems",
        _ => "pids.max",
    }
}

/// A configured parent as components below a mount's top. It may be written as `/proc/self/cgroup` shows it, or as the
/// path below one of the cgroup mounts; either way it means the same group in every hierarchy.
fn inside(found: &[Hierarchy], path: &Path) -> Result<Vec<OsString>> {
    let strip = |h: &Hierarchy| path.strip_prefix(h.top.path()).ok().map(Path::to_path_buf);
    let shortest = found.iter().filter_map(strip).min_by_key(|p| p.components().count());
    let names = super::detect::normal(&shortest.unwrap_or_else(|| path.to_path_buf()));
    names.ok_or_else(|| {
        CgroupError::refused("use the configured parent", path, "it must not contain ..").with_field("parent")
    })
}

fn why_none(failures: &[CgroupError]) -> String {
    let Some(first) = failures.first() else {
        return "no cgroup hierarchy is mounted".into();
    };
    let hint = "have a group delegated and start inside it: systemd-run --user --scope -p Delegate=yes -- <command>; or once, as root: orangery setup --user <name>";
    format!("{}; {hint}", describe(first))
}
