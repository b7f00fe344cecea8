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
//! [`budget`] says what there is, [`cost`] what something takes, [`queue`] who comes next; all pure.
//!
//! [`Command::wait_for_room`]: crate::Command::wait_for_room
//! [`Supervisor::caller`]: crate::Supervisor::caller

mod budget;
mod cost;
mod machine;
mod queue;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::Error;
use machine::{Machine, Seen};
use queue::{Kind, Place, Queue};

pub(crate) use budget::Amounts;
pub use budget::{Budget, BudgetUse, Budgets};
pub(crate) use cost::{Beside, Cost};
pub use cost::{DESCRIPTORS_EACH, DESCRIPTORS_RESERVED, containers_that_fit};

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

#[derive(Debug)]
struct Desk {
    state: Mutex<State>,
    /// But for descriptors.
    most: Amounts,
    machine: Machine,
    restarts: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    /// What is taken until it is gone.
    kept: Amounts,
    /// What is taken beside that by what is being made, and how many of them there are.
    making: (Amounts, u64),
    /// Descriptors of `kept` that are not open yet, as far as is known.
    unopened: u64,
    queue: Queue<Waiter>,
    /// Budgets of which somebody in the queue waits for room.
    wanted: Amounts,
    /// No container is let in any more.
    closed: bool,
    /// Descriptors that others of the process have open, as far as is known.
    others: u64,
}

#[derive(Debug)]
struct Waiter {
    cost: Cost,
    reply: oneshot::Sender<Permit>,
}

/// Why somebody does not go on: what it would keep does not fit, or it is not its turn.
enum HeldUp {
    Room(Budget),
    Turn(Budget),
}

/// Where one caller asks.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    desk: Arc<Desk>,
    caller: Arc<str>,
}

/// What was taken, for as long as this exists.
#[derive(Debug)]
pub(crate) struct Permit {
    door: Door,
    cost: Cost,
    kept: Amounts,
    /// It has its turn.
    making: Option<Amounts>,
    restart: Option<OwnedSemaphorePermit>,
    /// What it keeps is open, as far as it will be.
    opened: bool,
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
    /// `most`: the limits but for that on descriptors.
    pub(crate) fn new(most: Amounts) -> Self {
        Self::on(most, Machine::default())
    }

    fn on(most: Amounts, machine: Machine) -> Self {
        let restarts = Arc::new(Semaphore::new(RESTARTS));
        Self { desk: Arc::new(Desk { state: Mutex::default(), most, machine, restarts }) }
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

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits of what is kept, at this moment. Of descriptors there is what is left below RLIMIT_NOFILE when what is kept
    /// free, and what others of the process have open beyond that, is taken away.
    fn limits(&self, state: &mut State, seen: Seen) -> Amounts {
        self.below_nofile(state, seen, DESCRIPTORS_RESERVED)
    }

    /// The limits of what is kept and what is taken while things are made, together. The first one's fits into what is kept
    /// free.
    fn limits_of_making(&self, state: &mut State, seen: Seen) -> Amounts {
        self.below_nofile(state, seen, DESCRIPTORS_RESERVED - cost::MAKING)
    }

    fn below_nofile(&self, state: &mut State, seen: Seen, free: u64) -> Amounts {
        let Seen { nofile, open } = seen;
        if nofile == u64::MAX {
            return self.most;
        }
        let others = open.map_or(0, |open| state.others(open)).saturating_add(cost::MAKING);
        self.most.with(Budget::Descriptors, nofile.saturating_sub(free.max(others)))
    }

    /// Whether the next of its caller may go on, or which budget holds it up. `making`: how many containers of the caller's
    /// are being made.
    fn may(&self, state: &mut State, seen: Seen, kind: Kind, cost: &Cost, making: u64) -> Result<(), HeldUp> {
        let mut kept = state.kept;
        if kind.is_outside() {
            let room = cost.room();
            kept.lacks(&room, &self.limits(state, seen)).map_or(Ok(()), |budget| Err(HeldUp::Room(budget)))?;
            kept = kept.plus(&room);
        }
        // One at least is made at any time.
        if state.making.1 == 0 {
            return Ok(());
        }
        let limits = self.limits_of_making(state, seen);
        if kind.is_container() {
            let turns = limits.get(Budget::Creations);
            if making >= turns - turns / 4 {
                return Err(HeldUp::Turn(Budget::Creations));
            }
            // Containers that hang leave processes enough to be started.
            let descriptors = state.making.0.plus(&cost.making).get(Budget::Descriptors);
            if descriptors > limits.get(Budget::Descriptors) / 2 {
                return Err(HeldUp::Turn(Budget::Descriptors));
            }
        }
        let lacks = kept.plus(&state.making.0).lacks(&cost.making, &limits);
        lacks.map_or(Ok(()), |budget| Err(HeldUp::Turn(budget)))
    }

    /// Let those go on whose turn it is.
    fn serve(self: &Arc<Self>) {
        let granted = self.round(&mut self.lock());
        for (permit, reply) in granted {
            // Who does not wait any more: it comes back and goes to the next.
            let _ = reply.send(permit);
        }
    }

    fn round(self: &Arc<Self>, state: &mut State) -> Vec<(Permit, oneshot::Sender<Permit>)> {
        let (mut queue, seen) = (std::mem::take(&mut state.queue), self.machine.look());
        state.wanted = Amounts::default();
        let granted = queue.round(|kind, waiter: &Waiter, making| {
            let (cost, outside) = (&waiter.cost, kind.is_outside());
            // Nobody overtakes who waits for the same room.
            if outside && state.wanted.first_of(&cost.room()).is_some() {
                return false;
            }
            match self.may(state, seen, kind, cost, making) {
                Ok(()) => {
                    state.take(outside.then(|| cost.room()), Some(cost.making));
                    true
                }
                Err(HeldUp::Room(budget)) => {
                    state.wanted = state.wanted.with(budget, 1);
                    false
                }
                Err(HeldUp::Turn(_)) => false,
            }
        });
        state.queue = queue;
        let permit = |(caller, kind, Waiter { cost, reply }): (Arc<str>, Kind, Waiter)| {
            let kept = if kind.is_outside() { cost.room() } else { Amounts::default() };
            let door = Door { desk: Arc::clone(self), caller };
            (Permit::new(door, cost, kept, Some(cost.making)), reply)
        };
        granted.into_iter().map(permit).collect()
    }
}

impl State {
    fn open_to(&self, container: bool) -> Result<(), Error> {
        if self.closed && container { Err(Error::shut_down()) } else { Ok(()) }
    }

    /// What others have open when `open` are in all. That is known to within what is being made, which has some of those
    /// open, for a moment; exactly when nothing is. In between what was known last is taken, as far as it can be true.
    fn others(&mut self, open: u64) -> u64 {
        let most = open.saturating_sub(self.kept.get(Budget::Descriptors).saturating_sub(self.unopened));
        let least = most.saturating_sub(self.making.0.get(Budget::Descriptors));
        self.others = self.others.clamp(least, most);
        self.others
    }

    fn take(&mut self, room: Option<Amounts>, making: Option<Amounts>) {
        if let Some(room) = room {
            self.kept = self.kept.plus(&room);
            self.unopened += room.get(Budget::Descriptors);
        }
        if let Some(making) = making {
            self.making = (self.making.0.plus(&making), self.making.1 + 1);
        }
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

impl Permit {
    fn new(door: Door, cost: Cost, kept: Amounts, making: Option<Amounts>) -> Self {
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
    fn turn_now(&mut self) -> bool {
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
    fn give(&mut self, back: Amounts) {
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
