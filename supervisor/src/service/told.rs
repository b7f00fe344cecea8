//! What is true of a service or a group, and whoever is told when it changes.

use tokio::sync::{broadcast, watch};

use super::inspect::{Change, Status};
use crate::report::unix_ms;

/// Changes that are kept for slow readers of [`Service::changes`](super::Service::changes); the oldest are overwritten, and a
/// reader sees by their numbers how many it has missed.
const CHANGES: usize = 64;

/// See the file's head.
pub(crate) struct Told {
    status: watch::Sender<Status>,
    changes: broadcast::Sender<Change>,
}

impl Told {
    pub(crate) fn new() -> Self {
        Self { status: watch::Sender::new(Status::new()), changes: broadcast::Sender::new(CHANGES) }
    }

    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    pub(crate) fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// The one way by which it changes. A change of state gets the next number and is told to everybody; `tell` tells the
    /// feed.
    pub(crate) fn publish(&self, id: &str, change: impl FnOnce(&mut Status), tell: impl FnOnce(&Status)) {
        self.status.send_modify(|status| {
            let before = (status.state, status.generation);
            change(status);
            if (status.state, status.generation) == before {
                return;
            }
            status.number += 1;
            tracing::debug!(id, from = ?before.0, to = ?status.state, status.generation, "changed");
            let change = Change {
                id: id.to_owned(),
                number: status.number,
                at_ms: unix_ms(std::time::SystemTime::now()),
                state: status.state,
                generation: status.generation,
                delay: status.delay.map(|delay| delay.shown.delay),
                give_up: status.give_up,
            };
            tell(status);
            // Nobody listens: it is in the status anyway.
            let _ = self.changes.send(change);
        });
    }
}
