//! The group's actor: a message at a time, what [`run`](super::run) makes of it, and the timer of its own delay.

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, SpawnHandle, Supervised};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::run::Run;
use crate::error::Error;
use crate::faults::{Faults, Mailbox, Site};
use crate::ladder::StopLadder;

/// What is wanted of it; each who asks waits for the answer.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Ask {
    Start(oneshot::Sender<Result<(), Error>>),
    Stop { ladder: Option<StopLadder>, reply: oneshot::Sender<()> },
}

/// Something has happened to a member; its status says what.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct News;

/// Nobody wants it any more: kill what runs, and end.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Close;

/// One group. What it has survives a panic of a handler.
pub(super) struct GroupActor {
    run: Run,
    faults: Faults,
    waited: bool,
    timer: Option<(Instant, SpawnHandle)>,
}

impl GroupActor {
    pub(super) fn new(run: Run, faults: Faults) -> Self {
        Self { run, faults, waited: false, timer: None }
    }

    /// The message to handle now, if a fault does not have it otherwise.
    fn open<M>(&mut self, name: &'static str, message: M, ctx: &mut Context<Self>) -> Option<M>
    where
        M: Message<Result = ()> + 'static,
        Self: Handler<M, Result = ()>,
    {
        self.admit(&self.faults.clone(), Site::GroupMessage(name), message, ctx)
    }

    /// Do what follows, and wait for the delay that is under way then.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        self.run.go_on();
        let due = self.run.due();
        if due == self.timer.map(|(due, _)| due) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = due.map(|due| {
            let left = due.saturating_duration_since(Instant::now());
            let over = |actor: &mut Self, ctx: &mut Context<Self>| {
                actor.timer = None;
                actor.run.delay_over();
                actor.go_on(ctx);
            };
            (due, ctx.run_later(left, over))
        });
    }
}

/// However it ends: nothing runs without it, and nobody waits for ever.
impl Drop for GroupActor {
    fn drop(&mut self) {
        if let Some(state) = self.run.slot.state_dir().filter(|_| self.run.slot.is_closed())
            && let Err(error) = state.remove_group(&self.run.slot.path)
        {
            tracing::error!(group = %self.run.slot.path, %error, "its record stays");
        }
        self.run.slot.last_word();
    }
}

impl Actor for GroupActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.run.slot.is_closed() {
            ctx.stop();
        }
    }
}

impl Mailbox for GroupActor {
    fn waited(&mut self) -> &mut bool {
        &mut self.waited
    }
}

impl Supervised for GroupActor {
    /// After a panic the timer is gone, and the message in hand may have been news: the members still say all of it.
    fn restarting(&mut self, ctx: &mut Context<Self>) {
        self.timer = None;
        ctx.notify(News);
        if self.run.slot.is_closed() {
            ctx.notify(Close);
        }
    }
}

impl Handler<Ask> for GroupActor {
    type Result = ();

    fn handle(&mut self, ask: Ask, ctx: &mut Context<Self>) {
        let name = match &ask {
            Ask::Start(_) => "start",
            Ask::Stop { .. } => "stop",
        };
        let Some(ask) = self.open(name, ask, ctx) else { return };
        self.run.asked(ask);
        self.go_on(ctx);
    }
}

impl Handler<News> for GroupActor {
    type Result = ();

    fn handle(&mut self, news: News, ctx: &mut Context<Self>) {
        let Some(News) = self.open("news", news, ctx) else { return };
        self.go_on(ctx);
    }
}

impl Handler<Close> for GroupActor {
    type Result = ();

    fn handle(&mut self, message: Close, ctx: &mut Context<Self>) {
        let Some(Close) = self.open("close", message, ctx) else { return };
        ctx.stop();
    }
}
