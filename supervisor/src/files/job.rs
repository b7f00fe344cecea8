//! Work that may block, as a future that needs no runtime: it runs on the blocking threads of our own system.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::admission::{Cost, Door, Permit};
use crate::container::slot::ContainerSlot;
use crate::error::{Error, ErrorKind};
use crate::handle::ContainerHandle;

/// What work may ask while it goes on.
#[derive(Clone, Copy)]
pub(super) struct Leave<'a> {
    is_cancelled: &'a dyn Fn() -> bool,
    /// Where its descriptors are asked for.
    door: Option<&'a Door>,
}

impl<'a> Leave<'a> {
    #[cfg(test)]
    pub(super) fn until(is_cancelled: &'a dyn Fn() -> bool) -> Self {
        Self { is_cancelled, door: None }
    }

    /// Nobody wants it any more.
    pub(super) fn is_cancelled(self) -> bool {
        (self.is_cancelled)()
    }

    /// Room for one more level of a tree, for as long as what comes back exists.
    pub(super) fn level(self) -> Result<Option<Permit>, Error> {
        self.room(Cost::of_level())
    }

    /// The same for a hand.
    pub(super) fn hand(self) -> Result<Option<Permit>, Error> {
        self.room(Cost::of_hand())
    }

    fn room(self, cost: Cost) -> Result<Option<Permit>, Error> {
        self.door.map(|door| opened(door, cost)).transpose()
    }
}

/// Room for what is opened at once.
fn opened(door: &Door, cost: Cost) -> Result<Permit, Error> {
    let mut room = door.enter(cost)?;
    room.made();
    Ok(room)
}

/// Do `work` from the first poll on. It is told when nobody waits any more, or the container's files are let go.
///
/// Refused where its descriptors have no room: how many a copy needs is for the tree to say, which is the container's.
pub(super) fn run<T, W>(
    handle: &ContainerHandle,
    work: W,
) -> impl Future<Output = Result<T, Error>> + Send + 'static + use<T, W>
where
    T: Send + 'static,
    W: FnOnce(&ContainerSlot, Leave<'_>) -> Result<T, Error> + Send + 'static,
{
    let (slot, system) = (Arc::clone(handle.slot()), handle.system().clone());
    async move {
        let door = slot.door.get().cloned().ok_or_else(Error::lost_request)?;
        let room = opened(&door, Cost::of_files()).inspect_err(|error| slot.voice().meters().refused(error))?;
        let (reply, answer) = oneshot::channel();
        let spawned = system.spawn(async move {
            tokio::task::spawn_blocking(move || {
                let _span = slot.span.clone().entered();
                let is_cancelled = || reply.is_closed() || slot.let_go();
                let done = work(&slot, Leave { is_cancelled: &is_cancelled, door: Some(&door) });
                // Before the answer: who has it may ask again at once.
                drop(room);
                let done = done.map_err(|error| match slot.let_go() {
                    true => Error::new(ErrorKind::State, "the container was deleted meanwhile"),
                    false => error,
                });
                let _ = reply.send(done);
            });
        });
        if !spawned {
            return Err(Error::shut_down());
        }
        answer.await.map_err(|_| Error::lost_request())?
    }
}
