//! What a subscriber is told: chunks, gaps, and exactly one last event.
//!
//! Plain values. The queue makes gaps, the hub makes ends, subscribers hand both out.

use crate::chunk::{Chunk, PerSource, Source, Totals};
use crate::cursor::Cursor;
use crate::error::StreamErrorKind;
use crate::fate::Fate;

/// One event of a subscription.
///
/// [`Event::End`] or [`Event::Lagged`] is the last one; after it the subscriber yields `None`.
/// The enum will grow: skip what you do not know.
///
/// ```no_run
/// # async fn f(mut reader: orangery_io_stream::Subscriber) {
/// use orangery_io_stream::Event;
/// while let Some(event) = reader.recv().await {
///     match event {
///         Event::Chunk(chunk) => println!("{}: {} bytes", chunk.source, chunk.data.len()),
///         Event::Gap(gap) => println!("{} bytes are missing", gap.bytes()),
///         Event::End(end) => println!("the end: {:?}", end.reason),
///         _ => {}
///     }
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Bytes.
    Chunk(Chunk),
    /// Bytes that this subscriber will not get.
    Gap(Gap),
    /// The stream is over, for everybody.
    End(End),
    /// This subscriber was too slow and had chosen [`Overflow::Disconnect`](crate::Overflow::Disconnect);
    /// the stream goes on without it.
    Lagged {
        /// The first chunk that it did not get: what [`From::Seq`](crate::From::Seq) goes on with.
        seq: u64,
        /// The same place, for [`Hub::resume`](crate::Hub::resume).
        cursor: Cursor,
    },
}

/// A range of bytes that a subscriber does not get.
///
/// Received bytes and gaps together are the whole stream: a gap starts where the last chunk or gap of
/// the same source ended, and the next one starts at `to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Gap {
    /// The stream that the bytes belong to.
    pub source: Source,
    /// Offset of the first missing byte.
    pub from: u64,
    /// Offset of the first byte after the gap.
    pub to: u64,
    /// Why.
    pub cause: GapCause,
}

impl Gap {
    /// How many bytes are missing.
    pub const fn bytes(&self) -> u64 {
        self.to - self.from
    }
}

/// Why bytes are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapCause {
    /// The wanted position had left the replay history before the subscription.
    NotRetained,
    /// As [`GapCause::NotRetained`], but the offset of the wanted position is forgotten too: the
    /// position was a `seq`, or an offset of the *other* source. `from` is then 0, a lower bound;
    /// a reader that resumes counts from its own last offset.
    PositionForgotten,
    /// The queue was full and its oldest chunks made way.
    DroppedOldest,
    /// The queue was full and the newest chunks were turned away.
    DroppedNewest,
    /// The queue stayed full for the whole budget of [`Overflow::Block`](crate::Overflow::Block); since
    /// then this subscriber loses chunks as its fallback says.
    StallBudgetSpent,
    /// More came than the subscriber's [`RateLimit`](crate::RateLimit) lets pass.
    Suppressed,
    /// The file of [`Overflow::Spill`](crate::Overflow::Spill) was full, or could not be written.
    SpillFull,
    /// What had been spilled could not be read back.
    SpillFailed,
    /// The log took no bytes (its disk was full, say), and the workload was not to wait for it.
    LogFull,
    /// The segment of the log was removed, as its options say, before this reader came to it.
    Removed,
    /// A test lost them on purpose, see [`Interceptor`](crate::Interceptor).
    Injected,
    /// The stream is over its [`output_limit`](crate::HubOptions::output_limit): from here on nobody gets anything.
    OutputLimit,
}

impl GapCause {
    const ALL: [Self; 12] = [
        Self::NotRetained,
        Self::PositionForgotten,
        Self::DroppedOldest,
        Self::DroppedNewest,
        Self::StallBudgetSpent,
        Self::Suppressed,
        Self::SpillFull,
        Self::SpillFailed,
        Self::LogFull,
        Self::Removed,
        Self::Injected,
        Self::OutputLimit,
    ];

    /// The cause in lower case, words joined by hyphens: `"dropped-oldest"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotRetained => "not-retained",
            Self::PositionForgotten => "position-forgotten",
            Self::DroppedOldest => "dropped-oldest",
            Self::DroppedNewest => "dropped-newest",
            Self::StallBudgetSpent => "stall-budget-spent",
            Self::Suppressed => "suppressed",
            Self::SpillFull => "spill-full",
            Self::SpillFailed => "spill-failed",
            Self::LogFull => "log-full",
            Self::Removed => "removed",
            Self::Injected => "injected",
            Self::OutputLimit => "output-limit",
        }
    }

    /// A number for it, never 0.
    pub(crate) const fn code(self) -> u8 {
        self as u8 + 1
    }

    /// The cause of that number.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

impl std::fmt::Display for GapCause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The end of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct End {
    /// Counts of standard output.
    pub stdout: Totals,
    /// Counts of standard error.
    pub stderr: Totals,
    /// Why it ended.
    pub reason: EndReason,
    /// What became of the process that wrote it.
    pub fate: Fate,
}

impl End {
    /// The end as the hub's counters tell it.
    pub(crate) fn new(totals: PerSource<Totals>, reason: EndReason, fate: Fate) -> Self {
        Self { stdout: totals[Source::Stdout], stderr: totals[Source::Stderr], reason, fate }
    }

    /// The counts of one source.
    pub const fn totals(&self, source: Source) -> Totals {
        match source {
            Source::Stdout => self.stdout,
            Source::Stderr => self.stderr,
        }
    }
}

/// Why a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndReason {
    /// Every writer closed its end: these are all bytes there ever were.
    Eof,
    /// The process is gone, but something else still held a write end when the grace ended. What the
    /// pipe held at that moment is part of the stream, what was written later is not.
    Leaked,
    /// Reading failed.
    Error(StreamErrorKind),
    /// Whoever was to end the stream went away without doing so (it was dropped, or it panicked).
    /// Nothing is known about bytes after the last chunk.
    Abandoned,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_have_numbers() {
        for cause in GapCause::ALL {
            assert_eq!(GapCause::from_code(cause.code()), Some(cause));
        }
        assert_eq!((GapCause::from_code(0), GapCause::from_code(200)), (None, None));
    }

    #[test]
    fn an_end_keeps_the_sources_apart() {
        let totals = PerSource::from_fn(|source| Totals {
            bytes: if source == Source::Stdout { 3 } else { 5 },
            ..Totals::default()
        });
        let end = End::new(totals, EndReason::Eof, Fate::Unknown);
        assert_eq!((end.stdout.bytes, end.stderr.bytes), (3, 5));
        assert_eq!(end.totals(Source::Stderr), end.stderr);
    }
}
