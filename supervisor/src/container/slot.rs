//! What handles and actors share of a container.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use actix::Addr;
use orangery_io_stream::Subscriber;
use orangery_runtime::cgroup::Limits;
use orangery_runtime::spec::UnmetLimit;
use orangery_runtime::{Container, Root};
use tokio::sync::{Notify, watch};

use super::actor::ContainerActor;
use super::processes::Processes;
use super::properties::Properties;
use super::state::{Input, State, Verdict, news, next};
use super::vitals::Known;
use crate::admission::{Door, Permit};
use crate::each::Each;
use crate::error::Error;
use crate::events::Voice;
use crate::ids::ProcessId;
use crate::limit_update::{Watched, WatchedLimits};
use crate::process::slot::{Slot, Terms};
use crate::recovery::Kept;
use crate::report::{Cause, Report};

/// One container as everybody sees it.
pub(crate) struct ContainerSlot {
    pub(crate) id: String,
    pub(crate) labels: Arc<BTreeMap<String, String>>,
    /// Everything that is logged about it is logged in there, in all layers and on all threads.
    pub(crate) span: tracing::Span,
    /// Tells what happens to it.
    pub(super) voice: Voice,
    /// Making it took this long, in microseconds.
    pub(crate) create_us: OnceLock<u64>,
    /// Why it could not be made or started.
    pub(super) failure: OnceLock<Error>,
    /// Its limits as they are now.
    pub(super) limited: watch::Sender<Limits>,
    /// Those that were asked for and do not hold.
    pub(super) lacking: Mutex<Vec<UnmetLimit>>,
    properties: Mutex<Properties>,
    pub(crate) ring_bytes: usize,
    /// How long to wait for the end of the output after an exit; `None`: for ever.
    pub(crate) drain_grace: Option<Duration>,
    /// What each further process gets.
    pub(crate) each: Each,
    pub(crate) container: OnceLock<Arc<dyn Container>>,
    pub(crate) main: Arc<Slot>,
    pub(crate) processes: Processes,
    /// Who decides about it, once it has started.
    pub(crate) actor: OnceLock<Addr<ContainerActor>>,
    /// Readers of both streams that were there before the first byte, for who asked for the whole output.
    pub(crate) captures: Mutex<Option<(Subscriber, Subscriber)>>,
    state: Mutex<State>,
    /// Everything is removed.
    pub(crate) gone: watch::Sender<bool>,
    /// The root directory, where its files are to be kept after the exit.
    kept: Mutex<Option<Arc<Root>>>,
    /// Nobody may use its files any more: it is deleted, its last handle has gone, or the supervisor ends.
    let_go: watch::Sender<bool>,
    /// Somebody took it out of the hands of its handles.
    pub(crate) detached: AtomicBool,
    /// How many attend to it: handles, and answers on their way to one.
    pub(crate) attended: watch::Sender<usize>,
    /// Given back when it is gone.
    permit: Mutex<Option<Permit>>,
    /// Where it was admitted, and its further processes are.
    pub(crate) door: OnceLock<Door>,
    /// Give up what is still being made: the supervisor ends, or its service does not want it any more.
    pub(crate) abort: Arc<Notify>,
    /// What probes have found of it.
    pub(super) known: Known,
    /// What could not be removed.
    pub(crate) left: OnceLock<Error>,
    /// How long the end of what was killed is waited for.
    pub(super) patience: Duration,
    /// The limits that are watched here.
    pub(crate) watched: watch::Sender<Watched>,
    /// One update at a time.
    pub(super) updating: tokio::sync::Mutex<()>,
    /// Its main process has the backstop of the processor time.
    pub(super) backstopped: bool,
    /// From the last output to the kill (CLOCK_MONOTONIC in nanoseconds), where it was killed for its silence.
    pub(super) silent_ns: OnceLock<(u64, u64)>,
    /// What its cgroup had counted when its main process began.
    pub(super) cpu_begin_ns: OnceLock<u64>,
    /// How many of the OOM killer's victims have been found among our processes.
    pub(crate) oom_claimed: AtomicU64,
    /// Its record, where it outlives us.
    pub(crate) lasting: Option<Arc<Kept>>,
    /// The name of the socket that it speaks to, where it does.
    pub(crate) notify: OnceLock<String>,
}

