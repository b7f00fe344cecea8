//! Logs of all that may go on, opened beside everything else that a start has to do: each is a dozen system calls, and there
//! are as many as there are containers.

use std::collections::HashMap;

use orangery_io_stream::log::{Log, LogError};

use super::record::{ContainerRecord, ProcessRecord};
use super::side_by_side::side_by_side;

/// What came of opening one.
pub(crate) type Opened = Result<Log, LogError>;

/// Open a log as its record says. Blocks as file operations do.
pub(crate) fn open(record: &ProcessRecord) -> Opened {
    Log::open(&record.log.dir, record.log.options)
}

/// Logs that are being opened. Dropped, they are let go of when all are.
pub(crate) struct Opening(tokio::task::JoinHandle<HashMap<String, Opened>>);

impl Opening {
    /// Those of the main processes, on threads that may block.
    pub(crate) fn begin(all: &[ContainerRecord]) -> Self {
        let all: Vec<_> = all.iter().map(|record| (record.template.id().to_owned(), record.main.clone())).collect();
        let runtime = tokio::runtime::Handle::current();
        Self(tokio::task::spawn_blocking(move || {
            let opened = side_by_side(all, |(_, main)| {
                // What a log compresses in the background it does on threads of the runtime's.
                let _in = runtime.enter();
                open(main)
            });
            opened.into_iter().map(|((id, _), opened)| (id, opened)).collect()
        }))
    }

    /// By the ids of their containers.
    pub(crate) async fn all(self) -> HashMap<String, Opened> {
        // One that panicked is opened once more by whoever needs it, and fails there.
        self.0.await.unwrap_or_default()
    }
}
