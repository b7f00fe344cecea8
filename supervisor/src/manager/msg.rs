//! What the manager accepts.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::Message;
use orangery_runtime::{ContainerSpec, ProcessSpec};
use tokio::sync::oneshot;

use crate::admission::Permit;
use crate::container::life::{Alive, Policy};
use crate::container::slot::{ContainerSlot, Owned};
use crate::error::Error;
use crate::faults::Faults;

/// Make and start a container.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Create {
    pub(crate) spec: ContainerSpec,
    pub(crate) main: ProcessSpec,
    pub(crate) policy: Policy,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) ring_bytes: usize,
    /// Readers of the whole output are wanted.
    pub(crate) capture: bool,
    pub(crate) permit: Permit,
    /// Asked for this container.
    pub(crate) faults: Faults,
    pub(crate) reply: oneshot::Sender<Result<Alive, Error>>,
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
