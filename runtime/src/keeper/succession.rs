//! A keeper that dies beside a living supervisor whose containers outlive it: another one is started and has, as soon as it is
//! there, all that the dead one held. What runs does not notice. Called by the `driver`.
//!
//! What the dead one was asked and has not answered fails, but for what can be said again without doing it twice: to store,
//! and to arm. What is asked meanwhile waits. Nothing is polled: the socket and the pidfd tell of the death.

use std::collections::{HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::client::{Client, hello};
use super::conversation::{Shared, is_unledgered};
use super::frame::frame;
use super::launch::{Launched, launch_again};
use super::ledger::{Entry, What};
use super::store::Holding;
use crate::error::{Error, ErrorKind};
use crate::native::Without;
use crate::plan::wire::{End, Message, Purpose, Tree};

/// So many of them may die, or not start, within [`WINDOW`].
const MOST: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// Pause before the next attempt where one did not start, as often as there were attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// What another keeper is made of.
#[derive(Debug)]
pub(crate) struct Heir {
    /// Where its program is to be, as that of the first one.
    pub(crate) path: Option<PathBuf>,
    /// Where the next supervisor comes.
    pub(crate) door: PathBuf,
    /// The user namespace of the dead one, if it had one of its own: what runs lives below it.
    pub(crate) userns: Option<OwnedFd>,
    /// Where traces go.
    pub(crate) trace: Option<OwnedFd>,
    /// A part of the path of each cgroup of ours.
    pub(crate) cgroup: Option<String>,
    /// Under what the pidfd of a process is stored that this request has started.
    pub(crate) label: fn(u64) -> Vec<u8>,
    /// How an end is told that it does not know.
    pub(crate) without: Without,
    /// Told of each of them.
    pub(crate) present: Arc<Present>,
}

/// The keeper that there is, for display.
#[derive(Debug, Default)]
pub(crate) struct Present {
    pub(crate) pid: AtomicU32,
    /// How many have died beside us and were replaced.
    pub(crate) replaced: AtomicU32,
}

/// What became of the keeper: told by [`native::Driver::run_telling`](crate::native::Driver::run_telling).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeeperNews {
    /// It has died, and another one is being started, to which everything is handed over. Of a
    /// [durable](crate::native::NativeRuntime::durable) runtime.
    Died,
    /// The other one has everything.
    Replaced(Replaced),
    /// There is none any more: what runs goes on, nothing new can be started. `why`: it has not been ended by us.
    Ended {
        /// In words.
        why: Option<String>,
    },
}

/// What a new keeper has been given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replaced {
    /// Its process id.
    pub pid: u32,
    /// Processes that it is not the parent of: how they end is told by the kernel, if at all.
    pub processes: usize,
    /// Ends of pipes and terminals.
    pub streams: usize,
    /// Deadlines.
    pub leases: usize,
    /// What it could not be given, for want of descriptors.
    pub left_out: usize,
    /// From the death of the other one.
    pub took: Duration,
}

/// How often they have died of late.
#[derive(Debug, Default)]
pub(super) struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// One more; `false`: too many.
    pub(super) fn count(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|first| now.saturating_duration_since(*first) > WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() <= MOST
    }
}

/// One that has been started, and where the next supervisor comes.
pub(super) struct Young {
    launched: Launched,
    door: OwnedFd,
    trace: Option<OwnedFd>,
}

impl Heir {
    /// Blocks. The door is ours: who has the instance's lock, which we have, makes it.
    fn start(&self) -> Result<Young, Error> {
        // A newborn that has not run yet may hold the old one open.
        match std::fs::remove_file(&self.door) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::system("cannot remove the door of the keeper that has died", error));
            }
            _ => {}
        }
        let door = super::door::listen(&self.door)?;
        let trace = self.trace.as_ref().map(OwnedFd::try_clone).transpose();
        let trace = trace.map_err(|error| Error::system("cannot duplicate the trace", error))?;
        // Last: from here on nothing fails.
        let launched = launch_again(self.path.as_deref(), self.userns.as_ref())?;
        Ok(Young { launched, door, trace })
    }

    /// One after the other until one starts.
    ///
    /// # Errors
    /// The last one's, when there were too many.
    pub(super) async fn found(self: &Arc<Self>, deaths: &mut Deaths) -> Result<Young, Error> {
        let mut attempt = 0;
        loop {
            let heir = Arc::clone(self);
            let started = tokio::task::spawn_blocking(move || heir.start()).await;
            let started = started.unwrap_or_else(|error| Err(Error::new(ErrorKind::System, error.to_string())));
            let error = match started {
                Ok(young) => return Ok(young),
                Err(error) => error,
            };
            tracing::warn!(%error, "another keeper does not start");
            if !deaths.count(Instant::now()) {
                return Err(error);
            }
            attempt += 1;
            tokio::time::sleep(PAUSE * attempt).await;
        }
    }

    /// Give it everything. Its pidfd is the driver's from now on.
    pub(super) fn hand_over(&self, shared: &Shared, young: Young) -> (OwnedFd, Replaced) {
        let Young { launched, door, trace } = young;
        let replaced = shared.hand_over(launched.socket, |id| hello(id, End::Keep, trace, Some(door)), self.label);
        self.present.pid.store(launched.pid, Ordering::Release);
        self.present.replaced.fetch_add(1, Ordering::AcqRel);
        (launched.pidfd, Replaced { pid: launched.pid, ..replaced })
    }
}

/// The keeper that there was at some time.
#[derive(Debug)]
pub(crate) struct Which(Weak<OwnedFd>);

