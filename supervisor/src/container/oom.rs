//! OOM kills of a container, told when they happen: only where it has a limit of memory, because it costs a descriptor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::slot::ContainerSlot;
use crate::events::Kind;
use crate::report::OomVerdict;

/// Tell of each until the container ends, or where nobody counts them.
pub(super) async fn watch(owner: &Arc<ContainerSlot>) {
    // Its sender is in the slot that we hold.
    let _ = owner.limited.subscribe().wait_for(|limits| limits.memory.is_some()).await;
    let Some(container) = owner.container.get() else { return };
    let mut seen = 0;
    loop {
        match container.oom(seen).await {
            Ok((kills, verdict)) => {
                seen = kills;
                owner.main.tell_oom(kills, OomVerdict::from(verdict));
            }
            Err(error) => {
                tracing::debug!(container = %owner.id, %error, "OOM kills are told at the end alone");
                return;
            }
        }
    }
}

impl crate::process::slot::Slot {
    /// It took so many so far. Told where that is news.
    pub(crate) fn tell_oom(&self, kills: u64, verdict: OomVerdict) {
        if self.oom_told.fetch_max(kills, Ordering::AcqRel) < kills {
            self.tell_of_itself(Kind::Oom { verdict });
        }
    }
}
