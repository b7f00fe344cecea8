//! Orangery: supervised sandboxes as actors.
//!
//! ```no_run
//! # async fn f() -> Result<(), orangery::Error> {
//! let output = orangery::run("sh").arg("-c").arg("echo hello; exit 3").await?;
//! assert_eq!(output.stdout.to_vec(), b"hello\n");
//! assert_eq!(output.report.shell_code(), 3);
//! # Ok(()) }
//! ```
//!
//! # Follow one container through the files
//! `command` (what the user says) -> `supervisor` (admission, a message) -> `manager` (4: a name, a shard) ->
//! `container::life` (5: create, start, watch, report, remove) -> `process::slot` (pidfd, streams, exit) with
//! `process::actor` (signals, stop ladder) beside it -> `report`.
//!
//! Control goes through mailboxes, bytes never do, and neither do the kill and the exit: those go through the slots,
//! which outlive a panic of any actor (`guard`).
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod blocking;
mod clock;
mod command;
mod container;
mod each;
mod error;
pub mod events;
pub mod faults;
mod files;
mod filter;
pub mod follow;
mod group;
mod guard;
mod handle;
mod hook;
mod ids;
mod ladder;
mod limit_hit;
mod limit_update;
mod manager;
mod metrics;
mod output_limit;
mod pool;
mod preset;
mod probe;
mod process;
mod recovery;
mod report;
pub mod restart;
mod sandbox;
mod service;
mod shard;
#[cfg(test)]
mod state_tables;
mod supervisor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod unkillable;

use std::ffi::OsStr;

pub use admission::{Budget, BudgetUse, Budgets, DESCRIPTORS_EACH, DESCRIPTORS_RESERVED, containers_that_fit};
pub use blocking::block_on;
pub use command::{Command, ExecCommand, Output, Stdin};
pub use container::state::State;
pub use error::{Error, ErrorKind};
pub use files::{Copied, CopyOptions, SkipReason, Skipped};
pub use filter::{EventFilter, Filter};
pub use group::{Group, GroupBuilder, GroupInspect, MemberInspect, Strategy};
pub use handle::{ContainerHandle, Inspect, ProcessHandle, ProcessSummary, StatsStream};
pub use hook::{Hook, HookKind, HookOutcome};
pub use ids::{ProcessId, ProcessRole};
pub use ladder::StopLadder;
pub use limit_hit::{Counted, LimitHit};
pub use limit_update::{LimitUpdate, WatchedLimits};
pub use orangery_io_stream as stream;
pub use orangery_io_stream::{
    Captured, Cursor, Event, Gone, GoneReason, Overflow, Source, Sources, StdinWriter, SubscribeOptions, Subscriber,
};
pub use orangery_runtime as runtime;
pub use orangery_runtime::Pause;
pub use orangery_runtime::cgroup::{BlockDevice, CpuQuota, IoMax, IoWeight, Limits, Source as StatsSource, Stats};
pub use orangery_runtime::drivers::Program;
pub use orangery_runtime::network::{
    NetworkLink, NetworkPlugin, NetworkProperties, NetworkProvider, Pasta, Protocol, Publish,
};
pub use orangery_runtime::rootfs::{
    Layering, Layers, PreparedRootfs, RootKind, RootWay, RootfsGuard, RootfsProvider, RootfsUsage,
};
pub use orangery_runtime::seccomp;
pub use orangery_runtime::spec::{
    Access, Caps, Disk, Enforcement, Fallback, Landlock, Mount, MountSource, Network, PathAccess, PathRule,
    Propagation, Resource, Rlimit, Rootfs, Seccomp, UnmetLimit, User, UserNamespace, WindowSize,
};
pub use output_limit::{OutputAction, OutputLimit};
pub use pool::state::PoolState;
pub use pool::{DiscardReason, Lease, Pool, PoolBuilder, PoolInspect, Reset};
pub use preset::{Choice, Choices, Preset};
pub use probe::{Health, HealthState, Http, NotifyRefusal, OnUnhealthy, Probe, Readiness, Vitals, Watchdog};
pub use recovery::{RecoveryReport, RecoveryTimes, SetAside};
pub use report::{Cause, CgroupUsage, ExitStatus, LimitKind, Measured, OomVerdict, Report, StreamTotals, Usage};
pub use restart::{ExitClass, Restart, Treatment, WhenSpent};
pub use sandbox::{Sandbox, SandboxBuilder};
pub use service::state::ServiceState;
pub use service::{BackOff, Change, Service, ServiceChanges, ServiceInspect};
pub use supervisor::{Supervisor, SupervisorBuilder};
pub use unkillable::{StuckProcess, Unkillable};

/// A command on the process's shared supervisor: the shortest form.
pub fn run(program: impl AsRef<OsStr>) -> Command {
    Command::new(Supervisor::shared(), program.as_ref())
}
