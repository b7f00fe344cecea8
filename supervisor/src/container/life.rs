//! The straight line of a container: create, start, watch, drain, read the evidence, report, remove.
//!
//! A plain task on the container's shard. What it learns it writes into the slots first and tells the actors after.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use actix::Addr;
use orangery_io_stream::{EndReason, StdinWriter};
use orangery_runtime::seccomp::Listener;
use orangery_runtime::{Container, ContainerSpec, Exit, ProcessSpec, Runtime, Started};
use tokio::sync::{oneshot, watch};
use tracing::Instrument as _;

use super::actor::ContainerActor;
use super::ending::{self, Ending};
use super::hooks;
use super::last_word::{Finally, LastWord};
use super::limits;
use super::probes::{self, Prepared};
use super::slot::{ContainerSlot, Owned};
use super::state::Input;
use super::unkillable;
use crate::each::Each;
use crate::error::{Error, ErrorKind};
use crate::faults::{Fault, Faults, Site, Step};
use crate::guard;
use crate::hook;
use crate::limit_update::Watched;
use crate::probe::Care;
use crate::process::actor::ProcessActor;
use crate::process::held;
use crate::process::recording::{self, LogTo};
use crate::process::slot::{Born, Ours, Slot};
use crate::process::{tty, wall};
use crate::report::Cause;
use crate::shard::Shards;

/// What the supervisor itself watches over.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// At its beginning.
    pub(crate) watched: Watched,
    /// The main process has the backstop of the processor time.
    pub(crate) backstopped: bool,
    /// How long to wait for end of file after the exit; `None`: for ever.
    pub(crate) drain_grace: Option<Duration>,
    /// What each further process gets.
    pub(crate) each: Each,
    /// How long it may be without a handle; `None`: for ever.
    pub(crate) unattended: Option<Duration>,
    /// Its files stay after the exit until they are let go.
    pub(crate) keep_files: bool,
    /// What is asked about it, if anything is.
    pub(crate) care: Option<Box<Care>>,
    /// What goes with a stop.
    pub(crate) hooks: hook::Ready,
}

/// A container to be.
pub(crate) struct Order {
    pub(crate) slot: Arc<ContainerSlot>,
    pub(crate) spec: ContainerSpec,
    pub(crate) main: ProcessSpec,
    pub(crate) policy: Policy,
    /// Readers of the whole output are wanted.
    pub(crate) capture: Option<Duration>,
    pub(crate) log: Option<LogTo>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) shards: Shards,
    pub(crate) faults: Faults,
    pub(crate) reply: oneshot::Sender<Result<Alive, Error>>,
}

/// What the caller gets.
pub(crate) type Alive = (Owned, Addr<ContainerActor>, Addr<ProcessActor>);

/// Run a container from its creation to its removal; `ended` is told when nothing of it is left.
pub(crate) async fn live(order: Order, ended: impl FnOnce(&Arc<ContainerSlot>)) {
    let slot = Arc::clone(&order.slot);
    see_through(slot, begin(order), ended).await;
}

/// From its beginning, also where that was another supervisor's, to its removal.
pub(super) async fn see_through(
    slot: Arc<ContainerSlot>,
    begin: impl Future<Output = Option<Living>>,
    ended: impl FnOnce(&Arc<ContainerSlot>),
) {
    let for_end = Arc::clone(&slot);
    let _ended = Finally::new(move || {
        if for_end.lasting.as_ref().is_some_and(|kept| kept.is_left()) {
            return;
        }
        for_end.step(Input::Removed);
        ended(&for_end);
    });
    // What a creation needs is not kept for as long as what was created lives.
    if let Some(alive) = Box::pin(begin).await {
        alive.watch().await;
        slot.until_forgotten().await;
    }
    slot.give_files_up().await;
}

/// A started container and everything that its end needs.
pub(super) struct Living {
    pub(super) slot: Arc<ContainerSlot>,
    pub(super) container: Arc<dyn Container>,
    pub(super) started: Started,
    pub(super) policy: Policy,
    pub(super) asked: Option<Box<Prepared>>,
    pub(super) faults: Faults,
    pub(super) shards: Shards,
    pub(super) actor: Addr<ContainerActor>,
    pub(super) main: Addr<ProcessActor>,
}

