//! Where our groups live: in each usable hierarchy one directory `orangery-<instance>`, made at the start, removed when
//! the last holder goes. On v1 and hybrid it stands below our own group; on v2 below our own if that may have
//! controllers (nobody inside), else, for root, below `orangery/` at the top, and for anybody else below the nearest group
//! above that is theirs: a session under systemd has its whole `user@.service` delegated, and its scope lies in it. Who may not
//! make groups below its own v1 group uses what was handed over to it (`handed.rs`).

use super::detect::{Controller, Hierarchy, Kind};
use super::dir::Dir;
use super::error::CgroupError;
use super::{handed, v1, v2};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

type Result<T> = std::result::Result<T, CgroupError>;

/// The group at the top of v2 that root falls back to.
const TOP: &str = "orangery";
/// The leaf that a program which owns its process moves into ([`enter_leaf`](super::enter_leaf)).
pub(super) const LEAF: &str = "orangery-self";

/// Our directory in one hierarchy.
#[derive(Debug)]
pub(super) struct Place {
    /// `orangery-<instance>`.
    pub(super) dir: Dir,
    /// The group that contains it.
    pub(super) parent: Dir,
    pub(super) name: String,
    /// Which of our controllers our groups have here (v2: those that could be switched on, and those that a limit switches on).
    pub(super) controllers: Vec<Controller>,
    /// How many levels `dir` is below the mount's top.
    pub(super) depth: usize,
    /// The mount's top, when `parent` is an `orangery/` there that is ours to remove.
    pub(super) top: Option<Dir>,
}

/// A place, and why controllers are missing from it.
pub(super) struct Placed {
    pub(super) place: Place,
    pub(super) refused: BTreeMap<Controller, String>,
}

impl Place {
    /// It is the hierarchy of this controller of version 1.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.controllers.iter().any(|controller| controller.legacy_name() == name)
    }

    pub(super) fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    /// Version 2: those that few ask for, for who does; everybody else is spared what they cost. Why some cannot be switched on.
    pub(super) fn switch_on(&self, wanted: &dyn Fn(Controller) -> bool) -> BTreeMap<Controller, String> {
        let rare = |controller: Controller| controller.is_rare() && wanted(controller);
        let mut refused = BTreeMap::new();
        for dir in self.top.iter().chain([&self.parent, &self.dir]) {
            for (controller, why) in v2::enable_of(dir, &rare).1 {
                if rare(controller) {
                    refused.entry(controller).or_insert(why);
                }
            }
        }
        refused
    }

    /// Removes our directory, and `orangery/` if nobody else is in it. True if nothing of ours is left.
    pub(super) fn close(&self) -> bool {
        let gone = self.parent.rmdir(OsStr::new(&self.name)).is_ok();
        if let Some(top) = &self.top {
            // Another instance lives there, or it goes: both fine.
            let _ = top.rmdir(OsStr::new(TOP));
        }
        gone
    }
}

/// Where below a mount's top: our own group, or the configured one.
pub(super) fn wanted(hierarchy: &Hierarchy, configured: Option<&[OsString]>) -> Result<Vec<OsString>> {
    if let Some(names) = configured {
        return Ok(names.to_vec());
    }
    let refused = |why: &String| CgroupError::refused("place groups in", hierarchy.top.path(), why.clone());
    let mut names = hierarchy.own.as_ref().map_err(refused)?.clone();
    if hierarchy.kind == Kind::V2 && names.last().is_some_and(|n| n == LEAF) {
        names.pop();
    }
    Ok(names)
}

pub(super) fn walk(top: &Dir, names: &[OsString]) -> Result<Dir> {
    let mut at = top.try_clone()?;
    for name in names {
        at = at.child(name)?;
    }
    Ok(at)
}

/// Makes `name` in `parent`. One that is there is ours from before: an instance name belongs to one supervisor.
pub(super) fn make(parent: &Dir, name: &str) -> Result<Dir> {
    match parent.make(name) {
        Err(e) if !e.is_exists() => Err(e),
        _ => parent.child(name),
    }
}

