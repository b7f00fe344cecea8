//! Whatever becomes of a task that sees a process through, its end is told. A panic in it, or a shard that is taken down
//! while it still drains, must leave nobody waiting for ever.

use std::sync::Arc;

use orangery_io_stream::EndReason;
use orangery_runtime::{Evidence, Exit, ExitStatus};

use super::report;
use super::slot::ContainerSlot;
use crate::process::slot::Slot;

/// Held for as long as the process is seen through; does nothing when its report has been told.
pub(super) struct LastWord {
    owner: Arc<ContainerSlot>,
    slot: Arc<Slot>,
}

impl LastWord {
    pub(super) fn new(owner: &Arc<ContainerSlot>, slot: &Arc<Slot>) -> Self {
        Self { owner: Arc::clone(owner), slot: Arc::clone(slot) }
    }
}

impl Drop for LastWord {
    fn drop(&mut self) {
        let Self { owner, slot } = self;
        // One that outlives us is the next supervisor's.
        if slot.report.borrow().is_some() || owner.lasting.as_ref().is_some_and(|kept| kept.is_left()) {
            return;
        }
        tracing::error!(container = %owner.id, process = %slot.number, "nobody sees it through any more");
        let known = *slot.exit.borrow();
        let exit = known.unwrap_or_else(|| Exit::new(ExitStatus::Lost, None, orangery_runtime::native::now_ns()));
        let _ = slot.kill(crate::report::Cause::SupervisorFault);
        slot.exited(exit);
        let report = if slot.main {
            report::of_main(owner, &exit, &Evidence::default(), EndReason::Abandoned)
        } else {
            report::of_further(owner, slot, &exit, EndReason::Abandoned, None)
        };
        let report = slot.conclude(report);
        if let Some(kept) = owner.lasting.as_ref().filter(|_| slot.main) {
            kept.ended_at_once(slot, &report);
        }
        slot.report.send_replace(Some(report));
        // Nobody else will remove it. Where the shard is taken down this comes to nothing, and the keeper does it.
        if slot.main
            && let Some(container) = owner.container.get().map(Arc::clone)
            && let Ok(shard) = tokio::runtime::Handle::try_current()
        {
            shard.spawn(async move { container.delete().await });
        }
    }
}

/// Calls what it was given, on every path.
pub(super) struct Finally<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Finally<F> {
    pub(super) fn new(act: F) -> Self {
        Self(Some(act))
    }
}

impl<F: FnOnce()> Drop for Finally<F> {
    fn drop(&mut self) {
        if let Some(act) = self.0.take() {
            act();
        }
    }
}
