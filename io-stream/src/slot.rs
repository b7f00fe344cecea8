//! Where the hub and one subscriber meet: a queue, a waker and the last event, under one short lock.
//!
//! The hub puts in (holding its own lock first, never the other way round), the subscriber takes out.
//! No user code runs under the lock: wakers are handed back and woken by the caller.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use crate::chunk::{Chunk, PerSource, Sources};
use crate::cursor::Cursor;
use crate::event::{End, Event, Gap};
use crate::metrics::{Meters, SubscriberMetrics};
use crate::overflow::Verdict;
use crate::queue::{Item, Queue};
use crate::sync::{Mutex, lock};

/// What a published chunk did to one subscriber.
#[derive(Debug)]
pub(crate) struct Delivered {
    /// Bytes that fit in one more chunk without anything being lost or waited for, whatever the reader does meanwhile.
    pub(crate) room: u64,
    /// Set when the subscriber is to be removed.
    pub(crate) disconnected: bool,
    /// To be woken once no lock is held.
    pub(crate) waker: Option<Waker>,
}

/// One subscriber as the hub sees it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) id: u64,
    pub(crate) sources: Sources,
    shared: Arc<Shared>,
    inbox: Mutex<Inbox>,
}

/// What the slots of a hub share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Told whenever a reader makes room: publishers wait for it.
    pub(crate) space: Notify,
    pub(crate) meters: Meters,
}

#[derive(Debug)]
struct Inbox {
    queue: Queue,
    delivered: u64,
    /// What byte readers are told when the queue is empty, before there is a last event.
    bytes_end: Option<Box<End>>,
    /// The last event, delivered when the queue is empty.
    last: Last,
    reader: Option<Waker>,
}

#[derive(Debug)]
enum Last {
    Open,
    End(End),
    Lagged { seq: u64, cursor: Cursor },
    Delivered,
}

impl Slot {
    pub(crate) fn new(id: u64, sources: Sources, shared: Arc<Shared>, queue: Queue) -> Self {
        Self {
            id,
            sources,
            shared,
            inbox: Mutex::new(Inbox { queue, delivered: 0, bytes_end: None, last: Last::Open, reader: None }),
        }
    }

    /// How long a publisher of `len` bytes, which has `waited` so far, may still wait for room here;
    /// `None` if it need not.
    ///
    /// A spent budget ends the blocking of this subscriber for good.
    pub(crate) fn stall(&self, len: u64, waited: Duration) -> Option<Duration> {
        let mut inbox = lock(&self.inbox);
        if !inbox.queue.blocks() {
            return None;
        }
        match inbox.queue.verdict(len, waited) {
            Verdict::Wait(left) => return Some(left),
            Verdict::GiveUp => {
                inbox.queue.stop_blocking();
                tracing::warn!(subscriber = self.id, "stall budget spent: the fallback holds from now on");
            }
            Verdict::Take | Verdict::EvictThenTake | Verdict::Refuse | Verdict::Disconnect | Verdict::Spill => {}
        }
        None
    }

    /// Queues a chunk, by the subscriber's policy.
    pub(crate) fn deliver(&self, chunk: Chunk) -> Delivered {
        let mut inbox = lock(&self.inbox);
        let (seq, cursor) = (chunk.seq, chunk.cursor());
        let offered = inbox.queue.offer(chunk);
        if offered.disconnected {
            inbox.last = Last::Lagged { seq, cursor };
        }
        self.shared.meters.add_dropped(&offered.lost);
        self.shared.meters.add_suppressed(&offered.suppressed);
        Delivered { room: inbox.queue.room(), disconnected: offered.disconnected, waker: inbox.reader.take() }
    }

    /// Queues a gap that every subscriber has, and has its reader woken, if anybody is to be.
    pub(crate) fn miss(&self, gap: Gap, wakers: Option<&mut Wakers>) {
        let mut inbox = lock(&self.inbox);
        inbox.queue.miss(gap);
        if let Some(wakers) = wakers {
            wakers.add(inbox.reader.take());
        }
    }

