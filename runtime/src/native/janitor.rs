//! Gives back what containers held: for those that were dropped instead of deleted, and for creations that were
//! cancelled. One task; removing waits for the kernel's own notifications.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::cgroup::Group;
use crate::ids::Range;

/// What must be given back when a container is gone.
#[derive(Debug, Default)]
pub(super) struct Rests {
    pub(super) group: Option<Arc<Group>>,
    /// Freed when this is dropped, after everything else is gone.
    pub(super) _range: Option<Arc<Range>>,
    pub(super) init: Option<Arc<OwnedFd>>,
}

impl Rests {
    /// Kill what is left, wait until it is gone, remove. Idempotent.
    pub(super) async fn remove(&self) {
        if let Some(init) = &self.init {
            let _ = rustix::process::pidfd_send_signal(init, rustix::process::Signal::KILL);
            let _ = ended(init).await;
        }
        if let Some(group) = &self.group
            && let Err(error) = remove_group(group).await
        {
            tracing::warn!(container = group.id(), %error, "a cgroup could not be removed");
        }
    }
}

/// Resolves when the process is a zombie or gone.
pub(super) async fn ended(pidfd: &Arc<OwnedFd>) -> std::io::Result<()> {
    let watched = crate::sys::watch(pidfd.try_clone()?, Interest::READABLE)?;
    let ready = watched.readable().await?;
    drop(ready);
    Ok(())
}

/// With its init gone a container's group is empty, so the first attempt is nearly always the last; a group without
/// one is killed first. A process that is born into it meanwhile is caught by the next round.
pub(super) async fn remove_group(group: &Group) -> Result<(), crate::cgroup::CgroupError> {
    let mut last = match group.remove() {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    for _ in 0..16 {
        if !last.is_busy() {
            return Err(last);
        }
        group.kill()?;
        group.wait_empty().await?;
        match group.remove() {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
        tokio::task::yield_now().await;
    }
    Err(last)
}

/// What the janitor is told.
#[derive(Debug)]
pub(super) enum Work {
    /// Give these back.
    Remove(Rests),
    /// Say when everything so far is done.
    Finish(oneshot::Sender<()>),
}

/// The task.
#[derive(Debug)]
pub(super) struct Janitor {
    work: mpsc::UnboundedReceiver<Work>,
}

impl Janitor {
    /// Unbounded on purpose: a `Drop` cannot wait, and there is at most one entry for each container.
    pub(super) fn new() -> (mpsc::UnboundedSender<Work>, Self) {
        let (sender, work) = mpsc::unbounded_channel();
        (sender, Self { work })
    }

    pub(super) async fn run(mut self) {
        let mut removing = JoinSet::new();
        loop {
            tokio::select! {
                work = self.work.recv() => match work {
                    Some(Work::Remove(rests)) => {
                        removing.spawn(async move { rests.remove().await });
                    }
                    Some(Work::Finish(done)) => {
                        while removing.join_next().await.is_some() {}
                        let _ = done.send(());
                    }
                    None => {
                        while removing.join_next().await.is_some() {}
                        return;
                    }
                },
                Some(_) = removing.join_next() => {}
            }
        }
    }
}
