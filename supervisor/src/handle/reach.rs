//! Descriptors out of a container.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{ContainerHandle, lost};
use crate::container::msg::MakeSocket;
use crate::error::Error;

impl ContainerHandle {
    /// A socket in the container's network namespace, as `socket(family, kind, 0)` would make it there (`AF_INET` is 2,
    /// `SOCK_STREAM` 1; flags such as `SOCK_NONBLOCK` may be in `kind`, and it is always closed on exec). It stays in that
    /// network wherever it is used, so a service listens inside, or connects to what listens inside, without a process
    /// there and without a route: `std::net::TcpListener::from(fd)`.
    ///
    /// # Errors
    /// The kernel's, with the field `socket`; [`ErrorKind::State`](crate::ErrorKind::State) before the start, while it is
    /// paused, and after the end.
    ///
    /// # Cancel safety
    /// A future that is dropped leaves nothing behind.
    pub fn socket(
        &self,
        family: u32,
        kind: u32,
    ) -> impl Future<Output = Result<OwnedFd, Error>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        self.inner.actor.do_send(MakeSocket { family, kind, reply });
        let main = Arc::clone(&self.inner.slot.main);
        async move { answer.await.map_err(|_| lost(&main))? }
    }
}
