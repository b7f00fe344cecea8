//! Budgets, asked before any work starts. What is taken is held by a permit, which lies with what it was given for and gives
//! it back when that is gone.
//!
//! ```text
//!   enter: room, or a typed refusal at once            wait: room and a turn, or nothing yet
//!      |                                                  |
//!   Permit --- turn: callers in turn ---> being made --- made: what was needed on the way comes back ---> kept
//! ```
//!
//! Who asks by hand is refused at once where there is no room; who waits ([`Command::wait_for_room`]) and restarts are let in
//! when it is there, and nobody takes it before them. What is admitted is made when it is its turn: so many at a time, the
//! callers ([`Supervisor::caller`]) one after the other, and none has more than three quarters of four or more turns, so that neither a
//! caller with ten thousand requests nor one whose creations hang keeps the others out. Fair is the order in which things are
//! made; how much one caller may keep is not limited by itself.
//!
//! [`budget`] says what there is, [`cost`] what something takes, [`queue`] who comes next; all pure. [`desk`] holds it together
//! under one lock, and [`permit`] is what is given.
//!
//! [`Command::wait_for_room`]: crate::Command::wait_for_room
//! [`Supervisor::caller`]: crate::Supervisor::caller

mod budget;
mod cost;
mod desk;
mod machine;
mod permit;
mod queue;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, oneshot};

use crate::error::Error;
use desk::{Desk, HeldUp, Waiter};
use machine::Machine;
use queue::{Kind, Place};

pub(crate) use budget::Amounts;
pub use budget::{Budget, BudgetUse, Budgets};
pub(crate) use cost::{Beside, Cost};
pub use cost::{DESCRIPTORS_EACH, DESCRIPTORS_RESERVED, containers_that_fit};
pub(crate) use permit::Permit;

/// Restarts that are made at a time.
const RESTARTS: usize = 16;

/// How often who waits looks whether there is room that nobody tells of: a raised limit, descriptors of others.
const LOOK: Duration = Duration::from_secs(1);

/// The limits of a supervisor unless others are set.
pub(crate) fn default_limits() -> Amounts {
    let none = Amounts::NO_LIMIT;
    let counts = none.with(Budget::Containers, 4096).with(Budget::Processes, 16_384).with(Budget::Creations, 32);
    let waiting = counts.with(Budget::Waiting, 16_384).with(Budget::BufferBytes, machine::half_of_memory());
    waiting.with(Budget::PipePages, machine::pipe_pages().unwrap_or(u64::MAX))
}

/// The budgets of one supervisor. Clones are the same ones.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    desk: Arc<Desk>,
}

/// Where one caller asks.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    desk: Arc<Desk>,
    caller: Arc<str>,
}

/// A place in the queue for as long as this exists.
struct Ticket<'a> {
    door: &'a Door,
    place: Place,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let left = self.door.desk.lock().queue.leave(&self.door.caller, self.place);
        // It may have held up others.
        if left.is_some() {
            self.door.desk.serve();
        }
    }
}

impl Admission {
    /// `most`: the limits but for that on descriptors, of which `free` more than usual are kept for others.
    pub(crate) fn new(most: Amounts, free: u64) -> Self {
        Self::beside(free, most, Machine::default())
    }

    #[cfg(test)]
    fn on(most: Amounts, machine: Machine) -> Self {
        Self::beside(0, most, machine)
    }

    fn beside(free: u64, most: Amounts, machine: Machine) -> Self {
        let (restarts, free) = (Arc::new(Semaphore::new(RESTARTS)), DESCRIPTORS_RESERVED.saturating_add(free));
        Self { desk: Arc::new(Desk { state: Mutex::default(), most, free, machine, restarts }) }
    }

    pub(crate) fn door(&self, caller: &Arc<str>) -> Door {
        Door { desk: Arc::clone(&self.desk), caller: Arc::clone(caller) }
    }

    /// The supervisor ends: whoever waits with a container is told so, and no further one is let in, whatever room there
    /// is. What is let in already gives back what it has as ever; processes in containers end with those.
    pub(crate) fn close(&self) {
        let dismissed = {
            let mut state = self.desk.lock();
            state.closed = true;
            state.queue.dismiss()
        };
        // Not under the lock: it wakes them.
        drop(dismissed);
        self.desk.serve();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.desk.lock().closed
    }

    /// As it is now.
    pub(crate) fn budgets(&self) -> Budgets {
        let mut state = self.desk.lock();
        let creations = state.making.0.get(Budget::Creations);
        let used = state.kept.with(Budget::Waiting, state.queue.waiting()).with(Budget::Creations, creations);
        Budgets::new(&used, &self.desk.limits(&mut state, self.desk.machine.look()))
    }
}

