//! Supervision of our own actors: a handler that panics is caught, and the actor goes on with the same address and
//! the same mailbox. Only the message in hand is lost; whoever waits for its answer sees the channel close.
//!
//! `actix::Supervisor` restarts after a stop but not after a panic, so the context's future is polled inside
//! `catch_unwind` here. The budget (5 panics in 5 seconds) is the actors' own, never mixed with the workloads'.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::dev::{AsyncContextParts, ContextFut};
use actix::{Actor, Addr, AsyncContext, Context, Supervised};
use tokio::time::Instant;

use crate::events::{Kind, Voice};
use crate::ids::ProcessId;

/// More panics than this within [`WITHIN`] break an actor.
pub(crate) const BUDGET: usize = 5;
const WITHIN: Duration = Duration::from_secs(5);

/// Which panics still count.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    panics: VecDeque<Instant>,
}

impl Budget {
    /// Another panic at `now`; `false` when the budget is spent.
    pub(crate) fn spend(&mut self, now: Instant) -> bool {
        self.panics.retain(|then| now.duration_since(*then) < WITHIN);
        self.panics.push_back(now);
        self.panics.len() <= BUDGET
    }
}

/// Who panics, as it is told to the feed.
pub(crate) struct Part {
    pub(crate) actor: &'static str,
    pub(crate) process: Option<ProcessId>,
    pub(crate) voice: Voice,
    /// What its handlers log is logged there.
    pub(crate) span: tracing::Span,
}

impl Part {
    fn panicked(&self, restarted: bool) {
        self.voice.tell(self.process, Kind::ActorPanicked { actor: self.actor.into(), restarted }, None);
    }
}

/// Run `actor` on the current arbiter. `broken` is called when its budget is spent.
pub(crate) fn start<A>(actor: A, part: Part, broken: impl FnOnce() + 'static) -> Addr<A>
where
    A: Actor<Context = Context<A>> + Supervised + Unpin,
{
    let context = Context::new();
    let address = context.address();
    let life =
        Guarded { future: context.into_future(actor), budget: Budget::default(), part, broken: Some(Box::new(broken)) };
    actix_rt::spawn(life);
    address
}

struct Guarded<A>
where
    A: Actor<Context = Context<A>> + Supervised,
    Context<A>: AsyncContextParts<A> + AsyncContext<A>,
{
    future: ContextFut<A, Context<A>>,
    budget: Budget,
    part: Part,
    broken: Option<Box<dyn FnOnce()>>,
}

impl<A> Future for Guarded<A>
where
    A: Actor<Context = Context<A>> + Supervised + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = self.get_mut();
        let _span = this.part.span.clone().entered();
        loop {
            // What a handler left half done lies in the actor; everything that must not be lost lies outside of it.
            let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.future).poll(cx)));
            match polled {
                Ok(poll) => return poll,
                Err(_) if this.budget.spend(Instant::now()) && this.future.restart() => {
                    tracing::error!(actor = std::any::type_name::<A>(), "an actor panicked and goes on");
                    this.part.panicked(true);
                }
                Err(_) => {
                    tracing::error!(actor = std::any::type_name::<A>(), "an actor is broken");
                    this.part.panicked(false);
                    if let Some(broken) = this.broken.take() {
                        broken();
                    }
                    return Poll::Ready(());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_five_in_five_seconds() {
        let mut budget = Budget::default();
        let start = Instant::now();
        assert!((0..5).all(|n| budget.spend(start + Duration::from_millis(n))));
        assert!(!budget.spend(start + Duration::from_millis(10)));
        assert!(budget.spend(start + Duration::from_secs(6)));
    }
}
