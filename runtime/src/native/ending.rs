//! How a container ends: the kill, the evidence, the removal. All of it idempotent, and shared by whoever asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::container::{Core, Paused};
use super::evidence::Last;
use super::off_thread::off_thread;
use super::{cgroup_error, janitor};
use crate::Evidence;
use crate::cgroup::{Group, Oom};
use crate::error::{Error, ErrorKind};

impl Core {
    /// Every process of it, at once.
    pub(super) fn kill(&self) -> Result<(), Error> {
        if let Some(serving) = &self.rests.serving {
            serving.note_loss();
        }
        let Ok(init) = self.rests.init() else { return Ok(()) };
        // The pid namespace dies with its init. A frozen v1 process feels no signal before it is thawed.
        let sent = rustix::process::pidfd_send_signal(&init, rustix::process::Signal::KILL);
        self.rests.stop_serving();
        if let Some(group) = self.group() {
            group.lift_io();
        }
        if self.shares_pids
            && let Some(group) = self.group()
        {
            // No pid namespace ends with it. One write, frozen or not: `check` has seen that there is the file for it.
            return group.kill().map_err(|error| cgroup_error(&error));
        }
        if matches!(*self.paused(), Paused::Frozen)
            && let Some(group) = self.group()
        {
            // Each for itself: thawed, one would feel what it was sent before, until the namespace has died.
            return group.kill_frozen().map_err(|error| cgroup_error(&error));
        }
        match sent {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(Error::system("cannot kill the container", error)),
        }
    }

    /// OOM kills beyond those that were seen.
    pub(super) async fn oom(&self, seen: u64) -> Result<(u64, Oom), Error> {
        // Before the look: of a group on v2 nobody tells who waits for its counters that it is removed.
        let over = self.over.notified();
        self.alive()?;
        let none = || Error::new(ErrorKind::Unsupported, "this container has no cgroup");
        let group = self.rests.group.clone().ok_or_else(none)?;
        let ended = || Error::new(ErrorKind::State, "the container has ended");
        let kills = tokio::select! {
            biased;
            kills = group.wait_oom_kills(seen) => {
                kills.map_err(|error| if error.is_gone() { ended() } else { cgroup_error(&error) })?
            }
            () = over => return Err(ended()),
        };
        let (before, watched) = (self.before.clone(), Arc::clone(&group));
        // Every level is read.
        let verdict = off_thread(move || Group::verdict(&before, &watched.oom())).await;
        Ok((kills, verdict.unwrap_or(Oom::Killed { kills })))
    }

    /// Kill what is left, wait until the last process is gone, read the counters.
    pub(super) async fn finish(&self) -> Evidence {
        let _ = self.kill();
        let evidence = self.finished.get_or_init(|| async {
            if self.shares_pids {
                self.empty().await;
            }
            if let Some(serving) = &self.rests.serving {
                // Killed by now: whether it was lost before is part of the account.
                serving.heard().await;
            }
            let last = Last {
                init: self.rests.init().ok(),
                group: self.rests.group.clone(),
                before: self.before.clone(),
                cgroup_mode: self.mode(),
            };
            let read = last.read(&self.inner.threads).await;
            self.removed.store(read.removed, Ordering::Release);
            read.evidence
        });
        let evidence = evidence.await.clone();
        self.over.notify_waiters();
        evidence
    }

    /// Where no pid namespace takes everybody along: until the cgroup is empty, for good.
    async fn empty(&self) {
        if let Ok(init) = self.rests.init() {
            let _ = janitor::ended(&init).await;
        }
        // Nobody enters a container whose first process is gone: who is being born now is the last.
        let _none_to_come = self.births.write().await;
        if let Some(group) = &self.rests.group
            && let Err(error) = janitor::empty(group).await
        {
            tracing::warn!(%error, "a container's processes could not be ended");
        }
    }

    /// [`Core::finish`], then give everything back.
    ///
    /// # Errors
    /// What could not be removed.
    pub(super) async fn delete(&self) -> Result<(), Error> {
        self.finish().await;
        let deleted = self.deleted.get_or_try_init(|| async {
            let removed = self.removed.load(Ordering::Acquire);
            self.rests.clear(removed).await?;
            self.rests.free();
            self.forget();
            tracing::debug!("removed");
            Ok::<(), Error>(())
        });
        deleted.await.copied()
    }
}
