//! Several together.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateGroup {
    /// Its name, and what the names of its containers begin with.
    pub name: String,
    /// What a file of `orangery up` says, as JSON. Every path of the host is absolute.
    pub file: Map<String, Value>,
}

/// A group as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Where it is, as the library says it.
    pub state: String,
    /// Why it has failed.
    pub why: Option<String>,
    /// Its members in the order of their names, those of groups in it with their group's name before theirs.
    pub members: Vec<Member>,
}

/// Several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Groups {
    /// In order of their names.
    pub groups: Vec<Group>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Member {
    /// The name of its container, such as `shop.db`.
    pub name: String,
    /// Where it is, as the library says it.
    pub state: String,
    /// Starts of an incarnation after the first.
    pub restarts: u64,
}
