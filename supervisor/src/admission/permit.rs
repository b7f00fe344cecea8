//! What somebody was given: room until it is gone, a turn until it is made.

use tokio::sync::OwnedSemaphorePermit;

use super::Door;
use super::budget::{Amounts, Budget};
use super::cost::Cost;
use super::queue::Kind;
use crate::error::Error;

/// What was taken, for as long as this exists.
#[derive(Debug)]
pub(crate) struct Permit {
    pub(super) door: Door,
    pub(super) cost: Cost,
    pub(super) kept: Amounts,
    /// It has its turn.
    pub(super) making: Option<Amounts>,
    pub(super) restart: Option<OwnedSemaphorePermit>,
    /// What it keeps is open, as far as it will be.
    pub(super) opened: bool,
}

impl Permit {
    pub(super) fn new(door: Door, cost: Cost, kept: Amounts, making: Option<Amounts>) -> Self {
        Self { door, cost, kept, making, restart: None, opened: false }
    }

    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// Wait for the turn to be made, where it has not come with the room.
    ///
    /// # Errors
    /// Too many wait.
    ///
    /// # Cancel safety
    /// Who does not wait any more has no place in the queue.
    pub(crate) async fn turn(&mut self) -> Result<(), Error> {
        if self.making.is_some() || self.turn_now() {
            return Ok(());
        }
        let kind = if self.cost.container { Kind::Turn } else { Kind::Start };
        let (_ticket, given) = self.door.queue(kind, self.cost, true)?;
        self.door.desk.serve();
        let mut turn = given.await.map_err(|_| Error::shut_down())?;
        self.making = turn.making.take();
        Ok(())
    }

    /// Where nobody waits before it.
    pub(super) fn turn_now(&mut self) -> bool {
        let (desk, caller, cost) = (&self.door.desk, &self.door.caller, &self.cost);
        let mut state = desk.lock();
        let kind = if cost.container { Kind::Turn } else { Kind::Start };
        let of_caller = state.queue.making(caller);
        if state.open_to(cost.container).is_err()
            || state.queue.waiting() > 0
            || desk.may(&mut state, desk.machine.look(), kind, cost, of_caller).is_err()
        {
            return false;
        }
        state.take(None, Some(cost.making));
        if cost.container {
            state.queue.begun(caller);
        }
        self.making = Some(cost.making);
        true
    }

    /// It is made: what it needed for that comes back, and the turn goes to the next.
    pub(crate) fn made(&mut self) {
        self.restart = None;
        let back = self.kept.less(&self.cost.kept);
        self.give(back);
    }

    /// So much of what it keeps, and all that it has taken to be made.
    pub(super) fn give(&mut self, back: Amounts) {
        let (desk, caller) = (&self.door.desk, &self.door.caller);
        let mut state = desk.lock();
        if !std::mem::replace(&mut self.opened, true) {
            state.unopened = state.unopened.saturating_sub(self.kept.get(Budget::Descriptors));
        }
        self.kept = self.kept.less(&back);
        state.kept = state.kept.less(&back);
        if let Some(making) = self.making.take() {
            state.making = (state.making.0.less(&making), state.making.1.saturating_sub(1));
            if self.cost.container {
                state.queue.ended(caller);
            }
        }
        let somebody = state.queue.waiting() > 0;
        drop(state);
        if somebody {
            desk.serve();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.making.is_some() || self.kept != Amounts::default() {
            self.give(self.kept);
        }
    }
}
