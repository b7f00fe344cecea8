//! cgroups: one supervisor's directory in each hierarchy, one group for each container below it; limits, kill, freeze,
//! counters, OOM evidence, removal. For version 2, version 1, both at once, and neither.
//!
//! Called by the native runtime; knows no containers, no actors and no keeper, starts no process and moves none
//! (only [`enter_leaf`] moves its own, when a program that owns its process asks). It touches nothing but directories that
//! it made itself; on v2 it also switches controllers on for the groups it makes them in.
//!
//! ```text
//!   detect.rs   /proc/self/mountinfo, /proc/self/cgroup -> the hierarchies, opened and verified
//!   at.rs       a path that somebody else has chosen, in all of them
//!   place.rs    hierarchy -> `orangery-<instance>` in it; v2: controllers on
//!   handed.rs   what an administrator gives an ordinary user for that, once
//!   parents.rs  all places of one supervisor -> the mode, what is refused and why
//!   group.rs    `<id>` in each place it needs: born with its limits, changed, removed
//!   nested.rs   a group below it, for the limits of one process
//!   control.rs  killed, frozen, waited for
//!     v1.rs v2.rs       what one version does alone;  setting.rs  writes that are undone together
//!     io/               limits of block devices: what may be asked, which disk it is, both versions' files
//!   oom.rs      evidence and verdict; oom_news.rs  as it happens      stat.rs  numbers      limits.rs  what may be asked
//!   dir.rs      one directory as a descriptor: the only file that opens anything below a mount
//! ```
//!
//! | | v2 | hybrid | v1 | none |
//! |---|---|---|---|---|
//! | birth | `birth()` | `birth()`, then `0` to `tasks()` | `0` to `tasks()` | - |
//! | kill | `cgroup.kill` | the same | freezer, pidfds | the caller's: pid namespace |
//! | freeze, empty | `cgroup.events` | the same | re-read, bounded | - |
//! | limits, OOM | v2 files | v1 files | v1 files | refused |
//!
//! Hybrid is the union: each limit is written where its controller is, be that v1 or v2.

mod at;
mod control;
mod detect;
mod devices;
mod dir;
mod error;
mod group;
pub mod handed;
mod io;
mod limits;
mod nested;
mod oom;
mod oom_news;
mod other;
mod parents;
mod parse;
mod place;
mod setting;
mod stat;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

pub(crate) use devices::MOST as MOST_DEVICE_RULES;
pub use devices::{DeviceKind, DeviceRule};
pub use error::CgroupError;
pub use group::{Group, GroupIdentity, Spot};
pub use io::{BlockDevice, IoMax, IoWeight};
pub(crate) use limits::parse_list;
pub use limits::{CpuQuota, Limits, MEMORY_MIN, PIDS_MAX};
pub use oom::{Counter, Oom, OomEvidence};
pub use other::Other;
pub use parse::Ceiling;
pub use setting::Before;
pub use stat::{Source, Stats};

use detect::Kind;
use parents::Parents;
use serde::Serialize;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// Read a text as mountinfo and as a list of own groups: for fuzz targets, because users name what stands in them.
#[doc(hidden)]
pub fn read_kernel_text(text: &[u8]) {
    let _ = (detect::parse_mountinfo(text), detect::parse_self_cgroup(text));
}

/// Which hierarchies are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One tree, version 2.
    V2,
    /// One tree for each controller, version 1.
    V1,
    /// Version 2 for birth, kill and freeze; version 1 for limits.
    Hybrid,
    /// No usable cgroup: no limits, and the kill is the pid namespace's.
    None,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::V2 => "v2",
            Mode::V1 => "v1",
            Mode::Hybrid => "hybrid",
            Mode::None => "none",
        })
    }
}

/// The names of the limits that are set.
pub(crate) fn names(limits: &Limits) -> Vec<String> {
    parents::asked(limits).into_iter().map(|(_, field)| field.into_owned()).collect()
}

/// Where to put groups, and under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// An existing group, as `/proc/self/cgroup` writes it (`/a/b`) or as a path below a cgroup mount; the same group in
    /// every hierarchy, and a hierarchy that lacks it is not used. Default: our own group.
    pub parent: Option<PathBuf>,
    /// `[a-z0-9-]{1,64}`. Belongs to **one** supervisor at a time (its lock file sees to that): a directory of this
    /// name that is there already is taken over.
    pub instance: String,
    /// Where its directories are already, by the paths of [`Cgroups::roots`]: a hierarchy that has none of them is not used.
    /// Empty: they are made as `parent` says.
    pub places: Vec<PathBuf>,
    /// Groups are killed as before 5.14, without `cgroup.kill`: for tests.
    pub without_kill: bool,
}

/// A directory of ours, for whoever has to remove it after our death: kill and remove `parent/name`.
#[derive(Debug)]
pub struct Root {
    /// The directory that contains ours, `O_PATH`.
    pub parent: OwnedFd,
    /// Ours: `orangery-<instance>`.
    pub name: String,
    /// Both together, for records and people.
    pub path: PathBuf,
}

