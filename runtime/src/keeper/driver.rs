//! The one future that reads from the keeper, and the end of the keeper.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::conversation::Shared;
use super::frame::receive;
use super::orphans::Orphans;
use super::succession::{Deaths, Heir, KeeperNews, Replaced};
use crate::error::{Error, ErrorKind};

/// Reads from the keeper until it is gone. Must run on a tokio runtime with I/O enabled.
#[derive(Debug)]
pub struct Driver {
    pub(super) shared: Arc<Shared>,
    /// Taken when it is reaped.
    pub(super) keeper: Option<OwnedFd>,
    /// Who comes after it.
    pub(super) heir: Option<Arc<Heir>>,
}

/// Never run, or not to its end: nobody hears the keeper any more, so the conversation ends, and with it the keeper and all
/// that it has. As our child it has to be waited for; by a thread, as removing everything may take a while.
impl Drop for Driver {
    fn drop(&mut self) {
        // Also between two keepers: nobody would ever answer.
        self.shared.bury();
        let Some(keeper) = self.keeper.take() else { return };
        if self.shared.keeps.load(Ordering::Acquire) {
            // It goes on, and is somebody else's child as soon as we are gone.
            self.shared.hang_up();
            return;
        }
        self.shared.hang_up();
        reap_later(keeper);
    }
}

/// Without a thread it stays a zombie until this process ends.
fn reap_later(keeper: OwnedFd) {
    let _ = std::thread::Builder::new().name("orangery-reaper".into()).spawn(move || {
        let wait = || {
            let id = rustix::process::WaitId::PidFd(keeper.as_fd());
            rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED)
        };
        while matches!(wait(), Err(rustix::io::Errno::INTR)) {}
    });
}

impl Driver {
    /// When the keeper dies by itself, there is to be another one.
    pub(crate) fn followed_by(&mut self, heir: Heir) {
        self.heir = Some(Arc::new(heir));
    }

    /// Run the conversation; comes back when the keeper has ended and is reaped.
    ///
    /// # Cancel safety
    /// Dropped early, it ends the keeper, and with it every container.
    pub async fn run(self) {
        self.run_telling(|_| ()).await;
    }

    /// The same, and tell what becomes of the keeper.
    pub(crate) async fn run_telling(mut self, mut tell: impl FnMut(KeeperNews)) {
        let (mut deaths, mut orphans) = (Deaths::default(), Orphans::of(&self.shared, self.heir.as_deref()));
        let mut given = None;
        let why = loop {
            let keeper = match self.converse(&mut orphans, &mut given, &mut tell).await {
                Ok(keeper) => keeper,
                Err(error) => {
                    tracing::error!(%error, "cannot listen to the keeper");
                    self.shared.bury();
                    break Some(format!("cannot listen to the keeper: {error}"));
                }
            };
            let heir = match (&self.heir, self.shared.closing.load(Ordering::Acquire)) {
                (Some(heir), false) => Arc::clone(heir),
                (_, closing) => break self.end(keeper, closing).await,
            };
            let died = Instant::now();
            orphans.note();
            tell(KeeperNews::Died);
            tracing::warn!("the keeper has died: another one is started");
            let known = self.shared.orphaned();
            self.put_to_rest(keeper).await;
            orphans.take(heir.present.pid.load(Ordering::Acquire), known).await;
            let young = match deaths.count(died) {
                true => heir.found(&mut deaths).await,
                false => Err(Error::new(ErrorKind::Keeper, "too many have died")),
            };
            match young.map(|young| heir.hand_over(&self.shared, young)) {
                Ok((keeper, replaced)) => {
                    self.keeper = Some(keeper);
                    given = Some((died, replaced));
                }
                Err(error) => {
                    tracing::error!(%error, "there is no keeper any more: what runs goes on, nothing new can be started");
                    self.shared.bury();
                    break Some(format!("the keeper has died, and none is started any more: {error}"));
                }
            }
        };
        tell(KeeperNews::Ended { why });
    }

    /// Until the keeper has closed its end, or is gone, or we want no more.
    async fn converse(
        &self,
        orphans: &mut Orphans,
        given: &mut Option<(Instant, Replaced)>,
        tell: &mut impl FnMut(KeeperNews),
    ) -> std::io::Result<Option<AsyncFd<OwnedFd>>> {
        let socket = Arc::clone(&self.shared.lock().socket);
        let socket = crate::sys::watch(socket.try_clone()?, Interest::READABLE)?;
        // Its end of the socket alone does not tell: a newborn that has not run yet may hold a copy for long.
        let keeper = self.keeper.as_ref().and_then(|keeper| keeper.try_clone().ok());
        let keeper = keeper.and_then(|keeper| crate::sys::watch(keeper, Interest::READABLE).ok());
        while self.turn(&socket, keeper.as_ref(), orphans).await {
            if given.is_some() && self.shared.is_whole() {
                if let Some((died, replaced)) = given.take() {
                    let replaced = Replaced { took: died.elapsed(), ..replaced };
                    tracing::warn!(?replaced, "another keeper has everything");
                    tell(KeeperNews::Replaced(replaced));
                }
                if self.shared.closing.load(Ordering::Acquire) {
                    // That has waited for this.
                    self.shared.hang_up();
                    break;
                }
            }
        }
        Ok(keeper)
    }

    /// There is none any more. Says why, if that was not our wish.
    async fn end(&mut self, keeper: Option<AsyncFd<OwnedFd>>, closing: bool) -> Option<String> {
        self.shared.bury();
        if closing && self.shared.keeps.load(Ordering::Acquire) {
            // It goes on.
            self.keeper = None;
            return None;
        }
        if !closing {
            tracing::error!("the keeper has ended by itself: what runs goes on, nothing new can be started");
        }
        self.reap(keeper).await;
        (!closing).then(|| "the keeper has died".to_owned())
    }

    /// There is one at a time: this one has died, or does not listen to us any more.
    async fn put_to_rest(&mut self, watched: Option<AsyncFd<OwnedFd>>) {
        if let Some(keeper) = &self.keeper {
            let _ = rustix::process::pidfd_send_signal(keeper, rustix::process::Signal::KILL);
        }
        self.reap(watched).await;
        // Without a place to watch it.
        self.keeper.take().into_iter().for_each(reap_later);
    }

    /// One wake-up: read all there is, send what waits. `false`: the keeper has closed its end, or is gone.
    async fn turn(&self, socket: &AsyncFd<OwnedFd>, keeper: Option<&AsyncFd<OwnedFd>>, orphans: &mut Orphans) -> bool {
        // Only while something waits to be sent: else every request that the keeper takes would wake us.
        let full = !self.shared.lock().outbox.is_empty();
        let writer = match full.then(|| socket.get_ref().try_clone()) {
            Some(Ok(socket)) => crate::sys::watch(socket, Interest::WRITABLE).ok(),
            _ => None,
        };
        if full && writer.is_none() {
            // No descriptor is left to wait with, and those that wait are closed when they are sent: each answer makes room.
            self.shared.flush();
        }
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
            pid = orphans.ended() => {
                orphans.look_behind(pid).await;
                true
            }
            () = self.shared.wake.notified() => !self.shared.closing.load(Ordering::Acquire) || !self.shared.is_whole(),
        }
    }

    /// Take all that is there. `false`: there will be no more.
    fn hear(&self, socket: &OwnedFd) -> bool {
        loop {
            match receive(socket) {
                Ok(Some(heard)) => self.shared.deliver(heard),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return true,
                // It has gone with requests unread. That is said once, before what it had told.
                Err(rustix::io::Errno::CONNRESET) => {}
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
