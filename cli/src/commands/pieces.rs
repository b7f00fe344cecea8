//! Events of an output (`.../logs`) as pieces of the library: they are written by its `view::ServerSentEvents`.

use std::time::{Duration, UNIX_EPOCH};

use orangery::stream::view::Piece;
use orangery::{Cursor, Source};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::Message;
use crate::errors::Failure;

#[derive(Deserialize)]
struct Bytes {
    stream: String,
    offset: u64,
    text: Option<String>,
    base64: Option<String>,
    at_ms: Option<u64>,
}

/// Bytes that are not there any more.
#[derive(Debug, Deserialize)]
pub(super) struct Gap {
    stream: String,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) cause: String,
}

impl Gap {
    pub(super) fn source(&self) -> Source {
        source(&self.stream)
    }
}

/// What an event says.
///
/// # Errors
/// It is not what it should be.
pub(super) fn read<T: DeserializeOwned>(message: &Message) -> Result<T, Failure> {
    serde_json::from_str(&message.data).map_err(|error| not_understood(&error))
}

fn not_understood(error: &dyn std::error::Error) -> Failure {
    Failure::new(format!("an event of the daemon is not understood: {error}")).with_kind("protocol")
}

/// The bytes of a message.
///
/// # Errors
/// It is not what it should be.
pub(super) fn piece(message: &Message) -> Result<Piece, Failure> {
    let Bytes { stream, offset, text, base64, at_ms } = read(message)?;
    let data = match (text, base64) {
        (Some(text), _) => text.into_bytes(),
        (None, Some(text)) => data_encoding::BASE64.decode(text.as_bytes()).map_err(|error| not_understood(&error))?,
        (None, None) => Vec::new(),
    };
    let wall = at_ms.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_millis(at)));
    Ok(Piece { source: source(&stream), offset, wall, data: data.into() })
}

/// What is missing between the place where a reader was and the oldest that there is; `None`: they are places of two outputs,
/// because what had this name is another one now.
pub(super) fn between(place: &str, oldest: &str) -> Option<Vec<(Source, u64, u64)>> {
    let (place, oldest) = (place.parse::<Cursor>().ok()?, oldest.parse::<Cursor>().ok()?);
    let of = |source| (source, place.offset(source), oldest.offset(source));
    let gaps = [Source::Stdout, Source::Stderr].map(of).into_iter().filter(|(_, from, to)| from < to);
    (place.stream() == oldest.stream()).then(|| gaps.collect())
}

/// Why it is missing.
pub(super) const REMOVED: &str = "removed";

fn source(name: &str) -> Source {
    if name == Source::Stderr.as_str() { Source::Stderr } else { Source::Stdout }
}
