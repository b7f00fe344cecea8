//! What can have happened. Plain data.

use std::sync::Arc;

use orangery_runtime::cgroup::Limits;
use orangery_runtime::spec::UnmetLimit;
use serde::{Deserialize, Serialize};

use crate::hook::{HookKind, HookOutcome};
use crate::limit_update::WatchedLimits;
use crate::pool::DiscardReason;
use crate::probe::{HealthState, NotifyRefusal};
use crate::report::{ExitStatus, LimitKind, OomVerdict, Report};
use crate::restart::GiveUp;
use crate::service::state::ServiceState;
use crate::unkillable::Unkillable;

/// What has happened, with what belongs to it. In JSON its name is the field `kind`, beside the fields of the
/// [`Event`](super::Event).
///
/// The list grows: skip what you do not know. In a text of a newer version an unknown kind is read as [`Kind::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "limits are told rarely, and matched on by users")]
pub enum Kind {
    /// Namespaces, cgroup and pid 1 are there; nothing runs yet.
    ContainerCreated {
        /// `v2`, `v1`, `hybrid` or `none`.
        cgroup_mode: String,
        /// Making it took this long, in microseconds.
        create_us: u64,
    },
    /// Its main process runs.
    ContainerStarted {
        /// The main process outside.
        pid: i32,
        /// pid 1 of the container outside.
        init_pid: i32,
    },
    /// It could not be made or started, and nothing of it is left. Its last event.
    ContainerFailed(Failure),
    /// It is ready ([`Command::ready_when`](crate::Command::ready_when)); without a readiness nobody says so.
    ContainerReady {
        /// This long after its start, in microseconds.
        after_us: u64,
    },
    /// It has become healthy or unhealthy ([`Command::healthy_while`](crate::Command::healthy_while)).
    ContainerHealth {
        /// From now on.
        health: HealthState,
        /// Why the last attempt has failed.
        failure: Option<String>,
    },
    /// It has sent a notification, or something in one, that is not taken. Told once for each reason.
    NotifyRefused {
        /// Why.
        why: NotifyRefusal,
    },
    /// It is frozen.
    ContainerPaused,
    /// It runs again.
    ContainerResumed,
    /// Its limits were changed.
    ContainerUpdated {
        /// All of its cgroup's, as they are now.
        limits: Limits,
        /// All others.
        #[serde(default)]
        watched: WatchedLimits,
    },
    /// Somebody or something sets out to end it; the event's cause says who. A second time when a gentle stop has needed
    /// a kill.
    ContainerStopping,
    /// Its main process has ended and its output is drained, or was given up.
    ContainerExited {
        /// How the main process ended.
        exit: ExitStatus,
    },
    /// It was killed and does not end: what is left, and for how long it was waited for. Tried again until
    /// [`Kind::ContainerRemoved`].
    ContainerUnkillable(Unkillable),
    /// It is removed but for its files, which are kept until it is deleted.
    ContainerKept,
    /// Nothing of it is left. Its last event; without a start before it, it was given up while it was made.
    ContainerRemoved,
    /// A process was exec'd; the main one has the number 0.
    ProcessStarted {
        /// Outside.
        pid: i32,
        /// Starting it took this long, in microseconds.
        start_us: u64,
    },
    /// A further process could not be started.
    ProcessFailed(Failure),
    /// As [`Kind::ContainerStopping`], of a further process.
    ProcessStopping,
    /// It has ended: told at once, before its output is drained.
    ProcessExited {
        /// How.
        exit: ExitStatus,
    },
    /// Its output is drained, the kernel's evidence is read, and its report is made. Of a main process its container is
    /// removed next.
    ProcessEnded {
        /// The report.
        report: Arc<Report>,
    },
    /// The OOM killer took processes of it.
    Oom {
        /// Whose limit it was.
        verdict: OomVerdict,
    },
    /// What kept its network going ([`Pasta`](crate::Pasta)) has ended: the container runs on without a network. What it was
    /// connected to is gone; [`inspect`](crate::ContainerHandle::inspect) says that it is down.
    NetworkLost {
        /// How, with its last words.
        why: String,
    },
    /// What served its root file system ([`Layering::FuseOverlayfs`](orangery_runtime::rootfs::Layering::FuseOverlayfs)) has
    /// ended: the container is killed, with the cause [`RootLost`](crate::Cause::RootLost).
    RootLost {
        /// How, with its last words.
        why: String,
    },
    /// A limit that was asked for does not hold: its container does without it, or with what is named here in its place. Told
    /// when the container is made, and of an update.
    LimitUnmet(UnmetLimit),
    /// A limit was reached. It has ended the process only if the report's cause says so.
    LimitHit {
        /// Which.
        limit: LimitKind,
    },
    /// A command that goes with a stop has ended, or could not be run.
    HookEnded {
        /// Which.
        hook: HookKind,
        /// What has become of it.
        outcome: HookOutcome,
    },
    /// Something that outlived the process held its output when the drain grace was over.
    LeakedWriters,
    /// A property of the container was set or removed.
    PropertyChanged {
        /// Its name; [`inspect`](crate::ContainerHandle::inspect) tells its value.
        name: String,
        /// It is gone.
        removed: bool,
    },
    /// A service's state has changed. Its name stands where a container's does, and so does its incarnation.
    ServiceChanged {
        /// From now on.
        state: ServiceState,
        /// How many restarts there were so far.
        restarts: u64,
        /// Until the next start, in milliseconds, when it is `back_off`.
        delay_ms: Option<u64>,
        /// Why, when it is `failed`.
        give_up: Option<GiveUp>,
    },
    /// As [`Kind::ServiceChanged`], of a group as a whole: its name, below those of the groups that it is in, stands where a
    /// container's does, and the number of its starts where the incarnation does.
    GroupChanged {
        /// From now on.
        state: ServiceState,
        /// How many restarts there were so far.
        restarts: u64,
        /// Until the next start, in milliseconds, when it is `back_off`.
        delay_ms: Option<u64>,
        /// Why, when it is `failed`.
        give_up: Option<GiveUp>,
    },
    /// A sandbox of this pool waits for somebody to take it.
    PoolReady {
        /// The pool's name.
        pool: String,
    },
    /// Somebody has taken it.
    PoolLeased {
        /// The pool's name.
        pool: String,
    },
    /// It is thrown away.
    PoolDiscarded {
        /// The pool's name.
        pool: String,
        /// Why.
        why: DiscardReason,
    },
    /// A pool makes its next sandbox after a delay.
    PoolBackOff {
        /// The pool's name.
        pool: String,
        /// How long, in milliseconds.
        delay_ms: u64,
        /// Why the last one could not be made; `None`: a ready one died young.
        failure: Option<Failure>,
    },
    /// An actor of ours panicked.
    ActorPanicked {
        /// `manager`, `service`, `group`, `container` or `process`.
        actor: String,
        /// It goes on with the message in hand lost; else its budget is spent and what it was responsible for is killed.
        restarted: bool,
    },
    /// The keeper has died; another one is being started, and what is asked meanwhile waits for it. Of a
    /// [durable](crate::Supervisor::durable) supervisor.
    KeeperDied,
    /// Another keeper has all that the one held that has died: nothing that runs has noticed.
    KeeperReplaced {
        /// Processes that it is not the parent of: how they end is told by the kernel (since 6.15), or not known.
        processes: usize,
        /// Ends of pipes and terminals.
        streams: usize,
        /// Deadlines.
        deadlines: usize,
        /// What it could not be given, for want of descriptors.
        left_out: usize,
        /// From the death of the other one, in microseconds.
        took_us: u64,
    },
    /// The keeper is gone, and there is no other one: what runs goes on, nothing new can be started.
    KeeperLost,
    /// A fault is part of a plan that was armed (feature `faults`).
    FaultPlanned(FaultNews),
    /// A fault was applied.
    FaultApplied(FaultNews),
    /// A fault that lasts was reverted.
    FaultReverted(FaultNews),
    /// A fault does not happen.
    FaultSkipped(FaultNews),
    /// A fault that lasts could not be reverted.
    FaultLeft(FaultNews),
    /// A kind that this version does not know: the event was written by a newer one.
    #[serde(other)]
    Unknown,
}

