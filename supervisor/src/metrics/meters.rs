//! The counters that grow as things happen.

use std::sync::{Arc, Mutex};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::pools::Pools;
use super::streams::{Enrolled, Streams};
use crate::State;
use crate::error::Error;
use crate::events::{Event, Kind};
use crate::ids::ProcessId;
use crate::probe::HealthState;
use crate::probe::health::Answer;
use crate::process::output::Output;
use crate::report::{Cause, LimitKind, OomVerdict, Report};

/// Names and values.
pub(super) type Labels<const N: usize> = [(&'static str, &'static str); N];
/// Of a refusal: budgets are named by whoever refuses.
pub(super) type Budget = [(&'static str, String); 1];

/// The counters of one supervisor. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct Meters {
    pub(super) containers: Family<Labels<1>, Gauge>,
    pub(super) refusals: Family<Budget, Counter>,
    pub(super) creations: Family<Labels<1>, Histogram>,
    pub(super) failures: Family<Labels<1>, Counter>,
    pub(super) restarts: Counter,
    pub(super) exits: Family<Labels<2>, Counter>,
    pub(super) limits: Family<Labels<1>, Counter>,
    pub(super) health: Family<Labels<1>, Gauge>,
    pub(super) probes: Family<Labels<1>, Counter>,
    pub(super) oom_kills: Counter,
    pub(super) leaked: Counter,
    pub(super) panics: Family<Budget, Counter>,
    pub(super) keepers_replaced: Counter,
    pub(super) keepers_lost: Counter,
    pub(super) events: Counter,
    pub(super) pools: Pools,
    pub(super) streams: Arc<Mutex<Streams>>,
}

/// From 0.5 ms, doubled, to 8 s.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 15))
}

impl Default for Meters {
    fn default() -> Self {
        Self {
            containers: Family::default(),
            refusals: Family::default(),
            creations: Family::new_with_constructor(durations),
            failures: Family::default(),
            restarts: Counter::default(),
            exits: Family::default(),
            limits: Family::default(),
            health: Family::default(),
            probes: Family::default(),
            oom_kills: Counter::default(),
            leaked: Counter::default(),
            panics: Family::default(),
            keepers_replaced: Counter::default(),
            keepers_lost: Counter::default(),
            events: Counter::default(),
            pools: Pools::default(),
            streams: Arc::default(),
        }
    }
}

impl Meters {
    /// Count what has happened. Called once for each event.
    pub(crate) fn observe(&self, event: &Event) {
        self.events.inc();
        match &event.kind {
            Kind::ContainerCreated { create_us, .. } => self.took("create", *create_us),
            Kind::ContainerStarted { .. } if event.generation > 1 => drop(self.restarts.inc()),
            Kind::ProcessStarted { start_us, .. } if event.process == Some(ProcessId::MAIN) => {
                self.took("start", *start_us)
            }
            Kind::ProcessStarted { start_us, .. } => self.took("exec", *start_us),
            Kind::ContainerFailed(_) => drop(self.failures.get_or_create(&[("what", "container")]).inc()),
            Kind::ProcessFailed(_) => drop(self.failures.get_or_create(&[("what", "process")]).inc()),
            Kind::ProcessEnded { report } => self.ended(event.process, report),
            Kind::Oom {
                verdict: OomVerdict::Own { kills } | OomVerdict::Ancestor { kills, .. } | OomVerdict::Killed { kills },
            } => {
                self.oom_kills.inc_by(*kills);
            }
            Kind::LimitHit { limit } => drop(self.limits.get_or_create(&[("limit", limit_name(*limit))]).inc()),
            Kind::LeakedWriters => drop(self.leaked.inc()),
            Kind::ActorPanicked { actor, .. } => drop(self.panics.get_or_create(&[("actor", actor.clone())]).inc()),
            Kind::KeeperReplaced { .. } => drop(self.keepers_replaced.inc()),
            Kind::KeeperLost => drop(self.keepers_lost.inc()),
            _ => {}
        }
    }

    fn took(&self, stage: &'static str, us: u64) {
        #[expect(clippy::cast_precision_loss, reason = "centuries are exact enough")]
        self.creations.get_or_create(&[("stage", stage)]).observe(us as f64 / 1e6);
    }

    fn ended(&self, process: Option<ProcessId>, report: &Report) {
        let what = if process == Some(ProcessId::MAIN) { "main" } else { "further" };
        self.exits.get_or_create(&[("process", what), ("cause", cause_name(&report.cause))]).inc();
    }

    /// A container goes from one state to another; from none when it begins.
    pub(crate) fn moved(&self, from: Option<State>, to: State) {
        if let Some(from) = from {
            self.containers.get_or_create(&[("state", state_name(from))]).dec();
        }
        if to != State::Gone {
            self.containers.get_or_create(&[("state", state_name(to))]).inc();
        }
    }

    /// The health of a container goes from one state to another; `None`: nobody asks.
    pub(crate) fn health_moved(&self, from: Option<HealthState>, to: Option<HealthState>) {
        if let Some(from) = from {
            self.health.get_or_create(&[("health", health_name(from))]).dec();
        }
        if let Some(to) = to {
            self.health.get_or_create(&[("health", health_name(to))]).inc();
        }
    }

    /// A probe was asked, or could not be.
    pub(crate) fn probed(&self, answer: Answer) {
        let result = match answer {
            Answer::Passed => "passed",
            Answer::Failed | Answer::FailedEarly => "failed",
            Answer::Void => "void",
        };
        self.probes.get_or_create(&[("result", result)]).inc();
    }

    /// A container was not admitted.
    pub(crate) fn refused(&self, error: &Error) {
        let budget = error.field().unwrap_or("other").to_owned();
        self.refusals.get_or_create(&[("budget", budget)]).inc();
    }

    /// Count these streams for as long as what comes back exists, and what they have carried for ever.
    pub(crate) fn enroll(&self, output: &Output) -> Enrolled {
        Enrolled::new(&self.streams, output)
    }
}

pub(super) const fn state_name(state: State) -> &'static str {
    match state {
        State::Creating => "creating",
        State::Running => "running",
        State::Paused => "paused",
        State::Ending => "ending",
        State::Unkillable => "unkillable",
        State::Kept => "kept",
        State::Gone => "gone",
    }
}

const fn health_name(health: HealthState) -> &'static str {
    match health {
        HealthState::Starting => "starting",
        HealthState::Healthy => "healthy",
        HealthState::Unhealthy => "unhealthy",
    }
}

const fn limit_name(limit: LimitKind) -> &'static str {
    match limit {
        LimitKind::Wall => "wall",
        LimitKind::Memory => "memory",
        LimitKind::Pids => "pids",
        LimitKind::Disk => "disk",
        LimitKind::Cpu => "cpu",
        LimitKind::Idle => "idle",
        LimitKind::FileSize => "file_size",
        LimitKind::Output => "output",
        LimitKind::Unattended => "unattended",
        LimitKind::Seccomp => "seccomp",
        LimitKind::Unknown => "unknown",
    }
}

const fn cause_name(cause: &Cause) -> &'static str {
    match cause {
        Cause::Own => "own",
        Cause::Limit(limit) => limit_name(*limit),
        Cause::Stop { .. } => "stop",
        Cause::SupervisorFault => "supervisor_fault",
        Cause::NotReady => "not_ready",
        Cause::Unhealthy => "unhealthy",
        Cause::Watchdog => "watchdog",
        Cause::RootLost { .. } => "root_lost",
        Cause::Injected { .. } => "injected",
        Cause::Unknown => "unknown",
    }
}
