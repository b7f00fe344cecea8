//! The straight line of a container: create, start, watch, drain, read the evidence, report, remove.
//!
//! A plain task on the container's shard. What it learns it writes into the slots first and tells the actors after.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::Addr;
use orangery_io_stream::{
    EndReason, Event, From as Position, PipeReader, Source, Sources, StdinWriter, SubscribeOptions, pump_pair,
};
use orangery_runtime::{Container, ContainerSpec, Evidence, Exit, ExitStatus, ProcessSpec, Runtime, Started};
use tokio::sync::{oneshot, watch};

use super::actor::ContainerActor;
use super::msg::{Process, Removed};
use super::slot::{ContainerSlot, Owned};
use super::state::Input;
use crate::error::{Error, ErrorKind};
use crate::faults::{Faults, Site};
use crate::guard;
use crate::process::actor::ProcessActor;
use crate::process::msg::Exited;
use crate::process::slot::{Born, Slot};
use crate::report::{Cause, CgroupUsage, LimitKind, Measured, OomVerdict, Report, StreamTotals, unix_ms};

/// What the supervisor itself watches over.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// Wall clock from the start of the main process.
    pub(crate) wall: Option<Wall>,
    /// Bytes of output, both streams together.
    pub(crate) output: Option<u64>,
    /// How long to wait for end of file after the exit; `None`: for ever.
    pub(crate) drain_grace: Option<Duration>,
}

/// A wall limit and how gently it is carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wall {
    pub(crate) limit: Duration,
    /// First this signal, then after the grace the kill; otherwise the kill at once.
    pub(crate) gentle: Option<(i32, Duration)>,
}

/// A container to be.
pub(crate) struct Order {
    pub(crate) slot: Arc<ContainerSlot>,
    pub(crate) spec: ContainerSpec,
    pub(crate) main: ProcessSpec,
    pub(crate) policy: Policy,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) faults: Faults,
    pub(crate) reply: oneshot::Sender<Result<Alive, Error>>,
}

/// What the caller gets.
pub(crate) type Alive = (Owned, Addr<ContainerActor>, Addr<ProcessActor>);

/// Run a container from its creation to its removal; `ended` is told when nothing of it is left.
pub(crate) async fn live(order: Order, ended: impl FnOnce(&Arc<ContainerSlot>)) {
    let slot = Arc::clone(&order.slot);
    if let Some(alive) = begin(order).await {
        alive.watch().await;
    }
    slot.step(Input::Removed);
    ended(&slot);
}

/// A started container and everything that its end needs.
struct Living {
    slot: Arc<ContainerSlot>,
    container: Arc<dyn Container>,
    started: Started,
    policy: Policy,
    faults: Faults,
    actor: Addr<ContainerActor>,
    main: Addr<ProcessActor>,
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Create and start, and answer the caller. Whoever asked may go at any moment: then everything is undone.
async fn begin(order: Order) -> Option<Living> {
    let Order { slot, spec, main, policy, runtime, faults, mut reply } = order;
    let began = Instant::now();
    let created = tokio::select! {
        created = runtime.create(spec, main) => created.map_err(Error::from),
        () = reply.closed() => return None,
    };
    let container: Arc<dyn Container> = match created {
        Ok(container) => Arc::from(container),
        Err(error) => {
            slot.step(Input::Failed);
            let _ = reply.send(Err(error));
            return None;
        }
    };
    let create_us = micros(began);
    let _ = slot.container.set(Arc::clone(&container));
    let gate = faults.pass(Site::StartGate, &slot.id).map_err(|errno| {
        orangery_runtime::Error::new(orangery_runtime::ErrorKind::Creation, "injected").with_errno(Some(errno)).into()
    });
    let began = Instant::now();
    let started = match gate {
        Err(error) => Err(error),
        Ok(()) => tokio::select! {
            started = container.start() => started.map_err(Error::from),
            () = reply.closed() => Err(Error::lost_request()),
        },
    };
    let started = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = container.delete().await;
            slot.step(Input::Failed);
            let _ = reply.send(Err(error));
            return None;
        }
    };
    let mut started = started;
    let main = give_birth(&slot.main, &container, &mut started, create_us, micros(began), &faults);
    slot.step(Input::Started);
    // A kill that came before there was anything to kill has left its reason; one that comes now finds the process.
    if slot.main.intent().is_some() {
        let _ = slot.main.kill(Cause::Stop { escalated: true });
    }
    let for_actor = Arc::clone(&slot);
    let actor = guard::start(ContainerActor::new(Arc::clone(&slot), faults.clone()), move || broken(&for_actor.main));
    let _ = slot.actor.set(actor.clone());
    let _ = reply.send(Ok((Owned::new(&slot), actor.clone(), main.clone())));
    Some(Living { slot, container, started, policy, faults, actor, main })
}

