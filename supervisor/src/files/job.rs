//! Work that may block, as a future that needs no runtime: it runs on the blocking threads of our own system.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::container::slot::ContainerSlot;
use crate::error::{Error, ErrorKind};
use crate::handle::ContainerHandle;

/// Says whether the work is still wanted.
pub(super) type Cancelled<'a> = &'a dyn Fn() -> bool;

/// Do `work` from the first poll on. It is told when nobody waits any more, or the container's files are let go.
pub(super) fn run<T, W>(
    handle: &ContainerHandle,
    work: W,
) -> impl Future<Output = Result<T, Error>> + Send + 'static + use<T, W>
where
    T: Send + 'static,
    W: FnOnce(&ContainerSlot, Cancelled<'_>) -> Result<T, Error> + Send + 'static,
{
    let (slot, system) = (Arc::clone(handle.slot()), handle.system().clone());
    async move {
        let (reply, answer) = oneshot::channel();
        let spawned = system.spawn(async move {
            tokio::task::spawn_blocking(move || {
                let _span = slot.span.clone().entered();
                let done = work(&slot, &|| reply.is_closed() || slot.let_go());
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
