//! The service's actor: carries out what [`state`](super::state) and the [`Restart`](crate::Restart) decide. Lives on the
//! shard of its containers.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, SpawnHandle, Supervised};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::again::Again;
use super::incarnation::{self, End, Incarnation, Maker};
use super::inspect::{BackOff, Delay, Status};
use super::msg::{Close, News, Start, Stop};
use super::slot::ServiceSlot;
use super::state::{Effect, Input, ServiceState, next};
use crate::error::{Error, ErrorKind};
use crate::faults::{Faults, Mailbox, Site};
use crate::handle::ContainerHandle;
use crate::ladder::StopLadder;
use crate::probe::{OnUnhealthy, Vitals};
use crate::recovery::{ServiceRecord, StateDir, unwritten};
use crate::report::{Cause, Report, unix_ms};
use crate::restart::{Budget, Death, Decision, GiveUp, Outcome};

/// One service. Its state is the slot's; what it keeps itself survives a panic of a handler.
pub(crate) struct ServiceActor {
    pub(super) slot: Arc<ServiceSlot>,
    pub(super) maker: Maker,
    pub(super) budget: Budget,
    /// A delay that is over waits for somebody's start.
    held: bool,
    on_unhealthy: OnUnhealthy,
    /// The last incarnation of which a container was seen.
    seen: u32,
    /// The last start was by hand.
    pub(super) fresh: bool,
    /// How it is to end.
    pub(super) ladder: StopLadder,
    /// The beginning of the budget's time.
    pub(super) began: Instant,
    /// What another supervisor has left of it, until it goes on.
    again: Option<Again>,
    faults: Faults,
    waited: bool,
    timer: Option<SpawnHandle>,
    starting: Vec<oneshot::Sender<Result<(), Error>>>,
    stopping: Vec<oneshot::Sender<()>>,
    /// Told when nobody carries anything out any more.
    gone: Box<dyn Fn() + Send>,
}

/// A service to be.
pub(crate) struct Order {
    pub(crate) slot: Arc<ServiceSlot>,
    pub(crate) maker: Maker,
    pub(crate) budget: Budget,
    pub(crate) held: bool,
    pub(crate) faults: Faults,
    /// It goes on.
    pub(crate) again: Option<Again>,
}

impl ServiceActor {
    /// On its shard; `gone` is told at its end.
    pub(crate) fn new(order: Order, gone: impl Fn() + Send + 'static) -> Self {
        let Order { slot, maker, budget, held, faults, again } = order;
        Self {
            slot,
            on_unhealthy: maker.template.on_unhealthy(),
            seen: 0,
            maker,
            budget,
            held,
            fresh: true,
            ladder: StopLadder::new(),
            began: Instant::now(),
            again,
            faults,
            waited: false,
            timer: None,
            starting: Vec::new(),
            stopping: Vec::new(),
            gone: Box::new(gone),
        }
    }

