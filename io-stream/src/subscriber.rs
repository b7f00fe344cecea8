//! The reading end: chunks, gaps, and the end, in order.
//!
//! Handed out by the hub; taken as it is, as plain bytes or as a reader. Works on any executor and
//! holds no task: dropping it is leaving.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::byte_stream::{ByteReader, ByteStream};
use crate::capture::{Capture, Captured};
use crate::event::Event;
use crate::hub::HubRef;
use crate::slot::Slot;

/// One reader's view of a hub.
///
/// The events come in the order of the reads. The last one is [`Event::End`] (or [`Event::Lagged`],
/// for a slow one that chose to be disconnected); then it yields `None` for ever. Dropping it leaves
/// the hub at once and disturbs nobody.
#[derive(Debug)]
pub struct Subscriber {
    slot: Arc<Slot>,
    hub: HubRef,
}

impl Subscriber {
    pub(crate) const fn new(slot: Arc<Slot>, hub: HubRef) -> Self {
        Self { slot, hub }
    }

    /// The next event; `None` after the last one.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again: no event is lost.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.slot.poll(cx)).await
    }

    /// Bytes that the overflow policy has taken from this subscriber so far.
    pub fn dropped(&self) -> u64 {
        self.slot.lost()
    }

    /// The payload alone, in order of reading. A gap is an error there, unless
    /// [`ByteStream::lossy`] is asked for.
    pub const fn bytes(self) -> ByteStream {
        ByteStream::new(self)
    }

    /// The payload as an [`AsyncRead`](tokio::io::AsyncRead). A gap is an error there, unless
    /// [`ByteReader::lossy`] is asked for.
    pub fn reader(self) -> ByteReader {
        self.bytes().reader()
    }

    /// Reads to the end and keeps at most `limit` bytes: the first half and the last half of them.
    ///
    /// Gaps count as omitted. Why the stream ended is not part of it: ask
    /// [`Hub::wait_closed`](crate::Hub::wait_closed), or feed a [`Capture`] with the events.
    ///
    /// # Cancel safety
    ///
    /// None: dropped before it is ready, what it had read is lost.
    pub async fn collect(mut self, limit: usize) -> Captured {
        let mut capture = Capture::new(limit);
        while let Some(event) = self.recv().await {
            match event {
                Event::Chunk(chunk) => capture.push(&chunk.data),
                Event::Gap(gap) => capture.skip(gap.bytes()),
                Event::End(_) | Event::Lagged { .. } => {}
            }
        }
        capture.finish()
    }
}

impl Stream for Subscriber {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.slot.poll(cx)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.remove(self.slot.id);
        }
        self.slot.leave();
    }
}
