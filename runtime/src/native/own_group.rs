//! The group that carries the limits of one further process, below its container's.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::cgroup_error;
use crate::Evidence;
use crate::cgroup::{Group, IoMax, Limits, OomEvidence};
use crate::durable::GroupRecord;
use crate::error::Error;

/// Removed when dropped, if nobody is left in it; with its container otherwise. That touches a file system.
#[derive(Debug)]
pub struct OwnGroup {
    own: Group,
    container: Arc<Group>,
    before: OomEvidence,
    mode: String,
    /// What [`OwnGroup::lift_io`] takes away; nothing of one that an earlier supervisor has made.
    io_max: Vec<IoMax>,
}

impl OwnGroup {
    /// What the next supervisor has to know of it.
    pub(super) fn record(&self) -> GroupRecord {
        let name = self.own.id().rsplit('/').next().unwrap_or_default().to_owned();
        GroupRecord { name, before: self.before.clone() }
    }

    /// The one that an earlier supervisor has made; `None`: it is gone. Blocks.
    pub(super) fn again(container: Arc<Group>, record: &GroupRecord, mode: String) -> Option<Self> {
        let own = container.reopen_nested(&record.name).ok()?;
        Some(Self { own, container, before: record.before.clone(), mode, io_max: Vec::new() })
    }

    /// Blocks.
    pub(super) fn make(container: Arc<Group>, name: &str, limits: &Limits, mode: String) -> Result<Self, Error> {
        let own = container.nested(name, limits).map_err(|error| cgroup_error(&error))?;
        let before = own.oom();
        Ok(Self { own, container, before, mode, io_max: limits.io_max.clone() })
    }

    /// The files that the process writes itself into.
    pub(super) fn tasks(&self) -> Result<Vec<OwnedFd>, Error> {
        self.container.tasks_of(&self.own).map_err(|error| cgroup_error(&error))
    }

    /// Where it is born, if not in the container's own directory.
    pub(super) fn birthplace(&self) -> Option<&Group> {
        self.own.has_birth().then_some(&self.own)
    }

    /// Take its limits of devices away, with a kill: see [`Group::lift_io`].
    pub fn lift_io(&self) {
        self.own.lift_io();
    }

    /// The opposite, when the process has ended: what it has left behind in there lives on. Blocks.
    pub fn limit_io_again(&self) {
        if self.io_max.is_empty() {
            return;
        }
        let limits = Limits { io_max: self.io_max.clone(), ..Limits::default() };
        if let Err(error) = self.own.update(&limits) {
            tracing::debug!(group = self.own.id(), %error, "limits of devices are not put back");
        }
    }

    /// What the kernel has counted for the processes in it.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        let (after, stats) = (self.own.oom(), self.own.final_stats());
        let oom = Group::verdict(&self.before, &after);
        let mut counters = match oom {
            crate::cgroup::Oom::No => Vec::new(),
            _ => self.before.counters(&after),
        };
        counters.extend(super::evidence::refused(&stats));
        Evidence { oom, stats, counters, cgroup_mode: self.mode.clone() }
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        match self.own.remove() {
            // What the process has left behind lives on in it.
            Err(error) if !error.is_busy() => {
                tracing::warn!(group = self.own.id(), %error, "a cgroup could not be removed");
            }
            _ => {}
        }
    }
}
