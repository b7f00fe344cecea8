//! What a log is asked for: plain values with their defaults.

use std::time::Duration;

use crate::chunk::{Generation, Sources};
use crate::cursor::StreamId;

/// How a log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    /// The longest segment, in bytes; a new one begins exactly there. At least 1. Default 10 MiB.
    pub segment_bytes: u64,
    /// A segment that is older gets a successor with the next bytes. Default none: size alone counts.
    pub segment_age: Option<Duration>,
    /// How many segments of each source are kept, the one being written included. At least 1. Default 5.
    pub keep_segments: usize,
    /// How many bytes of closed segments are kept, over both sources; `None`: as many as
    /// `keep_segments` allows. Default `None`.
    pub keep_bytes: Option<u64>,
    /// Closed segments are compressed with zstd at this level, 0 being its default; needs the feature `zstd`. On tokio's
    /// blocking threads, one after the other: neither the pump nor a reader waits for it. `keep_bytes` counts what is on the
    /// disk and is looked at when nothing waits to be compressed, `keep_segments` always. A crash at any moment leaves at least one whole
    /// copy. A runtime that shuts down waits for the segment in hand; the next writer finds what was left. Default none.
    pub compress: Option<i32>,
    /// When bytes are forced to the disk. Default never: a crash of a process loses nothing, a crash of
    /// the machine may lose the last seconds.
    pub sync: SyncPolicy,
    /// How long after a failed write the next one is tried; until then bytes are read away and counted.
    /// Default 100 ms.
    pub retry: Duration,
    /// The identity that cursors name this stream by, of a new log. Default a new random one.
    pub stream: Option<StreamId>,
    /// The incarnation whose bytes these are, of a new log.
    pub generation: Generation,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 10 * 1024 * 1024,
            segment_age: None,
            keep_segments: 5,
            keep_bytes: None,
            compress: None,
            sync: SyncPolicy::default(),
            retry: Duration::from_millis(100),
            stream: None,
            generation: Generation::default(),
        }
    }
}

/// When a log's bytes are forced to the disk (fdatasync(2)). Always on tokio's blocking threads: taking
/// bytes from the pipe never waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SyncPolicy {
    /// The kernel decides.
    #[default]
    Never,
    /// Each segment when it is closed.
    OnClose,
    /// Also the one being written, so often, while there are new bytes.
    Every(Duration),
}

/// Which part of a log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// Which streams. Default both.
    pub sources: Sources,
    /// Whether to wait for more at the end of what there is. Default no.
    pub follow: bool,
    /// Whether to go on behind an end, with what the next process writes: [`LogEvent::End`](super::LogEvent::End) comes then
    /// for each end that is found before there is more, and is not the last event. Default no.
    pub through_ends: bool,
}
