//! The container actor: further processes, pause, limits. Lives on its container's shard.

use std::future::Future;
use std::sync::Arc;

use actix::{Actor, ActorContext, Context, Handler, Message, Supervised};
use orangery_runtime::Container;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::exec::exec;
use super::msg::{Exec, MakeSocket, Pause, PushStats, Removed, Update};
use super::slot::ContainerSlot;
use super::state::{Input, State, Verdict};
use super::stats;
use super::update;
use crate::error::{Error, ErrorKind};
use crate::faults::{Faults, Mailbox, Site};
use crate::shard::Shards;

/// One container. Holds no process: those are in their slots.
pub(crate) struct ContainerActor {
    slot: Arc<ContainerSlot>,
    faults: Faults,
    shards: Shards,
    waited: bool,
}

impl ContainerActor {
    pub(crate) fn new(slot: Arc<ContainerSlot>, faults: Faults, shards: Shards) -> Self {
        Self { slot, faults, shards, waited: false }
    }

    /// The message to handle now, if a fault does not have it otherwise.
    fn open<M>(&mut self, name: &'static str, message: M, ctx: &mut Context<Self>) -> Option<M>
    where
        M: Message<Result = ()> + 'static,
        Self: Handler<M, Result = ()>,
    {
        self.admit(&self.faults.clone(), Site::ContainerMessage(name), message, ctx)
    }

    /// Run this beside the actor, not in its context.
    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        actix_rt::spawn(task.instrument(self.slot.span.clone()));
    }

    /// The container, if the table lets `input` through.
    fn allowed(&self, input: Input) -> Result<Option<Arc<dyn Container>>, Error> {
        match self.slot.step(input) {
            Verdict::Refuse(why) => Err(Error::new(ErrorKind::State, why)),
            Verdict::Already | Verdict::Ignore(_) => Ok(None),
            Verdict::Go => Ok(self.slot.container.get().cloned()),
        }
    }
}

impl Actor for ContainerActor {
    type Context = Context<Self>;
}

impl Mailbox for ContainerActor {
    fn waited(&mut self) -> &mut bool {
        &mut self.waited
    }
}

impl Supervised for ContainerActor {
    /// A handler panicked. If the message that is lost was the last one, the slot still says so.
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        if self.slot.state() == State::Gone {
            ctx.stop();
        }
    }
}

/// Answer with an error, or come back with what to go on with.
fn or_answer<T, R>(
    found: Result<T, Error>,
    reply: oneshot::Sender<Result<R, Error>>,
) -> Option<(T, oneshot::Sender<Result<R, Error>>)> {
    match found {
        Ok(value) => Some((value, reply)),
        Err(error) => {
            let _ = reply.send(Err(error));
            None
        }
    }
}

impl Handler<Exec> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: Exec, ctx: &mut Context<Self>) {
        let Some(message) = self.open("exec", message, ctx) else { return };
        let found = self.allowed(Input::Exec).and_then(|container| {
            container.ok_or_else(|| Error::new(ErrorKind::State, "the container has no processes yet"))
        });
        let Some((container, reply)) = or_answer(found, message.reply) else { return };
        let message = Exec { reply, ..message };
        // Not in this actor's context: a panic of another handler must not drop a start half way.
        let (slot, faults, shards) = (Arc::clone(&self.slot), self.faults.clone(), self.shards.clone());
        self.spawn(exec(slot, container, message, faults, shards));
    }
}

impl Handler<Pause> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: Pause, ctx: &mut Context<Self>) {
        let Some(message) = self.open("pause", message, ctx) else { return };
        let (ask, done) = match message.pause {
            Some(_) => (Input::Pause, Input::Paused),
            None => (Input::Resume, Input::Resumed),
        };
        let Some((container, reply)) = or_answer(self.allowed(ask), message.reply) else { return };
        let slot = Arc::clone(&self.slot);
        self.spawn(async move {
            let answer = match (container, message.pause) {
                (None, _) => Ok(()),
                (Some(container), Some(how)) => container.pause(how).await,
                (Some(container), None) => container.resume().await,
            };
            if answer.is_ok() {
                slot.step(done);
                slot.write_down().await;
            }
            let _ = reply.send(answer.map_err(Into::into));
        });
    }
}

impl Handler<MakeSocket> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: MakeSocket, ctx: &mut Context<Self>) {
        let Some(message) = self.open("socket", message, ctx) else { return };
        let found = self.allowed(Input::Exec).and_then(|container| {
            container.ok_or_else(|| Error::new(ErrorKind::State, "the container has no network yet"))
        });
        let Some((container, mut reply)) = or_answer(found, message.reply) else { return };
        self.spawn(async move {
            tokio::select! {
                made = container.socket(message.family, message.kind) => {
                    let _ = reply.send(made.map_err(Into::into));
                }
                () = reply.closed() => {}
            }
        });
    }
}

impl Handler<Update> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: Update, ctx: &mut Context<Self>) {
        let Some(message) = self.open("update", message, ctx) else { return };
        let Some((container, reply)) = or_answer(self.allowed(Input::Update), message.reply) else { return };
        let Some(container) = container else { return drop(reply.send(Ok(()))) };
        let (slot, to) = (Arc::clone(&self.slot), message.to);
        self.spawn(async move {
            let answer = update::carry_out(&slot, container, to).await;
            if answer.is_ok() {
                slot.step(Input::Updated);
                slot.write_down().await;
            }
            let _ = reply.send(answer);
        });
    }
}

impl Handler<PushStats> for ContainerActor {
    type Result = ();

    fn handle(&mut self, message: PushStats, ctx: &mut Context<Self>) {
        let Some(message) = self.open("stats", message, ctx) else { return };
        self.spawn(stats::push(Arc::clone(&self.slot), message.every, message.sender));
    }
}

impl Handler<Removed> for ContainerActor {
    type Result = ();

    fn handle(&mut self, news: Removed, ctx: &mut Context<Self>) {
        let Some(Removed) = self.open("removed", news, ctx) else { return };
        ctx.stop();
    }
}
