//! (4) in the way of the data: the manager gives each container to a shard.

use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, Handler, Supervised};
use orangery_runtime::Runtime;
use tokio::sync::oneshot;

use super::msg::{Create, Find, Gone, List, ShutDown};
use super::registry::Registry;
use crate::container::life::{self, Order};
use crate::container::slot::{ContainerSlot, Keeping, Owned};
use crate::container::state::State;
use crate::error::{Error, ErrorKind};
use crate::faults::{Faults, Site};
use crate::report::Cause;
use crate::shard::Shards;

/// Routes. One for each supervisor.
pub(crate) struct ManagerActor {
    runtime: Arc<dyn Runtime>,
    shards: Shards,
    faults: Faults,
    registry: Registry<Arc<ContainerSlot>>,
    shutting_down: Vec<oneshot::Sender<()>>,
    closed: bool,
}

impl ManagerActor {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, shards: Shards, faults: Faults) -> Self {
        Self { runtime, shards, faults, registry: Registry::default(), shutting_down: Vec::new(), closed: false }
    }

    fn pass(&self, message: &'static str, id: &str) {
        let _ = self.faults.pass(Site::ManagerMessage(message), id);
    }

    fn answer_if_empty(&mut self) {
        if self.closed && self.registry.is_empty() {
            for waiter in self.shutting_down.drain(..) {
                let _ = waiter.send(());
            }
        }
    }
}

impl Actor for ManagerActor {
    type Context = Context<Self>;
}

impl Supervised for ManagerActor {
    /// A handler panicked. If the message that is lost was the news of an end, the slot still says so.
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.registry.forget(|slot| slot.state() == State::Gone);
        self.answer_if_empty();
    }
}

impl Handler<Create> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: Create, ctx: &mut Context<Self>) {
        self.pass("create", &message.spec.id);
        let Create { spec, main, policy, labels, ring_bytes, capture, permit, reply } = message;
        if self.closed {
            drop(permit);
            let _ = reply.send(Err(Error::shut_down()));
            return;
        }
        let keeping = Keeping { ring_bytes, drain_grace: policy.drain_grace };
        let slot = Arc::new(ContainerSlot::new(&spec.id, labels, spec.limits.clone(), keeping));
        if capture {
            slot.capture();
        }
        // Who has seen the end may use the name again, whether its news has come here or not.
        self.registry.remove(&spec.id, |slot| slot.state() == State::Gone);
        if !self.registry.insert(&spec.id, Arc::clone(&slot)) {
            let what = format!("a container with the id {:?} exists", spec.id);
            let error = orangery_runtime::Error::new(orangery_runtime::ErrorKind::Exists, what).with_field("id");
            // Before the answer: who is refused may try again at once.
            drop(permit);
            let _ = reply.send(Err(error.into()));
            return;
        }
        let (runtime, faults, manager) = (Arc::clone(&self.runtime), self.faults.clone(), ctx.address());
        let id = spec.id.clone();
        let order = Order { slot, spec, main, policy, runtime, faults, reply };
        let sent = self.shards.run(&id, move || {
            actix_rt::spawn(life::live(order, move |slot| {
                drop(permit);
                manager.do_send(Gone { slot: Arc::clone(slot) });
            }));
        });
        if !sent {
            // The order is dropped with its reply: the caller sees the request lost.
            tracing::error!(container = %id, "its shard is gone");
            self.registry.remove(&id, |_| true);
        }
    }
}

impl Handler<Gone> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: Gone, _: &mut Context<Self>) {
        self.pass("gone", &message.slot.id);
        self.registry.remove(&message.slot.id, |have| Arc::ptr_eq(have, &message.slot));
        self.answer_if_empty();
    }
}

impl Handler<List> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: List, _: &mut Context<Self>) {
        self.pass("list", "");
        let _ = message.reply.send(self.registry.values().cloned().collect());
    }
}

impl Handler<Find> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: Find, _: &mut Context<Self>) {
        self.pass("find", &message.id);
        let started = self.registry.get(&message.id).filter(|slot| slot.actor.get().is_some());
        let _ = message.reply.send(started.map(Owned::new));
    }
}

impl Handler<ShutDown> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: ShutDown, _: &mut Context<Self>) {
        self.pass("shut down", "");
        self.closed = true;
        self.shutting_down.push(message.reply);
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
