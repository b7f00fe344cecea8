//! The fan-out: one hub for the two streams of one incarnation.
//!
//! Fed by the pumps, closed once by whoever drives them, asked for subscribers by anybody. It owns the
//! counters and the replay history. It never reads a descriptor and never spawns a task; its lock is
//! never held across an await or while user code runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::chunk::{Chunk, Generation, PerSource, Source, Stamp, Totals};
use crate::cursor::{Cursor, Extent, Gone, StreamId};
use crate::event::{End, EndReason};
use crate::options::{EndInfo, HubOptions, SubscribeOptions};
use crate::overflow::Bound;
use crate::queue::Queue;
use crate::ring::{Replay, Ring};
use crate::slot::{Slot, Wakers, lock};
use crate::subscriber::{Opening, Subscriber};

/// Fans the output of one incarnation out to any number of subscribers.
///
/// A handle: clones share one hub. When the last handle goes without a [`Hub::close`], every
/// subscriber gets an end with [`EndReason::Abandoned`]. Subscribers are no handles: they do not keep
/// the hub open.
///
/// ```
/// use orangery_io_stream::{EndInfo, Event, Hub, HubOptions, Source, SubscribeOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let hub = Hub::new(HubOptions::default());
/// hub.publish(Source::Stdout, "before".into()).await;
/// let mut reader = hub.subscribe(SubscribeOptions::default());
/// hub.close(EndInfo::default());
///
/// let Some(Event::Chunk(chunk)) = reader.recv().await else { panic!("the history comes first") };
/// assert_eq!(chunk.data, "before");
/// assert!(matches!(reader.recv().await, Some(Event::End(_))));
/// assert_eq!(reader.recv().await, None);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Hub {
    core: Arc<Core>,
}

#[derive(Debug)]
pub(crate) struct Core {
    state: Mutex<State>,
    /// Publishers that wait for room in a blocking subscriber's queue.
    space: Arc<Notify>,
    /// Those who wait for the end.
    closed: Notify,
}

#[derive(Debug)]
struct State {
    stream: StreamId,
    generation: Generation,
    ring: Ring,
    dropped: PerSource<u64>,
    slots: BTreeMap<u64, Arc<Slot>>,
    next_id: u64,
    end: Option<End>,
}

/// What came of an attempt to publish.
enum Attempt {
    Published,
    Closed,
    /// A blocking subscriber has no room; ask again when there is some, at the latest after this.
    Full(Duration),
}

impl Hub {
    /// A hub without bytes and subscribers.
    pub fn new(options: HubOptions) -> Self {
        let state = State {
            stream: options.stream.unwrap_or_else(StreamId::random),
            generation: options.generation,
            ring: Ring::new(options.ring_bytes),
            dropped: PerSource::default(),
            slots: BTreeMap::new(),
            next_id: 0,
            end: None,
        };
        Self {
            core: Arc::new(Core { state: Mutex::new(state), space: Arc::new(Notify::new()), closed: Notify::new() }),
        }
    }

    /// Gives the next bytes of `source` to the history and to every subscriber.
    ///
    /// Waits only while a subscriber with [`Overflow::Block`](crate::Overflow::Block) has no room; all readers get the chunk at
    /// the same moment, after that wait. Returns whether the bytes were taken: `false` after the hub
    /// was closed. No bytes make no chunk.
    ///
    /// # Panics
    ///
    /// When it has to wait outside a tokio runtime with a timer.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is ready, it has published nothing.
    pub async fn publish(&self, source: Source, data: Bytes) -> bool {
        let core = &*self.core;
        match core.attempt(source, &data, Duration::ZERO) {
            Attempt::Published => return true,
            Attempt::Closed => return false,
            Attempt::Full(_) => {}
        }
        let began = Instant::now();
        loop {
            // Registered before the look: room made in between wakes this wait.
            let mut space = std::pin::pin!(core.space.notified());
            space.as_mut().enable();
            match core.attempt(source, &data, began.elapsed()) {
                Attempt::Published => return true,
                Attempt::Closed => return false,
                // The next look decides whether it was room or the end of the budget.
                Attempt::Full(left) => drop(timeout(left, space).await),
            }
        }
    }

