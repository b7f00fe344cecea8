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

/// What a process of a container is for.
///
/// ```
/// assert_eq!(serde_json::to_string(&orangery::ProcessRole::Probe).unwrap(), "\"probe\"");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ProcessRole {
    /// The main one.
    Main,
    /// A further one that somebody has asked for.
    #[default]
    Exec,
    /// An attempt of [`Probe::exec`](crate::Probe::exec): the container's own doing, and soon over.
    Probe,
    /// A command before or after a stop.
    Hook,
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
