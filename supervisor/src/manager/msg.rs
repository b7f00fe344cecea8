//! What the manager accepts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use orangery_runtime::{ContainerSpec, ProcessSpec};
use tokio::sync::{Notify, oneshot};

use crate::admission::Permit;
use crate::container::life::{Alive, Policy};
use crate::container::slot::{ContainerSlot, Owned};
use crate::error::Error;
use crate::faults::Faults;
use crate::process::recording::LogTo;
use crate::process::slot::{FIRST_GENERATION, Terms};
use crate::recovery::Kept;
use crate::service;
use crate::service::slot::{OwnedService, ServiceSlot};

/// Make and start a container.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Create {
    pub(crate) spec: ContainerSpec,
    pub(crate) main: ProcessSpec,
    /// Of the main process.
    pub(crate) terms: Terms,
    pub(crate) policy: Policy,
    /// How long the end of what was killed is waited for.
    pub(crate) patience: Duration,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ring_bytes: usize,
    /// Readers of the whole output are wanted, which may hold it up for so long.
    pub(crate) capture: Option<Duration>,
    pub(crate) log: Option<LogTo>,
    pub(crate) permit: Permit,
    pub(crate) birth: Birth,
    /// Asked for this container.
    pub(crate) faults: Faults,
    pub(crate) reply: oneshot::Sender<Result<Alive, Error>>,
}

/// What a service says of an incarnation of it.
pub(crate) struct Birth {
    pub(crate) generation: u32,
    /// It may use the service's name.
    pub(crate) of_service: bool,
    /// Give it up while it is being made; it is told when that is undone.
    pub(crate) abort: Arc<Notify>,
    /// The right to it, where that was waited for.
    pub(crate) permit: Option<Permit>,
    /// In a durable supervisor it outlives us.
    pub(crate) lasting: bool,
    /// Its record, where it does.
    pub(crate) kept: Option<Arc<Kept>>,
}

impl Default for Birth {
    /// Of a container that is no service's.
    fn default() -> Self {
        Self {
            generation: FIRST_GENERATION,
            of_service: false,
            abort: Arc::default(),
            permit: None,
            lasting: false,
            kept: None,
        }
    }
}

/// Supervise a service.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Supervise {
    pub(crate) order: service::actor::Order,
    pub(crate) reply: oneshot::Sender<Result<OwnedService, Error>>,
}

/// Nobody carries out anything for a service any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ServiceGone {
    pub(crate) slot: Arc<ServiceSlot>,
}

/// The service of that name.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FindService {
    pub(crate) id: String,
    pub(crate) reply: oneshot::Sender<Option<OwnedService>>,
}

/// All services.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ListServices {
    pub(crate) reply: oneshot::Sender<Vec<Arc<ServiceSlot>>>,
}

/// A container has its actors.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Gone {
    pub(crate) slot: Arc<ContainerSlot>,
}

/// All containers.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct List {
    pub(crate) reply: oneshot::Sender<Vec<Arc<ContainerSlot>>>,
}

/// The started container of that name.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Find {
    pub(crate) id: String,
    pub(crate) reply: oneshot::Sender<Option<Owned>>,
}

/// Kill everything; answered when nothing is left. Nothing new is accepted from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ShutDown {
    pub(crate) reply: oneshot::Sender<()>,
}
