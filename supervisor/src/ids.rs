//! Names of things inside a container. Those of containers are the callers' own text.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process of one container: 0 is the main one, further ones count up from 1 and no number comes twice.
///
/// Unlike a pid it never means another process, so that it can be stored and used to attach later.
///
/// ```
/// use orangery::ProcessId;
/// assert_eq!(ProcessId::MAIN, ProcessId(0));
/// assert_eq!(ProcessId(3).to_string(), "3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// The main process, whose end is the container's end.
    pub const MAIN: Self = Self(0);
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
