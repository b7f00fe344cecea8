//! A group below a container's, for the limits of one process in it.
//!
//! v1 and hybrid: a directory in each hierarchy whose limit is asked; for the others the process is where its container
//! is. v2 gives controllers to the children of a group only if no process is in the group itself: the first time, the
//! container's processes move into a leaf of it, `main`, where later ones are born as well. What was charged before stays
//! with the container, to which it belongs either way.

use super::detect::Controller;
use super::dir::Dir;
use super::error::{CgroupError, unsupported};
use super::group::Group;
use super::limits::Limits;
use super::parents::asked;
use super::{v1, v2};
use std::borrow::Cow;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

type Result<T> = std::result::Result<T, CgroupError>;

/// The leaf that a container's processes move into.
pub(super) const LEAF: &str = "main";

/// Whoever forks while being moved leaves a child behind, which the next round takes along.
const ROUNDS: u32 = 200;

impl Group {
    /// A group below this one with these limits, for one process. The caller sees to it that nobody is being born into
    /// this group meanwhile.
    ///
    /// # Errors
    /// The kernel's refusal, with the field.
    pub fn nested(&self, name: &str, limits: &Limits) -> Result<Group> {
        let wanted = asked(limits);
        let places: Vec<usize> = (0..self.parents.v1.len())
            .filter(|index| wanted.iter().any(|(controller, _)| self.parents.v1[*index].has(*controller)))
            .collect();
        let on_v1 = |controller| places.iter().any(|index| self.parents.v1[*index].has(controller));
        let on_v2: Vec<_> = wanted.iter().filter(|(controller, _)| !on_v1(*controller)).cloned().collect();
        self.may_be_throttled(limits);
        let mut nested = Group::empty(Arc::clone(&self.parents), format!("{}/{name}", self.id()));
        let filled = self.fill_nested(&mut nested, &places, &on_v2).and_then(|()| nested.write(limits, true));
        match filled {
            Ok(()) => Ok(nested),
            Err(error) => {
                let _ = nested.remove();
                Err(error)
            }
        }
    }

    fn fill_nested(
        &self,
        nested: &mut Group,
        places: &[usize],
        on_v2: &[(Controller, Cow<'static, str>)],
    ) -> Result<()> {
        if !on_v2.is_empty() {
            self.split(on_v2)?;
            nested.make_v2()?;
        }
        for index in places {
            self.enter(*index)?;
            let place = &self.parents.v1[*index];
            nested.make_v1(*index)?;
            if place.has(Controller::Cpuset) {
                v1::fill_cpuset(&place.dir.child(self.id())?, &place.dir.child(nested.id())?)?;
            }
        }
        Ok(())
    }

    /// Make sure that this group has a directory in a v1 hierarchy that it has done without so far. Nobody of it is in
    /// there but those of groups below.
    fn enter(&self, index: usize) -> Result<()> {
        let mut guests = self.guests.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_member(index) || guests.contains(&index) {
            return Ok(());
        }
        let place = &self.parents.v1[index];
        place.dir.make(self.id())?;
        guests.push(index);
        if place.has(Controller::Cpuset) {
            v1::fill_cpuset(&place.dir, &place.dir.child(self.id())?)?;
        }
        Ok(())
    }

    /// v2: empty the group itself and switch the controllers on for its children.
    fn split(&self, wanted: &[(Controller, Cow<'static, str>)]) -> Result<()> {
        let Some(dir) = self.v2_dir()? else {
            return Err(unsupported("limit a process of", self.id(), "the container has no cgroup"));
        };
        let leaf = match dir.make(LEAF) {
            Err(error) if !error.is_exists() => return Err(error),
            _ => dir.child(LEAF)?,
        };
        // From now on others are born into the leaf, also when the rest fails.
        self.split.store(true, Ordering::Release);
        let mut refused = None;
        for _ in 0..ROUNDS {
            empty(&dir, &leaf)?;
            let asked = |one: Controller| wanted.iter().any(|(controller, _)| *controller == one);
            let (on, why) = v2::enable_of(&dir, &|one| !one.is_rare() || asked(one));
            refused = wanted.iter().find(|(controller, _)| !on.contains(controller)).map(|(controller, field)| {
                (field.clone(), why.get(controller).cloned().unwrap_or_else(|| format!("no {}", controller.name())))
            });
            if refused.is_none() {
                return Ok(());
            }
        }
        let (field, why) =
            refused.unwrap_or(("limits".into(), "its processes fork faster than they can be moved".into()));
        Err(unsupported("limit a process of", self.id(), why).with_field(field))
    }

    /// The v1 `tasks` files of a process in `nested`: its own group's where it has one, this group's elsewhere.
    ///
    /// # Errors
    /// As for [`Group::tasks`].
    pub fn tasks_of(&self, nested: &Group) -> Result<Vec<OwnedFd>> {
        let mut tasks = nested.tasks()?;
        tasks.extend(self.tasks_where(|index| !nested.is_member(index))?);
        Ok(tasks)
    }
}

/// Move every process of `dir` itself into `leaf`. One that ends meanwhile is gone either way.
fn empty(dir: &Dir, leaf: &Dir) -> Result<()> {
    for _ in 0..ROUNDS {
        let inside = dir.read("cgroup.procs")?;
        if inside.trim().is_empty() {
            return Ok(());
        }
        for pid in inside.lines() {
            match leaf.write("cgroup.procs", pid) {
                Err(error) if error.errno() != Some(libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