impl Client {
    /// Whom we speak to.
    pub(crate) fn which(&self) -> Which {
        Which(Arc::downgrade(&self.shared.lock().socket))
    }

    /// Whether that one has died. Asks for something that another one is asked again, so that a death of which nobody here
    /// has heard yet is known by the answer.
    ///
    /// # Errors
    /// There is none any more.
    pub(crate) async fn is_another_than(&self, which: &Which) -> Result<bool, Error> {
        let (read, _write) = std::io::pipe().map_err(|error| Error::system("cannot make a pipe", error))?;
        self.store(&[], Holding::pipe(read.into())).await?.discard();
        Ok(!Weak::ptr_eq(&which.0, &Arc::downgrade(&self.shared.lock().socket)))
    }

    /// What the keeper is told from now on is kept here as well, for another one. Before it holds anything.
    pub(crate) fn inherits(&self) {
        self.shared.lock().ledger.inherits = true;
    }

    /// The keeper removes this at its end: another one would have to.
    pub(crate) fn would_remove(&self, tree: Tree, parent: OwnedFd, name: &str) {
        let mut waiting = self.shared.lock();
        if waiting.ledger.inherits {
            waiting.ledger.trees.push((tree, Arc::new(parent), name.to_owned()));
        }
    }
}

impl Shared {
    /// The keeper has died: nothing is anywhere any more, what it was asked has no answer. Gives the processes that have lost
    /// their parent.
    pub(super) fn orphaned(&self) -> Vec<(u64, Arc<OwnedFd>)> {
        let mut guard = self.lock();
        let waiting = &mut *guard;
        waiting.between = true;
        waiting.replaying.clear();
        // What has not gone out yet, and can go to another one as it is. Everything else is in the ledger.
        waiting.outbox.retain(|(bytes, _)| Message::decode(bytes).is_some_and(|message| is_unledgered(message.kind)));
        let unsent: HashSet<u64> =
            waiting.outbox.iter().filter_map(|(bytes, _)| Message::decode(bytes)).map(|message| message.id).collect();
        let ledger = &mut waiting.ledger;
        for (id, armed) in &mut ledger.leases {
            if let Some(held) = waiting.leases.get_mut(id) {
                (armed.before, held.slot) = (held.done.borrow().rungs, None);
            }
        }
        // One of an earlier supervisor cannot be armed again: we have no part of it.
        waiting.leases.retain(|id, _| ledger.leases.contains_key(id));
        waiting.early = waiting.early.take().map(|_| std::collections::HashMap::new());
        let orphans = ledger.orphan();
        let said_again = |id: &u64| ledger.stored.contains_key(id) || ledger.leases.contains_key(id);
        waiting.answers.retain(|id, _| unsent.contains(id) || said_again(id));
        let lives = |id: &u64| unsent.contains(id) || ledger.processes.contains_key(id);
        waiting.exits.retain(|id, _| lives(id));
        waiting.cancelled.retain(lives);
        self.seated.notify_waiters();
        orphans
    }

    /// Speak to another one from now on, and tell it everything first.
    fn hand_over(
        &self,
        socket: OwnedFd,
        hello: impl FnOnce(u64) -> super::ledger::Request,
        label: fn(u64) -> Vec<u8>,
    ) -> Replaced {
        let next = || self.next.fetch_add(1, Ordering::Relaxed);
        let mut guard = self.lock();
        let waiting = &mut *guard;
        let ledger = &mut waiting.ledger;
        let mut replaced = Replaced {
            processes: ledger.processes.len(),
            streams: ledger.stored.values().filter(|entry| entry.is_stream()).count(),
            leases: ledger.leases.len(),
            ..Replaced::default()
        };
        // Those that are the children of nobody of ours.
        for (id, process) in ledger.processes.iter_mut().filter(|(_, process)| process.stored.is_none()) {
            let number = next();
            process.stored = Some(number);
            let fd = Arc::clone(&process.pidfd);
            let what = What { label: label(*id), aside: false, purpose: Purpose::Pidfd, fd, log: None };
            ledger.stored.insert(number, Entry { slot: None, what: Some(what), before: None });
        }
        waiting.unwanted.clear();
        waiting.forgotten.clear();
        self.seated.notify_waiters();
        let (all, left_out) = ledger.all(hello(next()), next);
        replaced.left_out = left_out.len();
        for id in left_out {
            ledger.leave_out(id);
            waiting.leases.remove(&id);
            // Who has asked for it hears that there is none, and so does who waits for its place.
            waiting.answers.remove(&id);
        }
        self.seated.notify_waiters();
        waiting.replaying = all.iter().map(|(head, ..)| head.id).collect();
        let unsent = std::mem::take(&mut waiting.outbox);
        waiting.outbox = all.into_iter().map(|(head, body, fds)| frame(head, &body, fds)).chain(unsent).collect();
        waiting.socket = Arc::new(socket);
        waiting.between = false;
        replaced
    }

    /// It has everything.
    pub(super) fn is_whole(&self) -> bool {
        let waiting = self.lock();
        !waiting.between && waiting.replaying.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_deaths_at_once_are_too_many_and_many_in_a_long_time_are_not() {
        let mut deaths = Deaths::default();
        let begin = Instant::now();
        for n in 0..MOST {
            assert!(deaths.count(begin), "{n}");
        }
        assert!(!deaths.count(begin));
        let mut deaths = Deaths::default();
        let each = WINDOW / u32::try_from(MOST).unwrap() + Duration::from_millis(1);
        for n in 0..100 {
            assert!(deaths.count(begin + each * n), "{n}");
        }
    }
}
