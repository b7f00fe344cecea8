//! Counters of a container, pushed to whoever listens; a plain task on the container's shard for each listener.

use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::cgroup::Stats;
use tokio::sync::watch;

use super::slot::ContainerSlot;

impl ContainerSlot {
    /// Its counters now, or the last ones.
    pub(crate) fn stats(&self) -> Stats {
        self.container.get().map(|container| container.stats()).unwrap_or_default()
    }
}

/// Read and push until the container has ended or nobody listens.
pub(crate) async fn push(slot: Arc<ContainerSlot>, every: Duration, sender: watch::Sender<Stats>) {
    let mut report = slot.main.report.subscribe();
    loop {
        tokio::select! {
            _ = report.wait_for(Option::is_some) => return,
            () = sender.closed() => return,
            () = tokio::time::sleep(every) => sender.send_replace(slot.stats()),
        };
    }
}
