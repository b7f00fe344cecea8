//! What there is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::create::Stdin;
use super::process::Exit;

/// A container as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: State,
    /// Its command; empty for a bundle.
    pub command: Vec<String>,
    /// When it was asked for, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// When it was started last.
    pub started_at_ms: Option<u64>,
    /// It has a terminal.
    pub tty: bool,
    /// What its standard input is.
    pub stdin: Stdin,
    /// Its main process outside; for display.
    pub pid: Option<i32>,
    /// pid 1 of the container outside.
    pub init_pid: Option<i32>,
    /// Which incarnation, from 1; 0 before the first.
    pub generation: u32,
    /// Labels, which never change.
    pub labels: BTreeMap<String, String>,
    /// Notes, which may.
    pub properties: BTreeMap<String, String>,
    /// It is ready, as its spec says; without that it is as soon as it runs.
    pub ready: bool,
    /// Whether it is healthy, where its spec says what that is.
    pub health: Option<HealthState>,
    /// Limits of its cgroup, as the library says them.
    pub limits: Value,
    /// Its other limits, as the library says them.
    pub watched: Value,
    /// Its limits that were asked for and do not hold, with what stands in their place, as the library says it.
    #[serde(default)]
    pub unmet: Vec<Value>,
    /// How it is held, while it is paused.
    #[serde(default)]
    pub paused: Option<Paused>,
    /// `v2`, `v1`, `hybrid` or `none`.
    pub cgroup_mode: Option<String>,
    /// How it has its root file system: `host`, `mount`, `overlay`, `fuse-overlayfs` or `copy`, whether ids are mapped, and why it is no better way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<String>,
    /// How its network is wired: its addresses, what is published, whether it is up; nothing without such a network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<BTreeMap<String, String>>,
    /// Its processes that live or are not reported yet, the main one first.
    pub processes: Vec<Running>,
    /// What is kept running, where its spec has `restart`.
    pub service: Option<ServiceStatus>,
    /// How it ended last.
    pub exit: Option<Exit>,
    /// Why it could not be started.
    pub why: Option<String>,
}

/// How a container is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Paused {
    /// `freeze` or `stop`.
    pub how: String,
    /// In what that is weaker than the freezer, in words; nothing of the freezer.
    pub weakness: Option<String>,
}

/// Several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Containers {
    /// In order of their names.
    pub containers: Vec<Container>,
}

/// Where a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written down; nothing is made of it yet.
    Created,
    /// Being made, or not ready yet.
    Starting,
    /// Its main process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its main process has ended, or is being ended; what is left is being removed.
    Stopping,
    /// A service between two incarnations.
    Waiting,
    /// It has ended.
    Exited,
    /// It could not be started; or, of a service, it was given up.
    Failed,
    /// A state that this version does not know.
    #[serde(other)]
    Unknown,
}

impl State {
    /// Its name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Waiting => "waiting",
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// All that one can ask for.
    pub const ALL: [Self; 8] = [
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Stopping,
        Self::Waiting,
        Self::Exited,
        Self::Failed,
    ];

    /// Nothing of it runs, or will by itself.
    #[must_use]
    pub fn is_at_rest(self) -> bool {
        matches!(self, Self::Created | Self::Exited | Self::Failed)
    }
}

/// Whether it is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// It is.
    Healthy,
    /// It is not.
    Unhealthy,
    /// It was not asked yet.
    #[serde(other)]
    Unknown,
}

/// A process that lives, or is not reported yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Running {
    /// Its number in the container.
    pub id: u32,
    /// Its process id outside; for display.
    pub pid: i32,
    /// It has ended, and its report is being written.
    pub ended: bool,
}

/// What is kept running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct ServiceStatus {
    /// Where it is, as the library says it: `starting`, `unready`, `running`, `stopping`, `back_off`, `ended`, `stopped`,
    /// `failed`.
    pub state: String,
    /// Starts of an incarnation after the first.
    pub restarts: u64,
    /// When the next one follows, in milliseconds since 1970.
    pub next_start_at_ms: Option<u64>,
    /// Why it was given up, or could not be started.
    pub why: Option<String>,
}
