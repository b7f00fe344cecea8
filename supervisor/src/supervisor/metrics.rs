//! The figures of a supervisor as text.

use orangery_runtime::spec::{Resource, rlimit};

use super::Supervisor;
use crate::metrics::{Outside, page};

impl Supervisor {
    /// What there is to measure, as OpenMetrics text (`application/openmetrics-text; version=1.0.0; charset=utf-8`): for the
    /// page that a monitoring system scrapes. Counts are this supervisor's alone and begin with it; takes no longer with a
    /// longer past. Feature `metrics`.
    ///
    /// | name | is |
    /// |---|---|
    /// | `orangery_containers{state}` | containers by state; `creating`: creations in flight |
    /// | `orangery_budget_used{budget}`, `orangery_budget_limit{budget}` | what is taken or promised of each [`Budget`](crate::Budget), and what there is, unless there is no limit |
    /// | `orangery_refusals_total{budget}` | not admitted, by the budget that was spent |
    /// | `orangery_creation_duration_seconds{stage}` | histogram: `create` and `start` of containers, `exec` of further processes |
    /// | `orangery_creation_failures_total{what}` | `container`, `process` |
    /// | `orangery_restarts_total` | starts of an incarnation after the first |
    /// | `orangery_exits_total{process,cause}` | processes (`main`, `further`) that were reported; a limit by its name |
    /// | `orangery_limits_hit_total{limit}` | whether it ended a process or not |
    /// | `orangery_oom_kills_total` | processes that the OOM killer took |
    /// | `orangery_leaked_writers_total` | processes whose output was held when the drain grace ended |
    /// | `orangery_stream_bytes_total{direction}` | `in` from processes, `out` to readers |
    /// | `orangery_stream_dropped_bytes_total{by}` | what readers lost: `overflow`, `rate_limit` |
    /// | `orangery_stream_blocked_seconds_total` | how long readers that block have held processes up |
    /// | `orangery_stream_readers`, `orangery_stream_lag_bytes`, `orangery_stream_worst_lag_bytes`, `orangery_stream_history_bytes` | of now |
    /// | `orangery_pool_sandboxes{pool,state}`, `orangery_pool_waiting{pool}` | of each [`Pool`](crate::Pool), until it is closed and empty: `making`, `idle`, `leased`, `leaving`; callers that wait |
    /// | `orangery_pool_made_total{pool}`, `orangery_pool_discarded_total{pool,why}` | what it has made and thrown away; until then as well |
    /// | `orangery_events_total`, `orangery_event_readers`, `orangery_event_lag` | of the feed |
    /// | `orangery_followers`, `orangery_followed_sources` | of [`follow`](Supervisor::follow) |
    /// | `orangery_actor_panics_total{actor}`, `orangery_keepers_replaced_total`, `orangery_keepers_lost_total` | our own failures |
    /// | `orangery_keeper_queue`, `orangery_keeper_unanswered` | requests that the keeper has not taken, or not answered |
    /// | `orangery_descriptors_open`, `orangery_descriptors_reserved`, `orangery_descriptors_limit` | of the process; promised and kept free by this supervisor; the soft limit, unless there is none |
    ///
    /// Reads /proc/self/fd, which blocks for microseconds.
    ///
    /// ```no_run
    /// # fn f(supervisor: &orangery::Supervisor) {
    /// print!("{}", supervisor.metrics());
    /// # }
    /// ```
    #[must_use]
    pub fn metrics(&self) -> String {
        let (event_readers, event_lag) = self.inner.feed.readers();
        let (followers, followed) = self.inner.feed.outputs().look();
        let (limit, _) = Resource::Nofile.current();
        let outside = Outside {
            event_readers,
            event_lag,
            followers,
            followed,
            keeper: self.native().map(|native| native.keeper_load()),
            open: std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
            budgets: self.budgets(),
            limit: (limit != rlimit::INFINITY).then_some(limit),
        };
        page(self.inner.feed.meters(), &outside)
    }
}
