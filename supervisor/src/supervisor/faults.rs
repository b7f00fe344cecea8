//! What plans of faults need of a supervisor.

use actix::Addr;

use super::Supervisor;
use crate::faults::Faults;
use crate::manager::actor::ManagerActor;

impl Supervisor {
    pub(crate) fn faults(&self) -> &Faults {
        &self.inner.faults
    }

    pub(crate) fn manager(&self) -> &Addr<ManagerActor> {
        &self.inner.manager
    }
}