impl Door {
    /// Room at once, or the refusal that says which budget is spent, in words and as its field. The turn is still to come:
    /// [`Permit::turn`].
    pub(crate) fn enter(&self, cost: Cost) -> Result<Permit, Error> {
        let (mut state, room) = (self.desk.lock(), cost.room());
        state.open_to(cost.container)?;
        let granted = if state.queue.waiting() > 0 { self.desk.round(&mut state) } else { Vec::new() };
        let limits = self.desk.limits(&mut state, self.desk.machine.look());
        let lacks = state.kept.lacks(&room, &limits).or_else(|| state.wanted.first_of(&room));
        let answer = match lacks {
            Some(budget) => Err(state.kept.refusal(budget, &room, &limits)),
            None => {
                state.take(Some(room), None);
                Ok(Permit::new(self.clone(), cost, room, None))
            }
        };
        drop(state);
        granted.into_iter().for_each(|(permit, reply)| drop(reply.send(permit)));
        answer
    }

    /// The refusal of what does not fit now.
    pub(crate) fn refusal(&self, cost: &Cost) -> Option<Error> {
        let mut state = self.desk.lock();
        let kind = if cost.container { Kind::Container } else { Kind::Process };
        let making = state.queue.making(&self.caller);
        let seen = self.desk.machine.look();
        Some(match self.desk.may(&mut state, seen, kind, cost, making).err()? {
            HeldUp::Room(budget) => {
                let limits = self.desk.limits(&mut state, seen);
                state.kept.refusal(budget, &cost.room(), &limits)
            }
            HeldUp::Turn(budget) => {
                let limits = self.desk.limits_of_making(&mut state, seen);
                state.kept.plus(&state.making.0).refusal(budget, &cost.making, &limits)
            }
        })
    }

    /// Room and a turn, when they are there. On a thread of the supervisor's.
    ///
    /// # Errors
    /// It can never fit, or too many wait.
    ///
    /// # Cancel safety
    /// Who does not wait any more has no place in the queue.
    pub(crate) async fn wait(&self, cost: Cost) -> Result<Permit, Error> {
        let limits = self.desk.most;
        if let Some(budget) = Amounts::default().lacks(&cost.room(), &limits) {
            return Err(self.desk.lock().kept.refusal(budget, &cost.room(), &limits));
        }
        let kind = if cost.container { Kind::Container } else { Kind::Process };
        let (_ticket, given) = self.queue(kind, cost, true)?;
        self.served(given).await
    }

    /// Until it is one's turn, or nobody can give one any more.
    async fn served(&self, mut given: oneshot::Receiver<Permit>) -> Result<Permit, Error> {
        loop {
            self.desk.serve();
            tokio::select! {
                permit = &mut given => return permit.map_err(|_| Error::shut_down()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// [`Door::wait`], of a restart: [`RESTARTS`] at a time, and however many wait.
    pub(crate) async fn wait_to_restart(&self, cost: Cost) -> Result<Permit, Error> {
        let restart = Arc::clone(&self.desk.restarts).acquire_owned().await.map_err(|_| Error::shut_down())?;
        let (_ticket, given) = self.queue(Kind::Container, cost, false)?;
        let mut permit = self.served(given).await?;
        permit.restart = Some(restart);
        Ok(permit)
    }

    fn queue(&self, kind: Kind, cost: Cost, bounded: bool) -> Result<(Ticket<'_>, oneshot::Receiver<Permit>), Error> {
        let mut state = self.desk.lock();
        state.open_to(kind.is_container())?;
        let (waiting, one) = (state.queue.waiting(), Amounts::default().with(Budget::Waiting, 1));
        if bounded && waiting >= self.desk.most.get(Budget::Waiting) {
            let used = state.kept.with(Budget::Waiting, waiting);
            return Err(used.refusal(Budget::Waiting, &one, &self.desk.most));
        }
        let (reply, given) = oneshot::channel();
        let place = state.queue.push(&self.caller, kind, Waiter { cost, reply });
        Ok((Ticket { door: self, place }, given))
    }
}

/// Room and a turn; or, with `patience`, the wait for them, in a task that `spawn` runs on a thread of the supervisor's: who
/// asks may have no clock.
///
/// # Errors
/// A budget is spent, still so when the patience is.
///
/// # Cancel safety
/// What is dropped has taken nothing and has no place in a queue.
pub(crate) async fn admit(
    door: &Door,
    cost: Cost,
    patience: Option<Duration>,
    spawn: impl FnOnce(BoxFuture<'static, ()>) -> bool,
) -> Result<Permit, Error> {
    let Some(patience) = patience else {
        let mut permit = door.enter(cost)?;
        permit.turn().await?;
        return Ok(permit);
    };
    let ((mut reply, answer), door) = (oneshot::channel(), door.clone());
    let wait = async move {
        tokio::select! {
            permit = tokio::time::timeout(patience, door.wait(cost)) => {
                let late = |_| Err(door.refusal(&cost).unwrap_or_else(|| Error::too_late(patience)));
                let _ = reply.send(permit.unwrap_or_else(late));
            }
            () = reply.closed() => {}
        }
    };
    spawn(Box::pin(wait));
    answer.await.map_err(|_| Error::shut_down())?
}

#[cfg(test)]
mod tests;
