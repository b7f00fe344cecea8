//! The process actor: signals and the stop ladder. Carries out what [`state`](super::state) decides.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, SpawnHandle, Supervised};
use orangery_runtime::native::now_ns;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::backstop::{self, Course};
use super::descent::nanoseconds;
use super::msg::{Exited, Prepared, Signal, Stop};
use super::slot::Slot;
use super::state::{Effect, Input, State, next};
use crate::error::{Error, ErrorKind};
use crate::faults::{Faults, Mailbox, Site};
use crate::report::Cause;

/// One process. Owns the right to decide about it; the process itself is in the slot.
pub(crate) struct ProcessActor {
    slot: Arc<Slot>,
    state: State,
    /// The beginning of the table's time.
    began: Instant,
    faults: Faults,
    waited: bool,
    timer: Option<SpawnHandle>,
    waiting: Vec<oneshot::Sender<()>>,
    /// What is left of a stop, for the keeper.
    left: Option<watch::Sender<Option<Course>>>,
}

/// Why a stop ends it, as long as it has needed no kill.
const GENTLY: Cause = Cause::Stop { escalated: false };

impl ProcessActor {
    pub(crate) fn new(slot: Arc<Slot>, faults: Faults) -> Self {
        let began = Instant::now();
        // Another supervisor may have begun to stop it.
        let state = slot.left_of(&GENTLY, now_ns()).map_or(State::Running, State::Stopping);
        Self { slot, state, began, faults, waited: false, timer: None, waiting: Vec::new(), left: None }
    }

    /// The message to handle now, if a fault does not have it otherwise.
    fn open<M>(&mut self, name: &'static str, message: M, ctx: &mut Context<Self>) -> Option<M>
    where
        M: Message<Result = ()> + 'static,
        Self: Handler<M, Result = ()>,
    {
        self.admit(&self.faults.clone(), Site::ProcessMessage(name), message, ctx)
    }

    fn step(&mut self, input: Input) -> Effect {
        // Nothing happens between the two that could panic.
        let (after, effect) = next(std::mem::replace(&mut self.state, State::Running), input);
        tracing::trace!(container = %self.slot.id, state = ?after, ?effect, "process");
        self.state = after;
        effect
    }

    /// Come back at this time.
    fn arm(&mut self, at: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let left = at.saturating_sub(self.began.elapsed());
        self.timer = Some(ctx.run_later(left, |actor, ctx| actor.due(ctx)));
    }

    fn due(&mut self, ctx: &mut Context<Self>) {
        let effect = self.step(Input::Due { now: self.began.elapsed() });
        self.carry_out(effect, ctx);
    }

    /// Do what the table says about a stop.
    fn carry_out(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Prepare { next } => {
                self.slot.intend(GENTLY, true);
                self.arm(next, ctx);
                let noted = self.course().map(|course| self.slot.begin(&GENTLY, &course, None));
                if self.slot.before.get().is_some() {
                    self.back();
                }
                let noted = async move {
                    if let Some(noted) = noted {
                        noted.await;
                    }
                };
                let (prepared, actor) = (self.slot.prepare(noted), ctx.address());
                actix_rt::spawn(async move {
                    prepared.await;
                    actor.do_send(Prepared);
                });
            }
            Effect::Descend { send, next } => {
                self.slot.intend(GENTLY, true);
                self.slot.ask(&GENTLY, self.state.before(send.len()), send);
                self.arm(next, ctx);
                self.back();
            }
            Effect::Shorten(next) => {
                self.arm(next, ctx);
                self.back();
            }
            Effect::Kill => self.kill(),
            Effect::AnswerAll => self.answer_all(),
            Effect::Send(_) | Effect::Ignore(_) | Effect::Refuse(_) => {}
        }
    }

    fn course(&self) -> Option<Course> {
        self.state.course(now_ns().saturating_sub(nanoseconds(self.began.elapsed())))
    }

    /// Have the keeper do what is left of the stop, where we cannot.
    fn back(&mut self) {
        let course = self.course();
        match &self.left {
            Some(left) => drop(left.send_replace(course)),
            None => {
                let (left, follow) = watch::channel(course);
                self.left = Some(left);
                // Not in this actor's context: it outlives a panic of a handler.
                actix_rt::spawn(
                    backstop::follow(Arc::clone(&self.slot), GENTLY, follow).instrument(self.slot.span.clone()),
                );
            }
        }
    }

    fn kill(&self) {
        if let Err(error) = self.slot.kill(Cause::Stop { escalated: true }) {
            tracing::error!(container = %self.slot.id, %error, "cannot kill");
        }
    }

    fn answer_all(&mut self) {
        for waiter in self.waiting.drain(..) {
            let _ = waiter.send(());
        }
    }
}

impl Actor for ProcessActor {
    type Context = Context<Self>;

    /// A stop that was begun before goes on.
    fn started(&mut self, ctx: &mut Context<Self>) {
        if matches!(self.state, State::Stopping(_)) {
            self.due(ctx);
        }
    }
}

impl Mailbox for ProcessActor {
    fn waited(&mut self) -> &mut bool {
        &mut self.waited
    }
}

impl Supervised for ProcessActor {
    /// After a panic the timers are gone: what was under way is taken up from the slot and the state.
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        self.timer = None;
        match &self.state {
            State::Stopping(descent) => self.arm(descent.next(), ctx),
            State::Preparing { kill_at, .. } => self.arm(*kill_at, ctx),
            State::Running | State::Exited => {}
        }
        // In each state but one this is late.
        if self.slot.is_prepared() {
            ctx.notify(Prepared);
        }
        if self.slot.ended() {
            ctx.notify(Exited);
        }
    }
}

impl Handler<Signal> for ProcessActor {
    type Result = ();

    fn handle(&mut self, message: Signal, ctx: &mut Context<Self>) {
        let Some(message) = self.open("signal", message, ctx) else { return };
        let answer = match self.step(Input::Signal(message.signal)) {
            Effect::Send(signal) => self.slot.signal(signal),
            Effect::Refuse(why) => Err(Error::new(ErrorKind::State, why)),
            _ => Ok(()),
        };
        let _ = message.reply.send(answer);
    }
}

impl Handler<Stop> for ProcessActor {
    type Result = ();

    fn handle(&mut self, message: Stop, ctx: &mut Context<Self>) {
        let Some(message) = self.open("stop", message, ctx) else { return };
        self.waiting.push(message.reply);
        let ladder = message.ladder.unwrap_or_else(|| self.slot.ladder.clone());
        let before = self.slot.takes_before();
        let effect = self.step(Input::Stop { now: self.began.elapsed(), ladder, before });
        self.carry_out(effect, ctx);
    }
}

impl Handler<Prepared> for ProcessActor {
    type Result = ();

    fn handle(&mut self, news: Prepared, ctx: &mut Context<Self>) {
        let Some(Prepared) = self.open("prepared", news, ctx) else { return };
        let effect = self.step(Input::Prepared { now: self.began.elapsed() });
        self.carry_out(effect, ctx);
    }
}

impl Handler<Exited> for ProcessActor {
    type Result = ();

    fn handle(&mut self, news: Exited, ctx: &mut Context<Self>) {
        let Some(Exited) = self.open("exited", news, ctx) else { return };
        if self.step(Input::Exited) == Effect::AnswerAll {
            self.answer_all();
            ctx.stop();
        }
    }
}
