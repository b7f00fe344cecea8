//! What a service's actor accepts.

use actix::Message;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::ladder::StopLadder;

/// Start it; answered when it runs, or cannot.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Start {
    /// By hand: a new back-off and window, and what fails is told instead of tried again. Otherwise a further start of
    /// something that goes on, such as by its group.
    pub(crate) fresh: bool,
    pub(crate) reply: oneshot::Sender<Result<(), Error>>,
}

/// Stop it, in this way or as it was described; answered when it has settled.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Stop {
    pub(crate) ladder: Option<StopLadder>,
    pub(crate) reply: oneshot::Sender<()>,
}

/// Something has happened to the incarnation of this number; the slot knows what.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct News {
    pub(crate) generation: u32,
}

/// Nobody wants it any more: kill what runs, and end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close;
