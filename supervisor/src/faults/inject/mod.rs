//! Carrying out a plan on a running supervisor.
//!
//! ```text
//!   what happens (feed, manager, sites)          orders              a task for each fault
//!   ------------------------------------> decide ------> engine ------> job: act, wait, undo
//!      under their locks, in order         (pure)          |              |
//!                                                          +--- ledger ---+--> report, feed
//! ```
//! `decide` is told synchronously, so that what is counted is exact; whatever takes time is a job's. A fault that lasts has a
//! job that ends with the first of: its time, what it lasts until, its container, its plan. The keeper has leases on what
//! would outlive us.

mod act;
mod count;
mod decide;
mod engine;
mod job;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orangery_io_stream::Source;
use tokio::sync::{mpsc, oneshot, watch};

use super::Site;
use super::held::Held;
use super::plan::{Plan, PlanOf};
use crate::container::state::State;
use crate::error::Error;
use crate::events::{Event, Kind};
use crate::ids::ProcessId;
use crate::manager::msg::List;
use crate::supervisor::Supervisor;
use act::Claims;
use decide::{Decider, Key};
use engine::Engine;
use report::Ledger;

pub use report::{FaultEntry, FaultReport, FaultStep};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the parts of one armed plan share.
struct Shared {
    decider: Mutex<Decider>,
    ledger: Ledger,
    claims: Arc<Claims>,
    /// Why it is over, when it is.
    over: watch::Sender<Option<&'static str>>,
}

impl Shared {
    /// Decide nothing any more, and revert everything. The first reason stands.
    fn end(&self, why: &'static str) {
        lock(&self.decider).close();
        self.over.send_if_modified(|over| over.is_none() && over.replace(why).is_none());
    }
}

/// The plans that are armed in one supervisor.
#[derive(Default)]
pub(crate) struct Plans {
    armed: Mutex<Vec<Armed>>,
    claims: Arc<Claims>,
}

struct Armed {
    shared: Arc<Shared>,
    done: watch::Receiver<bool>,
}

impl Plans {
    fn each(&self, mut then: impl FnMut(&mut Decider)) {
        for armed in &*lock(&self.armed) {
            then(&mut lock(&armed.shared.decider));
        }
    }

    fn arm(&self, shared: &Arc<Shared>, done: watch::Receiver<bool>) {
        let mut plans = lock(&self.armed);
        plans.retain(|armed| !*armed.done.borrow() && armed.done.has_changed().is_ok());
        plans.push(Armed { shared: Arc::clone(shared), done });
    }

    /// A container is accepted.
    pub(super) fn accepted(&self, id: &str, labels: &BTreeMap<String, String>, generation: u32) {
        let key = (id.into(), generation);
        self.each(|decider| decider.accepted(&key, labels));
    }

    /// Something has happened: called under whatever lock it was told under.
    pub(super) fn observe(&self, event: &Event) {
        let Some(id) = &event.container else { return };
        let key: Key = (Arc::clone(id), event.generation);
        match &event.kind {
            Kind::ContainerStarted { .. } => self.each(|decider| decider.started(&key)),
            Kind::ProcessExited { .. } if event.process == Some(ProcessId::MAIN) => {
                self.each(|decider| decider.exited(&key));
            }
            Kind::ContainerFailed(_) | Kind::ContainerRemoved => self.each(|decider| decider.gone(&key)),
            _ => {}
        }
    }

    /// A site of this container is passed: whether it is to fail.
    pub(super) fn fails(&self, id: &str, generation: u32, site: Site) -> bool {
        let (of, step) = match site {
            Site::PlanStep(step) => (PlanOf::Container, step),
            Site::ProcessStep(step) => (PlanOf::Main, step),
            _ => return false,
        };
        let (key, mut fails) = ((id.into(), generation), false);
        self.each(|decider| fails = fails || decider.fails(&key, of, step));
        fails
    }

    /// Who holds this output.
    pub(super) fn stalled(&self, id: &str, generation: u32, source: Source) -> Held {
        let (key, mut held) = ((id.into(), generation), Held::default());
        self.each(|decider| held.0.extend(decider.stalled(&key, source)));
        held
    }

    /// The report of its main process is about to be made.
    pub(super) fn report(&self, id: &str, generation: u32) -> (Held, Option<(i32, String)>) {
        let (key, mut held, mut instead) = ((id.into(), generation), Held::default(), None);
        self.each(|decider| {
            let (holds, code) = decider.report(&key);
            held.0.extend(holds.0);
            instead = instead.take().or(code);
        });
        (held, instead)
    }

    /// The supervisor ends: revert everything now.
    pub(super) fn end(&self) {
        for armed in &*lock(&self.armed) {
            armed.shared.end("the supervisor shuts down");
        }
    }

    /// Wait until everything is reverted.
    pub(super) async fn ended(&self) {
        let waits: Vec<_> = lock(&self.armed).iter().map(|armed| armed.done.clone()).collect();
        for mut done in waits {
            let _ = done.wait_for(|done| *done).await;
        }
    }
}

