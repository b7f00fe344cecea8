//! What is to be made.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is to run and in what: the keys of a service in a file of `orangery up`, with values as they are there (`orangery
/// schema` has all of them). Every path of the host is absolute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Spec(pub Map<String, Value>);

#[cfg(feature = "server")]
impl schemars::JsonSchema for Spec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Spec".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        // What stands there is said by whoever starts the daemon.
        schemars::json_schema!({ "type": "object" })
    }
}

/// A container, or with `restart` in its spec a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Its name; random without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What is to run.
    pub spec: Spec,
    /// A terminal for the command.
    #[serde(default, skip_serializing_if = "Tty::is_none")]
    pub tty: Tty,
    /// What its standard input is.
    #[serde(default)]
    pub stdin: Stdin,
    /// Files that are there before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
    /// Start it. False: it is checked and written down, and nothing is made until it is started.
    #[serde(default = "yes")]
    pub start: bool,
}

pub(crate) fn yes() -> bool {
    true
}

/// A terminal: none, one of the usual size, or one of this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Tty {
    /// Whether there is one, of 24 rows and 80 columns.
    Usual(bool),
    /// Of this size.
    Sized(WindowSize),
}

/// The size of a terminal's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

impl Default for Tty {
    fn default() -> Self {
        Self::Usual(false)
    }
}

impl Tty {
    /// There is no terminal.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::Usual(false)
    }
}

/// What a standard input is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// Nothing can be read from it.
    #[default]
    Null,
    /// For one writer; closed when that leaves.
    Open,
    /// Writers come and go; closed when one says so.
    Keep,
}

/// A file in the container: `text`, or `base64`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where, inside.
    pub path: String,
    /// What stands in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The same, for what is no text (RFC 4648, with padding).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}
