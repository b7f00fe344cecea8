//! (4) in the way of the data: the manager gives each container to a shard.

use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, Message, Supervised};
use orangery_runtime::Runtime;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::msg::{Create, Find, Gone, List, ShutDown};
use super::registry::Registry;
use super::restore::Restored;
use crate::container::life::{self, Order};
use crate::container::slot::{ContainerSlot, Keeping, Owned};
use crate::container::state::{Input, State};
use crate::error::{Error, ErrorKind};
use crate::events::Voice;
use crate::faults::{Faults, Mailbox, Site};
use crate::report::Cause;
use crate::service::slot::ServiceSlot;
use crate::shard::Shards;

/// Routes. One for each supervisor.
pub(crate) struct ManagerActor {
    runtime: Arc<dyn Runtime>,
    pub(super) shards: Shards,
    pub(super) faults: Faults,
    voice: Voice,
    waited: bool,
    pub(super) registry: Registry<Arc<ContainerSlot>>,
    pub(super) services: Registry<Arc<ServiceSlot>>,
    shutting_down: Vec<oneshot::Sender<()>>,
    pub(super) closed: bool,
    /// What was there before it began, until it does.
    before: Restored,
}

impl ManagerActor {
    pub(crate) fn new(
        runtime: Arc<dyn Runtime>,
        shards: Shards,
        faults: Faults,
        voice: Voice,
        before: Restored,
    ) -> Self {
        Self {
            before,
            runtime,
            shards,
            faults,
            voice,
            registry: Registry::default(),
            services: Registry::default(),
            shutting_down: Vec::new(),
            closed: false,
            waited: false,
        }
    }

    /// The message about this container (or none) to handle now, if a fault does not have it otherwise.
    pub(super) fn open<M>(&mut self, name: &'static str, id: &str, message: M, ctx: &mut Context<Self>) -> Option<M>
    where
        M: Message<Result = ()> + 'static,
        Self: Handler<M, Result = ()>,
    {
        self.admit(&self.faults.named(id), Site::ManagerMessage(name), message, ctx)
    }

    pub(super) fn answer_if_empty(&mut self) {
        if self.closed && self.registry.is_empty() && self.services.is_empty() {
            for waiter in self.shutting_down.drain(..) {
                let _ = waiter.send(());
            }
        }
    }
}

impl Actor for ManagerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let Restored { ended, living, .. } = std::mem::take(&mut self.before);
        for slot in ended {
            self.restore(slot, ctx);
        }
        for again in living {
            self.go_on(again, ctx);
        }
    }
}

impl Mailbox for ManagerActor {
    fn waited(&mut self) -> &mut bool {
        &mut self.waited
    }
}

impl Supervised for ManagerActor {
    /// A handler panicked. If the message that is lost was the news of an end, the slot still says so.
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.registry.forget(|slot| slot.state() == State::Gone && !slot.is_retained());
        self.services.forget(|slot| slot.status().closed);
        self.answer_if_empty();
    }
}

impl Handler<Create> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: Create, ctx: &mut Context<Self>) {
        let faults = message.faults.clone();
        let Some(message) = self.admit(&faults, Site::ManagerMessage("create"), message, ctx) else { return };
        let Create {
            spec,
            main,
            terms,
            policy,
            patience,
            labels,
            ring_bytes,
            capture,
            log,
            permit,
            birth,
            faults,
            reply,
        } = message;
        if self.closed {
            drop(permit);
            let _ = reply.send(Err(Error::shut_down()));
            return;
        }
        let keeping = Keeping {
            terms,
            ring_bytes,
            drain_grace: policy.drain_grace,
            each: policy.each.clone(),
            watched: policy.watched.clone(),
            backstopped: policy.backstopped,
            patience,
            lasting: birth.kept,
        };
        let slot = Arc::new(ContainerSlot::new(
            &spec.id,
            labels,
            spec.limits.clone(),
            keeping,
            &self.voice,
            (birth.generation, birth.abort),
        ));
        // Who has seen the end may use the name again, whether its news has come here or not.
        self.registry.remove(&spec.id, |slot| slot.state() == State::Gone && !slot.is_retained());
        if birth.of_service {
            // The next incarnation takes the place of what is left of this one.
            if let Some(before) = self.registry.get(&spec.id).filter(|slot| slot.is_retained()) {
                before.let_files_go();
            }
            self.registry.remove(&spec.id, |slot| slot.is_retained());
        }
        let service = self.services.get(&spec.id).is_some_and(|slot| !slot.is_over());
        if service != birth.of_service || !self.registry.insert(&spec.id, Arc::clone(&slot)) {
            let error = Error::taken(if service { "service" } else { "container" }, &spec.id);
            // Before the answer: who is refused may try again at once.
            drop(permit);
            let _ = reply.send(Err(error));
            return;
        }
        slot.hold(permit);
        faults.enlist();
        let (runtime, shards, manager) = (Arc::clone(&self.runtime), self.shards.clone(), ctx.address());
        let id = spec.id.clone();
        let for_end = Arc::clone(&slot);
        slot.span.in_scope(|| tracing::debug!("accepted"));
        let order = Order { slot, spec, main, policy, capture, log, runtime, shards, faults, reply };
        let sent = self.shards.run(&id, move || {
            let span = order.slot.span.clone();
            let gone = move |slot: &Arc<ContainerSlot>| manager.do_send(Gone { slot: Arc::clone(slot) });
            actix_rt::spawn(life::live(order, gone).instrument(span));
        });
        if !sent {
            // The order is dropped with its reply: the caller sees the request lost.
            tracing::error!(container = %id, "its shard is gone");
            for_end.step(Input::Failed);
            self.registry.remove(&id, |_| true);
        }
    }
}

impl Handler<Gone> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: Gone, ctx: &mut Context<Self>) {
        let id = message.slot.id.clone();
        let Some(message) = self.open("gone", &id, message, ctx) else { return };
        self.registry.remove(&message.slot.id, |have| Arc::ptr_eq(have, &message.slot));
        self.answer_if_empty();
    }
}

impl Handler<List> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: List, ctx: &mut Context<Self>) {
        let Some(message) = self.open("list", "", message, ctx) else { return };
        // What has gone has gone when its report is told, whenever its last message comes.
        let there = self.registry.values().filter(|slot| slot.state() != State::Gone || slot.is_retained());
        let _ = message.reply.send(there.cloned().collect());
    }
}

impl Handler<Find> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: Find, ctx: &mut Context<Self>) {
        let id = message.id.clone();
        let Some(message) = self.open("find", &id, message, ctx) else { return };
        let started = |slot: &&Arc<ContainerSlot>| slot.actor.get().is_some() && slot.state() != State::Creating;
        let started = self.registry.get(&message.id).filter(started);
        let _ = message.reply.send(started.map(Owned::new));
    }
}

impl Handler<ShutDown> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: ShutDown, ctx: &mut Context<Self>) {
        let Some(message) = self.open("shut down", "", message, ctx) else { return };
        self.closed = true;
        self.shutting_down.push(message.reply);
        for service in self.services.values() {
            service.close();
        }
        for slot in self.registry.values() {
            slot.let_files_go();
            slot.abort.notify_one();
            if let Err(error) = slot.main.kill(Cause::Stop { escalated: true }) {
                // Still being made, and given up.
                if error.kind() != ErrorKind::State {
                    tracing::error!(container = %slot.id, %error, "cannot kill");
                }
            }
        }
        self.answer_if_empty();
    }
}
