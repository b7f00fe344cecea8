//! The same subscription as plain bytes: a stream and a reader.
//!
//! For those who want a body or a copy loop. What plain bytes cannot say (a gap, a stream that stopped
//! without an end) is an error here, so that nobody takes a part for the whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_core::Stream;
use tokio::io::{AsyncRead, ReadBuf};

use crate::error::{StreamError, StreamErrorKind};
use crate::event::{EndReason, Event};
use crate::subscriber::Subscriber;

/// The payload of a [`Subscriber`] as a stream.
///
/// It ends with the last byte, whether the process has ended or not, as [`EndReason::Eof`] or [`EndReason::Leaked`]. Errors:
/// [`StreamErrorKind::Gap`] for each gap, after which it goes on behind the gap;
/// [`StreamErrorKind::Lagged`], [`StreamErrorKind::Abandoned`] or the kind of a failed read as the last
/// item.
#[derive(Debug)]
pub struct ByteStream {
    subscriber: Subscriber,
    lossy: bool,
}

impl ByteStream {
    pub(crate) const fn new(subscriber: Subscriber) -> Self {
        Self { subscriber, lossy: false }
    }

    /// Skips gaps in silence. A stream that stops without an end is still an error.
    pub fn lossy(mut self) -> Self {
        self.lossy = true;
        self
    }

    /// The same bytes as an [`AsyncRead`].
    pub const fn reader(self) -> ByteReader {
        ByteReader { stream: self, current: Bytes::new() }
    }

    /// What an event is to a reader of bytes: an item, the end (`None`), or nothing.
    fn item(&self, event: Event) -> Option<Result<Bytes, StreamError>> {
        match event {
            Event::Chunk(chunk) => Some(Ok(chunk.data)),
            Event::Gap(gap) if !self.lossy => Some(Err(StreamError::from_gap(gap))),
            Event::Gap(_) => None,
            Event::Lagged { seq, cursor } => Some(Err(StreamError::lagged(seq, cursor))),
            Event::End(end) => failure(end.reason).map(Err),
        }
    }
}

/// The error that an end is to a reader of bytes, if it is one.
fn failure(reason: EndReason) -> Option<StreamError> {
    let kind = match reason {
        EndReason::Eof | EndReason::Leaked => return None,
        EndReason::Error(kind) => kind,
        EndReason::Abandoned => StreamErrorKind::Abandoned,
    };
    Some(StreamError::new("read a stream", kind))
}

impl Stream for ByteStream {
    type Item = Result<Bytes, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(event) = ready!(self.subscriber.poll_bytes(cx)) else {
                return Poll::Ready(None);
            };
            if let Some(item) = self.item(event) {
                return Poll::Ready(Some(item));
            }
        }
    }
}

/// The payload of a [`Subscriber`] as an [`AsyncRead`].
///
/// A [`StreamError`] comes as an [`io::Error`] that wraps it, at the place where the bytes are missing;
/// a later read goes on behind it.
#[derive(Debug)]
pub struct ByteReader {
    stream: ByteStream,
    current: Bytes,
}

impl ByteReader {
    /// Skips gaps in silence. A stream that stops without an end is still an error.
    pub fn lossy(mut self) -> Self {
        self.stream.lossy = true;
        self
    }
}

impl AsyncRead for ByteReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.current.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_next(cx)) {
                Some(item) => self.current = item?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let len = self.current.len().min(buf.remaining());
        buf.put_slice(&self.current[..len]);
        self.current.advance(len);
        Poll::Ready(Ok(()))
    }
}