/// A v1 hierarchy.
pub(super) fn place_v1(
    hierarchy: &Hierarchy,
    controllers: &[Controller],
    configured: Option<&[OsString]>,
    name: &str,
) -> Result<Place> {
    let wanted = wanted(hierarchy, configured)?;
    let (parent, depth, dir) = match made_in(&hierarchy.top, &wanted, name) {
        Err(e) if configured.is_none() => {
            handed_over(&hierarchy.top, rustix::process::geteuid().as_raw(), name).ok_or(e)?
        }
        made => made?,
    };
    let place = Place { dir, parent, name: name.into(), controllers: controllers.to_vec(), depth, top: None };
    match prepare_v1(&place) {
        Ok(()) => Ok(place),
        Err(e) => {
            place.close();
            Err(e)
        }
    }
}

/// The group of these names, how many levels below it ours is from the top, and ours in it.
fn made_in(top: &Dir, names: &[OsString], name: &str) -> Result<(Dir, usize, Dir)> {
    let parent = walk(top, names)?;
    let dir = make(&parent, name)?;
    Ok((parent, names.len() + 1, dir))
}

/// In what an administrator has handed over to this user, if anything.
pub(super) fn handed_over(top: &Dir, uid: u32, name: &str) -> Option<(Dir, usize, Dir)> {
    made_in(top, &[handed::name(uid).into()], name).ok()
}

fn prepare_v1(place: &Place) -> Result<()> {
    if place.has(Controller::Cpuset) {
        v1::fill_cpuset(&place.parent, &place.dir)?;
    }
    // Before 5.11 a limit does not hold for the groups below unless this is 1; since then it always is.
    if place.has(Controller::Memory) && place.dir.read("memory.use_hierarchy").is_ok_and(|t| t.trim() == "0") {
        place.dir.write("memory.use_hierarchy", "1")?;
    }
    Ok(())
}

/// The v2 hierarchy. `strict`: pure v2, where a group that cannot have controllers is not good enough while a better
/// one may exist; on a hybrid the controllers are v1's, all or nearly all.
pub(super) fn place_v2(
    hierarchy: &Hierarchy,
    configured: Option<&[OsString]>,
    name: &str,
    strict: bool,
) -> Result<Placed> {
    let first = place_own(hierarchy, configured, name, strict);
    match first {
        Err(e) if strict && configured.is_none() && rustix::process::geteuid().is_root() => {
            // The first refusal is the one to tell: it is about the place that was wanted.
            place_top(hierarchy, name).map_err(|top| e.with_reason(format!("nor at the top: {}", v2::describe(&top))))
        }
        Err(e) if strict && configured.is_none() => match place_above(hierarchy, name) {
            Some(placed) => Ok(placed),
            None => Err(e),
        },
        other => other,
    }
}

/// Below the nearest group above our own that may have controllers and is ours. Nothing is moved: the keeper is born into
/// groups below it by right of its `cgroup.procs`, which is why that must be ours too.
pub(super) fn place_above(hierarchy: &Hierarchy, name: &str) -> Option<Placed> {
    let names = wanted(hierarchy, None).ok()?;
    for depth in (1..names.len()).rev() {
        let parent = walk(&hierarchy.top, &names[..depth]).ok()?;
        // Whoever delegates gives a subtree: what is above a group that is not ours is not ours either.
        if !parent.is_ours("cgroup.procs") || !parent.is_ours("cgroup.subtree_control") {
            return None;
        }
        if v2::has_internal_processes(&parent).ok()? {
            continue;
        }
        if let Ok(placed) = finish_v2(parent, name, depth + 1, None, true) {
            return Some(placed);
        }
    }
    None
}

