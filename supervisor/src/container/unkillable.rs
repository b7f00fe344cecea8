//! Whoever outlives the kill: nobody waits for ever for a process in a wait of the kernel's that no signal ends.

use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::Container;
use tokio::time::timeout;

use super::slot::ContainerSlot;
use crate::error::Error;
use crate::process::slot::Slot;
use crate::unkillable::Unkillable;

/// Between two attempts to end what could not be ended.
const AGAIN: Duration = Duration::from_secs(10);

/// Ready when this process of `owner` was killed, or its container was, so long ago that its end is not waited for any more;
/// never when it has ended.
pub(super) async fn overdue(owner: &ContainerSlot, slot: &Slot) {
    let (mut alone, mut all) = (slot.killed.subscribe(), owner.main.killed.subscribe());
    // Their senders are in slots that we hold: neither wait can fail.
    tokio::select! {
        _ = alone.wait_for(|killed| *killed) => {}
        _ = all.wait_for(|killed| *killed) => {}
    }
    tokio::time::sleep(owner.patience).await;
    if slot.ended() {
        std::future::pending().await
    }
}

/// What is left of it. Files of cgroupfs and /proc: not on this thread.
pub(super) async fn look(container: &Arc<dyn Container>, after: Duration) -> Unkillable {
    let container = Arc::clone(container);
    let held = tokio::task::spawn_blocking(move || container.held()).await;
    Unkillable::new(after, held.unwrap_or_default())
}

/// Kill and remove it, again and again, until nothing is left.
///
/// # Errors
/// It has ended, and something of it cannot be removed.
pub(super) async fn remove(container: &Arc<dyn Container>) -> Result<(), Error> {
    loop {
        let _ = container.kill();
        if let Ok(done) = timeout(AGAIN, container.delete()).await {
            return done.map_err(Error::from);
        }
    }
}