pub(super) fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Create and start, and answer the caller. Whoever asked may go at any moment: then everything is undone.
async fn begin(order: Order) -> Option<Living> {
    let Order { slot, spec, main, policy, capture, log, runtime, shards, faults, mut reply } = order;
    let began = Instant::now();
    let created = tokio::select! {
        created = async {
            // Refused before anything is made; and the readers are there before the first byte.
            open_log(&slot.main, log).await?;
            if let Some(budget) = capture {
                slot.capture(budget);
            }
            let mut main = main;
            let asked = match &policy.care {
                Some(care) => Some(Box::new(probes::prepare(&slot.main, Care::clone(care), &mut main)?)),
                None => None,
            };
            if slot.lasting.is_some() {
                main = held::hold(&slot.main, main).await?;
            }
            Ok((runtime.create(spec, main).await?, asked))
        } => created,
        () = reply.closed() => return None,
        () = slot.abort.notified() => Err(Error::given_up()),
    };
    let (container, mut asked): (Arc<dyn Container>, _) = match created {
        Ok((container, asked)) => (Arc::from(container), asked),
        Err(error) => {
            slot.main.output.take_log_back().await;
            let _ = slot.failure.set(error.clone());
            slot.step(Input::Failed);
            let _ = reply.send(Err(error));
            return None;
        }
    };
    let create_us = micros(began);
    let _ = slot.container.set(Arc::clone(&container));
    let _ = slot.create_us.set(create_us);
    slot.settle_limits(&*container, &policy);
    slot.step(Input::Created);
    slot.tell_unmet();
    let kept = match policy.keep_files {
        true => container.root().map(|root| slot.keep_root(root)).map_err(Error::from),
        false => Ok(()),
    };
    let began = Instant::now();
    let started = tokio::select! {
        started = async {
            kept?;
            if let Some(asked) = &mut asked {
                asked.open(&*container).await?;
                if slot.lasting.is_some() {
                    asked.hold(&*container, &slot.main).await;
                }
            }
            faults.pass_start(Site::StartGate).await?;
            if let Some(kept) = &slot.lasting {
                // Before it runs: what it does then is done once, whoever is killed before that can be said.
                kept.write(&slot).await?;
                container.written_down();
            }
            container.start().await.map_err(Error::from)
        } => started,
        () = reply.closed() => Err(Error::lost_request()),
        () = slot.abort.notified() => Err(Error::given_up()),
    };
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = container.delete().await;
            slot.main.discard_beside();
            if let Some(kept) = &slot.lasting {
                kept.undo().await;
            }
            slot.main.output.take_log_back().await;
            let _ = slot.failure.set(error.clone());
            slot.step(Input::Failed);
            let _ = reply.send(Err(error));
            return None;
        }
    };
    let mut started = started;
    slot.made();
    if let Some(kept) = &slot.lasting {
        kept.pass(Step::Started);
        kept.notes(&slot, &slot.main);
    }
    let when = When::now(Some(create_us), micros(began));
    let main = give_birth(&slot.main, &container, &mut started, when, &faults);
    // Before it is told: who hears of the start finds the actor, and who then lets go is not the last one.
    let actor = employ(&slot, &faults, &shards);
    let owned = Owned::new(&slot);
    slot.vitals_begin(policy.care.as_deref());
    if let Some(hook) = policy.hooks.pre_stop.clone() {
        hooks::before_stop(&slot, hook, faults.clone(), shards.clone());
    }
    if let Some(name) = asked.as_ref().and_then(|asked| asked.notify()) {
        let _ = slot.notify.set(name);
    }
    let written = match &slot.lasting {
        Some(kept) => {
            wall::arm_at_once(&slot.main).await;
            let written = kept.write(&slot).await;
            kept.pass(Step::Answering);
            written
        }
        None => Ok(()),
    };
    slot.step(Input::Started);
    // A kill that came before there was anything to kill has left its reason; one that comes now finds the process.
    if slot.main.intent().is_some() {
        let _ = slot.main.kill(Cause::Stop { escalated: true });
    }
    // What is not written down nobody would find again: it ends, as everything that is not answered. Where we go, the next one
    // finds it by what was written before its start.
    let stays = slot.lasting.as_ref().is_some_and(|kept| kept.is_left());
    if let (Err(error), false) = (&written, stays) {
        let _ = slot.main.kill(Cause::SupervisorFault);
        tracing::error!(container = %slot.id, %error, "its record cannot be written");
    }
    let _ = reply.send(written.map(|()| (owned, actor.clone(), main.clone())));
    Some(Living { slot, container, started, policy, asked, faults, shards, actor, main })
}

/// Its actor, from now on.
pub(super) fn employ(slot: &Arc<ContainerSlot>, faults: &Faults, shards: &Shards) -> Addr<ContainerActor> {
    let for_actor = Arc::clone(slot);
    let actor = ContainerActor::new(Arc::clone(slot), faults.clone(), shards.clone());
    let actor = guard::start(actor, slot.part(), move || broken(&for_actor.main));
    let _ = slot.actor.set(actor.clone());
    actor
}

/// When a process began, and how long that took.
pub(super) struct When {
    pub(super) at_ns: u64,
    pub(super) began: tokio::time::Instant,
    pub(super) wall_clock: SystemTime,
    pub(super) create_us: Option<u64>,
    pub(super) start_us: u64,
    /// Another supervisor has started it.
    pub(super) again: bool,
}

impl When {
    pub(super) fn now(create_us: Option<u64>, start_us: u64) -> Self {
        let at_ns = orangery_runtime::native::now_ns();
        let (began, wall_clock) = (tokio::time::Instant::now(), SystemTime::now());
        Self { at_ns, began, wall_clock, create_us, start_us, again: false }
    }
}

