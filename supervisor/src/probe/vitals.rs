//! What is known of a container at any moment.

use serde::{Deserialize, Serialize};

/// Whether a container is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HealthState {
    /// Nobody knows yet.
    Starting,
    /// The last answers were good.
    Healthy,
    /// Too many in a row were not.
    Unhealthy,
}

/// What probes have found, and what the container says of itself.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) {
/// let orangery::Vitals { ready, health, failure, .. } = container.inspect().vitals;
/// println!("ready: {ready}, {health:?}, last failure: {failure:?}");
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Vitals {
    /// It was ready once. Without a readiness: it has started.
    pub ready: bool,
    /// `None`: nobody asks.
    pub health: Option<HealthState>,
    /// How many answers in a row were no success.
    pub failures: u32,
    /// Why the last attempt of a probe has failed; `None` after one that has succeeded.
    pub failure: Option<String>,
    /// What it said last of itself (`STATUS` of sd_notify), without control characters.
    pub status: Option<String>,
    /// The error number that it has told (`ERRNO`).
    pub errno: Option<i32>,
    /// It reads its configuration again (`RELOADING`), until its next `READY`.
    pub reloading: bool,
    /// It has begun to end (`STOPPING`): failures of its health do not count any more.
    pub stopping: bool,
}