/// Our own group, or one above it, can have groups of ours.
pub(super) fn is_ours(hierarchy: &Hierarchy) -> Result<bool> {
    let mut names = wanted(hierarchy, None)?;
    while !names.is_empty() {
        let group = walk(&hierarchy.top, &names)?;
        if group.is_ours("cgroup.procs") && group.is_ours("cgroup.subtree_control") {
            return Ok(true);
        }
        names.pop();
    }
    Ok(false)
}

fn place_own(hierarchy: &Hierarchy, configured: Option<&[OsString]>, name: &str, strict: bool) -> Result<Placed> {
    let names = wanted(hierarchy, configured)?;
    let parent = walk(&hierarchy.top, &names)?;
    let internal = v2::has_internal_processes(&parent)?;
    if strict && internal {
        let why = "it has processes of its own, so the kernel gives its children no controllers";
        return Err(CgroupError::refused("place groups in", parent.path(), why));
    }
    finish_v2(parent, name, names.len() + 1, None, !internal)
}

/// `orangery/` at the top. Somebody else's close may remove it between our two mkdirs, hence the retries.
fn place_top(hierarchy: &Hierarchy, name: &str) -> Result<Placed> {
    let mut last = None;
    for _ in 0..8 {
        let parent = make(&hierarchy.top, TOP)?;
        if !v2::has_internal_processes(&hierarchy.top)? {
            v2::enable_of(&hierarchy.top, &|controller| !controller.is_rare());
        }
        match finish_v2(parent, name, 2, Some(hierarchy.top.try_clone()?), true) {
            Err(e) if e.is_gone() => last = Some(e),
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| CgroupError::refused("make", hierarchy.top.path().join(TOP), "it vanishes")))
}

/// Makes our directory in `parent` and switches controllers on, first for it, then for its children.
fn finish_v2(parent: Dir, name: &str, depth: usize, top: Option<Dir>, controllers: bool) -> Result<Placed> {
    let dir = make(&parent, name)?;
    let (mut enabled, mut refused) = (Vec::new(), BTreeMap::new());
    if controllers {
        let common = |controller: Controller| !controller.is_rare();
        refused = v2::enable_of(&parent, &common).1;
        let (on, why) = v2::enable_of(&dir, &common);
        enabled = on;
        // The others are switched on when a limit asks ([`Place::switch_on`]).
        let could = v2::available(top.as_ref().unwrap_or(&parent));
        enabled.extend(could.into_iter().filter(|one| one.is_rare() && !enabled.contains(one)).collect::<Vec<_>>());
        // Where the parent refused, ours has just "no such controller": the parent's reason is the better one.
        for (controller, reason) in why {
            refused.entry(controller).or_insert(reason);
        }
        refused.retain(|controller, _| !enabled.contains(controller));
    }
    let place = Place { dir, parent, name: name.into(), controllers: enabled, depth, top };
    Ok(Placed { place, refused })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn what_few_ask_for_is_switched_on_from_above() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("orangery-x");
        fs::create_dir(&dir).unwrap();
        let on = |dir: &Path| fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap();
        for (dir, there) in [(top.path(), "memory hugetlb misc rdma"), (&dir, "memory hugetlb misc")] {
            fs::write(dir.join("cgroup.controllers"), there).unwrap();
            fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
        }
        let parent = Dir::open(top.path()).unwrap();
        let name = "orangery-x".to_owned();
        let place =
            Place { dir: parent.child(&name).unwrap(), parent, name, controllers: Vec::new(), depth: 1, top: None };
        assert!(place.switch_on(&|_| false).is_empty());
        assert!(on(top.path()).is_empty(), "nobody has asked");
        let asked = |controller| matches!(controller, Controller::Memory | Controller::Hugetlb);
        assert!(place.switch_on(&asked).is_empty());
        assert_eq!([on(top.path()), on(&dir)], ["+hugetlb\n"; 2], "memory is on anyway");
        let refused = place.switch_on(&|controller| controller == Controller::Rdma);
        assert!(refused[&Controller::Rdma].contains("has no rdma controller"), "{refused:?}");
    }
}
