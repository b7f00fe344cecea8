//! What a program holds of a service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use actix::Addr;
use futures_core::Stream;
use tokio::sync::{broadcast, oneshot, watch};

use super::actor::ServiceActor;
use super::inspect::{Change, ServiceInspect, Status};
use super::msg::{Start, Stop};
use super::slot::OwnedService;
use super::state::ServiceState;
use crate::error::{Error, ErrorKind};
use crate::handle::ContainerHandle;
use crate::ladder::StopLadder;

/// A command that is kept running: see [`Command::supervise`](crate::Command::supervise).
///
/// Clones are the same service, and so are handles from [`Supervisor::service`](crate::Supervisor::service). When the last of
/// all of them is dropped the service is killed and removed, without blocking, unless [`Service::detach`] was called on any
/// of them.
///
/// ```no_run
/// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
/// use orangery::{Restart, ServiceState};
/// let service = supervisor.command("flaky").restart(Restart::on_failure()).supervise().await?;
/// let end = service.wait().await?;
/// if end.state == ServiceState::Failed {
///     println!("{:?} after {} restarts: {:?}", end.give_up, end.restarts, end.deaths);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Service {
    inner: Arc<Owner>,
}

struct Owner {
    slot: OwnedService,
    actor: Addr<ServiceActor>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Changes of a service as they come: see [`Service::changes`].
///
/// ```no_run
/// # fn f(service: orangery::Service) {
/// let changes: orangery::ServiceChanges = service.changes();
/// # let _ = changes;
/// # }
/// ```
#[must_use = "a stream does nothing until it is read"]
pub struct ServiceChanges {
    inner: Pin<Box<dyn Stream<Item = Change> + Send>>,
}

impl fmt::Debug for ServiceChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceChanges").finish_non_exhaustive()
    }
}

impl ServiceChanges {
    pub(crate) fn new(changes: broadcast::Receiver<Change>) -> Self {
        let stream = futures_util::stream::unfold(changes, async |mut changes| {
            loop {
                match changes.recv().await {
                    Ok(change) => return Some((change, changes)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        });
        Self { inner: Box::pin(stream) }
    }
}

impl Stream for ServiceChanges {
    type Item = Change;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Change>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl Service {
    /// `None`: it is not on its shard yet.
    pub(crate) fn attach(slot: OwnedService) -> Option<Self> {
        let actor = slot.actor.get()?.clone();
        Some(Self { inner: Arc::new(Owner { slot, actor }) })
    }

    /// Its name, and the id of each of its containers.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.slot.id
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> ServiceState {
        self.inner.slot.status().state
    }

    /// As it is now: incarnation, restarts, the delay under way, the last report, the last deaths.
    #[must_use]
    pub fn inspect(&self) -> ServiceInspect {
        self.inner.slot.status().inspect(self.id())
    }

    /// The container of its last incarnation, which may have ended: for its streams, and for further processes in it.
    /// `None` before the first has started and while the next is being made. The handle does not keep it alive when the
    /// service is stopped or dropped.
    #[must_use]
    pub fn current(&self) -> Option<ContainerHandle> {
        self.inner.slot.current()?.container().cloned()
    }

    /// Every change of its state from now on, in order. A reader that is more than 64 changes behind misses the oldest and
    /// sees it by their numbers. Ends when the service is gone. The stream does not keep the service alive.
    pub fn changes(&self) -> ServiceChanges {
        ServiceChanges::new(self.inner.slot.changes())
    }

    /// Wait until what is told of it satisfies `wanted`. States that pass between two looks may not be seen: ask for what
    /// stays, such as a generation that is reached.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when the service is gone and so never will.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub fn wait_for<W>(
        &self,
        mut wanted: W,
    ) -> impl Future<Output = Result<ServiceInspect, Error>> + Send + 'static + use<W>
    where
        W: FnMut(&ServiceInspect) -> bool + Send + 'static,
    {
        let (mut status, id) = (self.inner.slot.watch(), self.id().to_owned());
        async move { until(&mut status, |status| wanted(&status.inspect(&id))).await.map(|status| status.inspect(&id)) }
    }

    /// [`Service::wait_for`] this state.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub fn wait_state(
        &self,
        state: ServiceState,
    ) -> impl Future<Output = Result<ServiceInspect, Error>> + Send + 'static + use<> {
        self.wait_for(move |now| now.state == state)
    }

    /// Wait until it has settled: it has ended, is stopped, or has failed. [`ServiceInspect::report`] is then the last
    /// incarnation's.
    ///
    /// # Errors
    /// As for [`Service::wait_for`].
    ///
    /// # Cancel safety
    /// As for [`Service::wait_for`].
    pub fn wait(&self) -> impl Future<Output = Result<ServiceInspect, Error>> + Send + 'static + use<> {
        self.wait_for(|now| now.state.is_settled())
    }

