//! Further processes, and how one ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::create::{Stdin, Tty};
use super::text::Text;

/// A further process in a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// The command and its arguments, each a word.
    pub command: Vec<String>,
    /// Variables, beside those that are always there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Text>,
    /// Working directory inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Who it runs as inside: `UID[:GID]` or a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// A terminal for it.
    #[serde(default, skip_serializing_if = "Tty::is_none")]
    pub tty: Tty,
    /// What its standard input is.
    #[serde(default)]
    pub stdin: Stdin,
    /// Kill it after this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Text>,
    /// Memory of it and what it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Text>,
    /// Processes and threads of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Processors' worth of time, such as 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Text>,
    /// Most on single devices, a second, as DEVICE:KEY=N,... with rbps, wbps, riops and wiops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub io_max: Vec<Text>,
}

/// A process of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Process {
    /// Its number in the container; 0 is the main one.
    pub id: u32,
    /// Its process id outside; for display.
    pub pid: i32,
    /// It has ended.
    pub ended: bool,
    /// It has a terminal.
    pub tty: bool,
    /// How it ended, once that is told.
    pub exit: Option<Exit>,
}

/// Several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Processes {
    /// In order of their numbers.
    pub processes: Vec<Process>,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Exit {
    /// What a front end exits with: the code; 128 + n for signal n; 124 when a wall or idle limit ended it; 255 when
    /// nobody knows.
    pub exit_code: i32,
    /// How.
    pub exit: ExitStatus,
    /// Why, as the library says it: `"own"`, `{"limit": "wall"}`, `{"stop": {"escalated": false}}` and others.
    pub cause: Value,
    /// The library's report, its schema's version inside.
    pub report: Value,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// Its number.
        signal: i32,
        /// A core was written.
        core_dumped: bool,
    },
    /// Nobody can know.
    Lost,
}