/// An actor has spent its budget: what it was responsible for must not stay unmanaged.
fn broken(slot: &Arc<Slot>) {
    let _ = slot.kill(Cause::SupervisorFault);
}

/// Put what was started into its slot and give it an actor.
fn give_birth(
    slot: &Arc<Slot>,
    container: &Arc<dyn Container>,
    started: &mut Started,
    create_us: u64,
    start_us: u64,
    faults: &Faults,
) -> Addr<ProcessActor> {
    let born = Born {
        pid: started.pid,
        pidfd: Arc::clone(&started.pidfd),
        container: Arc::clone(container),
        at: Instant::now(),
        wall_clock: SystemTime::now(),
        create_us,
        start_us,
    };
    let _ = slot.born.set(born);
    // Before anybody has a handle: who asks for the standard input finds it.
    if let Some(stdin) = started.stdin.take() {
        match StdinWriter::from_fd(stdin) {
            Ok(writer) => *slot.stdin.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(writer),
            Err(error) => tracing::error!(container = %slot.id, %error, "no standard input"),
        }
    }
    let for_guard = Arc::clone(slot);
    let actor = guard::start(ProcessActor::new(Arc::clone(slot), faults.clone()), move || broken(&for_guard));
    let _ = slot.actor.set(actor.clone());
    actor
}

impl Living {
    async fn watch(self) {
        let Living { slot, container, started, policy, faults, actor, main } = self;
        let exit = watch_process(&slot.main, started, &policy, &main);
        let limits = watch_limits(Arc::clone(&slot.main), policy.clone());
        let (exit, reason) = tokio::select! {
            ended = exit => ended,
            never = limits => match never {},
        };
        slot.step(Input::MainExited);
        let evidence = container.finish().await;
        let _ = faults.pass(Site::ReportDelivery, &slot.id);
        let report = report(&slot.main, &exit, &evidence, reason);
        // Removed before it is told: who has the report in hand finds nothing left.
        if let Err(error) = container.delete().await {
            tracing::error!(container = %slot.id, %error, "the container could not be removed");
        }
        slot.step(Input::Removed);
        slot.main.report.send_replace(Some(Arc::new(report)));
        actor.do_send(Removed);
    }
}

/// Exit and streams of one process, to the end of both. The exit is published at once.
fn watch_process(
    slot: &Arc<Slot>,
    started: Started,
    policy: &Policy,
    actor: &Addr<ProcessActor>,
) -> impl Future<Output = (Exit, EndReason)> + use<> {
    let Started { exit, stdout, stderr, pidfd, .. } = started;
    let mut seen = slot.exit.subscribe();
    let exited = async move {
        let _ = seen.wait_for(Option::is_some).await;
    };
    let reader = |fd| match PipeReader::from_fd(fd) {
        Ok(reader) => Some(reader),
        Err(error) => {
            tracing::error!(%error, "an output stream cannot be read");
            None
        }
    };
    let pump =
        pump_pair(stdout.and_then(reader), stderr.and_then(reader), slot.hub.clone(), exited, policy.drain_grace);
    let (slot, actor) = (Arc::clone(slot), actor.clone());
    let exit = async move {
        let exit = match exit.await {
            Ok(exit) => exit,
            // The keeper is gone: the kernel still tells, where it is new enough.
            Err(_) => orangery_runtime::native::exit_of(pidfd).await,
        };
        slot.exit.send_replace(Some(exit));
        actor.do_send(Exited);
        exit
    };
    async move { tokio::join!(exit, pump) }
}

enum Never {}

/// Carry out the wall and the output limit; never ends by itself.
async fn watch_limits(slot: Arc<Slot>, policy: Policy) -> Never {
    let wall = async {
        match policy.wall {
            Some(wall) => enforce_wall(&slot, wall).await,
            None => std::future::pending().await,
        }
    };
    let output = async {
        match policy.output {
            Some(cap) => enforce_output(&slot, cap).await,
            None => std::future::pending().await,
        }
    };
    tokio::join!(wall, output);
    std::future::pending().await
}

async fn enforce_wall(slot: &Arc<Slot>, wall: Wall) {
    tokio::time::sleep(wall.limit).await;
    slot.intend(Cause::Limit(LimitKind::Wall));
    if let Some((signal, grace)) = wall.gentle {
        let _ = slot.signal(signal);
        let _ = slot.signal(18);
        tokio::time::sleep(grace).await;
    }
    let _ = slot.kill(Cause::Limit(LimitKind::Wall));
}

/// Count both streams as a reader that keeps nothing.
async fn enforce_output(slot: &Arc<Slot>, cap: u64) {
    let options = SubscribeOptions { sources: Sources::Both, from: Position::Start, ..SubscribeOptions::default() };
    let mut subscriber = slot.hub.subscribe(options);
    let (mut out, mut err) = (0, 0);
    while let Some(event) = subscriber.recv().await {
        let (source, end) = match &event {
            Event::Chunk(chunk) => (chunk.source, chunk.end()),
            Event::Gap(gap) => (gap.source, gap.to),
            _ => continue,
        };
        match source {
            Source::Stdout => out = end,
            Source::Stderr => err = end,
        }
        if out + err > cap {
            let _ = slot.kill(Cause::Limit(LimitKind::Output));
            return;
        }
    }
}

