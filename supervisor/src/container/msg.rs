//! What a container actor accepts.

use std::os::fd::OwnedFd;
use std::time::Duration;

use actix::{Addr, Message};
use orangery_io_stream::Subscriber;
use orangery_runtime::ProcessSpec;
use orangery_runtime::cgroup::Stats;
use tokio::sync::{oneshot, watch};

use crate::admission::Permit;
use crate::error::Error;
use crate::limit_update::LimitUpdate;
use crate::process::actor::ProcessActor;
use crate::process::recording::LogTo;
use crate::process::slot::{Terms, Untaken};

/// A process, the actor that decides about it, and readers that were there before its first byte.
pub(crate) struct Executed {
    pub(crate) slot: Untaken,
    pub(crate) actor: Addr<ProcessActor>,
    pub(crate) captures: Option<(Subscriber, Subscriber)>,
}

/// Start another process.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Exec {
    pub(crate) spec: ProcessSpec,
    /// How it is watched; what it may write is what the container's processes may, unless it says another thing.
    pub(crate) terms: Terms,
    /// Readers of the whole output are wanted.
    pub(crate) capture: bool,
    pub(crate) log: Option<LogTo>,
    /// Where its container outlives us it does so too, with a log.
    pub(crate) lasting: bool,
    pub(crate) permit: Permit,
    pub(crate) reply: oneshot::Sender<Result<Executed, Error>>,
}

/// Hold its processes in this way, or let them go on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Pause {
    pub(crate) pause: Option<orangery_runtime::Pause>,
    pub(crate) reply: oneshot::Sender<Result<(), Error>>,
}

/// Make a socket in its network.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct MakeSocket {
    pub(crate) family: u32,
    pub(crate) kind: u32,
    pub(crate) reply: oneshot::Sender<Result<OwnedFd, Error>>,
}

/// Change limits.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Update {
    pub(crate) to: LimitUpdate,
    pub(crate) reply: oneshot::Sender<Result<(), Error>>,
}

/// Push counters until the container is gone or nobody listens.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PushStats {
    pub(crate) every: Duration,
    pub(crate) sender: watch::Sender<Stats>,
}

/// The container is gone: stop.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Removed;