    /// Adds a subscriber. History and live bytes join without a gap and without a duplicate.
    ///
    /// If the wanted position is no longer retained, the first event is a [`Gap`](crate::Gap) up to the
    /// oldest retained byte. After the end it still replays, then ends.
    pub fn subscribe(&self, options: SubscribeOptions) -> Subscriber {
        let mut state = lock(&self.core.state);
        let replay = state.ring.replay(options.sources, options.from);
        self.join(&mut state, options, replay)
    }

    /// Adds a subscriber that has everything before `cursor`; `options.from` is not looked at. No byte
    /// is missing and none comes twice.
    ///
    /// # Errors
    ///
    /// [`Gone`], with the oldest place there is, when the cursor belongs to another stream or another
    /// generation, when the bytes behind it are no longer retained, or when this stream has never been
    /// there.
    pub fn resume(&self, cursor: Cursor, options: SubscribeOptions) -> Result<Subscriber, Gone> {
        let mut state = lock(&self.core.state);
        state.extent().check(&cursor, |source| options.sources.contains(source))?;
        let replay = state.ring.resume(options.sources, &cursor);
        Ok(self.join(&mut state, options, replay))
    }

    /// Adds a subscriber that opens with `replay`; under the same lock, so that nothing is between.
    fn join(&self, state: &mut State, options: SubscribeOptions, replay: Replay) -> Subscriber {
        let opening = Opening { oldest: state.extent().oldest, start: state.cursor(|source| replay.start[source]) };
        let bound = Bound::of_bytes(options.queue_bytes);
        let queue = Queue::new(bound, options.overflow, replay.gaps, replay.chunks);
        let id = state.next_id;
        state.next_id += 1;
        let slot = Slot::new(id, options.sources, Arc::clone(&self.core.space), queue);
        let slot = Arc::new(slot);
        match state.end {
            // A new slot has no reader yet: nobody to wake.
            Some(end) => drop(slot.end(end)),
            None => drop(state.slots.insert(id, Arc::clone(&slot))),
        }
        Subscriber::new(slot, Arc::downgrade(&self.core), opening)
    }

    /// Ends the stream for everybody: each subscriber reads what it has queued, then the
    /// [`End`]. Only the first call counts; returns whether it was this one.
    pub fn close(&self, info: EndInfo) -> bool {
        self.core.finish(info.reason())
    }

    /// Ends the stream as the loss of the last handle would: [`EndReason::Abandoned`]. Returns whether
    /// it was still open.
    pub fn abandon(&self) -> bool {
        self.core.finish(EndReason::Abandoned)
    }

    /// What was counted for `source` so far.
    pub fn totals(&self, source: Source) -> Totals {
        lock(&self.core.state).totals(source)
    }

    /// The oldest offset of `source` that a new subscriber can still get; the total if none.
    pub fn oldest(&self, source: Source) -> u64 {
        lock(&self.core.state).ring.oldest(source)
    }

    /// How many subscribers there are.
    pub fn subscribers(&self) -> usize {
        lock(&self.core.state).slots.len()
    }

    /// The incarnation whose bytes these are.
    pub fn generation(&self) -> Generation {
        lock(&self.core.state).generation
    }

    /// The identity that cursors of this stream carry.
    pub fn stream(&self) -> StreamId {
        lock(&self.core.state).stream
    }

    /// The place after the last byte that was read so far.
    pub fn cursor(&self) -> Cursor {
        lock(&self.core.state).extent().newest
    }

    /// The end, if there was one.
    pub fn end(&self) -> Option<End> {
        lock(&self.core.state).end
    }

