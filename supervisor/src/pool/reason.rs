//! Why sandboxes of a pool are removed.

use serde::{Deserialize, Serialize};

/// Why a sandbox of a pool was removed.
///
/// ```
/// use orangery::DiscardReason;
/// assert_eq!(serde_json::to_string(&DiscardReason::Aged).unwrap(), "\"aged\"");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiscardReason {
    /// Somebody has used it.
    Used,
    /// Its holder said so: [`Lease::taint`](crate::Lease::taint).
    Tainted,
    /// Its holder had it for longer than the pool allows: [`PoolBuilder::max_lease`](crate::PoolBuilder::max_lease).
    Overdue,
    /// It ended while it was ready.
    Died,
    /// It was older than the pool keeps any.
    Aged,
    /// The pool was closed.
    Closed,
}

impl DiscardReason {
    #[cfg(feature = "metrics")]
    pub(crate) const ALL: [Self; 6] = [Self::Used, Self::Tainted, Self::Overdue, Self::Died, Self::Aged, Self::Closed];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Tainted => "tainted",
            Self::Overdue => "overdue",
            Self::Died => "died",
            Self::Aged => "aged",
            Self::Closed => "closed",
        }
    }
}
