//! The wall limit of a process: carried out here, and of a main process armed in the keeper too, so that a supervisor that
//! is stopped, wedged or out of processor time does not lengthen anybody's life. The keeper has the last word only (the
//! kill, at the end of the ladder); asking gently first is ours.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use orangery_runtime::{Act, Deadline, ErrorKind};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::actor::CONT;
use super::slot::Slot;
use crate::ladder::StopLadder;
use crate::report::{Cause, LimitKind};

/// A wall limit and how gently it is carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wall {
    /// From the start of the process.
    pub(crate) limit: Duration,
    /// What happens then; without a signal in it the kill at once.
    pub(crate) ladder: StopLadder,
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl Slot {
    /// When its wall limit is over (CLOCK_MONOTONIC in nanoseconds), where it has one and was born.
    pub(crate) fn wall_over_ns(&self) -> Option<u64> {
        let limit = self.wall.borrow().as_ref()?.limit;
        Some(self.born.get()?.at_ns.saturating_add(nanoseconds(limit)))
    }
}

/// Carry it out; begun when it is born.
pub(crate) async fn enforce(slot: &Arc<Slot>) {
    // Together: a keeper that does not answer must not hold our own up.
    tokio::join!(carry_out(slot), watch_over(slot));
}

async fn carry_out(slot: &Arc<Slot>) {
    let began = slot.born.get().map_or_else(Instant::now, |born| born.began);
    let mut limit = slot.wall.subscribe();
    let wall = loop {
        let wall = limit.borrow_and_update().clone();
        let over = async {
            match &wall {
                Some(wall) => tokio::time::sleep(wall.limit.saturating_sub(began.elapsed())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => break wall,
            // Its sender is in the slot that we hold.
            _ = limit.changed() => {}
        }
    };
    let Some(wall) = wall else { return };
    let cause = Cause::Limit(LimitKind::Wall);
    for (signal, grace) in wall.ladder.rungs() {
        slot.intend(cause.clone(), true);
        let _ = slot.signal(signal);
        let _ = slot.signal(CONT);
        tokio::time::sleep(grace).await;
    }
    let _ = slot.kill(cause);
}

/// Have the keeper do it too, as the limit is now.
async fn watch_over(slot: &Arc<Slot>) {
    let mut limit = slot.wall.subscribe();
    loop {
        let patience = limit.borrow_and_update().as_ref().map(|wall| wall.ladder.patience());
        if let Some((patience, over_ns)) = patience.zip(slot.wall_over_ns()) {
            arm(slot, over_ns.saturating_add(nanoseconds(patience))).await;
        }
        if limit.changed().await.is_err() {
            return;
        }
    }
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
