//! Where the groups of containers are in each hierarchy: a config.json has one path for all of them, and a program makes it
//! where we have no use for one, too.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::cgroup::{Group, Root};
use crate::error::{Error, ErrorKind};
use crate::native::start::directory;

/// Our directory in all hierarchies.
#[derive(Debug, Default)]
pub(super) struct Hierarchies {
    /// From the top of each on; `None`: the program makes no groups.
    path: Option<PathBuf>,
    /// Those in which our own runtime has none.
    further: Vec<PathBuf>,
    /// There is version 2 and nothing else.
    pub(super) unified: bool,
    /// Where version 2 is, beside version 1: who enters the others does not enter that one.
    beside: Option<PathBuf>,
    /// The tops of those that a call may only read.
    pub(super) read_only: Vec<PathBuf>,
}

impl Hierarchies {
    /// Those of this machine.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] where ours do not have one path.
    pub(super) fn of(roots: &[Root]) -> Result<Self, Error> {
        let mounts = mounts();
        let unified = mounts.iter().all(|(_, v2)| *v2);
        let v2 = mounts.iter().find(|(_, v2)| *v2 && !unified);
        let beside = v2.map(|(top, _)| top.clone());
        let inside = |path: &Path| {
            let below = mounts.iter().filter_map(|(top, _)| path.strip_prefix(top).ok().map(Path::to_path_buf));
            below.min_by_key(|path| path.components().count())
        };
        let paths: Vec<_> = roots.iter().filter_map(|root| inside(&root.path)).collect();
        let Some(path) = paths.first().filter(|first| paths.iter().all(|path| path == *first)).cloned() else {
            let why =
                "this process has groups of different names in different hierarchies, and a config.json has one path";
            let refused = Error::new(ErrorKind::Unsupported, why).with_field("cgroup_parent");
            return Err(refused.with_hint("give a parent that is there in all of them, such as /"));
        };
        let ours = |top: &PathBuf| roots.iter().any(|root| root.path == top.join(&path));
        let further = mounts.iter().map(|(top, _)| top).filter(|top| !ours(top)).map(|top| top.join(&path)).collect();
        Ok(Self { path: Some(path), further, unified, beside, read_only: Vec::new() })
    }

    /// Those of an ordinary user, who may have groups in some of them: a call is born in these, and the program makes none.
    pub(super) fn of_a_user() -> Self {
        let mounts = mounts();
        let unified = mounts.iter().all(|(_, v2)| *v2);
        let (beside, read_only): (Vec<_>, Vec<_>) = mounts.into_iter().partition(|(_, v2)| *v2 && !unified);
        let tops = |mounts: Vec<(PathBuf, bool)>| mounts.into_iter().map(|(top, _)| top);
        Self { unified, beside: tops(beside).next(), read_only: tops(read_only).collect(), ..Self::default() }
    }

    /// Where version 2 is mounted, on a machine with both.
    pub(super) fn beside(&self) -> Option<&OsStr> {
        self.beside.as_deref().map(Path::as_os_str)
    }

    /// `linux.cgroupsPath` of the container of this name.
    pub(super) fn of_container(&self, id: &str) -> Option<String> {
        self.path.as_ref().map(|path| Path::new("/").join(path).join(id).display().to_string())
    }

    /// Whether a call has to be born in the container's group, for its processes to be in all of them.
    pub(super) fn are_born_in(&self, group: &Group) -> bool {
        self.path.is_none() || (self.beside.is_some() && group.has_birth())
    }

    /// Our directory where our own runtime has none, made, for somebody who removes it when we are gone.
    pub(super) fn further(&self) -> Result<Vec<(OwnedFd, String)>, Error> {
        let mut all = Vec::new();
        for dir in &self.further {
            let Some((above, name)) = dir.parent().zip(dir.file_name()).filter(|(above, _)| above.is_dir()) else {
                continue;
            };
            // Without one the program makes it, and what is above it.
            if std::fs::create_dir(dir).is_ok() {
                all.push((directory(above)?, name.to_string_lossy().into_owned()));
            }
        }
        Ok(all)
    }

    /// Where the program may have left a group of this container.
    pub(super) fn forget(&self, id: &str) {
        for dir in &self.further {
            let _ = std::fs::remove_dir(dir.join(id));
        }
    }

    /// Ours, at the end.
    pub(super) fn remove(&self) {
        for dir in &self.further {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

/// Where hierarchies are mounted, and which are of version 2.
fn mounts() -> Vec<(PathBuf, bool)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let one = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let top = before.split(' ').nth(4)?;
        matches!(kind, "cgroup" | "cgroup2").then(|| (PathBuf::from(top), kind == "cgroup2"))
    };
    text.lines().filter_map(one).collect()
}
