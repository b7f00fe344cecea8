//! Where the output of a process goes, as whoever reads or counts it sees it: a hub, or a log.

use std::sync::{Arc, OnceLock};

use orangery_io_stream::log::Recording;
use orangery_io_stream::{
    Cursor, EndInfo, Gone, Hub, HubOptions, Metrics, Source, SubscribeOptions, Subscriber, Totals,
};

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

    /// Nothing comes behind what is there.
    pub(crate) fn has_ended(&self) -> bool {
        self.log().map_or_else(|| self.hub.end().is_some(), Recording::is_closed)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.log().map_or_else(|| self.hub.metrics(), Recording::metrics)
    }

    pub(crate) fn totals(&self, source: Source) -> Totals {
        self.log().map_or_else(|| self.hub.totals(source), |log| log.totals(source))
    }

    /// So many bytes may be written from now on, counted from the beginning; a limit that was passed stays.
    pub(crate) fn set_limit(&self, bytes: u64) {
        match self.log() {
            Some(log) => log.set_limit(bytes),
            None => self.hub.set_output_limit(bytes),
        }
    }

    /// More than `limit` was written. What came behind a hub's limit is not in its totals; what came before a lower limit was
    /// set is.
    pub(crate) fn is_over(&self, limit: u64) -> bool {
        let both = Source::ALL.into_iter().map(|source| self.totals(source).bytes).sum::<u64>();
        both > limit || self.log().is_none() && self.hub.is_over_limit()
    }

    /// Ready when it is, or never.
    pub(crate) async fn over(&self, limit: u64) {
        match self.log() {
            Some(log) if log.exceeds(limit).await => {}
            Some(_) => std::future::pending().await,
            None if self.is_over(limit) => {}
            None => self.hub.wait_over_limit().await,
        }
    }

    /// Nothing more is read.
    pub(crate) fn close(&self) {
        match self.log() {
            Some(log) => log.close(),
            None => drop(self.hub.end_bytes(EndInfo::default())),
        }
    }

    /// The process does not start: a log that was made for it goes again.
    pub(crate) async fn take_log_back(&self) {
        if let Some(log) = self.log().cloned() {
            let _ = tokio::task::spawn_blocking(move || log.take_back()).await;
        }
    }
}
