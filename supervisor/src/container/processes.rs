//! The further processes of one container: numbered when they are asked for, listed from the exec to the report.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ids::ProcessId;
use crate::process::slot::Slot;

/// Those that live or are not reported yet. The main process is not among them: it has a place of its own.
#[derive(Default)]
pub(crate) struct Processes {
    last: AtomicU32,
    listed: Mutex<BTreeMap<ProcessId, Arc<Slot>>>,
}

/// A process is in the list while this exists.
pub(crate) struct Listed<'a> {
    processes: &'a Processes,
    id: ProcessId,
}

impl Processes {
    /// A number that no process of this container has had.
    pub(crate) fn number(&self) -> ProcessId {
        ProcessId(self.last.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The last one that was given.
    pub(crate) fn last(&self) -> u32 {
        self.last.load(Ordering::Relaxed)
    }

    /// No number up to this one is given any more.
    pub(crate) fn begin_after(&self, last: u32) {
        self.last.fetch_max(last, Ordering::Relaxed);
    }

    /// It is in the list from now on, until what [`Processes::list`] gives is dropped.
    pub(crate) fn announce(&self, slot: &Arc<Slot>) {
        self.listed().insert(slot.number, Arc::clone(slot));
    }

    pub(crate) fn list(&self, slot: &Arc<Slot>) -> Listed<'_> {
        self.announce(slot);
        Listed { processes: self, id: slot.number }
    }

    pub(crate) fn get(&self, id: ProcessId) -> Option<Arc<Slot>> {
        self.listed().get(&id).cloned()
    }

    /// All of them, in the order in which they were asked for.
    pub(crate) fn all(&self) -> Vec<Arc<Slot>> {
        self.listed().values().cloned().collect()
    }

    fn listed(&self) -> MutexGuard<'_, BTreeMap<ProcessId, Arc<Slot>>> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.processes.listed().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::slot::Terms;

    fn voice() -> crate::events::Voice {
        crate::events::Feed::new(1).voice()
    }

    #[test]
    fn numbers_come_once_and_a_process_is_listed_as_long_as_it_says() {
        let processes = Processes::default();
        let slots: Vec<_> = (0..3)
            .map(|_| Arc::new(Slot::new("a", processes.number(), 0, Terms::default(), voice(), &tracing::Span::none())))
            .collect();
        let mut listed: Vec<_> = slots.iter().map(|slot| processes.list(slot)).collect();
        assert_eq!(processes.all().iter().map(|slot| slot.number.0).collect::<Vec<_>>(), [1, 2, 3]);
        drop(listed.remove(1));
        assert!(processes.get(ProcessId(2)).is_none());
        assert!(processes.get(ProcessId(3)).is_some());
        assert_eq!(processes.number(), ProcessId(4));
    }
}
