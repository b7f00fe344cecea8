//! What a hub, a subscriber and a close are asked for: plain values with their defaults.

use std::path::PathBuf;

use crate::chunk::{Generation, Sources};
use crate::cursor::StreamId;
use crate::error::StreamErrorKind;
use crate::event::EndReason;
use crate::fate::Fate;
use crate::from::From;
use crate::overflow::Overflow;
use crate::rate::RateLimit;

/// How a hub is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubOptions {
    /// Bytes of replay history, over both sources; 0 keeps none. Default 256 KiB.
    pub ring_bytes: usize,
    /// The incarnation whose bytes these are: each chunk carries it.
    pub generation: Generation,
    /// The identity that cursors name this stream by. Default a new random one; give one that was kept
    /// when the stream goes on where another hub of it ended.
    pub stream: Option<StreamId>,
    /// Where subscribers with [`Overflow::Spill`] put what waits for them. Default the system's directory
    /// for temporary files. A tmpfs there never makes the publisher wait.
    pub spill_dir: PathBuf,
    /// Bytes that readers get in all, both sources together, to the byte. What comes behind is taken from the pipe,
    /// counted ([`Totals::over_limit`](crate::Totals::over_limit)) and told to each reader as a
    /// [`Gap`](crate::Gap) of [`GapCause::OutputLimit`](crate::GapCause::OutputLimit), at once where it begins;
    /// [`Hub::wait_over_limit`](crate::Hub::wait_over_limit) is for whoever wants to do more about it. Default no limit.
    pub output_limit: Option<u64>,
}

impl Default for HubOptions {
    fn default() -> Self {
        Self {
            ring_bytes: 256 * 1024,
            generation: Generation::default(),
            stream: None,
            spill_dir: std::env::temp_dir(),
            output_limit: None,
        }
    }
}

/// What a subscriber wants.
///
/// ```
/// use orangery_io_stream::{Overflow, Sources, SubscribeOptions};
/// let options = SubscribeOptions { sources: Sources::Stderr, overflow: Overflow::DropNewest, ..Default::default() };
/// # drop(options);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Which streams. Default both.
    pub sources: Sources,
    /// From which position. Default the start.
    pub from: From,
    /// What happens when the queue is full. Default [`Overflow::DropOldest`].
    pub overflow: Overflow,
    /// How many bytes a second at most. Default no limit.
    pub rate: Option<RateLimit>,
    /// Bytes that may wait for this subscriber. Default 1 MiB. One chunk always fits, and so does the
    /// history with which the subscription opens.
    pub queue_bytes: usize,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            sources: Sources::default(),
            from: From::default(),
            overflow: Overflow::default(),
            rate: None,
            queue_bytes: 1024 * 1024,
        }
    }
}

/// How a stream ended, as its driver knows it. All unset: a normal end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndInfo {
    /// Somebody still held a write end.
    pub leaked_writers: bool,
    /// Reading failed; this outranks a leak.
    pub error: Option<StreamErrorKind>,
    /// What became of the process that wrote it.
    pub fate: Fate,
}

impl EndInfo {
    /// The reason that readers are told.
    pub(crate) const fn reason(self) -> EndReason {
        match self.error {
            Some(kind) => EndReason::Error(kind),
            None if self.leaked_writers => EndReason::Leaked,
            None => EndReason::Eof,
        }
    }
}
