//! Groups that an administrator hands over to an ordinary user, once: `orangery-user-<uid>` at the top of each hierarchy.
//!
//! On v1 that user's supervisors place theirs there from then on (`place.rs`). On v2 the kernel lets a process into a group
//! only for somebody who may write to the `cgroup.procs` of the nearest group above both: whoever is to use the group must
//! have been started in it, or moved there ([`HandOver::enter`]).

use super::CgroupError;
use super::detect::{self, Controller, Hierarchy, Kind};
use super::dir::Dir;
use super::{place, v1, v2};
use rustix::fs::{self as rfs, AtFlags, Gid, Uid};
use serde::Serialize;
use std::ffi::OsStr;
use std::path::PathBuf;

/// The group, below the handed one, that processes are moved into: a v2 group with processes of its own gives its children
/// no controllers.
const SESSION: &str = "orangery-session";

/// What the kernel wants to be handed over of a v2 group (`/sys/kernel/cgroup/delegate` has more on newer kernels).
const V2_FILES: [&str; 3] = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];
/// The same of a v1 group.
const V1_FILES: [&str; 2] = ["cgroup.procs", "tasks"];

/// The handed group's name in every hierarchy.
pub(super) fn name(uid: u32) -> String {
    format!("orangery-user-{uid}")
}

/// What is done to a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// It is made.
    Make,
    /// A controller is switched on for the groups at the top (v2).
    Enable,
    /// It becomes the user's: it may make groups in it and move its own processes into them. Limits that are set on the group
    /// itself stay the administrator's.
    Give,
    /// A process is moved into it.
    Enter,
    /// It is removed.
    Remove,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Step {
    /// What.
    pub act: Act,
    /// To what: a group, or a controller of one.
    pub path: PathBuf,
    /// It was so already.
    pub already: bool,
    /// Why it cannot be done, where that hinders nothing else: a controller that cannot be switched on.
    pub refused: Option<String>,
}

impl Step {
    fn new(act: Act, path: PathBuf, already: bool) -> Self {
        Self { act, path, already, refused: None }
    }
}

/// Hands groups over, and takes them back. Needs root.
#[derive(Clone, Copy, Debug)]
pub struct HandOver {
    /// To whom.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
}

impl HandOver {
    /// Make and give, in every hierarchy that is mounted. What is so already stays, so that it may be called again.
    ///
    /// # Errors
    /// The first thing that the kernel refuses; what was done until then stays.
    pub fn give(&self, mut tell: impl FnMut(&Step)) -> Result<(), CgroupError> {
        for Hierarchy { kind, top, .. } in detect::hierarchies()? {
            let name = name(self.uid);
            let dir = self.made(&top, &name, &mut tell)?;
            let files: &[&str] = if kind == Kind::V2 { &V2_FILES } else { &V1_FILES };
            if let Some(dir) = dir.as_ref().filter(|_| !self.dry_run) {
                match &kind {
                    // Beside v1 it has none.
                    Kind::V2 if !top.read("cgroup.controllers")?.trim().is_empty() => enable(&top, &mut tell),
                    Kind::V1(controllers) if controllers.contains(&Controller::Cpuset) => v1::fill_cpuset(&top, dir)?,
                    _ => {}
                }
            }
            self.owned(dir.as_ref(), top.path().join(&name), files, &mut tell)?;
        }
        Ok(())
    }

    /// `name` in `parent`; `None`: it would be made.
    fn made(&self, parent: &Dir, name: &str, tell: &mut impl FnMut(&Step)) -> Result<Option<Dir>, CgroupError> {
        let there = match parent.child(name) {
            Ok(dir) => Some(dir),
            Err(error) if error.is_gone() => None,
            Err(error) => return Err(error),
        };
        let already = there.is_some();
        let dir = match there {
            None if !self.dry_run => Some(place::make(parent, name)?),
            there => there,
        };
        tell(&Step::new(Act::Make, parent.path().join(name), already));
        Ok(dir)
    }

    /// The group and these files of it are the user's.
    fn owned(
        &self,
        dir: Option<&Dir>,
        path: PathBuf,
        files: &[&str],
        tell: &mut impl FnMut(&Step),
    ) -> Result<(), CgroupError> {
        let mut already = dir.is_some();
        if let Some(dir) = dir {
            for file in files.iter().copied().chain(["."]).filter(|file| dir.has(file)) {
                already &= self.is_owned(dir, file)?;
            }
        }
        tell(&Step::new(Act::Give, path, already));
        Ok(())
    }

    /// Whether it was the user's; it is now.
    fn is_owned(&self, dir: &Dir, file: &str) -> Result<bool, CgroupError> {
        let fail = |error| CgroupError::sys("hand over", dir.path().join(file), error);
        let stat = rfs::statat(dir, file, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        let owned = (stat.st_uid, stat.st_gid) == (self.uid, self.gid);
        if !owned && !self.dry_run {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            rfs::chownat(dir, file, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        Ok(owned)
    }

    /// Move a process into the user's v2 group, from where it may use it: its shell, or whatever is to start supervisors.
    /// Where there is no v2 nothing is done.
    ///
    /// # Errors
    /// The group has not been handed over, or there is no such process.
    pub fn enter(&self, pid: u32, mut tell: impl FnMut(&Step)) -> Result<(), CgroupError> {
        for hierarchy in detect::hierarchies()?.into_iter().filter(|hierarchy| hierarchy.kind == Kind::V2) {
            let group = hierarchy.top.child(name(self.uid))?;
            let session = self.made(&group, SESSION, &mut tell)?;
            let path = group.path().join(SESSION);
            self.owned(session.as_ref(), path.clone(), &V2_FILES, &mut tell)?;
            if let Some(session) = session.filter(|_| !self.dry_run) {
                session.write("cgroup.procs", &pid.to_string())?;
            }
            tell(&Step::new(Act::Enter, path, false));
        }
        Ok(())
    }

    /// Remove what [`give`](Self::give) made. Controllers that it switched on at the top of v2 stay on: others may use them.
    ///
    /// # Errors
    /// A group that something lives in ([`is_busy`](CgroupError::is_busy)): nothing is killed. What was removed until then is
    /// gone.
    pub fn take_back(&self, mut tell: impl FnMut(&Step)) -> Result<(), CgroupError> {
        let name = name(self.uid);
        for Hierarchy { top, .. } in detect::hierarchies()? {
            let group = match top.child(&name) {
                Ok(group) => Some(group),
                Err(error) if error.is_gone() => None,
                Err(error) => return Err(error),
            };
            if let Some(group) = group.as_ref().filter(|_| !self.dry_run) {
                group.rmdir(OsStr::new(SESSION))?;
                top.rmdir(OsStr::new(&name))?;
            }
            tell(&Step::new(Act::Remove, top.path().join(&name), group.is_none()));
        }
        Ok(())
    }
}

/// Our controllers, for the groups in `top`.
fn enable(top: &Dir, tell: &mut impl FnMut(&Step)) {
    let before = top.read("cgroup.subtree_control").unwrap_or_default();
    let (on, refused) = v2::enable(top);
    for controller in on {
        let already = before.split_ascii_whitespace().any(|word| word == controller.name());
        tell(&Step::new(Act::Enable, top.path().join(controller.name()), already));
    }
    for (controller, why) in refused {
        let step = Step::new(Act::Enable, top.path().join(controller.name()), false);
        tell(&Step { refused: Some(why), ..step });
    }
}
