//! What is done before the first signal of a stop. The process does not know what: who made it has left word.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::slot::Slot;
use crate::hook::HookOutcome;

/// Begin it, and say when it is over; dropped, it is over too.
type Begin = Box<dyn Fn(oneshot::Sender<HookOutcome>) + Send + Sync>;

/// What is to be done before the first signal.
pub(crate) struct Before {
    /// It is over by then.
    pub(crate) deadline: Duration,
    pub(crate) begin: Begin,
}

impl fmt::Debug for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Before").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nobody has asked for it.
    #[default]
    Not,
    /// It is under way.
    Under,
    Over(HookOutcome),
}

impl Slot {
    /// How long it takes at most, where there is anything to be done: also where it is to be written down, which is no
    /// reason for a later kill.
    pub(crate) fn takes_before(&self) -> Option<Duration> {
        let hook = self.before.get().map(|before| before.deadline);
        hook.or_else(|| self.is_noted().then_some(Duration::ZERO))
    }

    /// Do it, once that it is begun is `noted`. Ready when it is over; it goes on when the future is dropped.
    pub(super) fn prepare<N: Future<Output = ()>>(self: &Arc<Self>, noted: N) -> impl Future<Output = ()> + use<N> {
        if self.before.get().is_some() {
            self.prepared.send_replace(Progress::Under);
        }
        let (slot, prepared) = (Arc::clone(self), self.prepared.clone());
        async move {
            noted.await;
            let Some(before) = slot.before.get() else { return };
            let (done, over) = oneshot::channel();
            (before.begin)(done);
            let why = "whoever was to run it has failed";
            let outcome = over.await.unwrap_or_else(|_| HookOutcome::NotStarted { why: why.into() });
            prepared.send_replace(Progress::Over(outcome));
        }
    }

    /// Nothing that was to be done before is under way.
    pub(super) fn is_prepared(&self) -> bool {
        *self.prepared.borrow() != Progress::Under
    }

    /// What came of it, once that is known; `None` where it was not begun.
    pub(crate) async fn outcome_before(&self) -> Option<HookOutcome> {
        let mut prepared: watch::Receiver<Progress> = self.prepared.subscribe();
        // Its sender is in the slot that we hold.
        match prepared.wait_for(|progress| *progress != Progress::Under).await.as_deref() {
            Ok(Progress::Over(outcome)) => Some(outcome.clone()),
            _ => None,
        }
    }
}
