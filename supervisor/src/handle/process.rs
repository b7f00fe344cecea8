//! The handle of one process.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Addr;
use actix_rt::ArbiterHandle;
use bytes::Bytes;
use orangery_io_stream::{Cursor, Gone, Metrics as StreamMetrics, Sources, StdinWriter, SubscribeOptions, Subscriber};
use orangery_runtime::seccomp::Listener;
use tokio::sync::oneshot;

use crate::command::Stdin;
use crate::container::life;
use crate::error::{Error, ErrorKind};
use crate::ladder::StopLadder;
use crate::process::actor::ProcessActor;
use crate::process::msg::{Signal, Stop};
use crate::process::slot::Slot;
use crate::report::{Cause, ExitStatus, Report};

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
    pub(super) slot: Arc<Slot>,
    pub(super) actor: Addr<ProcessActor>,
    pub(super) system: ArbiterHandle,
}

impl std::fmt::Debug for ProcessHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessHandle").field("pid", &self.pid()).finish_non_exhaustive()
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
