//! What the hub's lock guards: the history, the subscribers, the end. Never waits and wakes nobody.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::chunk::{Chunk, Generation, PerSource, Source, Stamp, Totals};
use crate::cursor::{Cursor, Extent, StreamId};
use crate::event::{End, EndReason};
use crate::metrics::Meters;
use crate::ring::Ring;
use crate::slot::{Slot, Wakers};

#[derive(Debug)]
pub(super) struct State {
    pub(super) stream: StreamId,
    pub(super) generation: Generation,
    pub(super) ring: Ring,
    pub(super) slots: BTreeMap<u64, Arc<Slot>>,
    pub(super) next_id: u64,
    pub(super) end: Option<End>,
}

/// What came of an attempt to publish.
pub(super) enum Attempt {
    Published,
    Closed,
    /// A blocking subscriber has no room; ask again when there is some, at the latest after this.
    Full(Duration),
}

impl State {
    pub(super) const fn new(stream: StreamId, generation: Generation, ring: Ring) -> Self {
        Self { stream, generation, ring, slots: BTreeMap::new(), next_id: 0, end: None }
    }

    pub(super) fn totals(&self, source: Source, meters: &Meters) -> Totals {
        Totals {
            bytes: self.ring.total(source),
            dropped: meters.dropped(source),
            suppressed: meters.suppressed(source),
        }
    }

    /// The place that `offset` tells for each source.
    pub(super) fn cursor(&self, offset: impl Fn(Source) -> u64) -> Cursor {
        Cursor::new(self.stream, self.generation, Source::Stdout, offset(Source::Stdout), offset(Source::Stderr))
    }

    pub(super) fn extent(&self) -> Extent {
        Extent { oldest: self.cursor(|s| self.ring.oldest(s)), newest: self.cursor(|s| self.ring.total(s)) }
    }

    pub(super) fn attempt(&mut self, source: Source, data: &Bytes, waited: Duration, wakers: &mut Wakers) -> Attempt {
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
        self.slots.retain(|_, slot| {
            if !slot.sources.contains(chunk.source) {
                return true;
            }
            let delivered = slot.deliver(chunk.clone());
            wakers.add(delivered.waker);
            !delivered.disconnected
        });
        self.ring.push(chunk);
    }

    /// Returns whether it was still open.
    pub(super) fn lose(&mut self, source: Source, bytes: u64, wakers: &mut Wakers) -> bool {
        if self.end.is_none() {
            let gap = self.ring.skip(source, bytes);
            for slot in self.slots.values().filter(|slot| slot.sources.contains(source)) {
                wakers.add(slot.miss(gap));
            }
        }
        self.end.is_none()
    }

    pub(super) fn finish(&mut self, reason: EndReason, meters: &Meters, wakers: &mut Wakers) -> bool {
        if self.end.is_some() {
            return false;
        }
        let end = End::new(PerSource::from_fn(|source| self.totals(source, meters)), reason);
        self.end = Some(end);
        for slot in std::mem::take(&mut self.slots).into_values() {
            wakers.add(slot.end(end));
        }
        true
    }
}