    /// The message to handle now, if a fault does not have it otherwise.
    fn open<M>(&mut self, name: &'static str, message: M, ctx: &mut Context<Self>) -> Option<M>
    where
        M: Message<Result = ()> + 'static,
        Self: Handler<M, Result = ()>,
    {
        self.admit(&self.faults.clone(), Site::ServiceMessage(name), message, ctx)
    }

    fn state(&self) -> ServiceState {
        self.slot.status().state
    }

    /// Take one step of the table and carry it out.
    pub(super) fn step(&mut self, input: Input, ctx: &mut Context<Self>) -> Effect {
        let (after, effect) = next(self.state(), input);
        tracing::trace!(service = %self.slot.id, ?input, ?effect, "service");
        match effect {
            Effect::Create => self.create(input, ctx),
            Effect::Wait(delay) => self.wait(delay, ctx),
            effect => {
                self.change(|status| {
                    if after != ServiceState::BackOff {
                        status.delay = None;
                    }
                    status.state = after;
                    if !matches!(after, ServiceState::Unready | ServiceState::Running | ServiceState::Stopping) {
                        status.vitals = None;
                    }
                    if let Input::Died(Decision::Escalate(why)) = input
                        && after == ServiceState::Failed
                        && effect == Effect::Settled
                    {
                        status.give_up = Some(why);
                    }
                });
                self.carry_out(effect, ctx);
            }
        }
        effect
    }

    /// It becomes another one: first on the disk, where it outlives us, then for everybody, and only then anything of it is done.
    /// Who has heard of it, and comes to the next supervisor, hears of nothing that was before; who is told to stop is not
    /// started anew.
    fn change(&self, change: impl Fn(&mut Status)) {
        if let Some(state) = self.slot.state_dir() {
            let mut status = self.slot.status();
            change(&mut status);
            if let Err(error) = self.write_down(state, &status) {
                tracing::error!(service = %self.slot.id, %error, "its record is an older one");
            }
        }
        self.slot.publish(change);
    }

    /// Before it begins: a group that has it for a member is written down after it.
    ///
    /// # Errors
    /// It cannot be written down, and no next supervisor would know of it.
    pub(crate) fn note(&self) -> Result<(), Error> {
        match self.slot.state_dir() {
            Some(state) => self.write_down(state, &self.slot.status()).map_err(|error| unwritten(&error)),
            None => Ok(()),
        }
    }

    /// Some microseconds on this thread, so that nothing older comes after it.
    fn write_down(&self, state: &StateDir, status: &Status) -> io::Result<()> {
        let record = ServiceRecord {
            template: self.maker.template.clone(),
            state: status.state,
            generation: status.generation,
            restarts: status.restarts,
            give_up: status.give_up,
            held: self.held,
            ladder: (status.state == ServiceState::Stopping).then(|| self.ladder.clone()),
            delay: status.delay.map(|delay| (delay.shown.delay, delay.shown.until_ms)),
            budget: self.budget.clone(),
            at_ms: unix_ms(SystemTime::now()),
            elapsed: self.began.elapsed(),
        };
        state.write_service(&record)
    }

    fn carry_out(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Abort | Effect::End => self.end(),
            Effect::Runs => self.answer_starts(|| Ok(())),
            Effect::Settled => self.settled(ctx),
            _ => {}
        }
    }

    /// The next incarnation; the same way for the first start and a restart.
    fn create(&mut self, input: Input, ctx: &mut Context<Self>) {
        self.stop_timer(ctx);
        let generation = self.slot.status().generation + 1;
        let it = Incarnation::new(generation);
        self.slot.succeed(&it);
        let restart = input == Input::DelayOver || !self.fresh;
        self.change(|status| {
            (status.state, status.generation) = (ServiceState::Starting, generation);
            (status.delay, status.give_up, status.error, status.vitals) = (None, None, None, None);
            status.restarts += u64::from(restart);
        });
        // Not in this actor's context: a panic of a handler must not drop an incarnation.
        actix_rt::spawn(incarnation::live(self.maker.clone(), Arc::clone(&it), restart, ctx.address()));
        if self.slot.is_down() {
            it.kill();
        }
    }

    fn wait(&mut self, delay: Duration, ctx: &mut Context<Self>) {
        let until_ms = unix_ms(SystemTime::now() + delay.min(Duration::from_secs(u64::from(u32::MAX))));
        let shown = BackOff { delay, until_ms, due: false };
        let until = Instant::now() + delay.min(Duration::from_secs(u64::from(u32::MAX)));
        self.change(|status| {
            (status.state, status.delay, status.vitals) = (ServiceState::BackOff, Some(Delay { shown, until }), None);
        });
        // Whoever waits for the start waits for the next one.
        self.fresh = false;
        if delay.is_zero() { self.delay_over(ctx) } else { self.arm(until, ctx) }
    }

    pub(super) fn arm(&mut self, until: Instant, ctx: &mut Context<Self>) {
        self.stop_timer(ctx);
        let left = until.saturating_duration_since(Instant::now());
        self.timer = Some(ctx.run_later(left, |actor, ctx| actor.delay_over(ctx)));
    }

    fn stop_timer(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
    }

    fn delay_over(&mut self, ctx: &mut Context<Self>) {
        if self.held && self.state() == ServiceState::BackOff {
            self.slot.publish(|status| {
                if let Some(delay) = &mut status.delay {
                    delay.shown.due = true;
                }
            });
        } else {
            self.step(Input::DelayOver, ctx);
        }
    }

    /// End the incarnation as the last stop said.
    fn end(&mut self) {
        let Some(it) = self.slot.current() else { return };
        if it.container().is_some() {
            self.seen = it.generation;
        }
        match it.container() {
            None => it.abort(),
            Some(_) if self.slot.is_down() => it.kill(),
            // It goes on when the future is dropped.
            Some(container) => drop(container.stop_with(self.ladder.clone())),
        }
    }

    fn settled(&mut self, ctx: &mut Context<Self>) {
        self.stop_timer(ctx);
        let status = self.slot.status();
        self.answer_starts(|| {
            Err(status.error.clone().unwrap_or_else(|| Error::new(ErrorKind::State, "it was stopped, or has given up")))
        });
        for waiter in self.stopping.drain(..) {
            let _ = waiter.send(());
        }
        if self.slot.is_closed() {
            ctx.stop();
        }
    }

