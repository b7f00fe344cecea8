//! Deadlines that the keeper holds: carried out at their time even when this process is stopped, wedged or gone.

use std::os::fd::OwnedFd;

use tokio::sync::watch;

use super::client::Client;
use crate::error::{Error, ErrorKind};
use crate::plan::wire::{Message, Rung};

/// When a deadline is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// CLOCK_MONOTONIC in nanoseconds, as [`native::now_ns`](crate::native::now_ns) tells it. A time that has passed is now;
    /// `u64::MAX` is never.
    pub at_ns: u64,
    /// Also when this supervisor goes before that, however it goes.
    pub at_end: bool,
}

/// What the keeper does: in the end the signal first, then the bytes.
#[derive(Debug, Default)]
pub struct Lever {
    /// Before that: signals, each at its time and followed by CONT, in the order of their times; none after the deadline.
    pub rungs: Vec<Rung>,
    /// Whom those are for; `None`: the process that gets the last signal.
    pub told: Option<OwnedFd>,
    /// Send this signal to this process.
    pub signal: Option<(OwnedFd, i32)>,
    /// Write these bytes, at most [`LEASE_BYTES`](crate::plan::wire::LEASE_BYTES), to this file (regular files only, which
    /// those of cgroups are).
    pub write: Option<(OwnedFd, Vec<u8>)>,
}

/// What has been carried out of a deadline.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) rungs: usize,
    /// What comes in the end, with the first error number of all.
    pub(super) over: Option<i32>,
}

impl Done {
    pub(super) fn of(message: &Message) -> Self {
        let over = (message.y == 1).then_some(message.errno);
        Self { rungs: usize::try_from(message.x).unwrap_or(usize::MAX), over }
    }

    /// So many rungs were carried out by a keeper before.
    pub(super) fn after(self, before: usize) -> Self {
        Self { rungs: self.rungs.saturating_add(before), ..self }
    }
}

/// A deadline that is armed in the keeper. Dropped, it is cancelled: what it would have done is not done.
#[derive(Debug)]
pub struct Lease {
    client: Client,
    id: u64,
    done: watch::Receiver<Done>,
}

impl Lease {
    pub(super) fn new(client: Client, id: u64, done: watch::Receiver<Done>) -> Self {
        Self { client, id, done }
    }

    /// How many of its rungs the keeper has carried out, as far as it has told, which it does before any exit that has come
    /// of it.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.done.borrow().rungs
    }

    /// Its number, under which the next supervisor finds it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// It was carried out: 0, or the first error number of it. The keeper tells this before any exit that has come of
    /// it.
    #[must_use]
    pub fn fired(&self) -> Option<i32> {
        self.done.borrow().over
    }

    /// It stays armed, and nobody hears of it here any more.
    pub(crate) fn leave(self) {
        // What is not there its drop does not cancel.
        self.client.shared.lock().leases.remove(&self.id);
    }

    /// Wait until it is carried out: 0, or the first error number of it.
    ///
    /// # Errors
    /// [`ErrorKind::Keeper`] when the keeper is gone, and the deadline with it.
    ///
    /// # Cancel safety
    /// May be dropped and called again; the deadline stays armed.
    pub async fn wait(&self) -> Result<i32, Error> {
        let mut done = self.done.clone();
        let told = done.wait_for(|done| done.over.is_some()).await.map(|done| done.over.unwrap_or(0));
        told.map_err(|_| Error::new(ErrorKind::Keeper, "the keeper is gone"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.client.disarm(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::client::heard;
    use crate::keeper::conversation::Held;
    use crate::plan::wire::Ask;

    #[test]
    fn one_that_is_dropped_is_cancelled_and_one_that_is_left_is_not() {
        let (client, _driver, theirs) = Client::of_nobody();
        let lease = |id| {
            let (sender, done) = watch::channel(Done::default());
            client.shared.lock().leases.insert(id, Held { slot: Some(id + 100), done: sender });
            Lease::new(client.clone(), id, done)
        };
        lease(1).leave();
        drop(lease(2));
        assert_eq!(heard(&theirs), [(Ask::Cancel as u16, 2, 102)]);
        assert!(client.shared.lock().leases.is_empty());
    }
}