/// What is done about a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FaultNews {
    /// Its name in the plan.
    pub fault: String,
    /// The name of its kind, such as `starve_cpu`.
    pub what: String,
    /// Why it was reverted or skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What could not be done, as the [`Error`](crate::Error) of whoever asked says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Failure {
    /// Where in the creation, such as `step 12 move-mount`, when it had got that far.
    pub stage: Option<String>,
    /// The kernel's error number.
    pub errno: Option<i32>,
    /// In words.
    pub why: String,
}

impl From<&crate::Error> for Failure {
    fn from(error: &crate::Error) -> Self {
        Self { stage: error.stage().map(str::to_owned), errno: error.errno(), why: error.to_string() }
    }
}

impl Kind {
    /// The names of all that this version tells, which a filter can ask for.
    ///
    /// ```
    /// assert!(orangery::events::Kind::NAMES.contains(&"keeper_lost"));
    /// ```
    pub const NAMES: [&str; 42] = [
        "container_created",
        "container_started",
        "container_failed",
        "container_ready",
        "container_health",
        "notify_refused",
        "container_paused",
        "container_resumed",
        "container_updated",
        "container_stopping",
        "container_exited",
        "container_unkillable",
        "container_kept",
        "container_removed",
        "process_started",
        "process_failed",
        "process_stopping",
        "process_exited",
        "process_ended",
        "oom",
        "network_lost",
        "root_lost",
        "limit_unmet",
        "limit_hit",
        "hook_ended",
        "leaked_writers",
        "property_changed",
        "service_changed",
        "group_changed",
        "pool_ready",
        "pool_leased",
        "pool_discarded",
        "pool_back_off",
        "actor_panicked",
        "keeper_died",
        "keeper_replaced",
        "keeper_lost",
        "fault_planned",
        "fault_applied",
        "fault_reverted",
        "fault_skipped",
        "fault_left",
    ];

