//! What the hub's lock guards: the history, the subscribers, the end. Never waits and wakes nobody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::chunk::{Chunk, Generation, PerSource, Source, Stamp, Totals};
use crate::cursor::{Cursor, Extent, StreamId};
use crate::event::{End, EndReason};
use crate::fate::Fate;
use crate::metrics::Meters;
use crate::options::HubOptions;
use crate::ring::Ring;
use crate::slot::{Slot, Wakers};

#[derive(Debug)]
pub(super) struct State {
    pub(super) stream: StreamId,
    pub(super) generation: Generation,
    pub(super) ring: Ring,
    /// In the order of their numbers.
    pub(super) slots: Vec<Place>,
    pub(super) next_id: u64,
    /// What byte readers are told when no more bytes come.
    /// In a box: an idle stream does not carry the room for it.
    pub(super) bytes_end: Option<Box<End>>,
    pub(super) end: Option<End>,
    /// Bytes that readers may still get.
    left: u64,
}

/// A subscriber.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) slot: Arc<Slot>,
    /// Bytes that its queue is known to have room for. Only publications take room, so that there may be more, never less.
    room: u64,
}

impl Place {
    pub(super) const fn new(slot: Arc<Slot>) -> Self {
        Self { slot, room: 0 }
    }
}

/// What came of an attempt to publish.
pub(super) enum Attempt {
    Published,
    /// Only what is within the output limit was published, and this is the first time.
    OverLimit,
    Closed,
    /// A blocking subscriber has no room; ask again when there is some, at the latest after this.
    Full(Duration),
}

impl State {
    pub(super) fn new(stream: StreamId, options: &HubOptions) -> Self {
        Self {
            stream,
            generation: options.generation,
            ring: Ring::new(options.ring_bytes),
            slots: Vec::new(),
            next_id: 0,
            bytes_end: None,
            end: None,
            left: options.output_limit.unwrap_or(u64::MAX),
        }
    }

    pub(super) fn totals(&self, source: Source, meters: &Meters) -> Totals {
        Totals {
            bytes: self.ring.total(source),
            dropped: meters.dropped(source),
            suppressed: meters.suppressed(source),
            over_limit: self.ring.over_limit(source),
        }
    }

    /// Readers may get so much in all.
    pub(super) fn limit(&mut self, bytes: u64) {
        if self.over_limit() == 0 {
            let had: u64 = Source::ALL.into_iter().map(|source| self.ring.total(source)).sum();
            self.left = bytes.saturating_sub(had);
        }
    }

    /// Bytes of both sources that came behind the output limit.
    pub(super) fn over_limit(&self) -> u64 {
        Source::ALL.into_iter().map(|source| self.ring.over_limit(source)).sum()
    }

    /// The place that `offset` tells for each source.
    pub(super) fn cursor(&self, offset: impl Fn(Source) -> u64) -> Cursor {
        Cursor::new(self.stream, self.generation, Source::Stdout, offset(Source::Stdout), offset(Source::Stderr))
    }

    pub(super) fn extent(&self) -> Extent {
        Extent { oldest: self.cursor(|s| self.ring.oldest(s)), newest: self.cursor(|s| self.ring.total(s)) }
    }

    pub(super) fn attempt(&mut self, source: Source, data: &Bytes, waited: Duration, wakers: &mut Wakers) -> Attempt {
        if self.takes_no_more() {
            return Attempt::Closed;
        }
        if data.is_empty() {
            return Attempt::Published;
        }
        let within = data.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if within > 0 {
            if let Some(left) = self.stall(source, within as u64, waited) {
                return Attempt::Full(left);
            }
            self.left -= within as u64;
            self.commit(self.chunk(source, data.slice(..within)), wakers);
        }
        match data.len() - within {
            0 => Attempt::Published,
            over => self.cut(source, over as u64, wakers),
        }
    }

    /// Counts bytes behind the output limit. Readers are woken for the first of each source; what is behind those they
    /// are told with the end, or when they look.
    fn cut(&mut self, source: Source, bytes: u64, wakers: &mut Wakers) -> Attempt {
        let (first, first_of_source) = (self.over_limit() == 0, self.ring.over_limit(source) == 0);
        let gap = self.ring.cut(source, bytes);
        for Place { slot, .. } in self.slots.iter().filter(|place| place.slot.sources.contains(source)) {
            slot.miss(gap, first_of_source.then_some(&mut *wakers));
        }
        if first { Attempt::OverLimit } else { Attempt::Published }
    }

    /// The shortest time until a full blocking subscriber gives up, if there is one.
    fn stall(&self, source: Source, len: u64, waited: Duration) -> Option<Duration> {
        // A queue that is known to have room is not asked.
        let wanting = self.slots.iter().filter(|place| place.slot.sources.contains(source) && place.room < len);
        wanting.filter_map(|place| place.slot.stall(len, waited)).min()
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
        self.slots.retain_mut(|Place { slot, room }| {
            if !slot.sources.contains(chunk.source) {
                return true;
            }
            let delivered = slot.deliver(chunk.clone());
            *room = delivered.room;
            wakers.add(delivered.waker);
            !delivered.disconnected
        });
        self.ring.push(chunk);
    }

    /// Takes out a subscriber.
    pub(super) fn leave(&mut self, id: u64) -> Option<Place> {
        let at = self.slots.binary_search_by_key(&id, |place| place.slot.id).ok()?;
        Some(self.slots.remove(at))
    }

    /// Returns whether it was still open.
    pub(super) fn lose(&mut self, source: Source, bytes: u64, wakers: &mut Wakers) -> bool {
        let open = !self.takes_no_more();
        if open {
            let gap = self.ring.skip(source, bytes);
            for Place { slot, .. } in self.slots.iter().filter(|place| place.slot.sources.contains(source)) {
                slot.miss(gap, Some(wakers));
            }
        }
        open
    }

    /// Whether the last byte has come.
    pub(super) const fn takes_no_more(&self) -> bool {
        self.bytes_end.is_some() || self.end.is_some()
    }

    /// Returns whether bytes were still taken.
    pub(super) fn end_bytes(&mut self, reason: EndReason, meters: &Meters, wakers: &mut Wakers) -> bool {
        if self.takes_no_more() {
            return false;
        }
        let end = End::new(PerSource::from_fn(|source| self.totals(source, meters)), reason, Fate::Unknown);
        self.bytes_end = Some(Box::new(end));
        for Place { slot, .. } in &self.slots {
            wakers.add(slot.end_bytes(end));
        }
        true
    }

    pub(super) fn finish(&mut self, (reason, fate): (EndReason, Fate), meters: &Meters, wakers: &mut Wakers) -> bool {
        if self.end.is_some() {
            return false;
        }
        // Who has seen the last byte knows how the bytes ended, if not what became of the process.
        let reason = match (reason, &self.bytes_end) {
            (EndReason::Abandoned, Some(end)) => end.reason,
            _ => reason,
        };
        let end = End::new(PerSource::from_fn(|source| self.totals(source, meters)), reason, fate);
        self.end = Some(end);
        for Place { slot, .. } in std::mem::take(&mut self.slots) {
            wakers.add(slot.end(end));
        }
        true
    }
}