/// What of its output is kept, for how long it is waited, and what its report is judged by.
#[derive(Clone)]
pub(crate) struct Keeping {
    /// Of the main process.
    pub(crate) terms: Terms,
    pub(crate) ring_bytes: usize,
    pub(crate) drain_grace: Option<Duration>,
    /// What each further process gets.
    pub(crate) each: Each,
    pub(crate) watched: Watched,
    /// Its main process has the backstop of the processor time.
    pub(crate) backstopped: bool,
    /// How long the end of what was killed is waited for.
    pub(crate) patience: Duration,
    /// Its record, where it outlives us.
    pub(crate) lasting: Option<Arc<Kept>>,
}

/// The duty to end a container, held by its handles and before that by the answer on its way to them: where the last one
/// is dropped, the container is killed and removed.
pub(crate) struct Owned(Arc<ContainerSlot>);

impl Owned {
    pub(crate) fn new(slot: &Arc<ContainerSlot>) -> Self {
        slot.attended.send_modify(|count| *count += 1);
        Self(Arc::clone(slot))
    }
}

impl std::ops::Deref for Owned {
    type Target = Arc<ContainerSlot>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut last = false;
        self.0.attended.send_modify(|count| {
            *count -= 1;
            last = *count == 0;
        });
        if last {
            self.0.abandoned();
        }
    }
}

impl ContainerSlot {
    pub(crate) fn new(
        id: &str,
        labels: BTreeMap<String, String>,
        limits: Limits,
        keeping: Keeping,
        feed: &Voice,
        birth: (u32, Arc<Notify>),
    ) -> Self {
        let (
            Keeping { terms, ring_bytes, drain_grace, each, watched, backstopped, patience, lasting },
            (generation, abort),
        ) = (keeping, birth);
        let labels = Arc::new(labels);
        let voice = feed.of(id, &labels, generation);
        let span = tracing::info_span!(parent: None, "container", id, generation);
        voice.meters().moved(None, State::Creating);
        Self {
            id: id.to_owned(),
            labels,
            voice: voice.clone(),
            create_us: OnceLock::new(),
            failure: OnceLock::new(),
            limited: watch::Sender::new(limits),
            lacking: Mutex::default(),
            properties: Mutex::default(),
            ring_bytes,
            drain_grace,
            each,
            container: OnceLock::new(),
            main: Arc::new(Slot::new(id, ProcessId::MAIN, ring_bytes, terms, voice, &span)),
            processes: Processes::default(),
            actor: OnceLock::new(),
            captures: Mutex::new(None),
            state: Mutex::new(State::Creating),
            gone: watch::Sender::new(false),
            kept: Mutex::new(None),
            let_go: watch::Sender::new(false),
            detached: AtomicBool::new(false),
            attended: watch::Sender::new(0),
            permit: Mutex::new(None),
            door: OnceLock::new(),
            abort,
            known: Known::default(),
            left: OnceLock::new(),
            patience,
            watched: watch::Sender::new(watched),
            updating: tokio::sync::Mutex::new(()),
            backstopped,
            silent_ns: OnceLock::new(),
            cpu_begin_ns: OnceLock::new(),
            oom_claimed: AtomicU64::new(0),
            lasting,
            notify: OnceLock::new(),
            span,
        }
    }

    /// Readers of the main process's whole output.
    pub(crate) fn capture(&self, budget: Duration) {
        let both = self.main.capture(budget);
        *self.captures.lock().unwrap_or_else(PoisonError::into_inner) = Some(both);
    }

    /// Take one step of the table. What it is about is in the slot before: the feed is told here.
    pub(crate) fn step(&self, input: Input) -> Verdict {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (after, verdict) = next(*state, input);
        if after != *state || verdict != Verdict::Go {
            tracing::debug!(container = %self.id, from = ?*state, to = ?after, ?input, ?verdict, "container");
        }
        if after != *state {
            self.voice.meters().moved(Some(*state), after);
            if after == State::Gone {
                self.vitals_end();
            }
        }
        *state = after;
        self.known.paused(after == State::Paused);
        if let Some(news) = news(input, verdict) {
            self.tell(news);
        }
        if after == State::Gone {
            // Before anybody is told: who has seen the end may make another at once.
            drop(self.permit.lock().unwrap_or_else(PoisonError::into_inner).take());
            self.gone.send_replace(true);
        }
        verdict
    }

    /// Hold the right to a container until it is gone.
    pub(crate) fn hold(&self, permit: Permit) {
        let _ = self.door.set(permit.door().clone());
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(permit);
    }

