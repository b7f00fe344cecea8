//! A service that another supervisor has kept running: it goes on with its incarnation, its delay or its rest.

use std::time::{Duration, SystemTime};

use actix::{AsyncContext, Context};
use tokio::time::Instant;

use super::actor::ServiceActor;
use super::incarnation::{self, Incarnation};
use super::inspect::Delay;
use super::msg::News;
use super::slot::ServiceSlot;
use super::state::ServiceState;
use crate::handle::ContainerHandle;
use crate::recovery::ServiceRecord;
use crate::report::unix_ms;
use crate::restart::{Budget, Decision};

/// What was written down, and the container of its last incarnation, if there is one.
pub(crate) struct Again {
    pub(crate) record: ServiceRecord,
    pub(crate) container: Option<ContainerHandle>,
}

/// What has passed since then.
fn since(at_ms: u64) -> Duration {
    Duration::from_millis(unix_ms(SystemTime::now()).saturating_sub(at_ms))
}

impl Again {
    /// What is true of it, from the first moment on.
    pub(crate) fn restore(&self, slot: &ServiceSlot, budget: &Budget) {
        let Self { record, container } = self;
        if let Some(container) = container {
            let it = Incarnation::new(record.generation);
            it.adopt(container);
            // Before it is told: who hears that it runs finds what runs.
            slot.succeed(&it);
        }
        let delay = record.delay.map(Delay::again);
        slot.publish(|status| {
            (status.state, status.generation, status.restarts) = (record.state, record.generation, record.restarts);
            (status.give_up, status.delay, status.tally) = (record.give_up, delay, budget.tally());
        });
    }
}

impl ServiceActor {
    /// On its shard, before anything is asked of it.
    pub(super) fn go_on(&mut self, again: Again, ctx: &mut Context<Self>) {
        let Again { record, container } = again;
        let now = Instant::now();
        self.began = now.checked_sub(record.elapsed.saturating_add(since(record.at_ms))).unwrap_or(now);
        self.fresh = false;
        self.ladder = record.ladder.unwrap_or_else(|| self.maker.template.ladder());
        match (record.state, self.slot.current().zip(container)) {
            (ServiceState::BackOff, _) => self.arm(self.slot.status().delay.map_or(now, |delay| delay.until), ctx),
            (state, _) if state.is_settled() => {}
            (_, Some((it, container))) => {
                actix_rt::spawn(incarnation::watch(it, container, ctx.address()));
                // One that was being stopped is told so once more when it is looked at.
                ctx.notify(News { generation: record.generation });
            }
            // It was about to be made, and was not: that is no death.
            (_, None) => drop(self.step(super::state::Input::Died(Decision::Restart { after: Duration::ZERO }), ctx)),
        }
    }
}
