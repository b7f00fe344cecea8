//! A container and its processes as they are now, as a value.

use std::collections::BTreeMap;

use orangery_runtime::Pause;
use orangery_runtime::cgroup::Limits;
use orangery_runtime::network::NetworkProperties;
use orangery_runtime::rootfs::RootWay;
use orangery_runtime::spec::UnmetLimit;
use serde::Serialize;

use super::attach;
use crate::container::slot::ContainerSlot;
use crate::container::state::State;
use crate::ids::{ProcessId, ProcessRole};
use crate::limit_update::WatchedLimits;
use crate::probe::Vitals;
use crate::report::Report;

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
    /// Its limits that were asked for and do not hold, with what stands in their place.
    pub unmet: Vec<UnmetLimit>,
    /// How it is held, while it is paused: one way is weaker ([`Pause::weakness`]).
    pub paused: Option<Pause>,
    /// `v2`, `v1`, `hybrid` or `none`.
    pub cgroup_mode: Option<String>,
    /// How it has its root file system, and why not otherwise.
    pub rootfs: Option<RootWay>,
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
            unmet: slot.unmet(),
            paused: container.and_then(|container| container.paused()),
            cgroup_mode: container.map(|container| container.cgroup_mode()),
            rootfs: container.and_then(|container| container.root_way()),
            network: container.and_then(|container| container.network()),
            vitals: slot.vitals(),
            processes: attach::present(slot).iter().map(|slot| attach::summary(slot)).collect(),
            report: slot.main.report.borrow().as_deref().cloned(),
        }
    }
}
