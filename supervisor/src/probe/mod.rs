//! Probes: whether a container does what it is for. Here is what they are ([`Probe`]), when they are asked ([`Readiness`],
//! [`Health`]), what their answers mean ([`health`], pure) and what is known at any moment ([`Vitals`]). Who asks them
//! is [`container::probes`](crate::container::probes); nothing here knows a container, a clock or a task.
//!
//! ```text
//!  started ──► Readiness: asked until the first success ──────► ready ──► Health: asked for as long as it runs
//!                 │ not within its timeout                                  │ so many failures in a row
//!                 ▼                                                         ▼
//!              ended, cause NotReady                                     unhealthy: report, restart or stop
//! ```
//!
//! While a container is paused nobody asks, nothing fails and no time passes.

pub(crate) mod health;
pub(crate) mod http;
pub(crate) mod line;
pub(crate) mod notify;
mod policy;
mod spec;
mod vitals;

pub use http::Http;
pub use notify::Refusal as NotifyRefusal;
pub(crate) use policy::Care;
pub use policy::{Health, OnUnhealthy, Readiness, Watchdog};
pub use spec::Probe;
pub(crate) use spec::Question;
pub use vitals::{HealthState, Vitals};
