//! The manager's part in services: their names, their shards, their end.

use std::sync::Arc;

use actix::{AsyncContext, Context, Handler};

use super::actor::ManagerActor;
use super::msg::{FindService, ListServices, ServiceGone, Supervise};
use crate::container::state::State;
use crate::error::Error;
use crate::guard;
use crate::service::actor::{ServiceActor, broken};
use crate::service::slot::OwnedService;

impl Handler<Supervise> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: Supervise, ctx: &mut Context<Self>) {
        let id = message.order.slot.id.clone();
        let Some(Supervise { order, reply }) = self.open("supervise", &id, message, ctx) else { return };
        if self.closed {
            let _ = reply.send(Err(Error::shut_down()));
            return;
        }
        let slot = Arc::clone(&order.slot);
        // Who has seen the end may use the name again, whether its news has come here or not.
        self.services.remove(&id, |slot| slot.is_over());
        let goes_on = order.again.is_some();
        let taken =
            !goes_on && self.registry.get(&id).is_some_and(|slot| slot.state() != State::Gone || slot.is_retained());
        if taken || !self.services.insert(&id, Arc::clone(&slot)) {
            let _ = reply.send(Err(Error::taken("container or service", &id)));
            return;
        }
        let manager = ctx.address();
        let sent = self.shards.run(&id, move || {
            let (for_end, for_guard) = (Arc::clone(&slot), Arc::clone(&slot));
            let gone = move || manager.do_send(ServiceGone { slot: Arc::clone(&for_end) });
            let actor = ServiceActor::new(order, gone);
            if !goes_on && let Err(error) = actor.note() {
                // Nothing of it has begun, and its name is free before the answer.
                slot.close();
                drop(actor);
                let _ = reply.send(Err(error));
                return;
            }
            let actor = guard::start(actor, slot.part(), move || broken(&for_guard));
            let _ = slot.actor.set(actor);
            // Dropped on its way, it is the last handle that is dropped.
            let _ = reply.send(Ok(OwnedService::new(&slot)));
        });
        if !sent {
            tracing::error!(service = %id, "its shard is gone");
            self.services.remove(&id, |_| true);
        }
    }
}

impl Handler<ServiceGone> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: ServiceGone, ctx: &mut Context<Self>) {
        let id = message.slot.id.clone();
        let Some(message) = self.open("service gone", &id, message, ctx) else { return };
        self.services.remove(&id, |have| Arc::ptr_eq(have, &message.slot));
        self.answer_if_empty();
    }
}

impl Handler<FindService> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: FindService, ctx: &mut Context<Self>) {
        let id = message.id.clone();
        let Some(message) = self.open("find service", &id, message, ctx) else { return };
        let found = self.services.get(&message.id).filter(|slot| slot.actor.get().is_some() && !slot.is_closed());
        let _ = message.reply.send(found.map(OwnedService::new));
    }
}

impl Handler<ListServices> for ManagerActor {
    type Result = ();

    fn handle(&mut self, message: ListServices, ctx: &mut Context<Self>) {
        let Some(message) = self.open("list services", "", message, ctx) else { return };
        let there = self.services.values().filter(|slot| !slot.status().closed);
        let _ = message.reply.send(there.cloned().collect());
    }
}
