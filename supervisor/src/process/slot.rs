//! What must not be lost when an actor fails: the pidfd, the streams, the exit, the report. Shared by the actor, the
//! tasks that watch the process, and the handles; the kill path goes through here and through no mailbox.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use actix::Addr;
use orangery_io_stream::{HubOptions, Overflow, Pty, Sources, StdinWriter, SubscribeOptions, Subscriber, pipe_size};
use orangery_runtime::cgroup::Limits;
use orangery_runtime::durable::Beside;
use orangery_runtime::seccomp::Listener;
use orangery_runtime::spec::Rlimit;
use orangery_runtime::{Container, Exit, ExitStatus};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::Span;

use super::actor::ProcessActor;
use super::backstop::Backstops;
use super::begun::{Begun, Note};
use super::held::Held;
use super::output::Output;
use super::prepare::{Before, Progress};
use super::wall::Wall;
use crate::error::{Error, ErrorKind};
use crate::events::Voice;
use crate::follow::directory::Listed;
use crate::ids::{ProcessId, ProcessRole};
use crate::ladder::StopLadder;
use crate::metrics::Enrolled;
use crate::output_limit::{OutputAction, OutputLimit};
use crate::report::{Cause, LimitKind, Report};

/// The incarnation of a container that is no service's.
pub(crate) const FIRST_GENERATION: u32 = 1;

/// How long who captures output may hold a workload up: it keeps nothing but what it is asked for, so it is never slow for
/// long.
pub(crate) const CAPTURE_BUDGET: Duration = Duration::from_secs(30);

/// One process as everybody sees it.
pub(crate) struct Slot {
    /// The container's id.
    pub(crate) id: String,
    pub(crate) number: ProcessId,
    pub(crate) generation: u32,
    /// The main process; its end ends the container.
    pub(crate) main: bool,
    /// What it is for.
    pub(crate) role: ProcessRole,
    /// How it is stopped unless somebody says otherwise.
    pub(crate) ladder: StopLadder,
    /// How long it may run.
    pub(crate) wall: watch::Sender<Option<Wall>>,
    /// How much it may write.
    pub(crate) may_write: watch::Sender<Option<OutputLimit>>,
    /// Who decides about it, once it is born.
    pub(crate) actor: OnceLock<Addr<ProcessActor>>,
    pub(crate) output: Output,
    /// Its streams are counted.
    _counted: Enrolled,
    pub(crate) born: OnceLock<Born>,
    /// It can be followed, once it is born.
    pub(super) listed: OnceLock<Listed>,
    pub(crate) stdin: Mutex<Option<StdinWriter>>,
    /// Its terminal, while it lives and is not hung up.
    pub(crate) tty: Mutex<Option<Pty>>,
    /// Hears of the calls that its filter asks about, until somebody takes it.
    pub(crate) listener: Mutex<Option<Listener>>,
    /// A writer that is dropped comes back here instead of closing it.
    pub(crate) keep_stdin: AtomicBool,
    pub(crate) exit: watch::Sender<Option<Exit>>,
    pub(crate) report: watch::Sender<Option<Arc<Report>>>,
    /// It was killed.
    pub(crate) killed: watch::Sender<bool>,
    /// It did not end of that, and nobody waits for it any more.
    overdue: AtomicBool,
    /// What the keeper does to it where we cannot, while it lives.
    pub(super) backstops: Mutex<Backstops>,
    /// What is begun of that.
    pub(super) begun: Mutex<Option<Begun>>,
    /// Who writes it down, where it outlives us.
    pub(super) note: OnceLock<Note>,
    /// OOM kills that were told of.
    pub(crate) oom_told: AtomicU64,
    /// What the keeper knows it by, where it outlives us.
    pub(crate) label: OnceLock<String>,
    /// And what it holds of it.
    pub(crate) held: OnceLock<Arc<Held>>,
    /// What the keeper holds beside, until it is ready.
    pub(super) beside: Mutex<Vec<Beside>>,
    /// Limits of its own, where it has any.
    pub(crate) limits: Limits,
    pub(crate) rlimits: Vec<Rlimit>,
    /// What is logged about it: within the container's.
    pub(crate) span: Span,
    /// Tells what happens to it.
    pub(super) voice: Voice,
    /// What is to be done before the first signal of a stop.
    pub(crate) before: OnceLock<Before>,
    /// And how far that has come.
    pub(super) prepared: watch::Sender<Progress>,
    /// Its report was made, and told to the feed.
    pub(crate) concluded: OnceLock<Arc<Report>>,
    /// Why we ended it: noted *before* our kill is sent, so that an exit that came first stays its own.
    pub(super) intent: Mutex<Option<Intent>>,
}

/// How a process is watched and ended: what is not asked of the kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) role: ProcessRole,
    pub(crate) ladder: StopLadder,
    pub(crate) wall: Option<Wall>,
    pub(crate) may_write: Option<OutputLimit>,
    /// Those that the kernel holds it to, for the evidence.
    pub(crate) limits: Limits,
    pub(crate) rlimits: Vec<Rlimit>,
}