/// One supervisor's cgroups: the mode, and its directory in each usable hierarchy.
///
/// The directories are removed when this and every [`Group`] made from it are dropped, if they are empty then.
#[derive(Debug)]
pub struct Cgroups {
    parents: Arc<Parents>,
}

impl Cgroups {
    /// Looks at what is mounted and makes our directories. On v2 this needs a group without processes of its own (a
    /// delegated one, see [`enter_leaf`]); root falls back to `orangery/` at the top, anybody else to the nearest group above
    /// that is delegated and has none.
    ///
    /// # Errors
    /// A bad instance name, a configured parent that no hierarchy can use. Lack of permission is no error otherwise:
    /// the mode is then [`Mode::None`] and [`why_none`](Cgroups::why_none) says why.
    pub fn open(config: &Config) -> Result<Cgroups, CgroupError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let name = &config.instance;
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            let why = "an instance name is 1 to 64 of a-z, 0-9 and -";
            return Err(
                CgroupError::refused("use the name", name.escape_debug().to_string(), why).with_field("instance")
            );
        }
        let mut parents = match detect::hierarchies() {
            Ok(found) if !config.places.is_empty() => Parents::reopen(&found, &config.places, name)?,
            Ok(found) => Parents::open(&found, config.parent.as_deref(), name)?,
            Err(e) if config.parent.is_some() => return Err(e),
            Err(e) => Parents::none(v2::describe(&e)),
        };
        parents.without_kill = config.without_kill;
        Ok(Cgroups { parents: Arc::new(parents) })
    }

    /// No cgroups, with the reason that reports will show.
    pub fn none(why: impl Into<String>) -> Cgroups {
        Cgroups { parents: Arc::new(Parents::none(why.into())) }
    }

    /// Which hierarchies are in use.
    pub fn mode(&self) -> Mode {
        self.parents.mode()
    }

    /// Whether processor time is counted: v2 always does, v1 where its controller is.
    pub fn counts_cpu(&self) -> bool {
        self.parents.v2.is_some() || self.parents.v1.iter().any(|place| place.has(detect::Controller::Cpuacct))
    }

    /// Why the mode is [`Mode::None`], with a way out of it.
    pub fn why_none(&self) -> Option<&str> {
        self.parents.why()
    }

    /// A group of ours can be killed as a whole, whatever its processes do meanwhile: `cgroup.kill` of version 2 (5.14). Of a group
    /// right below the topmost one, which has no such file itself, that is taken for granted: an older kernel freezes it first.
    pub fn kills(&self) -> bool {
        self.parents.v2.as_ref().is_some_and(|place| !self.parents.without_kill && !place.dir.lacks("cgroup.kill"))
    }

    /// A container of ours has a group of version 2.
    pub(crate) fn has_v2(&self) -> bool {
        self.parents.v2.is_some()
    }

    /// The limits that cannot be had here, by field and with the reason; empty: all can. Those of devices each for itself, as
    /// `io_max[/dev/sda]`.
    pub fn supports(&self, limits: &Limits) -> Vec<(String, String)> {
        self.parents.refusals(limits)
    }

    /// The controller of this one of these limits is there: what it lacks is something else.
    pub(crate) fn has_controller_of(&self, limits: &Limits, field: &str) -> bool {
        let has = |controller| self.parents.places().any(|place| place.has(controller));
        parents::asked(limits).into_iter().any(|(controller, asked)| asked == field && has(controller))
    }

    /// Our directories, for crash clean-up by others. A descriptor that cannot be duplicated leaves its root out.
    pub fn roots(&self) -> Vec<Root> {
        let root = |place: &place::Place| {
            let parent = place.parent.as_fd().try_clone_to_owned().ok()?;
            Some(Root { parent, name: place.name.clone(), path: place.dir.path().to_path_buf() })
        };
        self.parents.places().filter_map(root).collect()
    }

    /// Makes one container's group with its limits, before any process is in it. A failure leaves nothing behind.
    /// In [`Mode::None`] the group has no directories; limits are refused.
    ///
    /// # Errors
    /// A bad name or limit, a limit that cannot be had here (all with their field); a group of that name is there
    /// ([`is_exists`](CgroupError::is_exists)); the kernel's refusal.
    pub fn create(&self, id: &str, limits: &Limits) -> Result<Group, CgroupError> {
        check_id(id)?;
        self.parents.check(limits, true)?;
        self.parents.switch_on(limits)?;
        Group::create(Arc::clone(&self.parents), id, limits)
    }

    /// What a container with these limits would be in, with nothing made: whether it is born into a v2 group, and how
    /// many v1 `tasks` files it writes itself into.
    pub fn membership(&self, limits: &Limits) -> (bool, u16) {
        let v1 = self.parents.v1.iter().filter(|place| self.parents.has_a_group(place, limits)).count();
        (self.parents.v2.is_some(), u16::try_from(v1).unwrap_or(u16::MAX))
    }

    /// The controllers of version 1 in whose hierarchies a container with these limits has a group.
    pub fn legacy(&self, limits: &Limits) -> Vec<&'static str> {
        let v1 = self.parents.v1.iter().filter(|place| self.parents.has_a_group(place, limits));
        v1.flat_map(|place| place.controllers.iter().map(|controller| controller.legacy_name())).collect()
    }

    /// The group of a container that is there already, for a supervisor that comes back.
    ///
    /// # Errors
    /// A bad name; there is no such group ([`is_gone`](CgroupError::is_gone)).
    pub fn reopen(&self, id: &str) -> Result<Group, CgroupError> {
        check_id(id)?;
        Group::reopen(Arc::clone(&self.parents), id)
    }

    /// Containers that have a group here: those that are there already.
    pub fn living(&self) -> Vec<String> {
        let mut all: Vec<String> = self.parents.places().flat_map(|place| place.dir.names()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Removes our directories now and returns those that would not go (a container's group is still in them); they are
    /// tried again when the last [`Group`] is dropped.
    pub fn close(self) -> Vec<PathBuf> {
        self.parents.close()
    }
}

/// `[A-Za-z0-9._-]{1,128}`, not starting with a dot. The name of a cgroup file (`pids.max`) is left to the kernel: EEXIST.
fn check_id(id: &str) -> Result<(), CgroupError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !id.is_empty() && id.len() <= 128 && !id.starts_with('.') && id.bytes().all(good) {
        return Ok(());
    }
    let why = "an id is 1 to 128 of A-Z, a-z, 0-9, dot, underscore and dash, and does not start with a dot";
    Err(CgroupError::refused("use the name", id.escape_debug().to_string(), why).with_field("id"))
}

/// All controllers are those of version 2, because nothing else is mounted.
///
/// # Errors
/// What is mounted cannot be read.
pub fn is_unified() -> Result<bool, CgroupError> {
    let found = detect::hierarchies()?;
    Ok(!found.is_empty() && found.iter().all(|hierarchy| hierarchy.kind == Kind::V2))
}

/// Where a process is by `/proc/PID/cgroup`: in version 2, or in the hierarchy of systemd's where there is none.
///
/// # Errors
/// There is no such process.
pub fn of_process(pid: i32) -> Result<Option<PathBuf>, CgroupError> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read(&path).map_err(|error| CgroupError::sys("read", path, error))?;
    let lines = detect::parse_self_cgroup(&text);
    let of =
        |wanted: fn(&[String]) -> bool| lines.iter().find(|(names, _)| wanted(names)).map(|(_, path)| path.clone());
    Ok(of(<[String]>::is_empty).or_else(|| of(|names| names.iter().any(|name| name == "name=systemd"))))
}

