//! Handles: what a service holds of a container or a process. They reach the slot directly and the actors by messages.

mod admitted;
mod attach;
mod blocking;
mod control;
mod properties;
mod provided;
mod reach;
mod ready;
mod stats;
mod tty;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Addr;
use actix_rt::ArbiterHandle;
use bytes::Bytes;
use orangery_io_stream::{Cursor, Gone, Metrics as StreamMetrics, Sources, StdinWriter, SubscribeOptions, Subscriber};
use orangery_runtime::cgroup::Limits;
use orangery_runtime::network::NetworkProperties;
use orangery_runtime::seccomp::Listener;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::command::{ExecCommand, Stdin};
use crate::container::actor::ContainerActor;
use crate::container::life::{self, Alive};
use crate::container::msg::Exec;
use crate::container::slot::{ContainerSlot, Owned};
use crate::container::state::State;
use crate::error::{Error, ErrorKind};
use crate::ids::{ProcessId, ProcessRole};
use crate::ladder::StopLadder;
use crate::limit_update::WatchedLimits;
use crate::probe::Vitals;
use crate::process::actor::ProcessActor;
use crate::process::msg::{Signal, Stop};
use crate::process::slot::Slot;
use crate::report::{Cause, ExitStatus, Report};

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

/// One process of a container. Clones are the same process; dropping them does nothing to it.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let more = container.command("sh").arg("-c").arg("exit 3").spawn().await?;
/// assert_eq!(more.wait().await?.shell_code(), 3);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ProcessHandle {
    slot: Arc<Slot>,
    actor: Addr<ProcessActor>,
    system: ArbiterHandle,
}

impl std::fmt::Debug for ContainerHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContainerHandle").field("id", &self.id()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ProcessHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessHandle").field("pid", &self.pid()).finish_non_exhaustive()
    }
}

/// A container as it is now.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let now: orangery::Inspect = container.inspect();
/// println!("{} is {:?}, its command is {:?}", now.id, now.state, now.pid);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Inspect {
    /// Its id.
    pub id: String,
    /// Where it is.
    pub state: State,
    /// Its main process outside; `None` before it has started.
    pub pid: Option<i32>,
    /// pid 1 of the container outside.
    pub init_pid: Option<i32>,
    /// Which incarnation.
    pub generation: u32,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its mutable properties.
    pub properties: BTreeMap<String, String>,
    /// Its limits, as last updated.
    pub limits: Limits,
    /// Its other limits, as last updated.
    pub watched: WatchedLimits,
    /// `v2`, `v1`, `hybrid` or `none`.
    pub cgroup_mode: Option<String>,
    /// How its network is wired, as its provider tells; `None` without one.
    pub network: Option<NetworkProperties>,
    /// Its processes that live or are not reported yet, the main one first.
    pub processes: Vec<ProcessSummary>,
    /// Whether it is ready and healthy.
    pub vitals: Vitals,
    /// The report, once there is one.
    pub report: Option<Report>,
}

/// A process as it is now.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// for process in container.inspect().processes {
///     println!("{process:?}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProcessSummary {
    /// Its number in the container.
    pub id: ProcessId,
    /// What it is for.
    pub role: ProcessRole,
    /// Its process id outside; for display.
    pub pid: i32,
    /// It has ended and its report is being written.
    pub ended: bool,
}

impl Inspect {
    pub(crate) fn of(slot: &ContainerSlot) -> Self {
        let container = slot.container.get();
        Self {
            id: slot.id.clone(),
            state: slot.state(),
            pid: slot.main.born.get().map(|born| born.pid),
            init_pid: container.map(|container| container.init_pid()),
            generation: slot.main.generation,
            labels: BTreeMap::clone(&slot.labels),
            properties: slot.properties().all().clone(),
            limits: slot.limits(),
            watched: slot.watched(),
            cgroup_mode: container.map(|container| container.cgroup_mode()),
            network: container.and_then(|container| container.network()),
            vitals: slot.vitals(),
            processes: attach::present(slot).iter().map(|slot| attach::summary(slot)).collect(),
            report: slot.main.report.borrow().as_deref().cloned(),
        }
    }
}

