//! Services of a supervisor: how they are made and found.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use actix_rt::ArbiterHandle;
use tokio::sync::oneshot;

use super::{Inner, Supervisor};
use crate::command::Template;
use crate::error::Error;
use crate::faults::Faults;
use crate::group;
use crate::manager::msg::{FindService, ListServices, Supervise};
use crate::recovery::{GroupRecord, ServiceRecord};
use crate::restart::{Budget, Restart};
use crate::service::actor::Order;
use crate::service::again::Again;
use crate::service::incarnation::Maker;
use crate::service::slot::ServiceSlot;
use crate::service::{Service, ServiceInspect};

/// A supervisor that ends when its owners want it to.
#[derive(Clone)]
pub(crate) struct WeakSupervisor {
    inner: Weak<Inner>,
    caller: Arc<str>,
}

impl WeakSupervisor {
    /// # Errors
    /// It has no owner any more.
    pub(crate) fn upgrade(&self) -> Result<Supervisor, Error> {
        let inner = self.inner.upgrade().ok_or_else(Error::shut_down)?;
        Ok(Supervisor { inner, caller: Arc::clone(&self.caller) })
    }
}

impl Supervisor {
    /// A task on a thread of the supervisor's, in its time; it ends with it.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.inner.system.spawn(task);
    }

    /// Where such tasks go, also of what does not keep the supervisor.
    pub(crate) fn system(&self) -> ArbiterHandle {
        self.inner.system.clone()
    }

    pub(crate) fn weak(&self) -> WeakSupervisor {
        WeakSupervisor { inner: Arc::downgrade(&self.inner), caller: Arc::clone(&self.caller) }
    }

    /// Asked about no container.
    pub(crate) fn faults_of_all(&self) -> Faults {
        self.inner.faults.clone()
    }

    /// For what is drawn by lot.
    pub(crate) fn seed(&self) -> u64 {
        super::random()
    }

    /// A service that has not been started yet. `held`: a delay that is over waits for somebody's start.
    pub(crate) async fn service_of(self, template: Template, restart: Restart, held: bool) -> Result<Service, Error> {
        let template = self.lasting(template.named(|| self.name()))?;
        let (state, voice) = (self.state_dir().cloned(), self.inner.feed.voice());
        let slot = Arc::new(ServiceSlot::new(template.id(), template.labels(), voice, state));
        let faults = self.inner.faults.of(template.id(), template.labels(), 0);
        let maker = Maker { template, supervisor: self.weak() };
        let order = Order { slot, maker, budget: Budget::new(restart, super::random()), held, faults, again: None };
        let (reply, answer) = oneshot::channel();
        self.inner.manager.do_send(Supervise { order, reply });
        let slot = answer.await.map_err(|_| self.lost())??;
        Service::attach(slot).ok_or_else(|| self.lost())
    }

    /// Those that another supervisor has kept running go on, and the groups that they are members of.
    pub(super) async fn go_on(&self, records: Vec<ServiceRecord>, groups: Vec<GroupRecord>) -> Result<(), Error> {
        let (members, mut services) = (group::members(&groups), BTreeMap::new());
        for record in records {
            let id = record.template.id().to_owned();
            let held = members.contains(&id);
            services.insert(id, self.service_again(record, held).await?);
        }
        group::go_on(self, groups, services).await
    }

    /// `held`: by its group.
    async fn service_again(&self, record: ServiceRecord, held: bool) -> Result<Service, Error> {
        let (template, generation) = (record.template.clone(), record.generation);
        let container = self.container(template.id()).await?;
        let container = container.filter(|container| container.inspect().generation == generation);
        let (state, voice) = (self.state_dir().cloned(), self.inner.feed.voice());
        let slot = Arc::new(ServiceSlot::new(template.id(), template.labels(), voice, state));
        // From the beginning: where the rest of a start fails, it is left as it is.
        slot.detached.store(true, Ordering::Release);
        let faults = self.inner.faults.of(template.id(), template.labels(), 0);
        let (budget, maker) = (record.budget.clone(), Maker { template, supervisor: self.weak() });
        let again = Again { record, container };
        again.restore(&slot, &budget);
        let order = Order { slot, maker, budget, held, faults, again: Some(again) };
        let (reply, answer) = oneshot::channel();
        self.inner.manager.do_send(Supervise { order, reply });
        let slot = answer.await.map_err(|_| self.lost())??;
        Service::attach(slot).ok_or_else(|| self.lost())
    }

    /// A handle of the service with this name, also of a detached one; `None` when there is none. It is one of the service's
    /// handles like that of [`supervise`](crate::Command::supervise).
    ///
    /// # Errors
    /// The supervisor is shut down.
    ///
    /// # Cancel safety
    /// May be dropped at any moment: as if the handle had been dropped.
    pub fn service(&self, id: &str) -> impl Future<Output = Result<Option<Service>, Error>> + Send + 'static + use<> {
        let (supervisor, id) = (self.clone(), id.to_owned());
        async move {
            let (reply, answer) = oneshot::channel();
            supervisor.inner.manager.do_send(FindService { id, reply });
            let found = answer.await.map_err(|_| supervisor.lost())?;
            Ok(found.and_then(Service::attach))
        }
    }

    /// All services, in order of their names.
    ///
    /// # Errors
    /// The supervisor is shut down.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub fn services(&self) -> impl Future<Output = Result<Vec<ServiceInspect>, Error>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        self.inner.manager.do_send(ListServices { reply });
        let supervisor = self.clone();
        async move {
            let slots = answer.await.map_err(|_| supervisor.lost())?;
            Ok(slots.iter().map(|slot| slot.status().inspect(&slot.id)).collect())
        }
    }
}
