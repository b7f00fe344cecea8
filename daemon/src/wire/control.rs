//! What is done to a container or a process.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::container::State;
use super::process::Exit;
use super::text::Text;

/// How it is to end: by a ladder, by one signal, or, when nothing is said, as its spec says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// One signal after the other, each with its time, before the kill: `TERM:10s,INT:5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<String>,
    /// One signal. With `grace` alone: TERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Text>,
    /// How long it has before the kill. With `signal` alone: 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Text>,
}

/// A signal; KILL without one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Its name or its number. KILL is for the whole container, any other one for the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Text>,
}

/// How it is to be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// By the freezer or by SIGSTOP; what is answered has, in `paused`, which it was.
    #[serde(default)]
    pub how: PauseHow,
}

/// How it is to be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PauseHow {
    /// By the freezer where there is one, else by SIGSTOP.
    #[default]
    Any,
    /// By the freezer of its cgroup: nothing in it can notice.
    Freeze,
    /// By SIGSTOP to each of its processes: weaker, and needs no cgroup.
    Stop,
}

/// Nothing has to be said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Another size of its terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// Other limits; what is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Update {
    /// Memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Text>,
    /// Swap on top of the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<Text>,
    /// Processors' worth of time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Text>,
    /// Share under contention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// Processors that it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<String>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Share of each disk under contention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u64>,
    /// The same on single devices, as DEVICE:N.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub io_device_weight: Vec<Text>,
    /// Most on single devices, a second, as DEVICE:KEY=N,... with rbps, wbps, riops and wiops; max takes one away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub io_max: Vec<Text>,
    /// Kill it this long after its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Text>,
    /// Kill it after so much processor time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_cpu: Option<Text>,
    /// Kill it when it has written nothing for so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_idle: Option<Text>,
    /// Let no more output through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_limit: Option<Text>,
    /// Properties to set; null takes one away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Option<String>>,
}

/// What a wait has come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Waited {
    /// What was waited for has happened; else the time is over: ask again.
    pub done: bool,
    /// Where the container is.
    pub state: State,
    /// How it ended, when that was waited for and has happened.
    pub exit: Option<Exit>,
}