/// The hierarchies of version 1, as /proc/self/cgroup calls them.
pub(crate) fn legacy_hierarchies() -> Vec<String> {
    let own = detect::parse_self_cgroup(&crate::sys::text("/proc/self/cgroup").unwrap_or_default());
    own.into_iter().map(|(names, _)| names.join(",")).filter(|names| !names.is_empty()).collect()
}

/// Whether limits can be had where this process is, on pure v2: its own group or one above it is its user's to divide. `true`
/// for root, and where there is a v1 hierarchy, which knows no such thing. Changes nothing.
///
/// # Errors
/// What is mounted cannot be read.
pub fn is_delegated() -> Result<bool, CgroupError> {
    let found = detect::hierarchies()?;
    let [hierarchy] = found.as_slice() else {
        return Ok(!found.is_empty());
    };
    if hierarchy.kind != Kind::V2 || rustix::process::geteuid().is_root() {
        return Ok(true);
    }
    place::is_ours(hierarchy)
}

/// Moves **this process** into a leaf of its own v2 group, so that the group has no processes of its own and
/// [`Cgroups::open`] may use it. For programs that own their process, never for a library: it is what makes
/// `systemd-run --user --scope -p Delegate=yes <command>` work. Elsewhere (v1, hybrid, already in the leaf) it does
/// nothing and returns `Ok(None)`.
///
/// # Errors
/// The group is not ours to write to. Others in the same group are not moved: `open` then still finds them there.
pub fn enter_leaf() -> Result<Option<PathBuf>, CgroupError> {
    let found = detect::hierarchies()?;
    let [hierarchy] = found.as_slice() else {
        return Ok(None);
    };
    let Ok(own) = &hierarchy.own else {
        return Ok(None);
    };
    if hierarchy.kind != Kind::V2 || own.last().is_none_or(|name| name == place::LEAF) {
        return Ok(None);
    }
    let parent = place::walk(&hierarchy.top, own)?;
    let leaf = place::make(&parent, place::LEAF)?;
    leaf.write("cgroup.procs", "0")?;
    Ok(Some(leaf.path().to_path_buf()))
}
