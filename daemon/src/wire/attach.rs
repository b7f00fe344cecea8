//! The frames of a WebSocket that is attached to a process.

use serde::{Deserialize, Serialize};

use super::problem::Problem;
use super::process::Exit;
use super::text::Text;

/// What a client says in a text frame. Its binary frames are bytes for the standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Asked {
    /// Another size of the terminal.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters in a line.
        columns: u16,
    },
    /// A signal for the process.
    Signal {
        /// Its name or its number.
        signal: Text,
    },
    /// The end of the standard input; on a terminal what ^D is.
    CloseStdin,
}

/// What the daemon says in a text frame. Its binary frames are [`Output`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told {
    /// First: what one is attached to, and where the output begins.
    Attached {
        /// The number of the process.
        process: u32,
        /// It has a terminal.
        tty: bool,
        /// This client writes its standard input.
        stdin: bool,
        /// The place before the first byte.
        cursor: String,
    },
    /// Bytes that are not there any more.
    Gap {
        /// Of which stream.
        stream: String,
        /// Offset of the first.
        from: u64,
        /// Offset behind the last.
        to: u64,
        /// Why.
        cause: String,
        /// The place behind it.
        cursor: String,
    },
    /// The input is over: the process reads no more of it; or, behind [`Asked::CloseStdin`], all of it has arrived.
    StdinClosed,
    /// It has ended.
    Exit(Exit),
    /// Nothing more will come.
    End {
        /// The place behind everything.
        cursor: String,
    },
    /// The daemon goes and the process does not: come back with this cursor.
    Bye {
        /// The place behind everything that was sent.
        cursor: String,
    },
    /// Something that was asked for was refused, or cannot go on.
    Problem {
        /// Why.
        problem: Box<Problem>,
    },
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Which output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of the output: one byte for the stream (1 or 2), one for the length of the cursor, the cursor (the place behind
/// the bytes), the bytes.
///
/// ```
/// use orangery_daemon::wire::{Output, Stream};
/// let frame = Output { stream: Stream::Stderr, cursor: "c", bytes: b"oops" }.encode();
/// assert_eq!(frame, b"\x02\x01coops");
/// assert_eq!(Output::decode(&frame).unwrap().bytes, b"oops");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output<'a> {
    /// Which output.
    pub stream: Stream,
    /// The place behind the bytes.
    pub cursor: &'a str,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<'a> Output<'a> {
    /// As a frame. A cursor of more than 255 bytes, which none of ours is, is left out.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (length, cursor) = u8::try_from(self.cursor.len()).map_or((0, ""), |length| (length, self.cursor));
        let stream = match self.stream {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        };
        [&[stream, length], cursor.as_bytes(), self.bytes].concat()
    }

    /// What a frame says; `None` when it is none of these.
    #[must_use]
    pub fn decode(frame: &'a [u8]) -> Option<Self> {
        let (stream, rest) = frame.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (cursor, bytes) = rest.split_at_checked(usize::from(*length))?;
        let stream = match stream {
            1 => Stream::Stdout,
            2 => Stream::Stderr,
            _ => return None,
        };
        Some(Self { stream, cursor: std::str::from_utf8(cursor).ok()?, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_that_are_none() {
        for frame in [&b""[..], b"\x01", b"\x03\x00a", b"\x01\x05abc", b"\x01\x01\xffabc"] {
            assert_eq!(Output::decode(frame), None, "{frame:x?}");
        }
        assert_eq!(Output::decode(b"\x01\x00").map(|output| output.bytes), Some(&b""[..]));
    }

    #[test]
    fn what_is_said_is_what_is_read() {
        let asked = r#"{"type":"signal","signal":"INT"}"#;
        assert_eq!(serde_json::from_str::<Asked>(asked).unwrap(), Asked::Signal { signal: Text::from("INT") });
        assert_eq!(serde_json::from_str::<Asked>(r#"{"type":"close_stdin"}"#).unwrap(), Asked::CloseStdin);
        assert!(serde_json::from_str::<Asked>(r#"{"type":"resize","rows":1}"#).is_err());
        assert_eq!(serde_json::from_str::<Told>(r#"{"type":"later","x":1}"#).unwrap(), Told::Unknown);
    }
}
