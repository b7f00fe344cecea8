//! What each stream to a client has beside what it tells: a sign of life now and then, the farewell of a daemon that goes, and
//! its place among the streams that the client may have.

use std::future::Future;

use tokio::sync::watch;
use tokio::time::{Duration, Interval, MissedTickBehavior, interval};

use super::daemon::{Daemon, going};
use super::peer::Taken;

/// See the file's head.
#[derive(Debug)]
pub(super) struct Line {
    pulse: Interval,
    bye: watch::Receiver<bool>,
    _one: Taken,
}

/// What comes next on a line.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// Something to tell.
    Item(T),
    /// Nothing has come for a while: the connection lives.
    Alive,
    /// The daemon goes.
    Bye,
}

impl Line {
    pub(super) fn new(daemon: &Daemon, one: Taken) -> Self {
        Self { pulse: pulse(daemon.heartbeat), bye: daemon.bye.clone(), _one: one }
    }

    /// `item`, unless something else comes first.
    ///
    /// # Cancel safety
    /// That of `item`, which is dropped when something else comes first.
    pub(super) async fn next<T>(&mut self, item: impl Future<Output = T>) -> Next<T> {
        let next = tokio::select! {
            biased;
            () = going(&mut self.bye) => Next::Bye,
            item = item => Next::Item(item),
            _ = self.pulse.tick() => Next::Alive,
        };
        if let Next::Item(_) = next {
            self.pulse.reset();
        }
        next
    }
}

fn pulse(every: Duration) -> Interval {
    let mut pulse = interval(every);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pulse.reset();
    pulse
}
