//! The wall limit of a container: carried out here, and armed in the keeper too, so that a supervisor that is stopped,
//! wedged or out of processor time does not lengthen anybody's life. The keeper has the last word only (the kill, after
//! the grace); asking gently first is ours.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use orangery_runtime::{Act, Deadline, ErrorKind};

use super::life::Wall;
use crate::process::slot::Slot;
use crate::report::{Cause, LimitKind};

/// Carry it out. `over_ns` is when the limit is over (CLOCK_MONOTONIC).
pub(super) async fn enforce(slot: &Arc<Slot>, wall: Wall, over_ns: u64) {
    let grace = wall.gentle.map_or(Duration::ZERO, |(_, grace)| grace);
    let grace_ns = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
    // Together: a keeper that does not answer must not hold our own up.
    tokio::join!(carry_out(slot, wall), arm(slot, over_ns.saturating_add(grace_ns)));
}

async fn carry_out(slot: &Arc<Slot>, wall: Wall) {
    tokio::time::sleep(wall.limit).await;
    slot.intend(Cause::Limit(LimitKind::Wall), wall.gentle.is_some());
    if let Some((signal, grace)) = wall.gentle {
        let _ = slot.signal(signal);
        let _ = slot.signal(18);
        tokio::time::sleep(grace).await;
    }
    let _ = slot.kill(Cause::Limit(LimitKind::Wall));
}

/// Of the main process: the keeper's kill is the container's. A further process's limit is ours alone.
async fn arm(slot: &Arc<Slot>, at_ns: u64) {
    if !slot.main {
        return;
    }
    let Some(born) = slot.born.get() else { return };
    match born.container.lease(Deadline { at_ns, at_end: false }, Act::Kill).await {
        Ok(lease) => {
            let mut held = slot.deadline.lock().unwrap_or_else(PoisonError::into_inner);
            *held = (!slot.ended()).then_some(lease);
        }
        // It has ended meanwhile, or this runtime has no keeper.
        Err(error) if matches!(error.kind(), ErrorKind::State | ErrorKind::Unsupported) => {}
        Err(error) => tracing::warn!(container = %slot.id, %error, "the keeper does not watch over the wall limit"),
    }
}
