//! What the streams of all processes have carried: those that are there are asked, those that have gone are added up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orangery_io_stream::Metrics;

use crate::process::output::Output;

/// Sums over all streams there ever were, and a look at those of now.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) dropped: u64,
    pub(super) suppressed: u64,
    pub(super) blocked_ns: u64,
    pub(super) ring_bytes: u64,
    pub(super) readers: u64,
    pub(super) lag: u64,
    pub(super) worst_lag: u64,
}

impl Sums {
    /// What does not go away with a stream.
    fn add_totals(&mut self, of: &Metrics) {
        self.bytes_in += of.bytes_in;
        self.bytes_out += of.bytes_out;
        self.dropped += of.dropped;
        self.suppressed += of.suppressed;
        self.blocked_ns += u64::try_from(of.blocked.as_nanos()).unwrap_or(u64::MAX);
    }

    fn add(&mut self, of: &Metrics) {
        self.add_totals(of);
        self.ring_bytes += of.ring_bytes;
        for reader in &of.subscribers {
            self.readers += 1;
            self.lag += reader.lag();
            self.worst_lag = self.worst_lag.max(reader.lag());
        }
    }
}

/// The streams of one supervisor.
#[derive(Default)]
pub(crate) struct Streams {
    last: u64,
    there: BTreeMap<u64, Output>,
    gone: Sums,
}

impl Streams {
    /// A look at all of them; sums never shrink.
    pub(super) fn look(&self) -> Sums {
        let mut sums = self.gone.clone();
        self.there.values().for_each(|output| sums.add(&output.metrics()));
        sums
    }
}

pub(super) fn lock(streams: &Mutex<Streams>) -> MutexGuard<'_, Streams> {
    streams.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Streams are counted while this exists.
pub(crate) struct Enrolled {
    streams: Arc<Mutex<Streams>>,
    number: u64,
}

impl Enrolled {
    pub(super) fn new(streams: &Arc<Mutex<Streams>>, output: &Output) -> Self {
        let mut all = lock(streams);
        all.last += 1;
        let number = all.last;
        all.there.insert(number, output.clone());
        Self { streams: Arc::clone(streams), number }
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        let mut all = lock(&self.streams);
        let output = all.there.remove(&self.number);
        if let Some(output) = &output {
            all.gone.add_totals(&output.metrics());
        }
        drop(all);
        // The last owner takes it apart: not under our lock.
        drop(output);
    }
}
