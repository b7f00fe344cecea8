//! The fan-out: one hub for the two streams of one incarnation.
//!
//! Fed by the pumps, closed once by whoever drives them, asked for subscribers by anybody. It owns the
//! counters and the replay history. It never reads a descriptor and never spawns a task; its lock is
//! never held across an await or while user code runs.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::chunk::{Generation, Source, Totals};
use crate::cursor::{Cursor, Gone, StreamId};
use crate::event::{End, EndReason};
use crate::fate::Fate;
use crate::metrics::Metrics;
use crate::options::{EndInfo, HubOptions, SubscribeOptions};
use crate::overflow::{Bound, Overflow};
use crate::queue::{Queue, Rules};
use crate::rate::Bucket;
use crate::ring::Replay;
use crate::slot::{Shared, Slot, Wakers};
use crate::spill::Spill;
use crate::subscriber::{Opening, Subscriber};
use crate::sync::{Mutex, lock};

use state::{Attempt, Place, State};

mod state;

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
    /// Where publishers wait for room in a blocking subscriber's queue; what readers count.
    shared: Arc<Shared>,
    spill_dir: PathBuf,
    /// Those who wait for the end.
    closed: Notify,
    /// Those who wait for the output limit to be passed.
    over_limit: Notify,
}

impl Hub {
    /// A hub without bytes and subscribers.
    pub fn new(options: HubOptions) -> Self {
        let stream = options.stream.unwrap_or_else(StreamId::random);
        let state = State::new(stream, &options);
        let core = Core {
            state: Mutex::new(state),
            shared: Arc::default(),
            spill_dir: options.spill_dir,
            closed: Notify::new(),
            over_limit: Notify::new(),
        };
        Self { core: Arc::new(core) }
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
        match self.publish_now(source, &data) {
            Some(open) => open,
            None => self.publish_when_there_is_room(source, data).await,
        }
    }

    /// Publishes unless it would have to wait; `None` then.
    pub(crate) fn publish_now(&self, source: Source, data: &Bytes) -> Option<bool> {
        match self.core.attempt(source, data, Duration::ZERO) {
            Attempt::Published | Attempt::OverLimit => Some(true),
            Attempt::Closed => Some(false),
            Attempt::Full(_) => None,
        }
    }

    async fn publish_when_there_is_room(&self, source: Source, data: Bytes) -> bool {
        let core = &*self.core;
        let began = Instant::now();
        let _blocked = core.shared.meters.blocked_since(began);
        loop {
            // Registered before the look: room made in between wakes this wait.
            let mut space = std::pin::pin!(core.shared.space.notified());
            space.as_mut().enable();
            match core.attempt(source, &data, began.elapsed()) {
                Attempt::Published | Attempt::OverLimit => return true,
                Attempt::Closed => return false,
                // The next look decides whether it was room or the end of the budget.
                Attempt::Full(left) => drop(timeout(left, space).await),
            }
        }
    }

    /// Counts bytes of `source` that a test lost: a gap for everybody. Returns whether the hub was open.
    pub(crate) fn lose(&self, source: Source, bytes: u64) -> bool {
        let mut wakers = Wakers::new();
        let open = lock(&self.core.state).lose(source, bytes, &mut wakers);
        wakers.wake();
        open
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
        let queue = Queue::new(self.core.rules(options), replay.gaps, replay.chunks);
        let id = state.next_id;
        state.next_id += 1;
        let slot = Slot::new(id, options.sources, Arc::clone(&self.core.shared), queue);
        let slot = Arc::new(slot);
        replay.behind.into_iter().for_each(|gap| slot.miss(gap, None));
        if let Some(end) = &state.bytes_end {
            drop(slot.end_bytes(**end));
        }
        match state.end {
            // A new slot has no reader yet: nobody to wake.
            Some(end) => drop(slot.end(end)),
            None => state.slots.push(Place::new(Arc::clone(&slot))),
        }
        Subscriber::new(slot, Arc::downgrade(&self.core), opening)
    }

    /// No more bytes come, as `info` says, whose fate is not looked at: what is published from now on is turned away, and who
    /// reads plain bytes has the end. The last event comes with [`Hub::close`]. Only the first call counts; returns whether
    /// it was this one, and the stream was open.
    pub fn end_bytes(&self, info: EndInfo) -> bool {
        let mut wakers = Wakers::new();
        let ended = lock(&self.core.state).end_bytes(info.reason(), &self.core.shared.meters, &mut wakers);
        wakers.wake();
        if ended {
            self.core.shared.space.notify_waiters();
            self.core.closed.notify_waiters();
        }
        ended
    }