    fn answer_starts(&mut self, answer: impl Fn() -> Result<(), Error>) {
        for waiter in self.starting.drain(..) {
            let _ = waiter.send(answer());
        }
    }

    /// Act upon what the slot says of the current incarnation. Does nothing the second time.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let Some(it) = self.slot.current().filter(|_| !self.slot.is_left()) else { return };
        use ServiceState::{Running, Starting, Stopping, Unready};
        // The supervisor ends: that is no failure of what was to start.
        if matches!(it.end(), Some(End::NotStarted(error)) if error.kind() == ErrorKind::ShutDown) {
            self.slot.close();
        }
        let alive = |state| matches!(state, Starting | Unready | Running | Stopping);
        if let Some(vitals) = it.container().filter(|_| alive(self.state())).map(ContainerHandle::vitals) {
            let first = std::mem::replace(&mut self.seen, it.generation) != it.generation;
            self.see(vitals, first, ctx);
        }
        if self.slot.is_down() && !self.state().is_settled() {
            self.step(Input::Stop, ctx);
        }
        if let Some(end) = it.end().filter(|_| alive(self.state())) {
            let decision = self.account(it.generation, &end);
            self.step(Input::Died(decision), ctx);
        }
    }

    /// What is known of the incarnation that runs; `first`: nothing was seen of it before.
    fn see(&mut self, vitals: Vitals, first: bool, ctx: &mut Context<Self>) {
        let ready = vitals.ready;
        if self.slot.status().vitals.as_ref() != Some(&vitals) {
            self.slot.publish(|status| status.vitals = Some(vitals));
        }
        match self.state() {
            ServiceState::Starting | ServiceState::Unready if ready => drop(self.step(Input::Started, ctx)),
            ServiceState::Starting => drop(self.step(Input::Begun, ctx)),
            // It was told to stop while it was being made, too late for that. Not again: a second stop hurries the first.
            ServiceState::Stopping if first => drop(self.step(Input::Begun, ctx)),
            _ => {}
        }
    }

    /// Write an end down and decide what follows.
    fn account(&mut self, generation: u32, end: &End) -> Decision {
        let now = self.began.elapsed();
        let death = |error: &Error| Death::unreported(generation, error);
        let (death, decision) = match end {
            // As was asked: no death of its own, and nothing counts against it.
            End::Reported { report, .. } if self.state() == ServiceState::Stopping => {
                self.slot.publish(|status| status.report = Some(Arc::clone(report)));
                return Decision::Done;
            }
            End::NotStarted(error) | End::Lost(error) if self.state() == ServiceState::Stopping => {
                if error.kind() == ErrorKind::ShutDown {
                    self.slot.publish(|status| status.error = Some(error.clone()));
                }
                return Decision::Done;
            }
            End::Reported { report, .. } if report.unkillable.is_some() => {
                (Death::of(report), Decision::Escalate(GiveUp::Unkillable))
            }
            End::Reported { report, ran } => (Death::of(report), self.after(report, now, *ran)),
            End::NotStarted(error) if self.fresh || error.is_final() => {
                (death(error), Decision::Escalate(GiveUp::CannotStart))
            }
            End::NotStarted(error) | End::Lost(error) => {
                (death(error), self.budget.decide(now, Duration::ZERO, (Outcome::Failed, true)))
            }
        };
        self.budget.count(death);
        let tally = self.budget.tally();
        let unready = self.state() == ServiceState::Unready;
        self.slot.publish(|status| {
            status.tally = tally;
            match end {
                End::Reported { report, .. } => {
                    status.report = Some(Arc::clone(report));
                    status.error = unready.then(|| not_ready(report, status.vitals.as_ref()));
                }
                End::NotStarted(error) | End::Lost(error) => status.error = Some(error.clone()),
            }
        });
        decision
    }
}

impl ServiceActor {
    /// What follows an end of which there is a report.
    fn after(&mut self, report: &Report, now: Duration, ran: Duration) -> Decision {
        let unready = self.state() == ServiceState::Unready;
        // As with a start that fails: whoever has asked for it is told, instead of it being tried again.
        if unready && self.fresh && report.cause == Cause::NotReady {
            return Decision::Escalate(GiveUp::CannotStart);
        }
        let judged = self.budget.restart().judge(report, self.on_unhealthy);
        match self.budget.decide(now, ran, judged) {
            // It never came to do what it is for, and that is no end of it.
            Decision::Done if unready && judged.0 != Outcome::Prevented => Decision::Escalate(GiveUp::CannotStart),
            decision => decision,
        }
    }
}

