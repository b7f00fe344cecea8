//! The daemon itself.

use serde::{Deserialize, Serialize};

/// The daemon as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Health {
    /// Whether it can be used.
    pub status: Status,
    /// Its version.
    pub version: String,
    /// The version of this interface.
    pub api: u32,
    /// Its process id.
    pub pid: u32,
    /// When it was started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Its containers live on when it ends.
    pub durable: bool,
    /// How many keepers have died beside it and were replaced by another one.
    #[serde(default)]
    pub keepers_replaced: u32,
    /// How many containers it knows.
    pub containers: usize,
    /// Where its state is.
    pub state_dir: String,
}

/// Whether it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It can.
    Ok,
    /// It goes.
    Stopping,
    /// Its keeper is gone: nothing can be started.
    KeeperLost,
}
