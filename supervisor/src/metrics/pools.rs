//! What is counted of pools. All of it goes with its pool: names that come and go are no series for ever.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::meters::Meters;
use crate::pool::DiscardReason;
use crate::pool::state::{PoolState, Tally};

/// Of one pool, and of one kind of what it has.
type Of = [(&'static str, String); 2];
/// Of one pool.
type Pool = [(&'static str, String); 1];

#[derive(Clone, Default)]
pub(super) struct Pools {
    sandboxes: Family<Of, Gauge>,
    waiting: Family<Pool, Gauge>,
    made: Family<Pool, Counter>,
    discarded: Family<Of, Counter>,
}

fn of(pool: &str) -> Pool {
    [("pool", pool.to_owned())]
}

fn kind(pool: &str, name: &'static str, value: &str) -> Of {
    [("pool", pool.to_owned()), (name, value.to_owned())]
}

impl Meters {
    /// A pool is as this says from now on.
    pub(crate) fn pool(&self, pool: &str, now: &Tally) {
        let over = now.state == PoolState::Closed && now.all() == 0;
        let each = [("making", now.making), ("idle", now.idle), ("leased", now.leased), ("leaving", now.leaving)];
        for (state, count) in each {
            let of = kind(pool, "state", state);
            if over {
                self.pools.sandboxes.remove(&of);
            } else {
                self.pools.sandboxes.get_or_create(&of).set(i64::try_from(count).unwrap_or(i64::MAX));
            }
        }
        if over {
            self.pools.waiting.remove(&of(pool));
            self.pools.made.remove(&of(pool));
            for why in DiscardReason::ALL {
                self.pools.discarded.remove(&kind(pool, "why", why.name()));
            }
        } else {
            self.pools.waiting.get_or_create(&of(pool)).set(i64::try_from(now.waiting).unwrap_or(i64::MAX));
        }
    }

    pub(crate) fn pool_made(&self, pool: &str) {
        self.pools.made.get_or_create(&of(pool)).inc();
    }

    pub(crate) fn pool_discarded(&self, pool: &str, why: &'static str) {
        self.pools.discarded.get_or_create(&kind(pool, "why", why)).inc();
    }
}

/// Onto the page.
pub(super) fn register(to: &mut Registry, pools: &Pools) {
    to.register("pool_sandboxes", "Sandboxes of pools by state; idle: ready to be taken", pools.sandboxes.clone());
    to.register("pool_waiting", "Callers that wait for a sandbox of a pool", pools.waiting.clone());
    to.register("pool_made", "Sandboxes that pools have made", pools.made.clone());
    to.register("pool_discarded", "Sandboxes that pools have thrown away, and why", pools.discarded.clone());
}
