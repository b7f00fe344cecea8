//! What a reader of a log is told: plain values.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::chunk::Source;
use crate::cursor::Cursor;
use crate::event::{End, Gap};
use crate::view::Piece;

/// Bytes of a log with their place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogChunk {
    /// The stream that the bytes came from.
    pub source: Source,
    /// Offset of the first byte in its stream.
    pub offset: u64,
    /// The order of reading, over both sources: several chunks may share a number. `None` if the index
    /// does not know.
    pub seq: Option<u64>,
    /// Wall-clock time of the read, at most 10 ms before it; `None` if the index does not know.
    pub wall: Option<SystemTime>,
    /// `CLOCK_MONOTONIC` of the read, as `wall`. Counts from the boot of the machine that wrote it.
    pub mono: Option<Duration>,
    /// The bytes, never empty.
    pub data: Bytes,
    pub(super) place: Cursor,
}

impl LogChunk {
    /// The place before its first byte.
    pub const fn cursor(&self) -> Cursor {
        self.place
    }

    /// The place after its first `bytes` bytes, or after its last one if it has fewer.
    pub fn cursor_after(&self, bytes: usize) -> Cursor {
        self.place.with(self.source, self.offset + bytes.min(self.data.len()) as u64)
    }
}

impl From<LogChunk> for Piece {
    fn from(chunk: LogChunk) -> Self {
        Self { source: chunk.source, offset: chunk.offset, wall: chunk.wall, data: chunk.data }
    }
}

/// One event of a log that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogEvent {
    /// Bytes.
    Chunk(LogChunk),
    /// Bytes that are not in the log: it was full, or they were removed.
    Gap(Gap),
    /// The stream is over; the last event.
    End(End),
}
