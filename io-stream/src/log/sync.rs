//! Forcing bytes to the disk, apart from everything else.
//!
//! Asked by the log after each step. The waiting is done on tokio's blocking threads, one call at a time
//! for the file being written; a failure is counted and logged, and never stops the log.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::options::SyncPolicy;

/// When the next sync is due, and what came of those before.
#[derive(Debug, Default)]
pub(crate) struct Syncer {
    last: Option<Duration>,
    results: Arc<Results>,
}

#[derive(Debug, Default)]
struct Results {
    running: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
}

impl Syncer {
    /// Syncs segments that were closed, if the policy wants it.
    pub(crate) fn closed(&self, policy: SyncPolicy, files: Vec<File>) {
        if policy != SyncPolicy::Never && !files.is_empty() {
            self.start(move |results| files.iter().for_each(|file| results.sync(file)));
        }
    }

    /// Whether the file being written is due at `now`; it has new bytes.
    pub(crate) fn is_due(&mut self, policy: SyncPolicy, now: Duration) -> bool {
        let SyncPolicy::Every(every) = policy else { return false };
        let due = self.last.is_none_or(|last| now.saturating_sub(last) >= every);
        if due && !self.results.running.load(Ordering::Acquire) {
            self.last = Some(now);
            return true;
        }
        false
    }

    /// Syncs files that are being written.
    pub(crate) fn current(&self, files: Vec<File>) {
        self.results.running.store(true, Ordering::Release);
        self.start(move |results| {
            files.iter().for_each(|file| results.sync(file));
            results.running.store(false, Ordering::Release);
        });
    }

    /// How many syncs succeeded, and how many failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.results.done.load(Ordering::Relaxed), self.results.failed.load(Ordering::Relaxed))
    }

    fn start(&self, work: impl FnOnce(&Results) + Send + 'static) {
        let results = Arc::clone(&self.results);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || work(&results))),
            // Somebody drives the log by hand, with a thread of their own.
            Err(_) => work(&results),
        }
    }
}

impl Results {
    fn sync(&self, file: &File) {
        match file.sync_data() {
            Ok(()) => self.done.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                tracing::warn!(%error, "a log could not be forced to the disk");
                self.failed.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}
