//! The wall limit of a process: carried out here, and by the keeper ([`backstop`]) where we are stopped, wedged or out of
//! processor time, so that we do not lengthen anybody's life.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::backstop::{self, Course};
use super::descent::{Descent, nanoseconds};
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

impl Slot {
    /// When its wall limit is over (CLOCK_MONOTONIC in nanoseconds), where it has one and was born.
    pub(crate) fn wall_over_ns(&self) -> Option<u64> {
        let limit = self.wall.borrow().as_ref()?.limit;
        Some(self.born.get()?.at_ns.saturating_add(nanoseconds(limit)))
    }
}

/// Carry it out; begun when it is born, and at its end when it is carried out.
pub(crate) async fn enforce(slot: &Arc<Slot>) {
    let (wanted, cause) = (watch::Sender::new(None), Cause::Limit(LimitKind::Wall));
    // Together: a keeper that does not answer must not hold our own up. In this order: what is armed already must not be
    // cancelled because nothing is wanted yet.
    tokio::select! {
        biased;
        () = carry_out(slot, &cause, &wanted) => {}
        () = backstop::follow(Arc::clone(slot), cause.clone(), wanted.subscribe()) => {}
    }
}

fn course(wall: &Wall, over_ns: u64) -> Course {
    Descent::begin(&wall.ladder, Duration::ZERO).course(over_ns)
}

/// Have the keeper watch over it before anybody hears of the process: nobody else may be there a moment later.
pub(crate) async fn arm_at_once(slot: &Slot) {
    let wall = slot.wall.borrow().clone();
    let over_ns = slot.wall_over_ns().filter(|over| *over < u64::MAX);
    if let Some((wall, over_ns)) = wall.zip(over_ns) {
        slot.back(&Cause::Limit(LimitKind::Wall), Some(course(&wall, over_ns))).await;
    }
}

async fn carry_out(slot: &Slot, cause: &Cause, wanted: &watch::Sender<Option<Course>>) {
    let began = slot.born.get().map_or_else(Instant::now, |born| born.began);
    let mut limit = slot.wall.subscribe();
    let wall = loop {
        let wall = limit.borrow_and_update().clone();
        let over_ns = slot.wall_over_ns().filter(|over| *over < u64::MAX);
        wanted.send_replace(wall.as_ref().zip(over_ns).map(|(wall, over)| course(wall, over)));
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
    if let Some(wall) = wall {
        backstop::go_down(slot, cause, &wall.ladder, wanted).await;
    }
}