/// Start another process in a running container and see it through.
pub(crate) async fn exec(
    owner: Arc<ContainerSlot>,
    container: Arc<dyn Container>,
    spec: ProcessSpec,
    faults: Faults,
    mut reply: oneshot::Sender<Result<Process, Error>>,
) {
    let slot = Arc::new(Slot::new(&owner.id, owner.processes.number(), owner.ring_bytes));
    let began = Instant::now();
    let started = tokio::select! {
        started = container.exec(spec) => started,
        () = reply.closed() => return,
    };
    let mut started = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = reply.send(Err(error.into()));
            return;
        }
    };
    let actor = give_birth(&slot, &container, &mut started, 0, micros(began), &faults);
    let _listed = owner.processes.list(&slot);
    let policy = Policy { wall: None, output: None, drain_grace: Some(Duration::from_secs(2)) };
    let ended = watch_process(&slot, started, &policy, &actor);
    if reply.send(Ok((Arc::clone(&slot), actor))).is_err() {
        let _ = slot.kill(Cause::Stop { escalated: true });
    }
    let (exit, reason) = ended.await;
    let report = report(&slot, &exit, &Evidence::default(), reason);
    slot.report.send_replace(Some(Arc::new(report)));
}

/// Everything that is known, in one place.
fn report(slot: &Slot, exit: &Exit, evidence: &Evidence, reason: EndReason) -> Report {
    let born = slot.born.get();
    let oom = OomVerdict::from(evidence.oom.clone());
    let totals = |source| {
        let totals = slot.hub.totals(source);
        StreamTotals { bytes: totals.bytes, lost: totals.dropped }
    };
    let stats = &evidence.stats;
    let no_counter = "this cgroup mode or kernel does not count it";
    Report {
        schema: 1,
        id: slot.id.clone(),
        generation: slot.generation,
        pid: born.map_or(0, |born| born.pid),
        exit: exit.status.into(),
        cause: cause(slot.intent(), exit, &oom),
        oom,
        usage: Measured::from_option(exit.rusage.map(Into::into), "only the pidfd told this exit"),
        wall_us: born.map_or(0, |born| micros(born.at)),
        create_us: born.map_or(0, |born| born.create_us),
        start_us: born.map_or(0, |born| born.start_us),
        started_at_ms: born.map_or(0, |born| unix_ms(born.wall_clock)),
        ended_at_ms: unix_ms(SystemTime::now()),
        stdout: totals(Source::Stdout),
        stderr: totals(Source::Stderr),
        leaked_writers: reason == EndReason::Leaked,
        cgroup: CgroupUsage {
            mode: evidence.cgroup_mode.clone(),
            cpu_ns: Measured::from_option(stats.cpu_usage_ns, no_counter),
            memory_peak: Measured::from_option(stats.memory_peak, no_counter),
            pids_refused: Measured::from_option(stats.pids_refused, no_counter),
        },
    }
}

/// Ours if we meant it before it happened; else what the kernel's evidence says; else its own.
fn cause(intent: Option<Cause>, exit: &Exit, oom: &OomVerdict) -> Cause {
    const SIGXCPU: i32 = 24;
    const SIGXFSZ: i32 = 25;
    const SIGSYS: i32 = 31;
    const SIGKILL: i32 = 9;
    match (exit.status, intent) {
        // It ended by itself before our signal landed.
        (ExitStatus::Code(_), Some(Cause::Limit(LimitKind::Output))) => Cause::Limit(LimitKind::Output),
        (_, Some(intent)) => intent,
        (ExitStatus::Signal { signal: SIGKILL, .. }, None)
            if matches!(oom, OomVerdict::Own { .. } | OomVerdict::Killed { .. }) =>
        {
            Cause::Limit(LimitKind::Memory)
        }
        (ExitStatus::Signal { signal: SIGXCPU, .. }, None) => Cause::Limit(LimitKind::Cpu),
        (ExitStatus::Signal { signal: SIGXFSZ, .. }, None) => Cause::Limit(LimitKind::FileSize),
        (ExitStatus::Signal { signal: SIGSYS, .. }, None) => Cause::Limit(LimitKind::Seccomp),
        _ => Cause::Own,
    }
}

/// A report or an exit that may come later.
pub(crate) async fn later<T: Clone>(mut receiver: watch::Receiver<Option<T>>) -> Result<T, Error> {
    match receiver.wait_for(Option::is_some).await {
        Ok(value) => value.clone().ok_or_else(Error::lost_request),
        Err(_) => Err(Error::new(ErrorKind::SupervisorFault, "the process's record is gone")),
    }
}
