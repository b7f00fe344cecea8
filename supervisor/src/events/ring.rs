//! The history of a feed, bounded by a number of events. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Event;

/// The newest events, and how many there ever were.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Arc<Event>>,
    next: u64,
    most: usize,
}

/// What there is at a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This.
    Event(Arc<Event>),
    /// It has made way; from here on there is more.
    Expired(u64),
    /// Nothing yet.
    NotYet,
}

impl Ring {
    /// For at least one event.
    pub(super) fn new(most: usize) -> Self {
        Self { events: VecDeque::new(), next: 0, most: most.max(1) }
    }

    /// The number of the next event.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// The number of the oldest event there is, or of the next one.
    pub(super) fn oldest(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    /// One more, which has the number [`Ring::next`].
    pub(super) fn push(&mut self, event: Arc<Event>) {
        if self.events.len() >= self.most {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.next += 1;
    }

    /// What is at `seq`.
    pub(super) fn find(&self, seq: u64) -> Found {
        let oldest = self.oldest();
        if seq < oldest {
            return Found::Expired(oldest);
        }
        let at = usize::try_from(seq - oldest).ok().and_then(|index| self.events.get(index));
        at.map_or(Found::NotYet, |event| Found::Event(Arc::clone(event)))
    }
}
