//! Compression of closed segments while the log is written, apart from everything else (feature `zstd`).
//!
//! Asked by the log when it has left a segment. The work is done on tokio's blocking threads, by one at a time; a failure
//! is counted and logged, and never stops the log. What was compressed is counted by its bytes on disk there, and removed where
//! that is too much.

use std::path::Path;
use std::sync::Arc;

use super::change::Watch;
use super::compress::{Found, compress, uncompressed};
use super::handle::Compressions;
use super::options::LogOptions;
use super::retain;
use crate::sync::{Mutex, lock};

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Compressor {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    running: bool,
    /// There is more since it has looked.
    again: bool,
    counts: Compressions,
}

impl Compressor {
    /// Has closed segments compressed, if the options say so. Whether it is at work, and removes what is too much then.
    pub(crate) fn look(&self, dir: &Path, options: &LogOptions, watch: &Watch) -> bool {
        let (Some(level), Ok(runtime)) = (options.compress, tokio::runtime::Handle::try_current()) else {
            return false;
        };
        let mut shared = lock(&self.shared);
        shared.again = true;
        if !std::mem::replace(&mut shared.running, true) {
            let (shared, dir, options) = (Arc::clone(&self.shared), dir.to_owned(), *options);
            let watch = watch.clone();
            drop(runtime.spawn_blocking(move || work(&shared, &dir, (level, &options), &watch)));
        }
        true
    }

    /// What has come of it.
    pub(crate) fn counts(&self) -> Compressions {
        lock(&self.shared).counts
    }
}

fn work(shared: &Mutex<Shared>, dir: &Path, (level, options): (i32, &LogOptions), watch: &Watch) {
    loop {
        {
            let mut shared = lock(shared);
            shared.running = std::mem::take(&mut shared.again);
            if !shared.running {
                return;
            }
        }
        let looked_at = uncompressed(dir).unwrap_or_default();
        for segment in &looked_at {
            match compress(dir, segment, level, watch) {
                Ok(Found::Compressed) => lock(shared).counts.done += 1,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, segment = %segment.data(dir).display(), "a segment is not compressed");
                    lock(shared).counts.failed += 1;
                }
            }
        }
        // More is to be compressed: what waits for that is not counted as it is.
        if lock(shared).again {
            continue;
        }
        match retain::apply(dir, options, Some(&looked_at), watch) {
            Ok(removed) => lock(shared).counts.removed += removed,
            Err(error) => tracing::warn!(%error, dir = %dir.display(), "old segments stay"),
        }
    }
}
