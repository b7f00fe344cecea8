//! What a process actor accepts.

use std::time::Duration;

use actix::Message;
use tokio::sync::oneshot;

use crate::error::Error;

/// Send a signal.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Signal {
    pub(crate) signal: i32,
    pub(crate) reply: oneshot::Sender<Result<(), Error>>,
}

/// End it: a signal, then after the grace the kill. Answered when it has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop {
    pub(crate) signal: i32,
    pub(crate) grace: Duration,
    pub(crate) reply: oneshot::Sender<()>,
}

/// It has ended; the slot knows how.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Exited;
