//! The lifetime of a container that nobody attends to.

use std::time::Duration;

use super::slot::ContainerSlot;
use crate::report::{Cause, LimitKind};

/// Kill it when it has had no handle for this long; ends with that. Without being detached it never gets that far:
/// its last handle has killed it.
pub(crate) async fn enforce(slot: &ContainerSlot, limit: Option<Duration>) {
    let Some(limit) = limit else { return };
    let mut attended = slot.attended.subscribe();
    loop {
        // Its sender is in the slot that we hold: neither wait can fail.
        let _ = attended.wait_for(|count| *count == 0).await;
        tokio::select! {
            _ = attended.wait_for(|count| *count > 0) => {}
            () = tokio::time::sleep(limit) => {
                let _ = slot.main.kill(Cause::Limit(LimitKind::Unattended));
                return;
            }
        }
    }
}
