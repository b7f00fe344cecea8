//! Handles: what a service holds of a container or a process. They reach the slot directly and the actors by messages.

mod admitted;
mod attach;
mod blocking;
mod control;
mod inspect;
mod process;
mod properties;
mod provided;
mod reach;
mod ready;
mod stats;
mod tty;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Addr;
use actix_rt::ArbiterHandle;
use orangery_io_stream::{Cursor, Gone, Metrics as StreamMetrics, StdinWriter, SubscribeOptions, Subscriber};
use orangery_runtime::seccomp::Listener;

use crate::command::ExecCommand;
use crate::container::actor::ContainerActor;
use crate::container::life::Alive;
use crate::container::msg::Exec;
use crate::container::slot::{ContainerSlot, Owned};
use crate::error::{Error, ErrorKind};
use crate::ladder::StopLadder;
use crate::process::slot::Slot;
use crate::report::{Cause, ExitStatus, Report};

pub use inspect::{Inspect, ProcessSummary};
pub use process::ProcessHandle;
pub use stats::StatsStream;

/// A container and its main process.
///
/// Clones are the same container, and so are handles from [`Supervisor::container`](crate::Supervisor::container). When
/// the last of all of them is dropped the container is killed and removed, without blocking, unless
/// [`ContainerHandle::detach`] was called on any of them: of a detached container handles come and go and it lives on.
///
/// ```no_run
/// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
/// let container = supervisor.command("sleep").arg("1000").spawn().await?;
/// container.kill()?;
/// assert_eq!(container.wait().await?.shell_code(), 137);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ContainerHandle {
    inner: Arc<Owner>,
}

struct Owner {
    slot: Owned,
    actor: Addr<ContainerActor>,
    main: ProcessHandle,
}

impl std::fmt::Debug for ContainerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContainerHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Why an answer of a container's actor did not come.
fn lost(main: &Slot) -> Error {
    if main.ended() { Error::new(ErrorKind::State, "the container has ended") } else { Error::lost_request() }
}

impl ContainerHandle {
    pub(crate) fn new((slot, actor, main): Alive, system: ArbiterHandle) -> Self {
        let main = ProcessHandle::new(Arc::clone(&slot.main), main, system);
        Self { inner: Arc::new(Owner { slot, actor, main }) }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.slot.id
    }

    /// Its main process.
    #[must_use]
    pub fn process(&self) -> &ProcessHandle {
        &self.inner.main
    }

    /// The main process outside; for display.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process().pid()
    }

    /// See [`ProcessHandle::wait`]. The handle may be dropped meanwhile; the container then is killed.
    pub fn wait(&self) -> impl Future<Output = Result<Arc<Report>, Error>> + Send + 'static + use<> {
        self.process().wait()
    }

    /// See [`ProcessHandle::wait_exit`].
    pub fn wait_exit(&self) -> impl Future<Output = Result<ExitStatus, Error>> + Send + 'static + use<> {
        self.process().wait_exit()
    }

    /// See [`ProcessHandle::kill`].
    ///
    /// # Errors
    /// As there.
    pub fn kill(&self) -> Result<(), Error> {
        self.process().kill()
    }

    /// See [`ProcessHandle::signal`].
    ///
    /// # Errors
    /// As there.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        self.process().signal(signal)
    }

    /// See [`ProcessHandle::stop`].
    pub fn stop(
        &self,
        signal: i32,
        grace: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.process().stop(signal, grace)
    }

    /// See [`ProcessHandle::stop_with`].
    pub fn stop_with(&self, ladder: StopLadder) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.process().stop_with(ladder)
    }

    /// See [`ProcessHandle::stop_gently`].
    pub fn stop_gently(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.process().stop_gently()
    }

    /// See [`ProcessHandle::stdin`].
    #[must_use]
    pub fn stdin(&self) -> Option<StdinWriter> {
        self.process().stdin()
    }

    /// See [`ProcessHandle::listener`].
    #[must_use]
    pub fn listener(&self) -> Option<Listener> {
        self.process().listener()
    }

    /// See [`ProcessHandle::stdout`].
    #[must_use]
    pub fn stdout(&self) -> Subscriber {
        self.process().stdout()
    }

    /// See [`ProcessHandle::stderr`].
    #[must_use]
    pub fn stderr(&self) -> Subscriber {
        self.process().stderr()
    }

    /// See [`ProcessHandle::output`].
    #[must_use]
    pub fn output(&self) -> Subscriber {
        self.process().output()
    }

    /// See [`ProcessHandle::subscribe`].
    #[must_use]
    pub fn subscribe(&self, options: SubscribeOptions) -> Subscriber {
        self.process().subscribe(options)
    }

    /// See [`ProcessHandle::resume_from`].
    pub fn resume_from(&self, cursor: Cursor, options: SubscribeOptions) -> Result<Subscriber, Gone> {
        self.process().resume_from(cursor, options)
    }

    /// See [`ProcessHandle::stream_metrics`].
    #[must_use]
    pub fn stream_metrics(&self) -> StreamMetrics {
        self.process().stream_metrics()
    }

    /// The readers that were there before the first byte, once.
    pub(crate) fn captures(&self) -> Option<(Subscriber, Subscriber)> {
        self.inner.slot.captures.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    /// A further process in this container.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> ExecCommand {
        ExecCommand::new(self.clone(), program.as_ref())
    }

    pub(crate) fn tell(&self, message: Exec) {
        self.inner.actor.do_send(message);
    }

    /// Why an answer did not come.
    pub(crate) fn lost(&self) -> Error {
        lost(&self.inner.slot.main)
    }

    /// As it is now.
    #[must_use]
    pub fn inspect(&self) -> Inspect {
        Inspect::of(&self.inner.slot)
    }

    pub(crate) fn slot(&self) -> &Arc<ContainerSlot> {
        &self.inner.slot
    }

    pub(crate) fn system(&self) -> &ArbiterHandle {
        &self.inner.main.system
    }

    /// Kill it if it lives, let go of its files, and wait until nothing of it is left. One that outlives its supervisor is
    /// forgotten too ([`Supervisor::forget`](crate::Supervisor::forget)). Idempotent.
    ///
    /// # Errors
    /// What could not be removed; [`ErrorKind::Unkillable`] when it does not end: it is removed as soon as it does.
    ///
    /// # Cancel safety
    /// Begun when first polled; it goes on when the future is dropped.
    pub fn delete(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let handle = self.clone();
        async move {
            let slot = &handle.inner.slot;
            let _ = slot.main.kill(Cause::Stop { escalated: true });
            slot.let_files_go();
            let (mut gone, mut told) = (slot.gone.subscribe(), slot.main.report.subscribe());
            let stuck = |report: &Option<Arc<Report>>| report.as_ref().is_some_and(|it| it.unkillable.is_some());
            let removed = tokio::select! {
                biased;
                _ = gone.wait_for(|gone| *gone) => slot.left.get().map_or(Ok(()), |error| Err(error.clone())),
                Ok(report) = told.wait_for(stuck) => {
                    Err(Error::unkillable(report.as_ref().and_then(|report| report.unkillable.as_ref())))
                }
            };
            removed?;
            slot.forget().await.map(drop)
        }
    }

    /// Let it live when all handles are gone, for good; it ends by itself or with the supervisor, and
    /// [`Supervisor::container`](crate::Supervisor::container) gives a handle of it again.
    pub fn detach(self) {
        self.inner.slot.detached.store(true, Ordering::Release);
    }
}
