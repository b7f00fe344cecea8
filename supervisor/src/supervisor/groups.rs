//! Groups of a supervisor: their names, and how they are found.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Supervisor;
use crate::error::Error;
use crate::events::Voice;
use crate::faults::Faults;
use crate::group::{Group, GroupSlot};

/// Those that are there. Each lies with its handles and its actor. Clones are the same ones.
#[derive(Clone, Default)]
pub(super) struct Groups {
    named: Arc<Mutex<BTreeMap<String, Weak<GroupSlot>>>>,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Weak<GroupSlot>>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The supervisor ends: so does each of them, before its members do, whose ends are no failures then.
    pub(super) fn close(&self) {
        let all: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|slot| slot.close());
    }
}

impl Supervisor {
    /// A handle of the group with this name, also of a detached one; `None` when there is none. A group in a group is called
    /// `outer.inner`. It is one of the group's handles like that of [`GroupBuilder::start`](crate::GroupBuilder::start).
    ///
    /// ```no_run
    /// # fn f(supervisor: orangery::Supervisor) {
    /// if let Some(shop) = supervisor.group("shop") {
    ///     println!("{:?}", shop.state());
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Group> {
        let slot = self.inner.groups.lock().get(name)?.upgrade()?;
        if slot.is_over() { None } else { Group::again(&slot) }
    }

    /// The name of the group that has the service or the group of this id for a member.
    pub(super) fn group_of(&self, id: &str) -> Option<String> {
        // Dropped when nobody holds the lock: it may be the last that holds its members.
        let all: Vec<_> = self.inner.groups.lock().values().filter_map(Weak::upgrade).collect();
        all.iter().find(|slot| !slot.is_over() && slot.has(id)).map(|slot| slot.path.clone())
    }

    /// Give it its name.
    pub(crate) fn enroll(&self, slot: GroupSlot) -> Result<Arc<GroupSlot>, Error> {
        let mut named = self.inner.groups.lock();
        let slot = Arc::new(slot);
        // Dropped when nobody holds the lock: it may be the last that holds its members.
        let there: Vec<_> = named.values().filter_map(Weak::upgrade).collect();
        named.retain(|_, slot| slot.strong_count() > 0);
        let taken = there.iter().any(|other| other.path == slot.path && !other.is_over());
        if !taken {
            named.insert(slot.path.clone(), Arc::downgrade(&slot));
        }
        drop(named);
        drop(there);
        if taken { Err(Error::taken("group", &slot.path)) } else { Ok(slot) }
    }

    pub(crate) fn voice(&self) -> Voice {
        self.inner.feed.voice()
    }

    /// Asked about a group.
    pub(crate) fn faults_of(&self, name: &str) -> Faults {
        self.inner.faults.of(name, &BTreeMap::new(), 0)
    }
}
