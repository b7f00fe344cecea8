//! What handles, leases and the tasks of a pool share: which sandbox is where and who waits. Every change is one step of the
//! table under one lock; what follows from it (answers, new tasks, removals) is done after the lock is let go of.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use actix_rt::ArbiterHandle;
use tokio::sync::{Notify, oneshot, watch};

use super::lease::Lease;
use super::member::{self, Member};
use super::reason::DiscardReason;
use super::state::{Effect, Input, PoolState, Sizes, Tally, next};
use crate::command::Template;
use crate::error::{Error, ErrorKind};
use crate::events::{Failure, Kind, Voice};
use crate::faults::Faults;
use crate::report::{Cause, unix_ms};
use crate::service::BackOff;
use crate::supervisor::WeakSupervisor;

type Answer = oneshot::Sender<Result<Lease, Error>>;

/// One pool.
pub(crate) struct Shared {
    pub(super) name: String,
    pub(super) sizes: Sizes,
    pub(super) max_age: Option<Duration>,
    pub(super) max_lease: Option<Duration>,
    /// Its end is not held up by a pool.
    pub(super) supervisor: WeakSupervisor,
    pub(super) system: ArbiterHandle,
    pub(super) template: Template,
    pub(super) voice: Voice,
    pub(super) faults: Faults,
    pub(super) tally: watch::Sender<Tally>,
    pub(super) state: Mutex<State>,
}

/// What its lock guards.
#[derive(Default)]
pub(super) struct State {
    pub(super) tally: Tally,
    /// The one that has been ready longest first.
    pub(super) idle: VecDeque<Arc<Member>>,
    /// Who has waited longest first.
    pub(super) waiting: VecDeque<(u64, Answer)>,
    /// How to give up those that are being made.
    making: BTreeMap<u64, Arc<Notify>>,
    pub(super) numbers: u64,
    random: u64,
    pub(super) counts: Counts,
    /// Why the last attempt failed; of a closed pool why it was closed.
    pub(super) error: Option<Error>,
    back_off: Option<BackOff>,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: seed, ..Self::default() }
    }
}

/// Since the beginning.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) made: u64,
    pub(super) leased: u64,
    pub(super) discarded: BTreeMap<DiscardReason, u64>,
}

/// What follows from steps, done without the lock.
#[derive(Default)]
pub(super) struct Todo {
    answers: Vec<(Answer, Result<Lease, Error>)>,
    begin: Vec<(u64, Arc<Notify>)>,
    remove: Vec<Arc<Member>>,
    give_up: Vec<Arc<Notify>>,
    wait: Option<Duration>,
}

/// Closes the pool when the supervisor's thread ends, and with it every task there: nobody may wait for ever.
struct Watchman(Arc<Shared>);

impl Drop for Watchman {
    fn drop(&mut self) {
        self.0.close(Error::shut_down());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().tally.state == PoolState::Closed
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// It is closed and nothing of it is left: its name is free.
    pub(crate) fn is_over(&self) -> bool {
        let tally = self.lock().tally;
        tally.state == PoolState::Closed && tally.all() == 0
    }

    /// A task on the supervisor's thread, in its time; `false`: that has ended.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        self.system.spawn(task)
    }

    pub(super) fn template_of(&self, number: u64) -> Template {
        self.template.clone().with_id(format!("{}-{number}", self.name))
    }