/// A plan that is armed. Dropped, everything of it is reverted, in the background; [`Injection::end`] waits for that. Dropped
/// by a panic, as in a test that fails, it says on standard error how to have the same decisions again.
///
/// ```no_run
/// use orangery::faults::{FaultKind, FaultStep, Plan, PlannedFault, Trigger};
/// # async fn f() -> Result<(), orangery::Error> {
/// let supervisor = orangery::Supervisor::builder().fault_points().build()?;
/// let plan = Plan::seeded_by_env()?.fault(PlannedFault::new("dies", FaultKind::Kill, Trigger::Spawn { nth: 1 }));
/// let injection = supervisor.inject(plan).await?;
/// let output = supervisor.command("sleep").arg("1000").run().await?;
/// assert_eq!(output.report.shell_code(), 137);
/// let report = injection.end().await;
/// assert_eq!(report.of("dies", FaultStep::Applied).count(), 1);
/// # Ok(()) }
/// ```
#[must_use = "dropped, everything is reverted"]
pub struct Injection {
    shared: Arc<Shared>,
    done: watch::Receiver<bool>,
}

impl fmt::Debug for Injection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injection").field("over", &*self.shared.over.borrow()).finish_non_exhaustive()
    }
}

impl Injection {
    /// What was done so far.
    #[must_use]
    pub fn report(&self) -> FaultReport {
        self.shared.ledger.report()
    }

    /// Wait until this was done about this fault at least so often; `false` when the plan ended before.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn saw(&self, fault: &str, step: FaultStep, times: usize) -> bool {
        let mut entries = self.shared.ledger.entries();
        let mut done = self.done.clone();
        let is = |entry: &&FaultEntry| entry.fault == fault && entry.step == step;
        let enough = |entries: &Vec<FaultEntry>| entries.iter().filter(is).count() >= times;
        tokio::select! {
            biased;
            seen = entries.wait_for(enough) => seen.is_ok(),
            _ = done.wait_for(|done| *done) => enough(&self.report().entries),
        }
    }

    /// End the plan, and wait until everything is reverted.
    ///
    /// # Cancel safety
    /// Dropped, everything is reverted all the same.
    pub async fn end(self) -> FaultReport {
        self.shared.end("the plan has ended");
        let _ = self.done.clone().wait_for(|done| *done).await;
        self.report()
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.shared.end("its holder has dropped it");
        if std::thread::panicking() {
            eprintln!("orangery: {}", self.report().again());
        }
    }
}

impl Supervisor {
    /// Have this go wrong from now on: see [`faults`](crate::faults). Several plans at a time are several injections.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) with every nonsense in the plan,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a supervisor without
    /// [`SupervisorBuilder::fault_points`](crate::SupervisorBuilder::fault_points),
    /// [`ShutDown`](crate::ErrorKind::ShutDown).
    ///
    /// # Cancel safety
    /// Begun when called; a future that is dropped leaves nothing armed.
    pub fn inject(&self, plan: Plan) -> impl Future<Output = Result<Injection, Error>> + Send + 'static + use<> {
        let supervisor = self.clone();
        let begun = supervisor.arm(plan);
        async move {
            let (injection, engine) = begun?;
            let (reply, answer) = oneshot::channel();
            supervisor.manager().do_send(List { reply });
            let slots = answer.await.map_err(|_| supervisor.lost())?;
            let decider = || lock(&injection.shared.decider);
            for slot in slots {
                let key: Key = (slot.id.as_str().into(), slot.main.generation);
                decider().learn(&key, &slot.labels);
                // Looked at after it is known, so that no news of it is missed, and not under our lock.
                if matches!(slot.state(), State::Running | State::Paused) {
                    decider().started(&key);
                }
                if slot.main.ended() {
                    decider().ended_before(&key);
                }
                if slot.state() == State::Gone {
                    decider().gone(&key);
                }
            }
            decider().armed();
            supervisor.spawn(engine.run());
            Ok(injection)
        }
    }

    fn arm(&self, plan: Plan) -> Result<(Injection, Engine), Error> {
        plan.check()?;
        let plans = self.faults().plans().ok_or_else(|| {
            let why = "this supervisor has no fault points";
            let error = orangery_runtime::Error::new(orangery_runtime::ErrorKind::Unsupported, why);
            Error::from(error.with_field("fault_points").with_hint("build it with SupervisorBuilder::fault_points"))
        })?;
        let (plan, (sender, orders)) = (Arc::new(plan), mpsc::unbounded_channel());
        let ledger = Ledger::new(Arc::clone(&plan), self.voice());
        for fault in 0..plan.faults.len() {
            ledger.note(fault, FaultStep::Planned, None, None);
        }
        let decider = Mutex::new(Decider::new(plan, sender));
        let claims = Arc::clone(&plans.claims);
        let shared = Arc::new(Shared { decider, ledger, claims, over: watch::Sender::new(None) });
        let (done, receiver) = watch::channel(false);
        plans.arm(&shared, receiver.clone());
        let engine = Engine { shared: Arc::clone(&shared), orders, manager: self.manager().clone(), done };
        Ok((Injection { shared, done: receiver }, engine))
    }
}
