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

impl File {
    /// What is to stand in it.
    ///
    /// # Errors
    /// Not exactly one of `text` and `base64` is there, or the latter is none.
    pub fn content(&self) -> Result<Vec<u8>, String> {
        match (&self.text, &self.base64) {
            (Some(text), None) => Ok(text.clone().into_bytes()),
            (None, Some(text)) => from_base64(text).ok_or_else(|| "this is no base64 (RFC 4648, with padding)".into()),
            (Some(_), Some(_)) => Err("text and base64 cannot both be there".into()),
            (None, None) => Err("text or base64 is missing".into()),
        }
    }
}

/// `None`: it is none, or not the one text of its bytes.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| -> Option<u32> {
        Some(u32::from(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        }))
    };
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for four in text.as_bytes().chunks(4) {
        let value = |byte: &u8| if *byte == b'=' { Some(0) } else { digit(*byte) };
        let bits = four.iter().try_fold(0, |bits, byte| Some(bits << 6 | value(byte)?))?;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    // A padding within, or bits behind the last byte, would be another text of the same bytes.
    let data = &text[..text.len() - padding];
    let spare = bytes.split_off(bytes.len() - padding);
    (!data.contains('=') && spare.iter().all(|byte| *byte == 0)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_and_what_is_none() {
        for (text, bytes) in
            [("", &b""[..]), ("Zg==", b"f"), ("Zm8=", b"fo"), ("Zm9v", b"foo"), ("AP/+", b"\x00\xff\xfe")]
        {
            assert_eq!(from_base64(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["Z", "Zg", "Zg=", "Zh==", "Z===", "====", "Zg==Zg==", "Zm9\n", "Zm9\u{e9}"] {
            assert_eq!(from_base64(text), None, "{text}");
        }
        assert!(File { path: "/x".into(), ..File::default() }.content().is_err());
    }
}
