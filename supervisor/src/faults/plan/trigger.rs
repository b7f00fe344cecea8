//! When a fault happens: counted, never timed.

use orangery_io_stream::Source;
use serde::{Deserialize, Serialize};

use super::kind::source;

/// What has to happen. Counted over all containers that the fault's target matches, from the moment that the plan is armed;
/// [`Trigger::Output`] and [`Trigger::Line`] are counted in the output of each container by itself. Numbers begin with 1.
///
/// ```
/// use orangery::faults::Trigger;
/// let trigger: Trigger = serde_json::from_str(r#"{"spawn":{"nth":3}}"#).unwrap();
/// assert_eq!(trigger, Trigger::Spawn { nth: 3 });
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Trigger {
    /// The plan is armed.
    Now,
    /// A container is accepted, to be made. What needs a running container waits until it runs.
    Spawn {
        /// Which.
        nth: u64,
    },
    /// As [`Trigger::Spawn`], of a service's incarnations after its first alone.
    Restart {
        /// Which.
        nth: u64,
    },
    /// A container's main process has ended.
    Exit {
        /// Which.
        nth: u64,
    },
    /// The output of the container's main process has come to this offset.
    Output {
        /// Of which stream.
        #[serde(with = "source")]
        source: Source,
        /// So many bytes were read from it.
        offset: u64,
    },
    /// The container's main process has written such a line.
    Line {
        /// On which stream.
        #[serde(with = "source")]
        source: Source,
        /// Text that stands in it.
        containing: String,
        /// Which of those lines.
        nth: u64,
    },
}

impl Trigger {
    /// From which of its events on it is an occasion.
    pub(in crate::faults) const fn first(&self) -> u64 {
        match self {
            Self::Now | Self::Output { .. } => 1,
            Self::Spawn { nth } | Self::Restart { nth } | Self::Exit { nth } | Self::Line { nth, .. } => *nth,
        }
    }

    /// Somebody has to read the output for it.
    pub(in crate::faults) const fn reads(&self) -> bool {
        matches!(self, Self::Output { .. } | Self::Line { .. })
    }
}