    /// How long the next one is kept at most: not all to the same moment, so that not all have to be made again at once.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        let mut state = self.lock();
        state.random = state.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = u32::try_from(state.random >> 33 & 0xff).unwrap_or(0);
        self.max_age.map(|age| age - age / 1024 * share)
    }

    /// Ready ones from now on.
    pub(super) fn open(self: &Arc<Self>) {
        let (watchman, mut tally) = (Watchman(Arc::clone(self)), self.tally.subscribe());
        self.spawn(async move {
            let _ = tally.wait_for(|now| now.state == PoolState::Closed).await;
            drop(watchman);
        });
        // Nobody waits for a delay yet: the step changes nothing, and what is missing is begun.
        self.change(|shared, state, todo| {
            shared.step(state, Input::DelayOver, todo);
        });
    }

    pub(super) fn made(self: &Arc<Self>, member: &Arc<Member>) {
        self.change(|shared, state, todo| {
            state.making.remove(&member.number);
            state.counts.made += 1;
            shared.voice.meters().pool_made(&shared.name);
            shared.place(state, Input::Made, member, todo);
        });
    }

    pub(super) fn failed(self: &Arc<Self>, number: u64, error: &Error) {
        if error.kind() == ErrorKind::ShutDown {
            self.close(Error::shut_down());
        }
        self.change(|shared, state, todo| {
            state.making.remove(&number);
            if let Effect::Fail { tell, wait } = shared.step(state, Input::Failed { hopeless: error.is_final() }, todo)
            {
                state.error = Some(error.clone());
                todo.answers.extend(state.waiting.drain(..tell).map(|(_, answer)| (answer, Err(error.clone()))));
                shared.begin_delay(state, wait, Some(error), todo);
            }
        });
    }

    /// One that is ready has to go. Nothing, if it is not ready any more.
    pub(super) fn lost(self: &Arc<Self>, member: &Arc<Member>, why: DiscardReason) {
        self.change(|shared, state, todo| shared.lose(state, member, why, todo));
    }

    pub(super) fn stable(self: &Arc<Self>, member: &Member) {
        self.change(|shared, state, todo| {
            if state.idle.iter().any(|ready| ready.number == member.number) {
                shared.step(state, Input::Stable, todo);
            }
        });
    }

    pub(super) fn gone(self: &Arc<Self>) {
        self.change(|shared, state, todo| {
            shared.step(state, Input::Gone, todo);
        });
    }

    /// Nobody sees it through any more: it must not stay unmanaged.
    pub(super) fn orphaned(self: &Arc<Self>, member: &Arc<Member>) {
        let _ = member.handle.slot().main.kill(Cause::SupervisorFault);
        self.change(|shared, state, todo| {
            member.orphan.store(true, Ordering::Release);
            if member.leaving.load(Ordering::Acquire) {
                shared.step(state, Input::Gone, todo);
            } else {
                shared.lose(state, member, DiscardReason::Died, todo);
            }
        });
    }

    /// It gives nothing any more: what is ready is removed, who waits is told `why`.
    pub(super) fn close(self: &Arc<Self>, why: Error) {
        self.change(|shared, state, todo| {
            if shared.step(state, Input::Close, todo) != Effect::Close {
                return;
            }
            let waiting = state.waiting.drain(..);
            todo.answers.extend(waiting.map(|(_, answer)| (answer, Err(why.clone()))));
            todo.give_up.extend(state.making.values().cloned());
            (state.error, state.back_off) = (Some(why), None);
            for member in std::mem::take(&mut state.idle) {
                shared.discard(state, &member, DiscardReason::Closed, todo);
            }
        });
    }

    /// What is true of it, of one moment.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Tally, &Counts, Option<BackOff>, Option<&Error>) -> T) -> T {
        let state = self.lock();
        look(&state.tally, &state.counts, state.back_off, state.error.as_ref())
    }

    /// Take steps under the lock, and do after it what follows.
    pub(super) fn change<T>(self: &Arc<Self>, steps: impl FnOnce(&Arc<Self>, &mut State, &mut Todo) -> T) -> T {
        let mut todo = Todo::default();
        let result = steps(self, &mut self.lock(), &mut todo);
        self.carry_out(todo);
        result
    }

    fn carry_out(self: &Arc<Self>, todo: Todo) {
        let Todo { answers, begin, remove, give_up, wait } = todo;
        for member in remove {
            member.let_go.notify_one();
        }
        for abort in give_up {
            abort.notify_one();
        }
        for (number, abort) in begin {
            if !member::begin(self, number, abort) {
                self.failed(number, &Error::shut_down());
            }
        }
        if let Some(delay) = wait {
            let shared = Arc::clone(self);
            self.spawn(async move {
                tokio::time::sleep(delay).await;
                shared.change(|shared, state, todo| {
                    state.back_off = None;
                    shared.step(state, Input::DelayOver, todo);
                });
            });
        }
        // Who has gone meanwhile drops the lease, and it comes back.
        for (answer, with) in answers {
            let _ = answer.send(with);
        }
    }

    /// One step of the table; what is missing then is begun.
    pub(super) fn step(&self, state: &mut State, input: Input, todo: &mut Todo) -> Effect {
        let (after, effect, make) = next(state.tally, input, &self.sizes);
        tracing::trace!(pool = %self.name, ?input, ?effect, ?after, "pool");
        state.tally = after;
        for _ in 0..make {
            state.numbers += 1;
            let abort = Arc::new(Notify::new());
            state.making.insert(state.numbers, Arc::clone(&abort));
            todo.begin.push((state.numbers, abort));
        }
        self.voice.meters().pool(&self.name, &after);
        self.tally.send_replace(after);
        effect
    }

    /// It is there and nobody has it.
    pub(super) fn place(self: &Arc<Self>, state: &mut State, input: Input, member: &Arc<Member>, todo: &mut Todo) {
        match self.step(state, input, todo) {
            Effect::Keep => {
                state.idle.push_back(Arc::clone(member));
                self.tell(member, Kind::PoolReady { pool: self.name.clone() });
            }
            Effect::Lease => {
                if let Some((_, answer)) = state.waiting.pop_front() {
                    let lease = self.lease(state, Arc::clone(member));
                    todo.answers.push((answer, Ok(lease)));
                }
            }
            _ => self.discard(state, member, DiscardReason::Closed, todo),
        }
    }

    /// One that has died and whose task has not come to say so is given to nobody. Only the next one matters.
    pub(super) fn bury(&self, state: &mut State, todo: &mut Todo) {
        while let Some(next) = state.idle.front().filter(|member| member.is_dead() || member.is_old()).cloned() {
            let why = if next.is_dead() { DiscardReason::Died } else { DiscardReason::Aged };
            self.lose(state, &next, why, todo);
        }
    }

    fn lose(&self, state: &mut State, member: &Arc<Member>, why: DiscardReason, todo: &mut Todo) {
        let Some(index) = state.idle.iter().position(|ready| ready.number == member.number) else { return };
        state.idle.remove(index);
        let young = why == DiscardReason::Died && member.is_young();
        if let Effect::Discard { wait } = self.step(state, Input::Lost { young }, todo) {
            self.begin_delay(state, wait, None, todo);
        }
        self.discard(state, member, why, todo);
    }

    /// Its task removes it, or has gone and left that to the container's own life.
    pub(super) fn discard(&self, state: &mut State, member: &Arc<Member>, why: DiscardReason, todo: &mut Todo) {
        *state.counts.discarded.entry(why).or_default() += 1;
        self.voice.meters().pool_discarded(&self.name, why.name());
        self.tell(member, Kind::PoolDiscarded { pool: self.name.clone(), why });
        member.leaving.store(true, Ordering::Release);
        if member.orphan.load(Ordering::Acquire) {
            self.step(state, Input::Gone, todo);
        } else {
            todo.remove.push(Arc::clone(member));
        }
    }

    fn begin_delay(&self, state: &mut State, wait: Option<Duration>, why: Option<&Error>, todo: &mut Todo) {
        let Some(delay) = wait else { return };
        state.back_off = Some(BackOff { delay, until_ms: unix_ms(SystemTime::now() + delay), due: false });
        todo.wait = Some(delay);
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let kind = Kind::PoolBackOff { pool: self.name.clone(), delay_ms, failure: why.map(Failure::from) };
        self.voice.tell(None, kind, None);
    }

    pub(super) fn tell(&self, member: &Member, kind: Kind) {
        member.handle.slot().voice().tell(None, kind, None);
    }
}
