//! The values that travel: a chunk of bytes with its place in the stream and in time.
//!
//! Made by the hub only (it owns the counters), read by everybody. Knows no queue and no descriptor.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};

use crate::cursor::{Cursor, StreamId};

/// Which of the two output streams of a process.
///
/// ```
/// use orangery_io_stream::Source;
/// assert_eq!(Source::Stdout.other().as_str(), "stderr");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Source {
    /// Both sources, in the order of their descriptors.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The lower-case name, `"stdout"` or `"stderr"`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    /// The other one of the two.
    pub const fn other(self) -> Self {
        match self {
            Self::Stdout => Self::Stderr,
            Self::Stderr => Self::Stdout,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A choice of sources, as a subscriber makes it.
///
/// ```
/// use orangery_io_stream::{Source, Sources};
/// assert!(Sources::Both.contains(Source::Stderr) && !Sources::Stdout.contains(Source::Stderr));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sources {
    /// Standard output only.
    Stdout,
    /// Standard error only.
    Stderr,
    /// Both, in the order in which they were read.
    #[default]
    Both,
}

impl Sources {
    /// Whether `source` is among the chosen ones.
    pub const fn contains(self, source: Source) -> bool {
        match self {
            Self::Both => true,
            Self::Stdout => matches!(source, Source::Stdout),
            Self::Stderr => matches!(source, Source::Stderr),
        }
    }
}

/// The number of the incarnation that wrote the bytes: late news of a dead one is told apart by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation(pub u32);

/// Bytes as they were read, with their position.
///
/// Cloning copies no payload: `data` is reference counted.
///
/// `seq` tells the order in which chunks were *read*. Two pipes cannot tell the order in which their
/// bytes were *written*; who needs that gives the process one pipe for both.
///
/// In a subscription to a [`Recording`](crate::log::Recording) several chunks may share a `seq`, and the times
/// are those of a read at most 10 ms before; where the log's index knows neither, they are those of the chunk before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The stream's random identity.
    pub stream: StreamId,
    /// The stream that the bytes came from.
    pub source: Source,
    /// The incarnation that wrote them.
    pub generation: Generation,
    /// Offset of the first byte in its stream, counted from 0 for each source and generation.
    pub offset: u64,
    /// How many bytes of the *other* source had been read before this chunk.
    pub other_offset: u64,
    /// One counter over both sources, plus one for each chunk, from 0.
    pub seq: u64,
    /// Wall-clock time of the read.
    pub wall: SystemTime,
    /// `CLOCK_MONOTONIC` of the read.
    pub mono: Duration,
    /// The bytes, never empty.
    pub data: Bytes,
}

impl Chunk {
    /// Offset of the first byte after this chunk.
    pub fn end(&self) -> u64 {
        self.offset + self.len()
    }

    /// The place before its first byte.
    pub const fn cursor(&self) -> Cursor {
        Cursor::new(self.stream, self.generation, self.source, self.offset, self.other_offset)
    }

    /// The place after its first `bytes` bytes, or after its last one if it has fewer.
    pub fn cursor_after(&self, bytes: usize) -> Cursor {
        let bytes = bytes.min(self.data.len()) as u64;
        self.cursor().with(self.source, self.offset + bytes)
    }

    /// How many bytes the chunk holds, as a stream length.
    pub(crate) fn len(&self) -> u64 {
        self.data.len() as u64
    }

    /// The part of this chunk at and after `offset`, without copying; `None` if nothing is left.
    pub(crate) fn since(&self, offset: u64) -> Option<Self> {
        if offset >= self.end() {
            return None;
        }
        let skip = offset.saturating_sub(self.offset);
        let mut rest = self.clone();
        rest.data = self.data.slice(skip as usize..);
        rest.offset += skip;
        Some(rest)
    }
}

/// Counts of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Totals {
    /// Bytes read from the pipe.
    pub bytes: u64,
    /// Bytes that overflow policies took from subscribers, summed over all of them.
    ///
    /// Bytes that left the replay history unread are not in it: nobody was there to lose them.
    pub dropped: u64,
    /// Bytes that rate limits took from subscribers, summed over all of them.
    pub suppressed: u64,
    /// Bytes behind the hub's [`output_limit`](crate::HubOptions::output_limit): nobody got them, each counts once.
    pub over_limit: u64,
}

/// One value for each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PerSource<T> {
    pub(crate) stdout: T,
    pub(crate) stderr: T,
}

impl<T> PerSource<T> {
    /// The two values.
    pub(crate) const fn new(stdout: T, stderr: T) -> Self {
        Self { stdout, stderr }
    }

    /// Asks `f` for the value of each source.
    pub(crate) fn from_fn(mut f: impl FnMut(Source) -> T) -> Self {
        Self { stdout: f(Source::Stdout), stderr: f(Source::Stderr) }
    }
}

impl<T> std::ops::Index<Source> for PerSource<T> {
    type Output = T;

    fn index(&self, source: Source) -> &T {
        match source {
            Source::Stdout => &self.stdout,
            Source::Stderr => &self.stderr,
        }
    }
}

impl<T> std::ops::IndexMut<Source> for PerSource<T> {
    fn index_mut(&mut self, source: Source) -> &mut T {
        match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
        }
    }
}

/// The two clocks of one read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) wall: SystemTime,
    pub(crate) mono: Duration,
}

impl Stamp {
    /// Reads both clocks now.
    pub(crate) fn now() -> Self {
        let mono = clock_gettime(ClockId::Monotonic);
        Self {
            wall: SystemTime::now(),
            // The monotonic clock counts from boot: neither field is ever negative (clock_gettime(2)).
            mono: Duration::new(mono.tv_sec.unsigned_abs(), mono.tv_nsec.unsigned_abs() as u32),
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Chunks whose bytes tell their own offset, for the tests of this crate.

    use super::*;

    /// The byte that stands at `offset` of `source` in every test stream.
    pub(crate) fn byte_at(source: Source, offset: u64) -> u8 {
        let salt = match source {
            Source::Stdout => 0,
            Source::Stderr => 101,
        };
        (offset % 251) as u8 ^ salt
    }

    /// The bytes `from..from + len` of a test stream.
    pub(crate) fn bytes_at(source: Source, from: u64, len: u64) -> Bytes {
        (from..from + len).map(|at| byte_at(source, at)).collect()
    }

    /// A chunk of a test stream.
    pub(crate) fn chunk(source: Source, seq: u64, offset: u64, len: u64) -> Chunk {
        Chunk {
            stream: StreamId::from_bytes([0; 16]),
            source,
            generation: Generation(0),
            offset,
            other_offset: 0,
            seq,
            wall: SystemTime::UNIX_EPOCH,
            mono: Duration::ZERO,
            data: bytes_at(source, offset, len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::chunk;
    use super::*;

    #[test]
    fn since_keeps_the_place_of_the_rest() {
        let whole = chunk(Source::Stderr, 7, 100, 10);
        assert_eq!(whole.since(0), Some(whole.clone()));
        assert_eq!(whole.since(104), Some(chunk(Source::Stderr, 7, 104, 6)));
        assert_eq!(whole.since(110), None);
    }

    #[test]
    fn sources_contain_what_they_name() {
        for source in Source::ALL {
            assert!(Sources::Both.contains(source));
            assert_ne!(Sources::Stdout.contains(source), Sources::Stderr.contains(source));
            assert_eq!(source.other().other(), source);
        }
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        assert!(Stamp::now().mono <= Stamp::now().mono);
    }
}