/// Why we set out to end a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) cause: Cause,
    /// It was told by a signal that it can handle, so that an exit code of its own may be its answer.
    pub(crate) gently: bool,
}

/// A process on its way to whoever asked for it. Dropped before it is taken, wherever on that way, the process is killed.
pub(crate) struct Untaken(Option<Arc<Slot>>);

impl Untaken {
    pub(crate) fn new(slot: &Arc<Slot>) -> Self {
        Self(Some(Arc::clone(slot)))
    }

    pub(crate) fn get(&self) -> Option<&Arc<Slot>> {
        self.0.as_ref()
    }

    pub(crate) fn take(mut self) -> Option<Arc<Slot>> {
        self.0.take()
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            let _ = slot.kill(Cause::Stop { escalated: true });
        }
    }
}

/// What exists from the exec on.
pub(crate) struct Born {
    pub(crate) pid: i32,
    /// Until the exit is known: who keeps a handle keeps no descriptor.
    pub(crate) pidfd: Mutex<Option<Arc<OwnedFd>>>,
    pub(crate) container: Arc<dyn Container>,
    /// CLOCK_MONOTONIC in nanoseconds, as the keeper stamps exits.
    pub(crate) at_ns: u64,
    /// The same in the supervisor's own time.
    pub(crate) began: tokio::time::Instant,
    pub(crate) wall_clock: SystemTime,
    /// `None`: it was started in a container that was there.
    pub(crate) create_us: Option<u64>,
    pub(crate) start_us: u64,
    /// Its standard output and error, as far as they come to us.
    pub(crate) ours: (Option<Ours>, Option<Ours>),
}

/// An output stream that comes to us.
#[derive(Clone, Copy)]
pub(crate) struct Ours {
    /// How much its pipe holds; `None`: it is a terminal.
    pub(crate) pipe: Option<u64>,
}

impl Ours {
    pub(crate) fn of(fd: &OwnedFd) -> Self {
        Self { pipe: pipe_size(fd).ok().and_then(|bytes| bytes.try_into().ok()) }
    }
}

impl Born {
    pub(super) fn pidfd(&self) -> Option<Arc<OwnedFd>> {
        self.pidfd.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Slot {
    pub(crate) fn new(
        id: &str,
        number: ProcessId,
        ring_bytes: usize,
        terms: Terms,
        voice: Voice,
        container: &Span,
    ) -> Self {
        let Terms { role, ladder, wall, may_write, limits, rlimits } = terms;
        let generation = voice.generation();
        let output = Output::new(HubOptions {
            ring_bytes,
            generation: orangery_io_stream::Generation(generation),
            output_limit: may_write.map(|limit| limit.bytes),
            ..HubOptions::default()
        });
        Self {
            id: id.to_owned(),
            number,
            generation,
            main: number == ProcessId::MAIN,
            role: if number == ProcessId::MAIN { ProcessRole::Main } else { role },
            ladder,
            wall: watch::Sender::new(wall),
            may_write: watch::Sender::new(may_write),
            actor: OnceLock::new(),
            _counted: voice.meters().enroll(&output),
            output,
            born: OnceLock::new(),
            listed: OnceLock::new(),
            stdin: Mutex::new(None),
            tty: Mutex::new(None),
            listener: Mutex::new(None),
            keep_stdin: AtomicBool::new(false),
            exit: watch::Sender::new(None),
            report: watch::Sender::new(None),
            killed: watch::Sender::new(false),
            overdue: AtomicBool::new(false),
            backstops: Mutex::default(),
            begun: Mutex::default(),
            note: OnceLock::new(),
            oom_told: AtomicU64::new(0),
            label: OnceLock::new(),
            held: OnceLock::new(),
            beside: Mutex::default(),
            limits,
            rlimits,
            span: tracing::info_span!(parent: container, "process", number = number.0),
            voice,
            before: OnceLock::new(),
            prepared: watch::Sender::default(),
            concluded: OnceLock::new(),
            intent: Mutex::new(None),
        }
    }

    /// How it is watched and ended, as it is now.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            role: self.role,
            ladder: self.ladder.clone(),
            wall: self.wall.borrow().clone(),
            may_write: *self.may_write.borrow(),
            limits: self.limits.clone(),
            rlimits: self.rlimits.clone(),
        }
    }

    fn born(&self) -> Result<&Born, Error> {
        self.born.get().ok_or_else(|| Error::new(ErrorKind::State, "the process has not started"))
    }

    /// It has ended.
    pub(crate) fn ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Note why we are about to end it; the first reason stands, and none is noted after the end. `gently`: by a signal
    /// that it can handle.
    pub(crate) fn intend(&self, cause: Cause, gently: bool) {
        let mut intent = self.intent.lock().unwrap_or_else(PoisonError::into_inner);
        if intent.is_none() && !self.ended() {
            self.tell_stopping(&cause);
            *intent = Some(Intent { cause, gently });
        }
    }

