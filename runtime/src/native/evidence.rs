//! What a container leaves behind: its counters, read between the end of its last process and the removal of its cgroup.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::Timespec;

use super::janitor;
use super::off_thread::Few;
use crate::Evidence;
use crate::cgroup::{Counter, Group, Oom, OomEvidence, Stats};

/// How long the thread that reads the counters waits for the death that it reads after: most take a tenth of that, and a
/// wake-up of our own in between would take as long again.
const QUICKLY: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// What is read when the last process is gone.
pub(super) struct Last {
    pub(super) init: Option<Arc<OwnedFd>>,
    pub(super) group: Option<Arc<Group>>,
    pub(super) before: OomEvidence,
    pub(super) cgroup_mode: String,
}

pub(super) struct Read {
    pub(super) evidence: Evidence,
    /// The cgroup is gone already.
    pub(super) removed: bool,
}

impl Last {
    /// Wait for the end, then read.
    pub(super) async fn read(self, threads: &Few) -> Read {
        match self.within(QUICKLY, threads).await {
            Ok(read) => read,
            // Its death takes its time: no thread waits for that.
            Err(last) => {
                if let Some(init) = &last.init {
                    let _ = janitor::ended(init).await;
                }
                last.within(Timespec::default(), threads).await.unwrap_or_else(|last| last.unknown())
            }
        }
    }

    /// One trip to a thread that may wait for the kernel's locks: wait for the end, read, and remove what is empty then.
    /// Comes back with itself when the end has not come within `patience`.
    async fn within(self, patience: Timespec, threads: &Few) -> Result<Read, Self> {
        let mode = self.cgroup_mode.clone();
        let read = threads.off_thread(move || {
            let gone = self.init.as_ref().is_none_or(|init| janitor::is_ended(init, &patience));
            if gone { Ok(self.counters()) } else { Err(self) }
        });
        read.await.unwrap_or_else(|_| Ok(unread("the thread that reads the counters has failed", mode)))
    }

    fn counters(&self) -> Read {
        let Some(group) = &self.group else { return Read { evidence: Evidence::default(), removed: true } };
        let stats = group.final_stats();
        let mut counters = Vec::new();
        let oom = match stats.oom_kills {
            // Nobody was killed: whose limit it was need not be asked at every level.
            Some(0) => Oom::No,
            _ => {
                let after = group.oom();
                counters = self.before.counters(&after);
                Group::verdict(&self.before, &after)
            }
        };
        counters.extend(refused(&stats));
        tracing::debug!(?oom, "the counters are read");
        let cgroup_mode = self.cgroup_mode.clone();
        Read { evidence: Evidence { oom, stats, counters, cgroup_mode }, removed: group.remove().is_ok() }
    }

    fn unknown(self) -> Read {
        unread("the container's pid 1 cannot be watched", self.cgroup_mode)
    }
}

/// Forks that the group's limit refused. It began with none.
pub(super) fn refused(stats: &Stats) -> Option<Counter> {
    let refused = stats.pids_refused.filter(|refused| *refused > 0)?;
    Some(Counter::new("pids.events max", Some(0), Some(refused)))
}

fn unread(why: &str, cgroup_mode: String) -> Read {
    let evidence = Evidence { oom: Oom::Unknown { why: why.into() }, cgroup_mode, ..Evidence::default() };
    Read { evidence, removed: false }
}