impl ProcessHandle {
    pub(crate) fn new(slot: Arc<Slot>, actor: Addr<ProcessActor>, system: ArbiterHandle) -> Self {
        Self { slot, actor, system }
    }

    /// Its process id outside the container; for display, never for signalling.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.slot.born.get().map_or(0, |born| born.pid)
    }

    /// The report: once the process has ended, its output is drained and, for a main process, its container is gone.
    ///
    /// # Errors
    /// Only when the supervisor itself failed.
    ///
    /// # Cancel safety
    /// May be dropped and called again, by many at once, also after the end.
    pub fn wait(&self) -> impl Future<Output = Result<Arc<Report>, Error>> + Send + 'static + use<> {
        let slot = Arc::clone(&self.slot);
        async move { life::later(slot.report.subscribe()).await }
    }

    /// The bare exit, at once when it happens.
    ///
    /// # Errors
    /// As for [`ProcessHandle::wait`].
    ///
    /// # Cancel safety
    /// As for [`ProcessHandle::wait`].
    pub fn wait_exit(&self) -> impl Future<Output = Result<ExitStatus, Error>> + Send + 'static + use<> {
        let slot = Arc::clone(&self.slot);
        async move { life::later(slot.exit.subscribe()).await.map(|exit| exit.status.into()) }
    }

    /// Kill it now; a main process with its whole container. Passes no mailbox and never blocks.
    ///
    /// # Errors
    /// The kernel refuses, which it does not for processes of ours.
    pub fn kill(&self) -> Result<(), Error> {
        self.slot.kill(Cause::Stop { escalated: true })
    }

    /// Send a signal now, through the pidfd.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when it has ended, [`ErrorKind::Invalid`] for a number that is no signal.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        if self.slot.ended() {
            return Err(Error::new(ErrorKind::State, "the process has ended"));
        }
        self.slot.signal(signal)
    }

    /// Send a signal through the actor, behind everything that was asked of it before.
    ///
    /// # Errors
    /// As for [`ProcessHandle::signal`], or [`ErrorKind::SupervisorFault`] when the actor failed with it in hand.
    ///
    /// # Cancel safety
    /// Asked for when called: the signal is sent even if the future is dropped.
    pub fn signal_in_order(&self, signal: i32) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        self.actor.do_send(Signal { signal, reply });
        async move { answer.await.map_err(|_| Error::lost_request())? }
    }

    /// End it: `signal` (and CONT), and the kill when it has not ended after `grace`.
    ///
    /// # Errors
    /// As for [`ProcessHandle::stop_with`].
    ///
    /// # Cancel safety
    /// As for [`ProcessHandle::stop_with`].
    pub fn stop(
        &self,
        signal: i32,
        grace: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.stop_with(StopLadder::from((signal, grace)))
    }

    /// End it: one signal of the ladder after the other, each followed by CONT, and at its end the kill; of a main process
    /// that is its whole container's. Comes back when it has ended. A second call joins the first: its signals are not
    /// sent, and the kill comes at whichever end is the nearer, so that it may only shorten.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what is no signal, and nothing is done; [`ErrorKind::SupervisorFault`] when the actor
    /// failed with the request in hand; the process may then still run. [`ErrorKind::Unkillable`] when it does not end.
    ///
    /// # Cancel safety
    /// Asked for when called: the stop goes on when the future is dropped.
    pub fn stop_with(&self, ladder: StopLadder) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.stop_as(Some(ladder))
    }

    /// [`ProcessHandle::stop_with`] its own ladder ([`Command::stop_ladder`](crate::Command::stop_ladder)).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub fn stop_gently(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.stop_as(None)
    }

    fn stop_as(&self, ladder: Option<StopLadder>) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let refused = Error::all(StopLadder::check_given(ladder.as_ref()));
        let (reply, answer) = oneshot::channel();
        if refused.is_ok() {
            self.actor.do_send(Stop { ladder, reply });
        }
        let slot = Arc::clone(&self.slot);
        async move {
            refused?;
            match answer.await {
                _ if slot.is_overdue() => {
                    let report = life::later(slot.report.subscribe()).await?;
                    Err(Error::unkillable(report.unkillable.as_ref()))
                }
                Ok(()) => Ok(()),
                // The actor has stopped because the process has ended.
                Err(_) if slot.ended() => Ok(()),
                Err(_) => Err(Error::lost_request()),
            }
        }
    }

    pub(crate) fn ended(&self) -> bool {
        self.slot.ended()
    }

    /// The writer of its standard input, for one at a time: once, when it was started with [`Stdin::Piped`], again and again
    /// with [`Stdin::Kept`]. `None` while somebody has it, and after its end.
    #[must_use]
    pub fn stdin(&self) -> Option<StdinWriter> {
        self.slot.take_stdin()
    }

    /// Hears of the calls that a [`seccomp_filter`](crate::Command::seccomp_filter) asks about, and answers them. Once, and
    /// only for a process with such a filter; `None` afterwards, and after its end. Until it is taken the process stands
    /// still in the first such call; dropped, the calls fail with ENOSYS.
    #[must_use]
    pub fn listener(&self) -> Option<Listener> {
        self.slot.take_listener()
    }

    /// Standard output from its beginning, as far as it is retained.
    #[must_use]
    pub fn stdout(&self) -> Subscriber {
        self.subscribe(SubscribeOptions { sources: Sources::Stdout, ..SubscribeOptions::default() })
    }

    /// Standard error from its beginning.
    #[must_use]
    pub fn stderr(&self) -> Subscriber {
        self.subscribe(SubscribeOptions { sources: Sources::Stderr, ..SubscribeOptions::default() })
    }

    /// Both streams in the order in which they were read.
    #[must_use]
    pub fn output(&self) -> Subscriber {
        self.subscribe(SubscribeOptions::default())
    }

    /// A reader of the output, as it wants it. Where that goes into a log ([`Command::log`](crate::Command::log)) it reads
    /// the log: see [`Recording`](crate::stream::log::Recording).
    #[must_use]
    pub fn subscribe(&self, options: SubscribeOptions) -> Subscriber {
        self.slot.output.subscribe(options)
    }

    /// A reader that has everything before `cursor`: no byte is missing and none comes twice.
    ///
    /// # Errors
    ///
    /// [`Gone`], with the oldest place there is, when the cursor is none of this process or its bytes are no longer
    /// retained.
    pub fn resume_from(&self, cursor: Cursor, options: SubscribeOptions) -> Result<Subscriber, Gone> {
        self.slot.output.resume(cursor, options)
    }

    /// What can be measured of its output: bytes in and out, losses, how far each reader is behind, how long readers
    /// have held it up.
    #[must_use]
    pub fn stream_metrics(&self) -> StreamMetrics {
        self.slot.output.metrics()
    }

    /// What it was to read, once it runs.
    pub(crate) fn provide(&self, stdin: Stdin) {
        match stdin {
            Stdin::Bytes(bytes) => self.feed(bytes),
            Stdin::Kept => self.slot.keep_stdin.store(true, Ordering::Release),
            // At a terminal that nobody types at.
            Stdin::Null => drop(self.stdin()),
            Stdin::Piped => {}
        }
    }

    /// Write `bytes` to the standard input in the background, then close it.
    pub(crate) fn feed(&self, bytes: Bytes) {
        let Some(mut stdin) = self.stdin() else { return };
        self.system.spawn(async move {
            // A process that does not read its input to the end is no error.
            if stdin.write_all_bytes(bytes).await.is_ok() {
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut stdin).await;
            }
        });
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
