//! The reading end: chunks, gaps, and the end, in order.
//!
//! Handed out by the hub, or by a recording in a log; taken as it is, as plain bytes or as a reader. Works on any executor and
//! holds no task: dropping it is leaving.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::byte_stream::{ByteReader, ByteStream};
use crate::capture::{Capture, Captured};
use crate::chunk::Source;
use crate::cursor::Cursor;
use crate::event::{Event, GapCause};
use crate::hub::HubRef;
use crate::log::Follow;
use crate::metrics::SubscriberMetrics;
use crate::slot::Slot;
use crate::view::{LineOptions, LineStream};

/// One reader's view of a hub, or of a [`Recording`](crate::log::Recording).
///
/// The events come in the order of the reads. The last one is [`Event::End`] (or [`Event::Lagged`],
/// for a slow one that chose to be disconnected); then it yields `None` for ever. Dropping it leaves
/// at once and disturbs nobody.
///
/// ```no_run
/// # async fn f(reader: orangery_io_stream::Subscriber) {
/// let captured = reader.collect(1 << 20).await;
/// println!("{}", String::from_utf8_lossy(&captured.to_vec()));
/// # }
/// ```
#[derive(Debug)]
pub struct Subscriber {
    feed: Feed,
    opening: Opening,
    /// After the last event that was handed out.
    place: Cursor,
}

/// Where the events come from.
#[derive(Debug)]
enum Feed {
    Hub { slot: Arc<Slot>, hub: HubRef },
    Log(Box<Follow>),
}

/// What a subscription found when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The oldest place that could have been read from.
    pub oldest: Cursor,
    /// The place of the first byte that the subscription gets. What is missing before it is told as a
    /// [`Gap`](crate::Gap).
    pub start: Cursor,
}

impl Subscriber {
    pub(crate) const fn new(slot: Arc<Slot>, hub: HubRef, opening: Opening) -> Self {
        Self { feed: Feed::Hub { slot, hub }, opening, place: opening.start }
    }

    pub(crate) fn of_log(follow: Follow) -> Self {
        let opening = follow.opening();
        Self { feed: Feed::Log(Box::new(follow)), opening, place: opening.start }
    }

    /// What the subscription found when it began.
    pub const fn opening(&self) -> Opening {
        self.opening
    }

    /// The place after the last event that was handed out: [`Hub::resume`](crate::Hub::resume) goes on
    /// there, or [`Recording::resume`](crate::log::Recording::resume).
    pub const fn cursor(&self) -> Cursor {
        self.place
    }

    /// The next event; `None` after the last one.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again: no event is lost.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// What [`Subscriber::recv`] gives, but that the end comes with the last byte.
    pub(crate) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_any(cx, true)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_any(cx, false)
    }

    fn poll_any(&mut self, cx: &mut Context<'_>, bytes: bool) -> Poll<Option<Event>> {
        let slot = match &mut self.feed {
            Feed::Hub { slot, .. } => slot,
            Feed::Log(follow) => {
                let event = std::task::ready!(follow.poll(cx, bytes));
                self.place = follow.place();
                return Poll::Ready(event);
            }
        };
        let event = std::task::ready!(slot.poll(cx, bytes));
        match &event {
            Some(Event::Chunk(chunk)) => {
                self.place = self.place.with(chunk.source, chunk.end());
                // The other one is where its own events have led to, which may be further than where this chunk was read.
                let other = chunk.source.other();
                if !slot.sources.contains(other) {
                    self.place = self.place.with(other, chunk.other_offset);
                }
            }
            Some(Event::Gap(gap)) => self.place = self.place.with(gap.source, gap.to),
            Some(Event::Lagged { cursor, .. }) => self.place = *cursor,
            Some(Event::End(end)) => {
                for source in Source::ALL {
                    self.place = self.place.with(source, end.totals(source).bytes);
                }
            }
            None => {}
        }
        Poll::Ready(event)
    }

    /// Bytes that the overflow policy has taken from this subscriber so far.
    pub fn dropped(&self) -> u64 {
        self.metrics().dropped
    }

    /// What can be measured of this subscription.
    pub fn metrics(&self) -> SubscriberMetrics {
        match &self.feed {
            Feed::Hub { slot, .. } => slot.metrics(),
            Feed::Log(follow) => follow.metrics(),
        }
    }

    /// The payload alone, in order of reading, to the last byte: it does not wait for the process. A gap is an error there, unless
    /// [`ByteStream::lossy`] is asked for.
    pub const fn bytes(self) -> ByteStream {
        ByteStream::new(self)
    }

    /// The payload as lines, for the eyes; the bytes stay what they are.
    pub fn lines(self, options: LineOptions) -> LineStream {
        LineStream::new(self, options)
    }

    /// The payload as an [`AsyncRead`](tokio::io::AsyncRead). A gap is an error there, unless
    /// [`ByteReader::lossy`] is asked for.
    pub fn reader(self) -> ByteReader {
        self.bytes().reader()
    }

    /// Reads to the last byte and keeps at most `limit` bytes: the first half and the last half of them.
    ///
    /// Gaps count as omitted, but for what is behind the output limit. Why the stream ended is not part of it: ask
    /// [`Hub::wait_closed`](crate::Hub::wait_closed), or feed a [`Capture`] with the events.
    ///
    /// # Cancel safety
    ///
    /// None: dropped before it is ready, what it had read is lost.
    pub async fn collect(mut self, limit: usize) -> Captured {
        let mut capture = Capture::new(limit);
        while let Some(event) = std::future::poll_fn(|cx| self.poll_bytes(cx)).await {
            match event {
                Event::Chunk(chunk) => capture.push(&chunk.data),
                Event::Gap(gap) if gap.cause == GapCause::OutputLimit => capture.cut(gap.bytes()),
                Event::Gap(gap) => capture.skip(gap.bytes()),
                Event::End(_) | Event::Lagged { .. } => {}
            }
        }
        capture.finish()
    }
}

impl Stream for Subscriber {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll_event(cx)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let Feed::Hub { slot, hub } = &self.feed else { return };
        if let Some(hub) = hub.upgrade() {
            hub.remove(slot.id);
        }
        slot.leave();
    }
}
