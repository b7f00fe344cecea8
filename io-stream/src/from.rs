//! Where a reader starts: the choice alone. The ring and the log know what it means for them.

use std::time::SystemTime;

use crate::chunk::Source;

/// Where a subscription starts.
///
/// A position that does not exist yet means [`From::Now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum From {
    /// The first byte of the stream.
    #[default]
    Start,
    /// The next byte that is read.
    Now,
    /// The last so many bytes of *each* chosen source, then what follows.
    TailBytes(u64),
    /// The last so many lines of *each* chosen source, then what follows. A last line without its
    /// newline counts. If fewer are retained, a [`Gap`](crate::Gap) with [`GapCause::PositionForgotten`](crate::GapCause::PositionForgotten) says so.
    TailLines(u64),
    /// The first chunk that was read at this wall-clock time or later.
    Time(SystemTime),
    /// The chunk of this sequence number: what [`Event::Lagged`](crate::Event::Lagged) gives, or one
    /// more than the last [`Chunk::seq`](crate::Chunk::seq) seen.
    Seq(u64),
    /// A byte of one source; the other source starts with what was read after the chunk of that byte.
    Offset {
        /// The source that `offset` counts.
        source: Source,
        /// Offset of the first wanted byte.
        offset: u64,
    },
}