    /// A stop that was noted needs a kill, whoever sends it.
    pub(crate) fn escalated(&self) {
        let mut intent = self.intent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Intent { cause: Cause::Stop { escalated }, .. }) = &mut *intent
            && !*escalated
            && !self.ended()
        {
            *escalated = true;
            self.tell_stopping(&Cause::Stop { escalated: true });
        }
    }

    pub(crate) fn intent(&self) -> Option<Intent> {
        self.intent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Kill it, with its whole container when it is the main process. Never blocks on an actor.
    pub(crate) fn kill(&self, cause: Cause) -> Result<(), Error> {
        self.intend(cause, false);
        self.escalated();
        let born = match self.born() {
            // Before this supervisor began.
            Err(_) if self.ended() => return Ok(()),
            born => born?,
        };
        // Once: whoever kills again does not begin the wait anew.
        self.killed.send_if_modified(|killed| !std::mem::replace(killed, true));
        if self.main {
            return born.container.kill().map_err(Into::into);
        }
        let Some(pidfd) = born.pidfd() else { return Ok(()) };
        match born.container.signal(&pidfd, 9) {
            Err(error) if error.kind() != orangery_runtime::ErrorKind::State => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// It has ended before this supervisor began.
    pub(crate) fn over(&self, report: Report) {
        let status = match report.exit {
            crate::report::ExitStatus::Code(code) => ExitStatus::Code(code),
            crate::report::ExitStatus::Signal { signal, core_dumped } => ExitStatus::Signal { signal, core_dumped },
            crate::report::ExitStatus::Lost => ExitStatus::Lost,
        };
        self.exit.send_replace(Some(Exit::new(status, None, 0)));
        let report = Arc::new(report);
        let _ = self.concluded.set(Arc::clone(&report));
        self.report.send_replace(Some(report));
    }

    /// Its end is not waited for any more.
    pub(crate) fn overdue(&self) {
        self.overdue.store(true, Ordering::Release);
    }

    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Acquire)
    }

    /// The exit is known: nothing can be sent any more.
    pub(crate) fn release(&self) {
        if let Some(born) = self.born.get() {
            drop(born.pidfd.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    /// Send a signal through the pidfd.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Error> {
        let born = self.born()?;
        let pidfd = born.pidfd().ok_or_else(|| Error::new(ErrorKind::State, "the process has ended"))?;
        born.container.signal(&pidfd, signal).map_err(Into::into)
    }

    /// Subscribe to both streams now, before anything runs. These readers hold the workload up for so long rather than lose
    /// a byte.
    pub(crate) fn capture(&self, budget: Duration) -> (Subscriber, Subscriber) {
        let reader = |sources| {
            let overflow = Overflow::block(budget);
            self.output.subscribe(SubscribeOptions { sources, overflow, ..SubscribeOptions::default() })
        };
        (reader(Sources::Stdout), reader(Sources::Stderr))
    }

    /// The output limit that it has passed.
    pub(crate) fn over_output(&self) -> Option<OutputLimit> {
        let limit = *self.may_write.borrow();
        limit.filter(|limit| self.output.is_over(limit.bytes))
    }

    /// Do what is to be done when it passes its output limit; ready then, or never.
    pub(crate) async fn enforce_output(&self) {
        let mut may_write = self.may_write.subscribe();
        let limit = loop {
            let limit = *may_write.borrow_and_update();
            let over = async {
                match limit {
                    Some(limit) => self.output.over(limit.bytes).await,
                    None => std::future::pending().await,
                }
                limit
            };
            tokio::select! {
                limit = over => break limit,
                // Its sender is in the slot.
                _ = may_write.changed() => {}
            }
        };
        let Some(limit) = limit else { return };
        let cause = Cause::Limit(LimitKind::Output);
        // It may have ended meanwhile: then there is nobody to tell.
        match limit.action {
            OutputAction::Kill => drop(self.kill(cause)),
            OutputAction::Truncate => {}
            OutputAction::Signal(signal) => {
                self.intend(cause, true);
                drop(self.signal(signal));
            }
        }
    }

    /// The writer of its standard input, for one at a time.
    pub(crate) fn take_stdin(self: &Arc<Self>) -> Option<StdinWriter> {
        let writer = self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let home = Arc::downgrade(self);
        Some(writer.lent(move |writer| {
            if let Some(slot) = home.upgrade() {
                slot.give_stdin_back(writer);
            }
        }))
    }

    fn give_stdin_back(&self, writer: StdinWriter) {
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: what comes back after the end finds it ended, what came before is closed by it.
        if self.keep_stdin.load(Ordering::Acquire) && !self.ended() {
            *stdin = Some(writer);
        }
    }

    /// Whoever hears of the calls that its filter asks about, once.
    pub(crate) fn take_listener(&self) -> Option<Listener> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// It has ended: nobody reads any more, and nobody asks whose listener was not taken. Of a terminal the pump reads the
    /// rest.
    pub(crate) fn close_ends(&self) {
        drop(self.take_listener());
        drop(self.stdin.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(tty) = self.take_tty() {
            tty.hang_up();
        }
    }

    pub(crate) fn take_tty(&self) -> Option<Pty> {
        self.tty.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