    /// Ends the stream for everybody: each subscriber reads what it has queued, then the
    /// [`End`]. Only the first call counts; returns whether it was this one.
    pub fn close(&self, info: EndInfo) -> bool {
        self.core.finish(info.reason(), info.fate)
    }

    /// Ends the stream as the loss of the last handle would: [`EndReason::Abandoned`]. Returns whether
    /// it was still open.
    pub fn abandon(&self) -> bool {
        self.core.finish(EndReason::Abandoned, Fate::Unknown)
    }

    /// What was counted for `source` so far.
    pub fn totals(&self, source: Source) -> Totals {
        lock(&self.core.state).totals(source, &self.core.shared.meters)
    }

    /// What can be measured now. Takes each subscriber's lock once, shortly.
    pub fn metrics(&self) -> Metrics {
        let state = lock(&self.core.state);
        let (ring_bytes, ring_capacity) = state.ring.occupancy();
        Metrics {
            bytes_in: Source::ALL.into_iter().map(|source| state.ring.total(source)).sum(),
            over_limit: state.over_limit(),
            ring_bytes,
            ring_capacity,
            subscribers: state.slots.iter().map(|place| place.slot.metrics()).collect(),
            ..self.core.shared.meters.look()
        }
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

    /// Waits for the end of the stream, which [`Hub::close`] makes. Subscribers may still have queued events then.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn wait_closed(&self) -> End {
        loop {
            self.closed().await;
            if let Some(end) = self.end() {
                return end;
            }
        }
    }

    /// Ready once it is closed.
    pub(crate) async fn closed(&self) {
        self.until(|state| state.end.is_some()).await;
    }

    /// Ready once no more bytes are taken.
    pub(crate) async fn bytes_ended(&self) {
        self.until(State::takes_no_more).await;
    }

    /// Whether no more bytes are taken.
    pub(crate) fn takes_no_more(&self) -> bool {
        lock(&self.core.state).takes_no_more()
    }

    async fn until(&self, done: impl Fn(&State) -> bool) {
        loop {
            // Made before the look: what happens in between ends this wait.
            let closed = self.core.closed.notified();
            if done(&lock(&self.core.state)) {
                return;
            }
            closed.await;
        }
    }
}

impl Hub {
    /// Whether bytes came behind the [`output_limit`](HubOptions::output_limit).
    pub fn is_over_limit(&self) -> bool {
        lock(&self.core.state).over_limit() > 0
    }

    /// Another [`output_limit`](HubOptions::output_limit) from now on, in bytes of both sources from the beginning. What readers
    /// have got already they keep; once bytes came behind a limit, it stays passed.
    pub fn set_output_limit(&self, bytes: u64) {
        lock(&self.core.state).limit(bytes);
    }

    /// Waits for the first byte behind the [`output_limit`](HubOptions::output_limit): for ever where none comes.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub async fn wait_over_limit(&self) {
        loop {
            // Registered before the look: a byte in between wakes this wait.
            let mut over = std::pin::pin!(self.core.over_limit.notified());
            over.as_mut().enable();
            if self.is_over_limit() {
                return;
            }
            over.await;
        }
    }
}

impl Core {
    /// How a subscriber's queue is bounded.
    fn rules(&self, options: SubscribeOptions) -> Rules {
        let spill = match options.overflow {
            Overflow::Spill { limit } => Some(Box::new(Spill::new(self.spill_dir.clone(), limit))),
            _ => None,
        };
        Rules {
            bound: Bound::of_bytes(options.queue_bytes),
            overflow: options.overflow,
            rate: options.rate.map(|limit| Box::new(Bucket::new(limit))),
            spill,
        }
    }

    /// Removes a subscriber that was dropped.
    pub(crate) fn remove(&self, id: u64) {
        let slot = lock(&self.state).leave(id);
        // What was queued is freed here, outside the lock.
        drop(slot);
    }

    fn attempt(&self, source: Source, data: &Bytes, waited: Duration) -> Attempt {
        let mut wakers = Wakers::new();
        let attempt = lock(&self.state).attempt(source, data, waited, &mut wakers);
        wakers.wake();
        if matches!(attempt, Attempt::OverLimit) {
            self.over_limit.notify_waiters();
        }
        attempt
    }

    fn finish(&self, reason: EndReason, fate: Fate) -> bool {
        let mut wakers = Wakers::new();
        let ended = lock(&self.state).finish((reason, fate), &self.shared.meters, &mut wakers);
        wakers.wake();
        if ended {
            self.shared.space.notify_waiters();
            self.closed.notify_waiters();
        }
        ended
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.finish(EndReason::Abandoned, Fate::Unknown);
    }
}

/// How a subscriber names its hub: without keeping it open.
pub(crate) type HubRef = Weak<Core>;
