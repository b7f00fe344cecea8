//! What one supervisor's callers have in common: what is taken, who waits, and whether the next one may go on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use super::Door;
use super::budget::{Amounts, Budget};
use super::cost::{self, Cost};
use super::machine::{Machine, Seen};
use super::permit::Permit;
use super::queue::{Kind, Queue};
use crate::error::Error;

#[derive(Debug)]
pub(super) struct Desk {
    pub(super) state: Mutex<State>,
    /// But for descriptors.
    pub(super) most: Amounts,
    /// Descriptors that are kept free for everything else in the process.
    pub(super) free: u64,
    pub(super) machine: Machine,
    pub(super) restarts: Arc<Semaphore>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// What is taken until it is gone.
    pub(super) kept: Amounts,
    /// What is taken beside that by what is being made, and how many of them there are.
    pub(super) making: (Amounts, u64),
    /// Descriptors of `kept` that are not open yet, as far as is known.
    pub(super) unopened: u64,
    pub(super) queue: Queue<Waiter>,
    /// Budgets of which somebody in the queue waits for room.
    pub(super) wanted: Amounts,
    /// No container is let in any more.
    pub(super) closed: bool,
    /// Descriptors that others of the process have open, as far as is known.
    pub(super) others: u64,
}

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) cost: Cost,
    pub(super) reply: oneshot::Sender<Permit>,
}

/// Why somebody does not go on: what it would keep does not fit, or it is not its turn.
pub(super) enum HeldUp {
    Room(Budget),
    Turn(Budget),
}

impl Desk {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The limits of what is kept, at this moment. Of descriptors there is what is left below RLIMIT_NOFILE when what is kept
    /// free, and what others of the process have open beyond that, is taken away.
    pub(super) fn limits(&self, state: &mut State, seen: Seen) -> Amounts {
        self.below_nofile(state, seen, self.free)
    }

    /// The limits of what is kept and what is taken while things are made, together. The first one's fits into what is kept
    /// free.
    pub(super) fn limits_of_making(&self, state: &mut State, seen: Seen) -> Amounts {
        self.below_nofile(state, seen, self.free - cost::MAKING)
    }

    pub(super) fn below_nofile(&self, state: &mut State, seen: Seen, free: u64) -> Amounts {
        let Seen { nofile, open } = seen;
        if nofile == u64::MAX {
            return self.most;
        }
        let others = open.map_or(0, |open| state.others(open)).saturating_add(cost::MAKING);
        self.most.with(Budget::Descriptors, nofile.saturating_sub(free.max(others)))
    }

    /// Whether the next of its caller may go on, or which budget holds it up. `making`: how many containers of the caller's
    /// are being made.
    pub(super) fn may(
        &self,
        state: &mut State,
        seen: Seen,
        kind: Kind,
        cost: &Cost,
        making: u64,
    ) -> Result<(), HeldUp> {
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
    pub(super) fn serve(self: &Arc<Self>) {
        let granted = self.round(&mut self.lock());
        for (permit, reply) in granted {
            // Who does not wait any more: it comes back and goes to the next.
            let _ = reply.send(permit);
        }
    }

    pub(super) fn round(self: &Arc<Self>, state: &mut State) -> Vec<(Permit, oneshot::Sender<Permit>)> {
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
    pub(super) fn open_to(&self, container: bool) -> Result<(), Error> {
        if self.closed && container { Err(Error::shut_down()) } else { Ok(()) }
    }

    /// What others have open when `open` are in all. That is known to within what is being made, which has some of those
    /// open, for a moment; exactly when nothing is. In between what was known last is taken, as far as it can be true.
    pub(super) fn others(&mut self, open: u64) -> u64 {
        let most = open.saturating_sub(self.kept.get(Budget::Descriptors).saturating_sub(self.unopened));
        let least = most.saturating_sub(self.making.0.get(Budget::Descriptors));
        self.others = self.others.clamp(least, most);
        self.others
    }

    pub(super) fn take(&mut self, room: Option<Amounts>, making: Option<Amounts>) {
        if let Some(room) = room {
            self.kept = self.kept.plus(&room);
            self.unopened += room.get(Budget::Descriptors);
        }
        if let Some(making) = making {
            self.making = (self.making.0.plus(&making), self.making.1 + 1);
        }
    }
}
