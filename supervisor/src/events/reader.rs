//! The reading side of the feed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use orangery_io_stream::{Cursor, Gone, GoneReason, StreamId};

use super::Event;
use super::feed::Feed;
use super::ring::Found;
use crate::filter::EventFilter;
use crate::follow::directory::Life;

/// Where a reader of the feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Since {
    /// With the oldest event that is kept.
    Oldest,
    /// With the next event.
    Now,
}

/// What a reader of the feed gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// Something has happened.
    Event(Arc<Event>),
    /// The reader was so slow that events have made way for newer ones.
    Lagged {
        /// So many, whether its filter would have wanted them or not.
        missed: u64,
    },
}

/// A reader of a supervisor's feed: [`Supervisor::events`](crate::Supervisor::events).
///
/// A `Stream`; it ends when the supervisor has ended and everything was read. Dropping it disturbs nobody. Needs no
/// particular runtime.
///
/// ```no_run
/// use orangery::EventFilter;
/// use orangery::events::{Item, Kind, Since};
/// # async fn f(supervisor: orangery::Supervisor) {
/// let wanted = EventFilter::new().label("tenant", "a").kind("process_exited").kind("oom");
/// let mut events = supervisor.events(Since::Now).only(wanted);
/// while let Some(item) = events.recv().await {
///     match item {
///         Item::Event(event) => match &event.kind {
///             Kind::ProcessExited { exit } => println!("{:?}: {exit:?}", event.container),
///             other => println!("{}", other.name()),
///         },
///         Item::Lagged { missed } => println!("{missed} events were missed"),
///         _ => {}
///     }
/// }
/// # }
/// ```
pub struct Events {
    feed: Feed,
    id: u64,
    at: u64,
    filter: EventFilter,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("at", &self.at).field("filter", &self.filter).finish_non_exhaustive()
    }
}

impl Feed {
    /// A reader from there on.
    pub(crate) fn read(&self, since: Since) -> Events {
        let mut state = self.state();
        let at = match since {
            Since::Oldest => state.ring.oldest(),
            Since::Now => state.ring.next(),
        };
        state.numbers += 1;
        let id = state.numbers;
        state.readers.insert(id, at);
        Events { feed: self.clone(), id, at, filter: EventFilter::new() }
    }

    /// A reader of what is behind `cursor`.
    pub(crate) fn resume(&self, cursor: Cursor) -> Result<Events, Gone> {
        let mut reader = self.read(Since::Oldest);
        let (oldest, next) = (reader.at, self.state().ring.next());
        let reason = match cursor.event() {
            _ if cursor.stream() != self.0.id => GoneReason::Foreign,
            seq if seq < oldest => GoneReason::Expired,
            seq if seq > next => GoneReason::Ahead,
            seq => {
                reader.at = seq;
                return Ok(reader);
            }
        };
        Err(Gone { oldest: self.cursor(oldest), reason })
    }
}

impl Feed {
    /// A reader of what is behind event `seq` of the feed `id`; what of it is no longer kept it is told to have missed.
    pub(crate) fn read_at(&self, id: StreamId, seq: u64) -> Result<Events, GoneReason> {
        let mut reader = self.read(Since::Oldest);
        if id != self.0.id {
            return Err(GoneReason::Foreign);
        }
        if seq > self.next() {
            return Err(GoneReason::Ahead);
        }
        reader.at = seq;
        Ok(reader)
    }
}

impl Events {
    /// Only events that `filter` wants, from here on.
    #[must_use]
    pub fn only(mut self, filter: EventFilter) -> Self {
        self.filter = filter;
        self
    }

    /// The place behind the last item that was handed out, as text too:
    /// [`Supervisor::resume_events`](crate::Supervisor::resume_events) goes on there.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.feed.cursor(self.at)
    }

    /// The next item; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// May be dropped and called again: nothing is lost.
    pub async fn recv(&mut self) -> Option<Item> {
        std::future::poll_fn(|cx| self.poll(cx)).await
    }

    /// The number of the next event that it looks at.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// See [`Feed::life`].
    pub(crate) fn life(&self, id: &Arc<str>, generation: u32, seq: u64) -> Result<Arc<Life>, u64> {
        self.feed.life(id, generation, seq)
    }

    /// The identity of the feed.
    pub(crate) fn feed(&self) -> StreamId {
        self.feed.0.id
    }

    pub(crate) fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Item>> {
        loop {
            let mut state = self.feed.state();
            let found = state.ring.find(self.at);
            let item = match found {
                Found::Event(event) => {
                    self.at += 1;
                    self.filter.matches(&event).then_some(Item::Event(event))
                }
                Found::Expired(oldest) => {
                    let missed = oldest - self.at;
                    self.at = oldest;
                    Some(Item::Lagged { missed })
                }
                Found::NotYet if state.closed => return Poll::Ready(None),
                Found::NotYet => {
                    state.waiting.insert(self.id, cx.waker().clone());
                    return Poll::Pending;
                }
            };
            state.readers.insert(self.id, self.at);
            if item.is_some() {
                return Poll::Ready(item);
            }
        }
    }
}

impl Stream for Events {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.poll(cx)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.feed.state();
            state.readers.remove(&self.id);
            state.waiting.remove(&self.id)
        };
        drop(waker);
    }
}
