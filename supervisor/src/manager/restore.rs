//! The manager's part in what was there before it began.

use std::sync::Arc;

use actix::{AsyncContext, Context};
use tracing::Instrument as _;

use super::actor::ManagerActor;
use super::msg::Gone;
use crate::container::actor::ContainerActor;
use crate::container::msg::Removed;
use crate::container::slot::ContainerSlot;
use crate::faults::Faults;
use crate::guard;
use crate::process::actor::ProcessActor;
use crate::process::msg::Exited;

impl ManagerActor {
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
