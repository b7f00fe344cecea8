//! What is counted of one supervisor. Told by the feed (each event once), by a container's step from state to state, and by
//! the process slots of their streams; read by [`Supervisor::metrics`](crate::Supervisor::metrics). Without the feature
//! `metrics` nothing is counted ([`off`]) and the library that writes OpenMetrics is not there.

#[cfg(feature = "metrics")]
mod meters;
#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(feature = "metrics")]
mod page;
#[cfg(feature = "metrics")]
mod pools;
#[cfg(feature = "metrics")]
mod streams;

#[cfg(feature = "metrics")]
pub(crate) use meters::Meters;
#[cfg(not(feature = "metrics"))]
pub(crate) use off::Meters;
#[cfg(feature = "metrics")]
pub(crate) use page::{Outside, page};
#[cfg(feature = "metrics")]
pub(crate) use streams::Enrolled;

#[cfg(not(feature = "metrics"))]
pub(crate) use off::Enrolled;