/// Open the log that was asked for; nobody has the process yet.
pub(super) async fn open_log(slot: &Slot, log: Option<LogTo>) -> Result<(), Error> {
    if let Some(log) = log {
        let log = log.open().await?;
        slot.output.goes_into(match *slot.may_write.borrow() {
            Some(limit) => log.limited(limit.bytes),
            None => log,
        });
    }
    Ok(())
}

/// An actor has spent its budget: what it was responsible for must not stay unmanaged.
fn broken(slot: &Arc<Slot>) {
    let _ = slot.kill(Cause::SupervisorFault);
}

/// Put what was started into its slot and give it an actor.
pub(super) fn give_birth(
    slot: &Arc<Slot>,
    container: &Arc<dyn Container>,
    started: &mut Started,
    when: When,
    faults: &Faults,
) -> Addr<ProcessActor> {
    let When { at_ns, began, wall_clock, create_us, start_us, again } = when;
    let born = Born {
        pid: started.pid,
        pidfd: Mutex::new(Some(Arc::clone(&started.pidfd))),
        container: Arc::clone(container),
        at_ns,
        began,
        wall_clock,
        create_us,
        start_us,
        ours: (started.stdout.as_ref().map(Ours::of), started.stderr.as_ref().map(Ours::of)),
    };
    slot.bear(born, faults.ask(Site::Follow) == Fault::Drop);
    let held_input = started.held.take().and_then(|holds| slot.held_by(holds, again));
    // Before anybody has a handle: who asks for the standard input finds it.
    if let Some(stdin) = started.stdin.take() {
        match StdinWriter::from_fd(stdin) {
            Ok(writer) => {
                let writer = faults.watch_writer(writer);
                let writer = match held_input {
                    Some(held) => writer.when_closed(move || held.discard()),
                    None => writer,
                };
                *slot.stdin.lock().unwrap_or_else(PoisonError::into_inner) = Some(writer);
            }
            Err(error) => tracing::error!(container = %slot.id, %error, "no standard input"),
        }
    }
    if let Some(master) = started.tty.take() {
        tty::give(slot, master, faults);
    }
    if let Some(listener) = started.listener.take() {
        match Listener::new(listener) {
            Ok(listener) => *slot.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(listener),
            Err(error) => tracing::error!(container = %slot.id, %error, "nobody hears what its filter asks"),
        }
    }
    let for_guard = Arc::clone(slot);
    let part = slot.part();
    let actor = guard::start(ProcessActor::new(Arc::clone(slot), faults.clone()), part, move || broken(&for_guard));
    let _ = slot.actor.set(actor.clone());
    actor
}

impl Living {
    async fn watch(self) {
        let Living { slot, container, started, policy, asked, faults, shards, actor, main } = self;
        let _told = LastWord::new(&slot, &slot.main);
        let of = (&slot.main, &container);
        let exit = watch_process(of, started, policy.drain_grace, &main, (&faults, &shards));
        let limits = limits::watch_over(Arc::clone(&slot), policy.unattended, asked, faults.clone());
        let (exit, reason) = tokio::select! {
            ended = exit => ended,
            never = limits => match never {},
            () = unkillable::overdue(&slot, &slot.main) => ending::give_up(&slot.main, &main),
        };
        slot.step(Input::MainExited);
        let Policy { hooks, keep_files, .. } = policy;
        let post_stop = hooks.post_stop;
        let ending = Ending { slot: Arc::clone(&slot), container, faults, shards, actor, post_stop, keeps: keep_files };
        ending.end(exit, reason).await;
        slot.until_let_go().await;
    }
}

/// Exit and streams of one process, to the end of both. The exit is published at once.
pub(super) fn watch_process(
    (slot, container): (&Arc<Slot>, &Arc<dyn Container>),
    started: Started,
    drain_grace: Option<Duration>,
    actor: &Addr<ProcessActor>,
    (faults, shards): (&Faults, &Shards),
) -> impl Future<Output = (Exit, EndReason)> + use<> {
    let Started { exit, stdout, stderr, pidfd, .. } = started;
    // As everywhere: a background process holds a pipe open, not a terminal.
    let grace = if slot.has_tty() { Some(Duration::ZERO) } else { drain_grace };
    let pump = recording::drained(slot, (stdout, stderr), grace, faults, shards);
    let span = slot.span.clone();
    let (slot, container, actor) = (Arc::clone(slot), Arc::clone(container), actor.clone());
    let exit = async move {
        let exit = match exit.await {
            Ok(exit) => exit,
            // The keeper is gone: the kernel still tells, where it is new enough.
            Err(_) => container.exit_of(pidfd).await,
        };
        ending::over(&slot, exit, &actor);
        exit
    };
    async move { tokio::join!(exit, pump) }.instrument(span)
}

pub(super) enum Never {}

/// A report or an exit that may come later.
pub(crate) async fn later<T: Clone>(mut receiver: watch::Receiver<Option<T>>) -> Result<T, Error> {
    match receiver.wait_for(Option::is_some).await {
        Ok(value) => value.clone().ok_or_else(Error::lost_request),
        Err(_) => Err(Error::new(ErrorKind::SupervisorFault, "the process's record is gone")),
    }
}