    /// Its name, as in JSON: `"process_exited"`.
    ///
    /// ```
    /// assert_eq!(orangery::events::Kind::KeeperLost.name(), "keeper_lost");
    /// ```
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ContainerCreated { .. } => "container_created",
            Self::ContainerStarted { .. } => "container_started",
            Self::ContainerFailed(_) => "container_failed",
            Self::ContainerReady { .. } => "container_ready",
            Self::ContainerHealth { .. } => "container_health",
            Self::NotifyRefused { .. } => "notify_refused",
            Self::ContainerPaused => "container_paused",
            Self::ContainerResumed => "container_resumed",
            Self::ContainerUpdated { .. } => "container_updated",
            Self::ContainerStopping => "container_stopping",
            Self::ContainerExited { .. } => "container_exited",
            Self::ContainerUnkillable(_) => "container_unkillable",
            Self::ContainerKept => "container_kept",
            Self::ContainerRemoved => "container_removed",
            Self::ProcessStarted { .. } => "process_started",
            Self::ProcessFailed(_) => "process_failed",
            Self::ProcessStopping => "process_stopping",
            Self::ProcessExited { .. } => "process_exited",
            Self::ProcessEnded { .. } => "process_ended",
            Self::Oom { .. } => "oom",
            Self::NetworkLost { .. } => "network_lost",
            Self::RootLost { .. } => "root_lost",
            Self::LimitUnmet(_) => "limit_unmet",
            Self::LimitHit { .. } => "limit_hit",
            Self::HookEnded { .. } => "hook_ended",
            Self::LeakedWriters => "leaked_writers",
            Self::PropertyChanged { .. } => "property_changed",
            Self::ServiceChanged { .. } => "service_changed",
            Self::GroupChanged { .. } => "group_changed",
            Self::PoolReady { .. } => "pool_ready",
            Self::PoolLeased { .. } => "pool_leased",
            Self::PoolDiscarded { .. } => "pool_discarded",
            Self::PoolBackOff { .. } => "pool_back_off",
            Self::ActorPanicked { .. } => "actor_panicked",
            Self::KeeperDied => "keeper_died",
            Self::KeeperReplaced { .. } => "keeper_replaced",
            Self::KeeperLost => "keeper_lost",
            Self::FaultPlanned(_) => "fault_planned",
            Self::FaultApplied(_) => "fault_applied",
            Self::FaultReverted(_) => "fault_reverted",
            Self::FaultSkipped(_) => "fault_skipped",
            Self::FaultLeft(_) => "fault_left",
            Self::Unknown => "unknown",
        }
    }
}
