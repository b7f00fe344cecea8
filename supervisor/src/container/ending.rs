//! The end of the straight line: account, report, removal, also of what does not end.

use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use orangery_io_stream::EndReason;
use orangery_runtime::{Container, Exit, ExitStatus};

use super::actor::ContainerActor;
use super::hooks;
use super::msg::Removed;
use super::slot::ContainerSlot;
use super::state::Input;
use super::unkillable;
use super::{report, root};
use crate::error::Error;
use crate::faults::{Faults, Step};
use crate::hook::ReadyHook;
use crate::process::actor::ProcessActor;
use crate::process::msg::Exited;
use crate::process::slot::Slot;
use crate::report::Report;
use crate::shard::Shards;

/// A container whose main process has ended, or is not waited for any more.
pub(super) struct Ending {
    pub(super) slot: Arc<ContainerSlot>,
    pub(super) container: Arc<dyn Container>,
    pub(super) faults: Faults,
    pub(super) shards: Shards,
    pub(super) actor: Addr<ContainerActor>,
    pub(super) post_stop: Option<ReadyHook>,
    /// Its files are kept.
    pub(super) keeps: bool,
}

impl Ending {
    /// Kill what is left, account for it, remove it, and tell.
    pub(super) async fn end(self, exit: Exit, reason: EndReason) {
        let Self { slot, container, faults, shards, actor, post_stop, keeps } = self;
        // It may be what has ended the process, and is bounded by its own deadline.
        let pre_stop = slot.main.outcome_before().await;
        let post_stop = match post_stop {
            Some(hook) => Some(hooks::after_stop(&slot, hook, exit.status.into(), (&faults, &shards)).await),
            None => None,
        };
        // Once is long enough.
        let patience = if slot.main.is_overdue() { Duration::ZERO } else { slot.patience };
        let (evidence, stuck) = match tokio::time::timeout(patience, container.finish()).await {
            Ok(evidence) => (evidence, None),
            Err(_) => (report::unread(), Some(unkillable::look(&container, slot.patience).await)),
        };
        let instead = faults.pass_report(true).await;
        let report = report::of_main(&slot, &exit, &evidence, reason).instead(instead);
        root::tell(&slot, &report);
        let is_stuck = stuck.is_some();
        let report = slot.main.conclude(Report { unkillable: stuck, pre_stop, post_stop, ..report });
        if let Some(kept) = &slot.lasting {
            // From here on the report knows what the keeper has kept until now.
            if kept.ended(&slot.main, &report).await {
                slot.main.settle().await;
                kept.pass(Step::Settled);
            }
        }
        let removed = if is_stuck {
            // Nobody is kept waiting for what may never come.
            slot.step(Input::Unkillable);
            slot.main.report.send_replace(Some(Arc::clone(&report)));
            unkillable::remove(&container).await
        } else {
            // Removed before it is told: who has the report in hand finds nothing left.
            container.delete().await.map_err(Error::from)
        };
        if let Err(error) = removed {
            tracing::error!(container = %slot.id, %error, "the container could not be removed");
            let _ = slot.left.set(error);
        }
        slot.step(if keeps { Input::Kept } else { Input::Removed });
        slot.main.report.send_replace(Some(report));
        actor.do_send(Removed);
    }
}

/// Nobody waits for its end any more: for everybody it is over, and nobody knows how.
pub(super) fn give_up(slot: &Slot, actor: &Addr<ProcessActor>) -> (Exit, EndReason) {
    tracing::error!(container = %slot.id, process = %slot.number, "it was killed and does not end");
    let exit = Exit::new(ExitStatus::Lost, None, orangery_runtime::native::now_ns());
    slot.overdue();
    over(slot, exit, actor);
    (exit, EndReason::Abandoned)
}

/// It has ended; told at once.
pub(super) fn over(slot: &Slot, exit: Exit, actor: &Addr<ProcessActor>) {
    slot.settle_backstops(&exit);
    slot.exited(exit);
    slot.close_ends();
    slot.release();
    actor.do_send(Exited);
}