    /// It is made: what it needed for that goes to others.
    pub(crate) fn made(&self) {
        if let Some(permit) = &mut *self.permit.lock().unwrap_or_else(PoisonError::into_inner) {
            permit.made();
        }
    }

    /// Its limits as they are now.
    pub(crate) fn limits(&self) -> Limits {
        self.limited.borrow().clone()
    }

    /// Those that are watched here, as they are now.
    pub(crate) fn watched(&self) -> WatchedLimits {
        self.watched.borrow().shown()
    }

    pub(crate) fn properties(&self) -> MutexGuard<'_, Properties> {
        self.properties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the OOM killer, which has taken `kills` processes of this container so far, took one that nobody of ours
    /// has claimed yet. Each process that dies of a SIGKILL that was not ours asks once.
    pub(crate) fn claim_oom(&self, kills: u64) -> bool {
        let claimed = self
            .oom_claimed
            .try_update(Ordering::AcqRel, Ordering::Acquire, |claimed| (claimed < kills).then_some(claimed + 1));
        claimed.is_ok()
    }

    /// Keep its files after the exit, until they are let go.
    pub(crate) fn keep_root(&self, root: Root) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(root));
    }

    pub(crate) fn kept_root(&self) -> Option<Arc<Root>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// End what still works on its files; its life then gives them up.
    pub(crate) fn let_files_go(&self) {
        self.let_go.send_replace(true);
    }

    /// Give them up. The last descriptor of a mount namespace takes its mounts apart, which may block.
    pub(crate) async fn give_files_up(&self) {
        self.let_files_go();
        let root = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(root) = root {
            let _ = tokio::task::spawn_blocking(move || drop(root)).await;
        }
    }

    /// Its files were let go.
    pub(crate) fn let_go(&self) -> bool {
        *self.let_go.borrow()
    }

    /// Wait for that, or until nobody is left to let them go, where they are kept at all.
    pub(crate) async fn until_let_go(&self) {
        if self.kept_root().is_none() {
            return;
        }
        let (mut let_go, mut attended) = (self.let_go.subscribe(), self.attended.subscribe());
        tokio::select! {
            _ = let_go.wait_for(|gone| *gone) => {}
            _ = attended.wait_for(|count| *count == 0) => {}
        }
    }

    /// Ready when nothing of it is to be found any more: it was forgotten, or the supervisor ends.
    pub(crate) async fn until_forgotten(&self) {
        let Some(kept) = &self.lasting else { return };
        let (mut let_go, mut attended) = (self.let_go.subscribe(), self.attended.subscribe());
        // An answer on its way to a handle attends to it: only behind that it is known whether somebody has it.
        let nobodys = async {
            let _ = attended.wait_for(|count| *count == 0).await;
            if self.detached.load(Ordering::Acquire) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = kept.until_forgotten() => {}
            _ = let_go.wait_for(|gone| *gone) => {}
            () = nobodys => drop(kept.forget().await),
        }
    }

    /// Something of its record is another thing.
    pub(crate) async fn write_down(self: &Arc<Self>) {
        if let Some(kept) = &self.lasting
            && let Err(error) = kept.write(self).await
        {
            tracing::error!(container = %self.id, %error, "its record is an older one");
        }
    }

    /// It has gone, and its report stays.
    pub(crate) fn is_retained(&self) -> bool {
        self.lasting.as_ref().is_some_and(|kept| kept.is_retained()) && self.state() == State::Gone
    }

    /// Its report and its log are given up.
    pub(crate) async fn forget(&self) -> Result<bool, Error> {
        match &self.lasting {
            Some(kept) => kept.forget().await,
            None => Ok(false),
        }
    }

    /// It has ended before this supervisor began: there is its report, and nothing is told.
    pub(crate) fn over(&self, report: Report) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.voice.meters().moved(Some(*state), State::Gone);
        *state = State::Gone;
        self.detached.store(true, Ordering::Release);
        self.main.over(report);
        self.gone.send_replace(true);
    }

    /// The last handle has gone.
    fn abandoned(&self) {
        if self.detached.load(Ordering::Acquire) {
            return;
        }
        self.let_files_go();
        // Nothing is ended because we go: the next one has it.
        if !self.lasting.as_ref().is_some_and(|kept| kept.is_left()) {
            let _ = self.main.kill(Cause::Stop { escalated: true });
        }
    }
}
