//! Gives back what containers held: for those that were dropped instead of deleted, and for creations that were
//! cancelled. One task; removing waits for the kernel's own notifications.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::cgroup_error;
use super::driven::Driven;
use super::helper::Helper;
use super::off_thread::off_thread;
use super::provided::{Network, Root};
use crate::cgroup::Group;
use crate::error::{Error, ErrorKind};
use crate::ids::Range;
use crate::keeper::Client;

/// Names in use, so that two living containers never have the same, with or without cgroups.
pub(super) type Names = Arc<Mutex<HashSet<String>>>;

/// One name in use; free again when dropped.
#[derive(Debug)]
pub(super) struct Name {
    names: Names,
    id: String,
}

impl Name {
    pub(super) fn take(names: &Names, id: &str) -> Result<Self, Error> {
        if !names.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned()) {
            return Err(
                Error::new(ErrorKind::Exists, format!("a container with the id {id:?} exists")).with_field("id")
            );
        }
        Ok(Self { names: Arc::clone(names), id: id.to_owned() })
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// A first process that is not what the container is for.
#[derive(Debug)]
pub(super) struct Stub {
    pub(super) keeper: Client,
    pub(super) request: u64,
    pub(super) place: u64,
}

/// What must be given back when a container is gone.
#[derive(Debug)]
pub(super) struct Rests {
    /// Of whoever made them: what is said of their removal is said there.
    span: tracing::Span,
    pub(super) group: Option<Arc<Group>>,
    /// pid 1, until it is known to be gone: afterwards a container whose handles are kept costs no descriptor.
    init: Mutex<Option<Arc<OwnedFd>>>,
    /// Where it is in the keeper, if nobody asks how it ends.
    stub: Mutex<Option<Stub>>,
    /// The end of its line, while it is tied to us: closed, it ends.
    line: Mutex<Option<OwnedFd>>,
    pub(super) network: Option<Arc<Network>>,
    pub(super) root: Option<Arc<Root>>,
    /// What serves its root.
    pub(super) serving: Option<Arc<Helper>>,
    /// The program that has made it, where that is another one.
    pub(super) driven: Option<Arc<Driven>>,
    held: Mutex<Option<(Name, Option<Arc<Range>>)>>,
}

impl Default for Rests {
    fn default() -> Self {
        Self {
            span: tracing::Span::current(),
            group: None,
            init: Mutex::default(),
            stub: Mutex::default(),
            line: Mutex::default(),
            network: None,
            root: None,
            serving: None,
            driven: None,
            held: Mutex::default(),
        }
    }
}

impl Rests {
    /// Hold a name, and a range of ids where there is one: freed after everything else is gone.
    pub(super) fn hold(&self, name: Name, range: Option<Arc<Range>>) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((name, range));
    }

    /// The container outlives us, and so does its range.
    pub(super) fn leave(&self) {
        if let Some((_, Some(range))) = &*self.held.lock().unwrap_or_else(PoisonError::into_inner) {
            range.leave();
        }
    }

