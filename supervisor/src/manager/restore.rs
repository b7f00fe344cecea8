//! The manager's part in what was there before it began.

use std::sync::Arc;

use actix::{AsyncContext, Context};
use tracing::Instrument as _;

use super::actor::ManagerActor;
use super::msg::Gone;
use crate::container::actor::ContainerActor;
use crate::container::again::{self, Again};
use crate::container::msg::Removed;
use crate::container::slot::ContainerSlot;
use crate::faults::Faults;
use crate::guard;
use crate::process::actor::ProcessActor;
use crate::process::msg::Exited;
use crate::recovery::{GroupRecord, ServiceRecord};

/// All of it.
#[derive(Default)]
pub(crate) struct Restored {
    pub(crate) ended: Vec<Arc<ContainerSlot>>,
    pub(crate) living: Vec<Again>,
    pub(crate) services: Vec<ServiceRecord>,
    pub(crate) groups: Vec<GroupRecord>,
}

impl ManagerActor {
    /// It lives, and has its line on its shard again.
    pub(super) fn go_on(&mut self, again: Again, ctx: &mut Context<Self>) {
        let slot = Arc::clone(&again.slot);
        if !self.registry.insert(&slot.id, Arc::clone(&slot)) {
            return;
        }
        let (shards, manager) = (self.shards.clone(), ctx.address());
        let faults = self.faults.of(&slot.id, &slot.labels, slot.main.generation);
        faults.enlist();
        let sent = self.shards.run(&slot.id, move || {
            let span = again.slot.span.clone();
            let gone = move |slot: &Arc<ContainerSlot>| manager.do_send(Gone { slot: Arc::clone(slot) });
            actix_rt::spawn(again::live(again, shards, faults, gone).instrument(span));
        });
        if !sent {
            tracing::error!(container = %slot.id, "its shard is gone");
        }
    }

    /// It has ended, and is found until it is forgotten.
    pub(super) fn restore(&mut self, slot: Arc<ContainerSlot>, ctx: &mut Context<Self>) {
        // Handles have addresses; nobody answers there any more.
        let process = ProcessActor::new(Arc::clone(&slot.main), Faults::default());
        let process = guard::start(process, slot.main.part(), || ());
        process.do_send(Exited);
        let _ = slot.main.actor.set(process);
        let actor = ContainerActor::new(Arc::clone(&slot), Faults::default(), self.shards.clone());
        let actor = guard::start(actor, slot.part(), || ());
        actor.do_send(Removed);
        let _ = slot.actor.set(actor);
        if self.registry.insert(&slot.id, Arc::clone(&slot)) {
            let (manager, span) = (ctx.address(), slot.span.clone());
            let parked = async move {
                slot.until_forgotten().await;
                manager.do_send(Gone { slot });
            };
            actix_rt::spawn(parked.instrument(span));
        }
    }
}
