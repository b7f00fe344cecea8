//! A group at a path that somebody else has chosen (OCI's `linux.cgroupsPath`), the same in every hierarchy. The groups above
//! it are made where they are missing, and stay: they are not ours. It has a directory in each hierarchy, whatever limits it
//! has, because those who chose the path look for its counters there, and change its limits later.

use super::Cgroups;
use super::detect::{self, Controller, Kind, Mount};
use super::dir::Dir;
use super::error::CgroupError;
use super::group::Group;
use super::limits::Limits;
use super::parents::{Parents, asked};
use super::place::Place;
use super::{v1, v2};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

type Result<T> = std::result::Result<T, CgroupError>;

impl Cgroups {
    /// What is above the group `path`, which is counted from the top of each hierarchy, and the group's name. With limits that
    /// it is to have it is made where it is missing; without, a hierarchy that lacks it is not used.
    ///
    /// # Errors
    /// A path that leads out, or names no group; what cannot be made.
    pub fn above(path: &Path, make: Option<&Limits>) -> Result<(Cgroups, String)> {
        Self::found(path, make, detect::tops(|_| true)?, true)
    }

    /// Of what is [above](Cgroups::above), as far as it is there, only that by which a group [stands still](Group::is_frozen).
    ///
    /// # Errors
    /// As [`Cgroups::above`].
    pub fn freezers_above(path: &Path) -> Result<(Cgroups, String)> {
        let freezes = |kind: &Kind| match kind {
            Kind::V1(controllers) => controllers.contains(&Controller::Freezer),
            Kind::V2 => true,
        };
        Self::found(path, None, detect::tops(freezes)?, false)
    }

    /// The same of a group that systemd has made for a unit. Which controllers it has on version 2 is systemd's to say, and where
    /// systemd knows its processes by a hierarchy of version 1 that has no controllers, it is in that as well. With `make` it is made
    /// in the hierarchies that systemd does without.
    ///
    /// # Errors
    /// As [`Cgroups::above`]; systemd has made no such group.
    pub fn of_unit(path: &Path, make: Option<&Limits>) -> Result<(Cgroups, String)> {
        let mut found = detect::tops(|_| true)?;
        if found.iter().all(|(mount, _)| mount.kind != Kind::V2) {
            found.extend(detect::of_systemd()?);
        }
        Self::found(path, make, found, false)
    }

    /// In these hierarchies; without `enable` nothing is made on version 2.
    pub(super) fn found(
        path: &Path,
        make: Option<&Limits>,
        found: Vec<(Mount, Dir)>,
        enable: bool,
    ) -> Result<(Cgroups, String)> {
        let refused = |why: &str| CgroupError::refused("use the cgroup", path, why).with_field("cgroupsPath");
        let names = detect::normal(path).ok_or_else(|| refused("it must not contain .."))?;
        let Some((last, above)) = names.split_last() else { return Err(refused("it is the top of all")) };
        let name = last.to_str().filter(|name| name.len() <= 127).ok_or_else(|| refused("its name cannot be used"))?;
        let mut parents = Parents::none("no cgroup hierarchy is mounted".into());
        parents.at_a_path = true;
        let legacy = found.iter().any(|(mount, _)| mount.kind != Kind::V2);
        for (Mount { kind, .. }, top) in found {
            let make = make.filter(|_| enable || kind != Kind::V2);
            match place(&kind, top, above, make, legacy) {
                Ok(place) if kind == Kind::V2 => parents.v2 = Some(place),
                Ok(place) => parents.v1.push(place),
                Err(error) if make.is_none() && error.is_gone() => {}
                Err(error) => return Err(error.with_field("cgroupsPath")),
            }
        }
        parents.is_there();
        Ok((Cgroups { parents: Arc::new(parents) }, name.to_owned()))
    }

    /// Makes the group of this name with its limits, or takes the one that is there, if nobody is in it.
    ///
    /// # Errors
    /// As [`Cgroups::create`]; [`is_exists`](CgroupError::is_exists) when there is one that is in use.
    pub fn take(&self, name: &str, limits: &Limits) -> Result<Group> {
        self.parents.check(limits, true)?;
        let exists = match Group::create(Arc::clone(&self.parents), name, limits) {
            Err(error) if error.is_exists() => error,
            made => return made,
        };
        // Half of one is what a removal that was cut short leaves: it is finished, and the whole is made.
        let there = Group::reopen(Arc::clone(&self.parents), name)?;
        if !there.is_empty()? || !there.below().is_empty() {
            return Err(exists.with_reason("the container's cgroup is not empty: it is somebody else's"));
        }
        there.remove()?;
        Group::create(Arc::clone(&self.parents), name, limits)
    }

    /// Takes the group of this name that somebody else has made around a process; makes it in the hierarchies that it is not in, and
    /// writes its limits.
    ///
    /// # Errors
    /// As [`Cgroups::create`]; what was made is removed then. [`is_exists`](CgroupError::is_exists) when anybody else is in it, in whichever
    /// hierarchy: nothing was made or written then.
    pub fn complete(&self, name: &str, limits: &Limits, of: i32) -> Result<Group> {
        self.parents.check(limits, true)?;
        Group::complete(Arc::clone(&self.parents), name, limits, of)
    }

    /// The group of this name in all hierarchies that have one; without any of them it has no directories.
    ///
    /// # Errors
    /// What cannot be looked at.
    pub fn find(&self, name: &str) -> Result<Group> {
        match Group::reopen(Arc::clone(&self.parents), name) {
            Err(error) if error.is_gone() => Ok(Group::empty(Arc::clone(&self.parents), name.to_owned())),
            found => found,
        }
    }
}

fn place(kind: &Kind, top: Dir, above: &[OsString], make: Option<&Limits>, legacy: bool) -> Result<Place> {
    let mut at = top;
    let mut controllers = prepare(kind, None, &at, make, legacy)?;
    for name in above {
        if make.is_some() {
            let made = name.to_str().map_or(Ok(()), |name| at.make(name));
            made.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })?;
        }
        let child = at.child(name)?;
        controllers = prepare(kind, Some(&at), &child, make, legacy)?;
        at = child;
    }
    let (parent, name) = (at.try_clone()?, String::new());
    Ok(Place { dir: at, parent, name, controllers, depth: above.len(), top: None })
}

/// Controllers for what is below `dir`.
fn prepare(
    kind: &Kind,
    above: Option<&Dir>,
    dir: &Dir,
    make: Option<&Limits>,
    legacy: bool,
) -> Result<Vec<Controller>> {
    match kind {
        Kind::V1(controllers) => {
            if let Some(above) = above.filter(|_| make.is_some() && controllers.contains(&Controller::Cpuset)) {
                v1::fill_cpuset(above, dir)?;
            }
            Ok(controllers.clone())
        }
        // Beside v1 its controllers are v1's.
        Kind::V2 if legacy => Ok(Vec::new()),
        Kind::V2 => Ok(match make {
            Some(limits) => v2::enable_of(dir, &|controller| !controller.is_rare() || asks(limits, controller)).0,
            None => v2::enabled(dir),
        }),
    }
}

fn asks(limits: &Limits, controller: Controller) -> bool {
    asked(limits).iter().any(|(one, _)| *one == controller)
}
