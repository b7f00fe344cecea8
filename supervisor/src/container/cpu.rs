//! The limit on processor time, of all processes of the container together. The kernel counts it and tells nobody, so it is
//! looked at when it can have been reached at the earliest. RLIMIT_CPU of the main process is the backstop, and the only
//! one where the container has no counter.

use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::ProcessSpec;
use orangery_runtime::spec::{Resource, Rlimit, rlimit};

use super::slot::ContainerSlot;
use crate::report::{Cause, LimitKind};

/// Looked at no more often than this: what is used above the limit is at most as much on every processor.
const PERIOD: Duration = Duration::from_millis(20);

/// Give `main` the backstop, in whole seconds, unless it has a limit of its own or may not have this one.
pub(crate) fn backstop(main: &mut ProcessSpec, limit: Duration) {
    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    let (_, most) = Resource::Cpu.current();
    let (soft, hard) = (seconds.min(most), seconds.saturating_add(1).min(most));
    let given = main.rlimits.iter().any(|limit| limit.resource == Resource::Cpu);
    if !given && soft < rlimit::INFINITY {
        main.rlimits.extend(Rlimit::new(Resource::Cpu, soft, hard).ok());
    }
}

/// Carry it out; ends with that, or where nothing is counted.
pub(super) async fn enforce(container: &Arc<ContainerSlot>, limit: Duration) {
    let processors = u32::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap_or(u32::MAX);
    let Some(begin) = used(container).await else { return };
    let _ = container.cpu_begin_ns.set(begin);
    while let Some(now) = used(container).await {
        let left = limit.saturating_sub(Duration::from_nanos(now.saturating_sub(begin)));
        if left.is_zero() {
            let _ = container.main.kill(Cause::Limit(LimitKind::Cpu));
            return;
        }
        tokio::time::sleep((left / processors).max(PERIOD)).await;
    }
}

/// Nanoseconds so far, those of its making included. Files of cgroupfs: not on this thread.
async fn used(container: &Arc<ContainerSlot>) -> Option<u64> {
    let (container, span) = (Arc::clone(container), container.span.clone());
    let read = tokio::task::spawn_blocking(move || span.in_scope(|| container.stats().cpu_usage_ns));
    read.await.ok().flatten()
}

impl ContainerSlot {
    /// Whether its processes have used more than they may: `total_ns` as its cgroup has counted it, or what the main one
    /// has used where nothing was counted.
    pub(super) fn over_cpu(&self, total_ns: Option<u64>, main_ns: Option<u64>) -> bool {
        let Some(limit) = self.cpu_limit else { return false };
        let counted = total_ns.zip(self.cpu_begin_ns.get()).map(|(total, begin)| total.saturating_sub(*begin));
        counted.or(main_ns).is_some_and(|used| u128::from(used) >= limit.as_nanos())
    }
}
