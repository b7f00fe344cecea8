//! The error of this crate: what was attempted, which kind of failure, and what the system said.
//!
//! A message never prints its own source; the chain is joined by whoever shows it.

use std::io;

use crate::cursor::Cursor;
use crate::event::Gap;

/// What kind of failure a [`StreamError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum StreamErrorKind {
    /// The descriptor is of another type than this end can be (a file, a directory, a device).
    #[error("the descriptor is no pipe")]
    NotAPipe,
    /// The descriptor is no master of a pseudo-terminal.
    #[error("the descriptor is no master of a terminal")]
    NotAPty,
    /// The descriptor is the other end, or is open for reading and writing.
    #[error("the descriptor is the wrong end of its pipe")]
    WrongEnd,
    /// The call needs to run inside a tokio runtime.
    #[error("no tokio runtime here")]
    NoRuntime,
    /// The descriptor could not be made ready for use.
    #[error("the descriptor could not be prepared")]
    Prepare,
    /// A read failed.
    #[error("the read failed")]
    Read,
    /// A write failed for another reason than a reader that is gone.
    #[error("the write failed")]
    Write,
    /// Nobody reads the other end any more, or this end was shut down.
    #[error("the reading end is closed")]
    BrokenPipe,
    /// Bytes are missing from the stream: see [`StreamError::gap`].
    #[error("bytes are missing")]
    Gap,
    /// The subscriber was disconnected because it was too slow: see [`StreamError::resume_seq`].
    #[error("the reader was too slow and was disconnected")]
    Lagged,
    /// The stream stopped without an end.
    #[error("the stream was abandoned by its source")]
    Abandoned,
}

/// An operation of this crate that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation}: {kind}")]
pub struct StreamError {
    operation: &'static str,
    kind: StreamErrorKind,
    source: Option<io::Error>,
    place: Option<Box<Place>>,
}

/// Where in the stream it happened. Large, so in a box: each pump has room for an error, and nearly none has one.
#[derive(Debug, Clone, Copy)]
enum Place {
    Gap(Gap),
    Resume(u64, Cursor),
}

impl StreamError {
    /// A failure that no system call reported.
    pub(crate) const fn new(operation: &'static str, kind: StreamErrorKind) -> Self {
        Self { operation, kind, source: None, place: None }
    }

    /// A failed system call.
    pub(crate) fn io(operation: &'static str, kind: StreamErrorKind, source: impl Into<io::Error>) -> Self {
        Self { source: Some(source.into()), ..Self::new(operation, kind) }
    }

    /// Bytes that a reader of plain bytes did not get.
    pub(crate) fn from_gap(gap: Gap) -> Self {
        Self { place: Some(Box::new(Place::Gap(gap))), ..Self::new("read a stream", StreamErrorKind::Gap) }
    }

    /// A reader of plain bytes that was disconnected.
    pub(crate) fn lagged(seq: u64, cursor: Cursor) -> Self {
        Self {
            place: Some(Box::new(Place::Resume(seq, cursor))),
            ..Self::new("read a stream", StreamErrorKind::Lagged)
        }
    }

    /// What kind of failure it was.
    pub const fn kind(&self) -> StreamErrorKind {
        self.kind
    }

    /// What was attempted, as a phrase: `"read stdout"`.
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// What the system said, if a system call failed.
    pub const fn io_error(&self) -> Option<&io::Error> {
        self.source.as_ref()
    }

    /// The missing range, of a [`StreamErrorKind::Gap`].
    pub fn gap(&self) -> Option<Gap> {
        match self.place.as_deref() {
            Some(Place::Gap(gap)) => Some(*gap),
            _ => None,
        }
    }

    /// Where to subscribe again, of a [`StreamErrorKind::Lagged`].
    pub fn resume_seq(&self) -> Option<u64> {
        self.resume().map(|(seq, _)| seq)
    }

    /// Where to resume, of a [`StreamErrorKind::Lagged`].
    pub fn resume_cursor(&self) -> Option<Cursor> {
        self.resume().map(|(_, cursor)| cursor)
    }

    fn resume(&self) -> Option<(u64, Cursor)> {
        match self.place.as_deref() {
            Some(Place::Resume(seq, cursor)) => Some((*seq, *cursor)),
            _ => None,
        }
    }
}

impl From<StreamError> for io::Error {
    /// Wraps the error; its kind is the system's where there is one.
    fn from(error: StreamError) -> Self {
        let kind = match (&error.source, error.kind) {
            (Some(source), _) => source.kind(),
            (None, StreamErrorKind::BrokenPipe) => io::ErrorKind::BrokenPipe,
            (None, StreamErrorKind::Abandoned) => io::ErrorKind::UnexpectedEof,
            (None, _) => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn a_message_leaves_its_source_to_the_chain() {
        let error = StreamError::io("read stdout", StreamErrorKind::Read, io::Error::from_raw_os_error(5));
        assert_eq!(error.to_string(), "read stdout: the read failed");
        assert!(error.source().is_some());
        assert_eq!(error.io_error().and_then(io::Error::raw_os_error), Some(5));
    }

    #[test]
    fn an_error_crosses_threads() {
        fn assert_bounds<T: Send + Sync + 'static>() {}
        assert_bounds::<StreamError>();
    }

    #[test]
    fn as_an_io_error_it_keeps_the_kind() {
        let broken = StreamError::new("write stdin", StreamErrorKind::BrokenPipe);
        assert_eq!(io::Error::from(broken).kind(), io::ErrorKind::BrokenPipe);
        let inner = StreamError::io("read stdout", StreamErrorKind::Read, io::ErrorKind::ConnectionReset);
        assert_eq!(io::Error::from(inner).kind(), io::ErrorKind::ConnectionReset);
    }
}