    /// Where its range of ids begins.
    pub(super) fn range(&self) -> Option<(u32, u32)> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().and_then(|(_, range)| range.as_ref()).map(|range| range.base())
    }

    /// pid 1 exists: from now on giving back means to end it first.
    pub(super) fn born(&self, init: Arc<OwnedFd>) {
        *self.init.lock().unwrap_or_else(PoisonError::into_inner) = Some(init);
    }

    /// How pid 1 ends is of no interest: the keeper need not stay for it.
    pub(super) fn of_no_interest(&self, stub: Stub) {
        *self.stub.lock().unwrap_or_else(PoisonError::into_inner) = Some(stub);
    }

    /// pid 1 ends when this is closed, until it is [let go](Rests::let_go).
    pub(super) fn tie(&self, line: OwnedFd) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }

    /// pid 1 stays without us, from now on. Idempotent.
    pub(super) fn let_go(&self) {
        if let Some(line) = self.line.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // What is on its way is heard, whatever becomes of us. One that has ended hears nothing.
            let _ = rustix::net::send(&line, &[1], rustix::net::SendFlags::NOSIGNAL);
        }
    }

    /// The pidfd of pid 1.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when it is gone.
    pub(super) fn init(&self) -> Result<Arc<OwnedFd>, Error> {
        let init = self.init.lock().unwrap_or_else(PoisonError::into_inner).clone();
        init.ok_or_else(|| Error::new(ErrorKind::State, "the container has ended"))
    }

    /// The container was killed: nothing in it has to wait for an answer about its root.
    pub(super) fn stop_serving(&self) {
        if let Some(serving) = &self.serving {
            serving.kill();
        }
    }

    /// The processes are gone: give back what stands around them, the last that was made first. Idempotent.
    ///
    /// # Errors
    /// The cgroup cannot be removed: the rest is tried all the same. A program that has made it is held up: for the first time nothing that
    /// comes after it is tried, so that it finds what it has to remove (`driven/container.rs`).
    pub(super) async fn clear(&self, group_is_gone: bool) -> Result<(), Error> {
        if let Some(network) = &self.network {
            network.detach().await;
        }
        if let Some(serving) = &self.serving {
            serving.end().await;
        }
        if let Some(driven) = &self.driven {
            driven.remove().await?;
        }
        let removed = match &self.group {
            Some(group) if !group_is_gone => remove_group(group).await,
            _ => Ok(()),
        };
        if let Some(root) = &self.root {
            root.release().await;
        }
        removed.map_err(|error| cgroup_error(&error))
    }

    /// Free name and range; the container they belonged to is gone.
    pub(super) fn free(&self) {
        if let Some(Stub { keeper, request, place }) = self.stub.lock().unwrap_or_else(PoisonError::into_inner).take() {
            keeper.settle(request, place);
        }
        drop(self.line.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.init.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.held.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Kill what is left, wait until it is gone, remove. Idempotent.
    pub(super) async fn remove(&self) {
        if let Ok(init) = self.init() {
            let _ = rustix::process::pidfd_send_signal(&init, rustix::process::Signal::KILL);
            self.stop_serving();
            let _ = ended(&init).await;
        }
        let mut cleared = self.clear(false).await;
        if cleared.is_err() && self.driven.is_some() {
            cleared = self.clear(false).await;
        }
        if let Err(error) = cleared {
            tracing::warn!(%error, "what is left of a container could not be removed");
        }
        self.free();
        tracing::debug!("removed");
    }
}

/// Resolves when the process is a zombie or gone.
pub(super) async fn ended(pidfd: &Arc<OwnedFd>) -> std::io::Result<()> {
    let watched = crate::sys::watch(pidfd.try_clone()?, Interest::READABLE)?;
    let ready = watched.readable().await?;
    drop(ready);
    // Ours only when the keeper is gone and this host is a subreaper; ECHILD otherwise.
    let _ = super::reap(pidfd);
    Ok(())
}

/// Wait on this thread until the process is a zombie or gone, for `patience` at the most.
pub(super) fn is_ended(pidfd: &Arc<OwnedFd>, patience: &rustix::event::Timespec) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let ended = matches!(poll(&mut [PollFd::new(&**pidfd, PollFlags::IN)], Some(patience)), Ok(1));
    if ended {
        // Ours only when the keeper is gone and this host is a subreaper; ECHILD otherwise.
        let _ = super::reap(pidfd);
    }
    ended
}

/// With its init gone a container's group is empty, so the first attempt is nearly always the last; a group without
/// one is killed first. A process that is born into it meanwhile is caught by the next round.
pub(super) async fn remove_group(group: &Arc<Group>) -> Result<(), crate::cgroup::CgroupError> {
    let mut last = match blocking(group, Group::remove).await {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    for _ in 0..16 {
        if !last.is_busy() {
            return Err(last);
        }
        empty(group).await?;
        match blocking(group, Group::remove).await {
            Ok(()) => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Kill everybody in it and wait until nobody is.
pub(super) async fn empty(group: &Arc<Group>) -> Result<(), crate::cgroup::CgroupError> {
    blocking(group, Group::kill).await?;
    group.wait_empty().await
}

/// A cgroup file may wait for the kernel's locks, and a kill on v1 for processes: not on the thread that reads exits.
async fn blocking(
    group: &Arc<Group>,
    act: fn(&Group) -> Result<(), crate::cgroup::CgroupError>,
) -> Result<(), crate::cgroup::CgroupError> {
    let for_thread = Arc::clone(group);
    match off_thread(move || act(&for_thread)).await {
        Ok(done) => done,
        // The runtime is being torn down and takes no more work.
        Err(_) => act(group),
    }
}

/// What the janitor is told.
#[derive(Debug)]
pub(super) enum Work {
    /// Give these back.
    Remove(Rests),
    /// Say when everything so far is done, and end: nothing can be made any more.
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
                        let span = rests.span.clone();
                        removing.spawn(async move { rests.remove().await }.instrument(span));
                    }
                    Some(Work::Finish(done)) => {
                        while removing.join_next().await.is_some() {}
                        let _ = done.send(());
                        return;
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
