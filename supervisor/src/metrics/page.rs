//! All of it as one page of OpenMetrics text.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::admission::{Budget, BudgetUse, Budgets, DESCRIPTORS_RESERVED};

use super::meters::{Labels, Meters};
use super::pools;
use super::streams::{Sums, lock};

/// What is known elsewhere and asked when the page is written.
#[derive(Debug)]
pub(crate) struct Outside {
    /// Readers of the feed, and how many events the slowest is behind.
    pub(crate) event_readers: u64,
    pub(crate) event_lag: u64,
    /// Who follows many, and how many outputs they have.
    pub(crate) followers: u64,
    pub(crate) followed: u64,
    /// Requests that the keeper has not taken yet, and those that it has not answered yet.
    pub(crate) keeper: Option<(u64, u64)>,
    /// Descriptors: open in the process, promised to containers and kept free, and the soft limit.
    pub(crate) open: Option<u64>,
    pub(crate) budgets: Budgets,
    pub(crate) limit: Option<u64>,
}

fn budgets(to: &mut Registry, budgets: &Budgets) {
    let (used, limit) = (Family::<Labels<1>, Gauge>::default(), Family::<Labels<1>, Gauge>::default());
    let set = |of: &Family<Labels<1>, Gauge>, budget: Budget, value: u64| {
        of.get_or_create(&[("budget", budget.name())]).set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    for BudgetUse { budget, used: taken, limit: most } in budgets.iter() {
        set(&used, budget, taken);
        if let Some(most) = most {
            set(&limit, budget, most);
        }
    }
    to.register("budget_used", "What is taken or promised of each budget", used);
    to.register("budget_limit", "What there is of each budget that has a limit", limit);
}

/// The text, with its end mark.
pub(crate) fn page(meters: &Meters, outside: &Outside) -> String {
    let mut registry = Registry::with_prefix("orangery");
    containers(&mut registry, meters);
    budgets(&mut registry, &outside.budgets);
    pools::register(&mut registry, &meters.pools);
    streams(&mut registry, &lock(&meters.streams).look());
    ourselves(&mut registry, meters, outside);
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn containers(to: &mut Registry, meters: &Meters) {
    to.register("containers", "Containers by state; creating: creations in flight", meters.containers.clone());
    to.register("refusals", "Containers that were not admitted, by the budget that was spent", meters.refusals.clone());
    let help = "How long making a container, starting its main process and starting a further one took";
    to.register_with_unit("creation_duration", help, Unit::Seconds, meters.creations.clone());
    to.register(
        "creation_failures",
        "Containers and further processes that could not be started",
        meters.failures.clone(),
    );
    to.register("restarts", "Starts of an incarnation after the first", meters.restarts.clone());
    to.register("exits", "Processes that were reported, by cause", meters.exits.clone());
    to.register("limits_hit", "Limits that were reached, whether they ended a process or not", meters.limits.clone());
    to.register("container_health", "Containers whose health is asked for, by what it is", meters.health.clone());
    to.register("probes", "Attempts of exec and network probes, by result", meters.probes.clone());
    to.register("oom_kills", "Processes that the OOM killer took", meters.oom_kills.clone());
    to.register(
        "leaked_writers",
        "Processes whose output was held by something that outlived them",
        meters.leaked.clone(),
    );
}

fn streams(to: &mut Registry, sums: &Sums) {
    let bytes = Family::<Labels<1>, Counter>::default();
    for (direction, count) in [("in", sums.bytes_in), ("out", sums.bytes_out)] {
        bytes.get_or_create(&[("direction", direction)]).inc_by(count);
    }
    to.register("stream_bytes", "Bytes of output read from processes (in) and taken by readers (out)", bytes);
    let lost = Family::<Labels<1>, Counter>::default();
    for (by, count) in [("overflow", sums.dropped), ("rate_limit", sums.suppressed)] {
        lost.get_or_create(&[("by", by)]).inc_by(count);
    }
    to.register("stream_dropped_bytes", "Bytes of output that readers did not get, as they were told", lost);
    let help = "How long readers that block have held processes up";
    to.register_with_unit("stream_blocked", help, Unit::Seconds, ConstCounter::new(sums.blocked_ns as f64 / 1e9));
    gauge(to, "stream_readers", "Readers of output", sums.readers);
    gauge(to, "stream_lag_bytes", "Bytes that wait for readers, all together", sums.lag);
    gauge(to, "stream_worst_lag_bytes", "Bytes that wait for the reader that is furthest behind", sums.worst_lag);
    gauge(to, "stream_history_bytes", "Bytes of output that are kept for readers that come later", sums.ring_bytes);
}

fn ourselves(to: &mut Registry, meters: &Meters, outside: &Outside) {
    to.register("actor_panics", "Panics of our actors", meters.panics.clone());
    to.register("events", "Events that were told", meters.events.clone());
    gauge(to, "event_readers", "Readers of the feed", outside.event_readers);
    gauge(to, "event_lag", "Events that wait for the reader of the feed that is furthest behind", outside.event_lag);
    gauge(to, "followers", "Readers of one feed of many containers", outside.followers);
    gauge(to, "followed_sources", "Outputs that followers read, all together", outside.followed);
    let replaced = "Keepers that died before their supervisor, in whose place there is another one";
    to.register("keepers_replaced", replaced, meters.keepers_replaced.clone());
    to.register(
        "keepers_lost",
        "Keepers that ended before their supervisor, without another one",
        meters.keepers_lost.clone(),
    );
    if let Some((unsent, unanswered)) = outside.keeper {
        gauge(to, "keeper_queue", "Requests that the keeper has not taken yet", unsent);
        gauge(to, "keeper_unanswered", "Requests that the keeper has not answered yet", unanswered);
    }
    if let Some(open) = outside.open {
        gauge(to, "descriptors_open", "Descriptors of the whole process", open);
    }
    let promised = outside.budgets.of(Budget::Descriptors).used;
    let help = "Descriptors promised to containers and processes, or kept free";
    gauge(to, "descriptors_reserved", help, promised + DESCRIPTORS_RESERVED);
    if let Some(limit) = outside.limit {
        gauge(to, "descriptors_limit", "The soft limit on descriptors (RLIMIT_NOFILE)", limit);
    }
}

fn gauge(to: &mut Registry, name: &str, help: &str, value: u64) {
    to.register(name, help, ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)));
}
