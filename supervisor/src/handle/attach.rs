//! Attaching: handles of what runs already, found by id.

use std::future::Future;
use std::sync::Arc;

use actix_rt::ArbiterHandle;

use super::{ContainerHandle, Owner, ProcessHandle, ProcessSummary};
use crate::container::slot::{ContainerSlot, Owned};
use crate::ids::{ProcessId, ProcessRole};
use crate::process::slot::Slot;
use crate::report::Report;

/// The processes that live or are not reported yet, the main one first.
pub(super) fn present(container: &ContainerSlot) -> Vec<Arc<Slot>> {
    let main = Some(&container.main).filter(|main| main.born.get().is_some() && main.report.borrow().is_none());
    main.cloned().into_iter().chain(container.processes.all()).collect()
}

pub(super) fn summary(slot: &Slot) -> ProcessSummary {
    let pid = slot.born.get().map_or(0, |born| born.pid);
    ProcessSummary { id: slot.number, role: slot.role, pid, ended: slot.ended() }
}

impl ContainerHandle {
    /// `None`: it has not started.
    pub(crate) fn attach(slot: Owned, system: ArbiterHandle) -> Option<Self> {
        let actor = slot.actor.get()?.clone();
        let main = ProcessHandle::attach(&slot.main, system)?;
        Some(Self { inner: Arc::new(Owner { slot, actor, main }) })
    }

    /// Its processes that live or are not reported yet: the main one, then further ones in the order of their numbers. Probes
    /// and hooks are among them ([`ProcessHandle::role`]).
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessHandle> {
        present(&self.inner.slot).iter().filter_map(|slot| self.of(slot)).collect()
    }

    /// One of [`ContainerHandle::processes`] by its number; the main process also after its report.
    #[must_use]
    pub fn process_by_id(&self, id: ProcessId) -> Option<ProcessHandle> {
        match id {
            ProcessId::MAIN => Some(self.process().clone()),
            id => self.inner.slot.processes.get(id).and_then(|slot| self.of(&slot)),
        }
    }

    /// The report of a further process of a container that outlives its supervisor, once it has ended; those of the last 64
    /// are kept, until the container is forgotten.
    ///
    /// # Cancel safety
    /// Nothing is changed; may be dropped and called again.
    pub fn report_of(&self, id: ProcessId) -> impl Future<Output = Option<Report>> + Send + 'static + use<> {
        let slot = Arc::clone(&self.inner.slot);
        async move { slot.lasting.as_ref()?.report_of(id).await }
    }

    fn of(&self, slot: &Arc<Slot>) -> Option<ProcessHandle> {
        ProcessHandle::attach(slot, self.process().system.clone())
    }
}

impl ProcessHandle {
    /// `None`: it has not started.
    fn attach(slot: &Arc<Slot>, system: ArbiterHandle) -> Option<Self> {
        Some(Self::new(Arc::clone(slot), slot.actor.get()?.clone(), system))
    }

    /// Its number in its container.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.slot.number
    }

    /// What it is for: the main process, somebody's command, or one of the container's own.
    #[must_use]
    pub fn role(&self) -> ProcessRole {
        self.slot.role
    }
}