    /// Waits for the end of the stream. Subscribers may still have queued events then.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn wait_closed(&self) -> End {
        loop {
            // Registered before the look: a close in between wakes this wait.
            let mut closed = std::pin::pin!(self.core.closed.notified());
            closed.as_mut().enable();
            if let Some(end) = self.end() {
                return end;
            }
            closed.await;
        }
    }
}

impl Core {
    /// Removes a subscriber that was dropped.
    pub(crate) fn remove(&self, id: u64) {
        let slot = lock(&self.state).slots.remove(&id);
        // What was queued is freed here, outside the lock.
        drop(slot);
    }

    fn attempt(&self, source: Source, data: &Bytes, waited: Duration) -> Attempt {
        let mut wakers = Wakers::default();
        let attempt = lock(&self.state).attempt(source, data, waited, &mut wakers);
        wakers.wake();
        attempt
    }

    fn finish(&self, reason: EndReason) -> bool {
        let mut wakers = Wakers::default();
        let ended = lock(&self.state).finish(reason, &mut wakers);
        wakers.wake();
        if ended {
            self.space.notify_waiters();
            self.closed.notify_waiters();
        }
        ended
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.finish(EndReason::Abandoned);
    }
}

impl State {
    fn totals(&self, source: Source) -> Totals {
        Totals { bytes: self.ring.total(source), dropped: self.dropped[source] }
    }

    /// The place that `offset` tells for each source.
    fn cursor(&self, offset: impl Fn(Source) -> u64) -> Cursor {
        Cursor::new(self.stream, self.generation, Source::Stdout, offset(Source::Stdout), offset(Source::Stderr))
    }

    fn extent(&self) -> Extent {
        Extent { oldest: self.cursor(|s| self.ring.oldest(s)), newest: self.cursor(|s| self.ring.total(s)) }
    }

    fn attempt(&mut self, source: Source, data: &Bytes, waited: Duration, wakers: &mut Wakers) -> Attempt {
        if self.end.is_some() {
            return Attempt::Closed;
        }
        if data.is_empty() {
            return Attempt::Published;
        }
        if let Some(left) = self.stall(source, data.len() as u64, waited) {
            return Attempt::Full(left);
        }
        self.commit(self.chunk(source, data.clone()), wakers);
        Attempt::Published
    }

    /// The shortest time until a full blocking subscriber gives up, if there is one.
    fn stall(&self, source: Source, len: u64, waited: Duration) -> Option<Duration> {
        let wanting = self.slots.values().filter(|slot| slot.sources.contains(source));
        wanting.filter_map(|slot| slot.stall(len, waited)).min()
    }

    fn chunk(&self, source: Source, data: Bytes) -> Chunk {
        let Stamp { wall, mono } = Stamp::now();
        Chunk {
            stream: self.stream,
            source,
            generation: self.generation,
            offset: self.ring.total(source),
            other_offset: self.ring.total(source.other()),
            seq: self.ring.next_seq(),
            wall,
            mono,
            data,
        }
    }

    fn commit(&mut self, chunk: Chunk, wakers: &mut Wakers) {
        let dropped = &mut self.dropped;
        self.slots.retain(|_, slot| {
            if !slot.sources.contains(chunk.source) {
                return true;
            }
            let delivered = slot.deliver(chunk.clone());
            for source in Source::ALL {
                dropped[source] += delivered.lost[source];
            }
            wakers.add(delivered.waker);
            !delivered.disconnected
        });
        self.ring.push(chunk);
    }

    fn finish(&mut self, reason: EndReason, wakers: &mut Wakers) -> bool {
        if self.end.is_some() {
            return false;
        }
        let end = End::new(PerSource::from_fn(|source| self.totals(source)), reason);
        self.end = Some(end);
        for slot in std::mem::take(&mut self.slots).into_values() {
            wakers.add(slot.end(end));
        }
        true
    }
}

/// How a subscriber names its hub: without keeping it open.
pub(crate) type HubRef = Weak<Core>;
