//! The feed of a supervisor: how much of it is kept, and who reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use orangery_io_stream::{Cursor, Gone};
use orangery_runtime::native::KeeperNews;

use super::{Supervisor, SupervisorBuilder};
use crate::events::{Events, Feed, Kind, Since};

impl SupervisorBuilder {
    /// How many events are kept for readers that come later or are slow: see [`events`](crate::events). Default: 4,096,
    /// some megabytes at most; at least one.
    pub fn event_history(mut self, count: usize) -> Self {
        self.event_history = count;
        self
    }
}

impl Supervisor {
    /// A reader of everything that happens, in one order: see [`events`](crate::events).
    ///
    /// ```no_run
    /// use orangery::events::{Item, Since};
    /// # async fn f(supervisor: orangery::Supervisor) {
    /// let mut events = supervisor.events(Since::Oldest);
    /// while let Some(Item::Event(event)) = events.recv().await {
    ///     println!("{} {:?} {:?}", event.seq, event.container, event.kind);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn events(&self, since: Since) -> Events {
        self.inner.feed.read(since)
    }

    /// A reader of what came after `cursor`, which another reader of this supervisor's had: no event is missing and none
    /// comes twice.
    ///
    /// # Errors
    /// [`Gone`], with the oldest place there is, when the cursor is none of this feed or its events are no longer kept.
    pub fn resume_events(&self, cursor: Cursor) -> Result<Events, Gone> {
        self.inner.feed.resume(cursor)
    }
}

/// What is called with news of the keeper.
pub(super) type Tell = Box<dyn FnMut(KeeperNews) + Send>;

/// Says what becomes of the keeper, and that it was lost, unless its end was wanted.
pub(super) struct Watch {
    wanted: Arc<AtomicBool>,
}

impl Watch {
    /// And what is to be called with each news of it.
    pub(super) fn new(feed: &Feed) -> (Self, Tell) {
        let wanted = Arc::new(AtomicBool::new(false));
        let (voice, asked) = (feed.voice(), Arc::clone(&wanted));
        let tell = move |news| {
            let kind = match news {
                KeeperNews::Died => Kind::KeeperDied,
                KeeperNews::Replaced(replaced) => Kind::KeeperReplaced {
                    processes: replaced.processes,
                    streams: replaced.streams,
                    deadlines: replaced.leases,
                    left_out: replaced.left_out,
                    took_us: u64::try_from(replaced.took.as_micros()).unwrap_or(u64::MAX),
                },
                // Ended, for good.
                _ if asked.load(Ordering::Acquire) => return,
                _ => Kind::KeeperLost,
            };
            voice.tell(None, kind, None);
        };
        (Self { wanted }, Box::new(tell))
    }

    /// From now on its end is wanted.
    pub(super) fn leave(&self) {
        self.wanted.store(true, Ordering::Release);
    }
}
