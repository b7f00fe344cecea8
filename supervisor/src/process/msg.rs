//! What a process actor accepts.

use actix::Message;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::ladder::StopLadder;

/// Send a signal.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Signal {
    pub(crate) signal: i32,
    pub(crate) reply: oneshot::Sender<Result<(), Error>>,
}

/// End it, in this way or as it was described. Answered when it has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop {
    pub(crate) ladder: Option<StopLadder>,
    pub(crate) reply: oneshot::Sender<()>,
}

/// What was to be done before the first signal of a stop is done; the slot knows how it went.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Prepared;

/// It has ended; the slot knows how.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Exited;
