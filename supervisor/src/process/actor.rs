//! The process actor: signals and the stop ladder. Carries out what [`state`](super::state) decides.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, SpawnHandle, Supervised};
use tokio::sync::oneshot;

use super::msg::{Exited, Signal, Stop};
use super::slot::Slot;
use super::state::{Effect, Input, State, next};
use crate::error::{Error, ErrorKind};
use crate::faults::{Faults, Mailbox, Site};
use crate::report::Cause;

/// SIGCONT: a stopped process must run to feel anything.
const CONT: i32 = 18;

/// One process. Owns the right to decide about it; the process itself is in the slot.
pub(crate) struct ProcessActor {
    slot: Arc<Slot>,
    state: State,
    faults: Faults,
    waited: bool,
    timer: Option<SpawnHandle>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl ProcessActor {
    pub(crate) fn new(slot: Arc<Slot>, faults: Faults) -> Self {
        Self { slot, state: State::Running, faults, waited: false, timer: None, waiting: Vec::new() }
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
        let (after, effect) = next(self.state, input);
        tracing::trace!(container = %self.slot.id, ?input, ?effect, "process");
        self.state = after;
        effect
    }

    fn arm(&mut self, grace: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = Some(ctx.run_later(grace, |actor, ctx| actor.grace_over(ctx)));
    }

    fn grace_over(&mut self, _: &mut Context<Self>) {
        if self.step(Input::GraceOver) == Effect::Kill {
            self.slot.escalated();
            if let Err(error) = self.slot.kill(Cause::Stop { escalated: true }) {
                tracing::error!(container = %self.slot.id, %error, "cannot kill");
            }
        }
    }

    /// A stop that cannot be carried out step by step is carried out at once.
    fn send(&self, signal: i32) -> Result<(), Error> {
        self.slot.signal(signal)
    }
}

impl Actor for ProcessActor {
    type Context = Context<Self>;
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
        if let State::Stopping { grace } = self.state {
            self.arm(grace, ctx);
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
            Effect::Send(signal) => self.send(signal),
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
        match self.step(Input::Stop { signal: message.signal, grace: message.grace }) {
            Effect::BeginStop { signal, grace } => {
                self.slot.intend(Cause::Stop { escalated: false }, true);
                let _ = self.send(signal).and_then(|()| self.send(CONT));
                self.arm(grace, ctx);
            }
            Effect::Shorten(grace) => self.arm(grace, ctx),
            Effect::AnswerAll => self.answer_all(),
            _ => {}
        }
    }
}

impl ProcessActor {
    fn answer_all(&mut self) {
        for waiter in self.waiting.drain(..) {
            let _ = waiter.send(());
        }
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