/// Why it cannot be used.
fn not_ready(report: &Report, vitals: Option<&Vitals>) -> Error {
    let why = match (vitals.and_then(|vitals| vitals.failure.as_deref()), &report.cause) {
        (Some(why), Cause::NotReady) => format!("it was not ready in time: {why}"),
        (_, cause) => format!("it has ended before it was ready: {:?}, {cause:?}", report.exit),
    };
    Error::new(ErrorKind::NotReady, why)
}

impl Drop for ServiceActor {
    fn drop(&mut self) {
        // Before it is said: its name is free then.
        if let Some(state) = self.slot.state_dir().filter(|_| self.slot.is_closed())
            && let Err(error) = state.remove_service(&self.slot.id)
        {
            tracing::error!(service = %self.slot.id, %error, "its record stays");
        }
        self.slot.last_word();
        (self.gone)();
    }
}

impl Actor for ServiceActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.slot.is_closed() {
            return ctx.stop();
        }
        if let Some(again) = self.again.take() {
            self.go_on(again, ctx);
        }
    }
}

impl Mailbox for ServiceActor {
    fn waited(&mut self) -> &mut bool {
        &mut self.waited
    }
}

impl Supervised for ServiceActor {
    /// After a panic the timer is gone, and the message in hand may have been news: the slot still has all of it.
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        self.timer = None;
        let status = self.slot.status();
        match (status.state, status.delay) {
            (ServiceState::BackOff, Some(delay)) if !delay.shown.due => self.arm(delay.until, ctx),
            (ServiceState::Stopping, _) => self.end(),
            _ => {}
        }
        ctx.notify(News { generation: status.generation });
        if self.slot.is_closed() {
            ctx.notify(Close);
        }
    }
}

impl Handler<Start> for ServiceActor {
    type Result = ();

    fn handle(&mut self, message: Start, ctx: &mut Context<Self>) {
        let Some(message) = self.open("start", message, ctx) else { return };
        if self.slot.is_closed() {
            let _ = message.reply.send(Err(Error::shut_down()));
            return;
        }
        if self.state().is_settled() {
            self.slot.up();
            self.fresh = message.fresh;
            if message.fresh {
                self.budget.renew();
            }
        }
        self.starting.push(message.reply);
        if let Effect::Refuse(why) = self.step(Input::Start, ctx) {
            self.answer_starts(|| Err(Error::new(ErrorKind::State, why)));
        }
    }
}

impl Handler<Stop> for ServiceActor {
    type Result = ();

    fn handle(&mut self, message: Stop, ctx: &mut Context<Self>) {
        let Some(message) = self.open("stop", message, ctx) else { return };
        let ladder = message.ladder.unwrap_or_else(|| self.maker.template.ladder());
        self.ladder = match self.state() {
            // It joins the stop under way.
            ServiceState::Stopping => self.ladder.clone().shorter(ladder),
            _ => ladder,
        };
        self.stopping.push(message.reply);
        self.step(Input::Stop, ctx);
    }
}

impl Handler<News> for ServiceActor {
    type Result = ();

    fn handle(&mut self, news: News, ctx: &mut Context<Self>) {
        let Some(News { generation }) = self.open("news", news, ctx) else { return };
        if generation == self.slot.status().generation {
            self.look(ctx);
        } else {
            tracing::debug!(service = %self.slot.id, generation, "late news of a dead incarnation");
        }
    }
}

impl Handler<Close> for ServiceActor {
    type Result = ();

    fn handle(&mut self, message: Close, ctx: &mut Context<Self>) {
        let Some(Close) = self.open("close", message, ctx) else { return };
        self.slot.kill();
        self.step(Input::Stop, ctx);
    }
}

/// The actor has spent its own budget of panics: what runs must not stay unmanaged. Its end says the rest.
pub(crate) fn broken(slot: &ServiceSlot) {
    slot.kill();
}

/// Delays before a restart are at most 136 years.
#[cfg(test)]
mod tests {
    #[test]
    fn a_very_long_delay_is_no_overflow() {
        let longest = std::time::Duration::from_secs(u64::from(u32::MAX));
        assert!(tokio::time::Instant::now().checked_add(longest).is_some());
        assert!(std::time::SystemTime::now().checked_add(longest).is_some());
    }
}
