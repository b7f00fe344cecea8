//! What can be measured of a hub and of its readers: plain values, and the counters behind them.
//!
//! The counters that readers add to are atomic, so that reading takes no lock of the hub.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::chunk::{PerSource, Source};

/// One look at a hub, see [`Hub::metrics`](crate::Hub::metrics).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Bytes that were published, both sources together.
    pub bytes_in: u64,
    /// Bytes that subscribers took out, summed over all there ever were.
    pub bytes_out: u64,
    /// Bytes that overflow policies took from subscribers, summed over all there ever were.
    pub dropped: u64,
    /// Bytes that rate limits took from subscribers, summed over all there ever were.
    pub suppressed: u64,
    /// Bytes behind the output limit, which no subscriber gets.
    pub over_limit: u64,
    /// Bytes that the replay history holds.
    pub ring_bytes: u64,
    /// Bytes that the replay history may hold.
    pub ring_capacity: u64,
    /// How long publishers have waited for blocking subscribers: so long, at most, was the workload
    /// held up by readers (its pipe is a buffer of its own).
    pub blocked: Duration,
    /// The subscribers of this moment, in the order in which they came.
    pub subscribers: Vec<SubscriberMetrics>,
}

/// One look at a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub struct SubscriberMetrics {
    /// Its number, as logged when it gives up blocking; never used again in this hub.
    pub id: u64,
    /// Bytes that it took out.
    pub delivered: u64,
    /// Bytes that wait for it in memory.
    pub queued: u64,
    /// Bytes that wait for it in its spill file, or in the log that it reads.
    pub spilled: u64,
    /// Bytes that its overflow policy took from it.
    pub dropped: u64,
    /// Bytes that its rate limit took from it.
    pub suppressed: u64,
    /// Whether it has spent its stall budget.
    pub gave_up: bool,
}

impl SubscriberMetrics {
    /// How many bytes it is behind.
    pub const fn lag(&self) -> u64 {
        self.queued + self.spilled
    }
}

/// The counters of one hub that grow outside its lock.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    dropped: PerSource<AtomicU64>,
    suppressed: PerSource<AtomicU64>,
    delivered: AtomicU64,
    blocked_nanos: AtomicU64,
}

impl Meters {
    pub(crate) fn add_dropped(&self, lost: &PerSource<u64>) {
        add(&self.dropped, lost);
    }

    pub(crate) fn add_suppressed(&self, lost: &PerSource<u64>) {
        add(&self.suppressed, lost);
    }

    pub(crate) fn add_delivered(&self, bytes: u64) {
        self.delivered.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, source: Source) -> u64 {
        self.dropped[source].load(Ordering::Relaxed)
    }

    pub(crate) fn suppressed(&self, source: Source) -> u64 {
        self.suppressed[source].load(Ordering::Relaxed)
    }

    /// Counts from now until the value is dropped, also when the waiting future is.
    pub(crate) fn blocked_since(&self, began: Instant) -> Blocked<'_> {
        Blocked { meters: self, began }
    }

    /// The part of a look that stands here.
    pub(crate) fn look(&self) -> Metrics {
        let sum = |of: &dyn Fn(Source) -> u64| Source::ALL.into_iter().map(of).sum();
        Metrics {
            bytes_out: self.delivered.load(Ordering::Relaxed),
            dropped: sum(&|source| self.dropped(source)),
            suppressed: sum(&|source| self.suppressed(source)),
            blocked: Duration::from_nanos(self.blocked_nanos.load(Ordering::Relaxed)),
            ..Metrics::default()
        }
    }
}

fn add(to: &PerSource<AtomicU64>, bytes: &PerSource<u64>) {
    // Nearly always nothing: then the readers' shared counters are left alone.
    for source in Source::ALL.into_iter().filter(|source| bytes[*source] > 0) {
        to[source].fetch_add(bytes[source], Ordering::Relaxed);
    }
}

/// A publisher that waits.
pub(crate) struct Blocked<'a> {
    meters: &'a Meters,
    began: Instant,
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        let nanos = self.began.elapsed().as_nanos() as u64;
        self.meters.blocked_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}