    /// Start it: a service that has ended, was stopped or has failed, with a new back-off and window; or one whose delay is
    /// not over yet. Does nothing to one that runs. Comes back when it runs.
    ///
    /// # Errors
    /// Why it cannot be started; it has then [failed](ServiceState::Failed). [`ErrorKind::State`] while it is being stopped.
    ///
    /// # Cancel safety
    /// Asked for when called: it goes on when the future is dropped.
    pub fn start(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.start_as(true)
    }

    pub(crate) fn start_as(&self, fresh: bool) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        self.inner.actor.do_send(Start { fresh, reply });
        async move { answer.await.map_err(|_| Error::lost_request())? }
    }

    /// Stop it: `signal` (and CONT) to what runs, the kill when it has not ended after `grace`; as for
    /// [`Service::stop_with`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub fn stop(
        &self,
        signal: i32,
        grace: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.stop_with(StopLadder::from((signal, grace)))
    }

    /// Stop it: what runs as [`ContainerHandle::stop_with`] does; nothing is started any more until somebody does. Comes
    /// back when it has settled. A second call joins the first and may only shorten it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what is no signal, and nothing is done; [`ErrorKind::SupervisorFault`] when the actor
    /// failed with the request in hand; [`ErrorKind::Unkillable`] when its container does not end.
    ///
    /// # Cancel safety
    /// Asked for when called: it goes on when the future is dropped.
    pub fn stop_with(&self, ladder: StopLadder) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.stop_as(Some(ladder))
    }

    /// [`Service::stop_with`] its own ladder ([`Command::stop_ladder`](crate::Command::stop_ladder)).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub fn stop_gently(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.stop_as(None)
    }

    pub(crate) fn stop_as(
        &self,
        ladder: Option<StopLadder>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let refused = Error::all(StopLadder::check_given(ladder.as_ref()));
        let (reply, answer) = oneshot::channel();
        if refused.is_ok() {
            self.inner.actor.do_send(Stop { ladder, reply });
        }
        let status = self.inner.slot.watch();
        async move {
            refused?;
            match answer.await {
                Ok(()) => {
                    let last = status.borrow().report.clone();
                    match last.as_ref().and_then(|report| report.unkillable.as_ref()) {
                        Some(left) => Err(Error::unkillable(Some(left))),
                        None => Ok(()),
                    }
                }
                // Its actor has gone because it is over for good.
                Err(_) if status.borrow().closed => Ok(()),
                Err(_) => Err(Error::lost_request()),
            }
        }
    }

    /// Kill what runs now, and start nothing any more until somebody does. Passes no mailbox and never blocks.
    pub fn kill(&self) {
        self.inner.slot.kill();
        // For a delay that is under way.
        drop(self.stop_with(StopLadder::new()));
    }

    /// Let it live when all handles are gone, for good; it ends when it is stopped, and with the supervisor.
    pub fn detach(self) {
        self.inner.slot.detached.store(true, Ordering::Release);
    }
}

impl Service {
    /// Where it outlives us its handles do not end it.
    pub(crate) fn last(self) -> Self {
        if self.inner.slot.state_dir().is_some() {
            self.inner.slot.detached.store(true, Ordering::Release);
        }
        self
    }

    /// For good, whoever holds it. Done when nothing is written down of it any more.
    pub(crate) async fn close(&self) {
        let mut status = self.watch();
        self.inner.slot.close();
        // Its sender is in the slot.
        let _ = status.wait_for(|status| status.closed).await;
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.inner.slot.watch()
    }
}

/// Wait for a status; an error when none comes any more.
pub(crate) async fn until(
    status: &mut watch::Receiver<Status>,
    mut wanted: impl FnMut(&Status) -> bool,
) -> Result<Status, Error> {
    let gone = || Error::new(ErrorKind::State, "the service is gone");
    let mut fits = false;
    let seen = status.wait_for(|status| {
        fits = wanted(status);
        fits || status.closed
    });
    let seen = seen.await.map_err(|_| gone())?.clone();
    if fits { Ok(seen) } else { Err(gone()) }
}
