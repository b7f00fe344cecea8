//! Where the output of a process goes, as whoever reads or counts it sees it: a hub, or a log.

use std::sync::{Arc, OnceLock};

use orangery_io_stream::log::Recording;
use orangery_io_stream::{Cursor, Gone, Hub, HubOptions, Metrics, Source, SubscribeOptions, Subscriber, Totals};

/// Clones are the same output.
#[derive(Clone)]
pub(crate) struct Output {
    pub(crate) hub: Hub,
    /// The hub stays empty where there is a log.
    log: Arc<OnceLock<Recording>>,
}

impl Output {
    pub(crate) fn new(options: HubOptions) -> Self {
        Self { hub: Hub::new(options), log: Arc::default() }
    }

    /// It goes into this log. Before anybody reads.
    pub(crate) fn goes_into(&self, log: Recording) {
        let _ = self.log.set(log);
    }

    pub(crate) fn log(&self) -> Option<&Recording> {
        self.log.get()
    }

    /// A reader of it.
    pub(crate) fn subscribe(&self, options: SubscribeOptions) -> Subscriber {
        match self.log() {
            Some(log) => log.subscribe(options),
            None => self.hub.subscribe(options),
        }
    }

    /// A reader that has everything before `cursor`.
    pub(crate) fn resume(&self, cursor: Cursor, options: SubscribeOptions) -> Result<Subscriber, Gone> {
        match self.log() {
            Some(log) => log.resume(cursor, options),
            None => self.hub.resume(cursor, options),
        }
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.log().map_or_else(|| self.hub.metrics(), Recording::metrics)
    }

    pub(crate) fn totals(&self, source: Source) -> Totals {
        self.log().map_or_else(|| self.hub.totals(source), |log| log.totals(source))
    }

    /// The process does not start: a log that was made for it goes again.
    pub(crate) async fn take_log_back(&self) {
        if let Some(log) = self.log().cloned() {
            let _ = tokio::task::spawn_blocking(move || log.take_back()).await;
        }
    }
}
