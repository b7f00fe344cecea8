//! The one future that reads from the keeper, and the end of the keeper.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::conversation::Shared;
use super::frame::receive;

/// Reads from the keeper until it is gone. Must run on a tokio runtime with I/O enabled.
#[derive(Debug)]
pub struct Driver {
    pub(super) shared: Arc<Shared>,
    /// Taken when it is reaped.
    pub(super) keeper: Option<OwnedFd>,
}

/// Never run, or not to its end: nobody hears the keeper any more, so the conversation ends, and with it the keeper and all
/// that it has. As our child it has to be waited for; by a thread, as removing everything may take a while.
impl Drop for Driver {
    fn drop(&mut self) {
        let Some(keeper) = self.keeper.take() else { return };
        self.shared.bury();
        if self.shared.keeps.load(Ordering::Acquire) {
            // It goes on, and is somebody else's child as soon as we are gone.
            let _ = rustix::net::shutdown(&self.shared.socket, rustix::net::Shutdown::Both);
            return;
        }
        let _ = rustix::net::shutdown(&self.shared.socket, rustix::net::Shutdown::Both);
        // Without a thread it stays a zombie until this process ends.
        let _ = std::thread::Builder::new().name("orangery-reaper".into()).spawn(move || {
            let wait = || {
                let id = rustix::process::WaitId::PidFd(keeper.as_fd());
                rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED)
            };
            while matches!(wait(), Err(rustix::io::Errno::INTR)) {}
        });
    }
}

impl Driver {
    /// Run the conversation; comes back when the keeper has ended and is reaped.
    ///
    /// # Cancel safety
    /// Dropped early, it ends the keeper, and with it every container.
    pub async fn run(mut self) {
        let socket =
            match self.shared.socket.try_clone().and_then(|socket| crate::sys::watch(socket, Interest::READABLE)) {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::error!(%error, "cannot listen to the keeper");
                    self.shared.bury();
                    return;
                }
            };
        // Its end of the socket alone does not tell: a newborn that has not run yet may hold a copy for long.
        let keeper = self.keeper.as_ref().and_then(|keeper| keeper.try_clone().ok());
        let keeper = keeper.and_then(|keeper| crate::sys::watch(keeper, Interest::READABLE).ok());
        while self.turn(&socket, keeper.as_ref()).await {}
        if !self.shared.closing.load(Ordering::Acquire) {
            tracing::error!("the keeper has ended by itself: what runs goes on, nothing new can be started");
        }
        self.shared.bury();
        drop(socket);
        if self.shared.closing.load(Ordering::Acquire) && self.shared.keeps.load(Ordering::Acquire) {
            // It goes on.
            self.keeper = None;
            return;
        }
        self.reap(keeper).await;
    }

    /// One wake-up: read all there is, send what waits. `false`: the keeper has closed its end, or is gone.
    async fn turn(&self, socket: &AsyncFd<OwnedFd>, keeper: Option<&AsyncFd<OwnedFd>>) -> bool {
        // Only while something waits to be sent: else every request that the keeper takes would wake us.
        let full = !self.shared.lock().outbox.is_empty();
        let writer = match full.then(|| self.shared.socket.try_clone()) {
            Some(Ok(socket)) => crate::sys::watch(socket, Interest::WRITABLE).ok(),
            _ => None,
        };
        let writable = async {
            match &writer {
                Some(writer) => writer.writable().await.map(drop),
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match keeper {
                Some(keeper) => keeper.readable().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ready = socket.readable() => match ready {
                Ok(mut guard) => {
                    let open = self.hear(socket.get_ref());
                    guard.clear_ready();
                    open
                }
                Err(_) => false,
            },
            // What it had said before is in the socket.
            _ = ended => {
                self.hear(socket.get_ref());
                false
            }
            ready = writable => {
                self.shared.flush();
                ready.is_ok()
            }
            () = self.shared.wake.notified() => !self.shared.closing.load(Ordering::Acquire),
        }
    }

    /// Take all that is there. `false`: there will be no more.
    fn hear(&self, socket: &OwnedFd) -> bool {
        loop {
            match receive(socket) {
                Ok(Some(heard)) => self.shared.deliver(heard),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                Ok(None) | Err(_) => return false,
            }
        }
    }

    /// The keeper is our child: wait for it, unless the host has done so.
    async fn reap(&mut self, watched: Option<AsyncFd<OwnedFd>>) {
        // Without a place to watch it, a thread waits when we are dropped.
        let Some(watched) = watched else { return };
        let _ = watched.readable().await;
        let Some(keeper) = self.keeper.take() else { return };
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOHANG;
        let _ = rustix::process::waitid(rustix::process::WaitId::PidFd(keeper.as_fd()), options);
    }
}