    /// No more bytes come: what is the end to a reader of bytes.
    pub(crate) fn end_bytes(&self, end: End) -> Option<Waker> {
        let mut inbox = lock(&self.inbox);
        inbox.queue.settle();
        inbox.bytes_end = Some(Box::new(end));
        inbox.reader.take()
    }

    /// Sets the last event.
    pub(crate) fn end(&self, end: End) -> Option<Waker> {
        let mut inbox = lock(&self.inbox);
        inbox.queue.settle();
        // A reader of bytes may have had it.
        if !matches!(inbox.last, Last::Delivered) {
            inbox.last = Last::End(end);
        }
        inbox.reader.take()
    }

    /// The next event of the reader; keeps its waker if there is none yet. Who wants `bytes` alone is told the end as soon as
    /// the last one has come.
    pub(crate) fn poll(&self, cx: &Context<'_>, bytes: bool) -> Poll<Option<Event>> {
        let mut inbox = lock(&self.inbox);
        let mut lost = PerSource::default();
        let Some(item) = inbox.queue.pop(&mut lost) else {
            return inbox.poll_last(cx, bytes);
        };
        let room_is_wanted = inbox.queue.blocks();
        if let Item::Chunk(chunk) = &item {
            inbox.delivered += chunk.len();
            self.shared.meters.add_delivered(chunk.len());
        }
        drop(inbox);
        self.shared.meters.add_dropped(&lost);
        if room_is_wanted {
            self.shared.space.notify_waiters();
        }
        Poll::Ready(Some(match item {
            Item::Chunk(chunk) => Event::Chunk(chunk),
            Item::Gap(gap) => Event::Gap(gap),
        }))
    }

    /// The reader is gone: what is queued will not be read, and nobody waits for room.
    pub(crate) fn leave(&self) {
        self.shared.space.notify_waiters();
    }

    /// What can be measured of this subscriber.
    pub(crate) fn metrics(&self) -> SubscriberMetrics {
        let inbox = lock(&self.inbox);
        let (queued, spilled) = inbox.queue.waiting();
        SubscriberMetrics {
            id: self.id,
            delivered: inbox.delivered,
            queued,
            spilled,
            dropped: inbox.queue.lost(),
            suppressed: inbox.queue.suppressed(),
            gave_up: inbox.queue.gave_up(),
        }
    }
}

impl Inbox {
    fn poll_last(&mut self, cx: &Context<'_>, bytes: bool) -> Poll<Option<Event>> {
        match std::mem::replace(&mut self.last, Last::Delivered) {
            Last::Open if bytes && self.bytes_end.is_some() => {
                Poll::Ready(self.bytes_end.as_deref().copied().map(Event::End))
            }
            Last::End(end) => Poll::Ready(Some(Event::End(end))),
            Last::Lagged { seq, cursor } => Poll::Ready(Some(Event::Lagged { seq, cursor })),
            Last::Delivered => Poll::Ready(None),
            Last::Open => {
                self.last = Last::Open;
                match &mut self.reader {
                    Some(waker) => waker.clone_from(cx.waker()),
                    none => *none = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }
}

/// Wakers gathered under a lock and woken after it. The room for them is the thread's: a publication allocates none.
#[derive(Debug)]
pub(crate) struct Wakers(Vec<Waker>);

thread_local! {
    static ROOM: Cell<Vec<Waker>> = const { Cell::new(Vec::new()) };
}

impl Wakers {
    pub(crate) fn new() -> Self {
        // Where the thread ends, or a waker publishes itself, there is none: an empty one does as well.
        Self(ROOM.try_with(Cell::take).unwrap_or_default())
    }

    pub(crate) fn add(&mut self, waker: Option<Waker>) {
        self.0.extend(waker);
    }

    pub(crate) fn wake(mut self) {
        self.0.drain(..).for_each(Waker::wake);
        let _ = ROOM.try_with(|room| room.set(self.0));
    }
}

#[cfg(all(test, orangery_loom))]
mod model;
