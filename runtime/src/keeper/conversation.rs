//! What both sides of the conversation share: who waits for what, and what becomes of each thing that the keeper says.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot, watch};

use super::frame::{Heard, frame, transmit};
use super::lease::Done;
use super::ledger::{Entry, Ledger, Process};
use crate::error::{Error, ErrorKind};
use crate::plan::wire::{Ask, MAX_FDS, Message, Purpose, Stage, Tell};
use crate::{Exit, ExitStatus, Rusage};

/// What the keeper answers to one request.
pub(super) type Answer = Result<Answered, Error>;

/// A request that was carried out.
#[derive(Debug)]
pub(super) struct Answered {
    /// The process that was started.
    pub(super) pid: i32,
    /// Where it is, for what has a place in the keeper.
    pub(super) slot: u64,
    /// What was sent along.
    pub(super) brought: Option<(Purpose, Unclaimed)>,
}

/// A descriptor on its way from the keeper to whoever asked for it. Dropped before it is claimed, wherever on that way,
/// the process behind it is killed: it was started for somebody who has gone. (A socket or a namespace is just closed.)
#[derive(Debug)]
pub struct Unclaimed(pub(super) Option<OwnedFd>);

impl Unclaimed {
    /// Take it over, with the duty to end what is behind it.
    ///
    /// # Errors
    /// Never for one that came from the keeper.
    pub fn claim(mut self) -> Result<OwnedFd, Error> {
        self.0.take().ok_or_else(|| Error::new(ErrorKind::Keeper, "a descriptor was claimed twice"))
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(fd) = &self.0 {
            // EBADF for what is no pidfd.
            let _ = rustix::process::pidfd_send_signal(fd, rustix::process::Signal::KILL);
        }
    }
}

/// A deadline of ours in the keeper.
pub(super) struct Held {
    /// Where it is there, once that is known.
    pub(super) slot: Option<u64>,
    pub(super) done: watch::Sender<Done>,
}

/// Whoever waits for an exit, and the span in which they asked for the process.
pub(super) struct Awaited {
    pub(super) sender: oneshot::Sender<Exit>,
    pub(super) span: tracing::Span,
    /// The keeper keeps it until it is settled.
    pub(super) keep: bool,
}

pub(super) struct Waiting {
    pub(super) socket: Arc<OwnedFd>,
    /// The keeper has died, and another one is being started: what is asked for waits.
    pub(super) between: bool,
    /// What it holds.
    pub(super) ledger: Ledger,
    /// What has been handed over to it and is not answered yet.
    pub(super) replaying: HashSet<u64>,
    pub(super) answers: HashMap<u64, oneshot::Sender<Answer>>,
    pub(super) exits: HashMap<u64, Awaited>,
    /// What is armed, and who hears of it.
    pub(super) leases: HashMap<u64, Held>,
    /// Given up before the keeper has said where it is: cancelled as soon as it says so.
    pub(super) forgotten: HashSet<u64>,
    /// The same of what was stored.
    pub(super) unwanted: HashSet<u64>,
    /// Being started for somebody who has gone: nobody else settles their ends.
    pub(super) cancelled: HashSet<u64>,
    /// Deadlines of an earlier supervisor that were carried out and that nobody has claimed yet; `None`: nobody will.
    pub(super) early: Option<HashMap<u64, Done>>,
    pub(super) outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

impl Waiting {
    pub(super) fn on(socket: OwnedFd) -> Self {
        Self {
            socket: Arc::new(socket),
            between: false,
            ledger: Ledger::default(),
            replaying: HashSet::new(),
            answers: HashMap::new(),
            exits: HashMap::new(),
            leases: HashMap::new(),
            forgotten: HashSet::new(),
            unwanted: HashSet::new(),
            cancelled: HashSet::new(),
            early: None,
            outbox: VecDeque::new(),
        }
    }

    /// Nothing was given up that the keeper has not answered yet, and it has been asked for all that came of it.
    pub(super) fn owes_nothing(&self) -> bool {
        self.cancelled.is_empty() && self.unwanted.is_empty() && self.forgotten.is_empty() && self.outbox.is_empty()
    }
}

pub(super) struct Shared {
    pub(super) waiting: Mutex<Waiting>,
    pub(super) next: AtomicU64,
    pub(super) dead: AtomicBool,
    /// The outbox has something, or the client wants the conversation to end.
    pub(super) wake: Notify,
    pub(super) closing: AtomicBool,
    /// The keeper goes on when the conversation ends.
    pub(super) keeps: AtomicBool,
    /// Something has its place in the keeper, or there is none any more; what was given up was taken back.
    pub(super) seated: Notify,
    /// Turns to arm a deadline.
    pub(super) arming: Semaphore,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// End the conversation. One that is just being handed over to another keeper ends when it has everything.
    pub(super) fn hang_up(&self) {
        let waiting = self.lock();
        if !waiting.between && waiting.replaying.is_empty() {
            let _ = rustix::net::shutdown(&waiting.socket, rustix::net::Shutdown::Both);
        }
    }

    /// Take a deadline back, wherever it is by now.
    pub(super) fn cancel(&self, id: u64, slot: u64) {
        let head = Message { kind: Ask::Cancel as u16, id, x: slot, ..Message::default() };
        // Without a keeper there is nothing to cancel.
        let _ = self.post(head, &[], Vec::new());
    }

    /// Send a request, or put it behind those that wait.
    pub(super) fn post(&self, head: Message, body: &[u8], fds: Vec<(Purpose, OwnedFd)>) -> Result<(), Error> {
        let mut waiting = self.lock();
        self.may_post(&fds)?;
        self.post_to(&mut waiting, head, body, fds)
    }

    /// For who has the lock: nobody asks after who waits for an answer was told that there is none.
    ///
    /// # Errors
    /// There is no keeper; these are too many at a time.
    pub(super) fn may_post(&self, fds: &[(Purpose, OwnedFd)]) -> Result<(), Error> {
        if self.dead.load(Ordering::Acquire) {
            return Err(gone());
        }
        if fds.len() > MAX_FDS {
            return Err(Error::new(
                ErrorKind::Exhausted,
                format!("{} descriptors in one request; {MAX_FDS} are possible", fds.len()),
            ));
        }
        Ok(())
    }

    /// The same, for who has the lock.
    pub(super) fn post_to(
        &self,
        waiting: &mut Waiting,
        head: Message,
        body: &[u8],
        fds: Vec<(Purpose, OwnedFd)>,
    ) -> Result<(), Error> {
        if waiting.between && !is_unledgered(head.kind) {
            // Another keeper hears of it with everything else.
            return Ok(());
        }
        let (bytes, fds) = frame(head, body, fds);
        if waiting.outbox.is_empty() && !waiting.between {
            match transmit(&waiting.socket, &bytes, &fds) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => {}
                // It has died: another one will be asked.
                Err(error) if waiting.ledger.inherits && is_gone(error) => {}
                Err(error) => return Err(unsaid(error)),
            }
        }
        waiting.outbox.push_back((bytes, fds));
        self.wake.notify_one();
        Ok(())
    }

    /// Hand one message to whoever waits for it. What came along with one that is not what it says is closed.
    pub(super) fn deliver(self: &Arc<Self>, heard: Heard) {
        let Heard { message, brought, no_room, .. } = heard;
        let message = &message;
        match Tell::from_u16(message.kind) {
            Some(Tell::Done | Tell::Failed) if brought.is_none() => {
                self.end_unowned(message);
                self.answer(message.id, Err(if no_room { full() } else { confused() }));
            }
            Some(Tell::Done) => {
                match &brought {
                    Some(Some((Purpose::Pidfd, pidfd))) => self.enter(message.id, pidfd),
                    _ => self.end_unowned(message),
                }
                let brought = brought.flatten().map(|(purpose, fd)| (purpose, Unclaimed(Some(fd))));
                self.answer(message.id, Ok(Answered { pid: message.pid, slot: message.x, brought }));
                self.settle_cancelled(message);
                // Afterwards: who gives up in between has said so by then.
                self.placed(message);
            }
            Some(Tell::Failed) => {
                self.refused(message.id);
                self.answer(message.id, Err(failed(message)));
            }
            Some(Tell::Exited) => self.exited(message.id, exit_of(message)),
            Some(Tell::Fired) => {
                let mut waiting = self.lock();
                let before = waiting.ledger.leases.get(&message.id).map_or(0, |armed| armed.before);
                if message.y == 1 {
                    waiting.ledger.leases.remove(&message.id);
                }
                if let Some(held) = waiting.leases.get(&message.id) {
                    held.done.send_replace(Done::of(message).after(before));
                } else if let Some(early) = &mut waiting.early {
                    early.insert(message.id, Done::of(message));
                }
            }
            Some(
                Tell::Ready | Tell::NeedsMaps | Tell::Sent | Tell::Child | Tell::Armed | Tell::Stored | Tell::Whole,
            )
            | None => {
                tracing::warn!(kind = message.kind, "the keeper said something unexpected");
            }
        }
    }

    pub(super) fn answer(&self, id: u64, answer: Answer) {
        let mut waiting = self.lock();
        let waiter = waiting.answers.remove(&id);
        // Under the lock: whoever gives up looks there first, and finds either the waiter or the answer.
        let unheard = match waiter {
            Some(waiter) => waiter.send(answer).err(),
            None => None,
        };
        drop(waiting);
        // A descriptor in it that nobody claims does something about that.
        drop(unheard);
    }

    /// If it is a process that was started, nobody has its pidfd: the keeper must end it.
    pub(super) fn end_unowned(&self, message: &Message) {
        if self.lock().exits.remove(&message.id).is_some() {
            let head = Message { kind: Ask::Kill as u16, id: message.id, ..Message::default() };
            // Without a keeper the supervisor's end is the process's.
            let _ = self.post(head, &[], Vec::new());
            self.settle(message.id, message.x);
            // Who asked for it may have gone, too.
            if self.lock().cancelled.remove(&message.id) {
                self.seated.notify_waiters();
            }
        }
    }

    /// If who asked for this process has gone, nobody else settles its end. Not when that comes: we may have gone by then, and
    /// the keeper would wait for a next one because of it.
    fn settle_cancelled(&self, message: &Message) {
        let cancelled = {
            let mut waiting = self.lock();
            let cancelled = waiting.cancelled.contains(&message.id);
            if cancelled {
                waiting.exits.remove(&message.id);
            }
            cancelled
        };
        if cancelled {
            self.settle(message.id, message.x);
            // Asked for first: who waits until nothing is owed ends the conversation then.
            self.lock().cancelled.remove(&message.id);
            self.seated.notify_waiters();
        }
    }

    /// A process is there: another keeper would have to know it.
    pub(super) fn enter(&self, id: u64, pidfd: &OwnedFd) {
        let mut waiting = self.lock();
        let keep = waiting.exits.get(&id).map(|awaited| awaited.keep);
        let (Some(keep), true) = (keep, waiting.ledger.inherits) else { return };
        match pidfd.try_clone() {
            Ok(pidfd) => {
                let process = Process { pidfd: Arc::new(pidfd), keep, stored: None, watched: false };
                waiting.ledger.processes.insert(id, process);
            }
            Err(error) => tracing::warn!(request = id, %error, "another keeper would not know this process"),
        }
    }

    /// A process has ended, by the word of its parent.
    pub(super) fn exited(&self, id: u64, exit: Exit) {
        let (waiter, process) = {
            let mut waiting = self.lock();
            let kept = waiting.ledger.processes.get(&id).is_some_and(|process| process.keep);
            let process = if kept { None } else { waiting.ledger.processes.remove(&id) };
            (waiting.exits.remove(&id), process)
        };
        if let Some(stored) = process.and_then(|process| process.stored) {
            self.discard(stored);
        }
        if let Some(Awaited { sender, span, .. }) = waiter {
            span.in_scope(|| tracing::debug!(request = id, status = ?exit.status, "an exit is told"));
            let _ = sender.send(exit);
        }
    }

    /// The keeper does not do it, or cannot be asked.
    fn refused(&self, id: u64) {
        let mut waiting = self.lock();
        let given_up = [waiting.forgotten.remove(&id), waiting.unwanted.remove(&id), waiting.cancelled.remove(&id)];
        if given_up.contains(&true) {
            self.seated.notify_waiters();
        }
        // Who asked may have gone.
        waiting.exits.remove(&id);
        waiting.ledger.leases.remove(&id);
        if waiting.ledger.refused(id) {
            // Whoever waits for its place does so in vain.
            self.seated.notify_waiters();
        }
        if waiting.replaying.remove(&id) {
            waiting.leases.remove(&id);
            tracing::error!(request = id, "the new keeper does not take what the one before it held");
        }
    }

    /// How this process ended is of no interest any more.
    pub(super) fn settle(&self, id: u64, place: u64) {
        let process = self.lock().ledger.processes.remove(&id);
        if let Some(stored) = process.and_then(|process| process.stored) {
            return self.discard(stored);
        }
        let head = Message { kind: Ask::Settle as u16, id, x: place, ..Message::default() };
        // Without a keeper nothing is kept.
        let _ = self.post(head, &[], Vec::new());
    }

    /// Close what is stored under this number.
    pub(super) fn discard(&self, id: u64) {
        let slot = {
            let mut waiting = self.lock();
            match waiting.ledger.stored.remove(&id) {
                Some(Entry { slot: Some(slot), .. }) => slot,
                Some(_) => {
                    waiting.unwanted.insert(id);
                    return;
                }
                None => return,
            }
        };
        self.discard_at(id, slot);
    }

    fn discard_at(&self, id: u64, slot: u64) {
        let head = Message { kind: Ask::Discard as u16, id, x: slot, ..Message::default() };
        // Without a keeper nothing is held.
        let _ = self.post(head, &[], Vec::new());
    }

    /// If it is a deadline that was armed, or something that was stored, its slot is known now.
    pub(super) fn placed(self: &Arc<Self>, message: &Message) {
        let (unwanted, forgotten) = {
            let mut waiting = self.lock();
            waiting.replaying.remove(&message.id);
            if let Some(entry) = waiting.ledger.stored.get_mut(&message.id) {
                (entry.slot, entry.before) = (Some(message.x), None);
                self.seated.notify_waiters();
            }
            if let Some(held) = waiting.leases.get_mut(&message.id) {
                held.slot = Some(message.x);
            }
            (waiting.unwanted.contains(&message.id), waiting.forgotten.contains(&message.id))
        };
        if unwanted {
            self.discard_at(message.id, message.x);
        }
        if forgotten {
            self.cancel(message.id, message.x);
        }
        if unwanted || forgotten {
            let mut waiting = self.lock();
            waiting.unwanted.remove(&message.id);
            waiting.forgotten.remove(&message.id);
            self.seated.notify_waiters();
        }
    }

    /// Send what waits, as far as the socket takes it.
    pub(super) fn flush(&self) {
        loop {
            let mut waiting = self.lock();
            let Some((bytes, fds)) = waiting.outbox.pop_front() else {
                // Who takes leave waits for that.
                self.seated.notify_waiters();
                return;
            };
            match transmit(&waiting.socket, &bytes, &fds) {
                Ok(()) => {}
                Err(rustix::io::Errno::AGAIN) => return waiting.outbox.push_front((bytes, fds)),
                Err(error) if waiting.ledger.inherits && is_gone(error) => {
                    return waiting.outbox.push_front((bytes, fds));
                }
                Err(error) => {
                    drop(waiting);
                    let id = Message::decode(&bytes).map_or(0, |message| message.id);
                    self.refused(id);
                    self.answer(id, Err(unsaid(error)));
                }
            }
        }
    }

    /// Nobody will answer any more.
    pub(super) fn bury(&self) {
        self.dead.store(true, Ordering::Release);
        let mut waiting = self.lock();
        waiting.between = false;
        waiting.ledger = Ledger::default();
        waiting.replaying.clear();
        waiting.answers.clear();
        waiting.exits.clear();
        waiting.leases.clear();
        waiting.forgotten.clear();
        waiting.unwanted.clear();
        waiting.cancelled.clear();
        waiting.outbox.clear();
        self.seated.notify_waiters();
    }
}

pub(super) fn failed(message: &Message) -> Error {
    let stage = Stage::ALL.into_iter().find(|stage| *stage as u64 == message.x).unwrap_or(Stage::Make).name();
    let kind = match message.errno {
        libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ENOSPC | libc::EUSERS => ErrorKind::Exhausted,
        libc::EPERM | libc::EACCES => ErrorKind::Permission,
        libc::ESRCH => ErrorKind::State,
        _ => ErrorKind::Creation,
    };
    Error::new(kind, "the process could not be started").with_stage(stage).with_errno(Some(message.errno))
}

pub(super) fn exit_of(message: &Message) -> Exit {
    let record = &message.exit;
    let status = match record.code {
        1 => ExitStatus::Code(record.status),
        code => ExitStatus::Signal { signal: record.status, core_dumped: code == 3 },
    };
    let rusage = Rusage {
        user_us: record.user_us,
        system_us: record.system_us,
        max_rss_kib: record.max_rss_kib,
        minor_faults: record.minor_faults,
        major_faults: record.major_faults,
        voluntary_switches: record.voluntary,
        involuntary_switches: record.involuntary,
    };
    Exit { status, rusage: Some(rusage), at_ns: record.at_ns }
}

pub(super) fn gone() -> Error {
    Error::new(ErrorKind::Keeper, "the keeper is gone")
}

/// What asks for something that the ledger does not know of: it goes to another keeper as it is.
pub(super) fn is_unledgered(kind: u16) -> bool {
    matches!(Ask::from_u16(kind), Some(Ask::Spawn | Ask::Userns))
}

/// Nobody is at the other end any more.
fn is_gone(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    matches!(error, Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN | Errno::CONNREFUSED)
}

pub(super) fn unsaid(error: rustix::io::Errno) -> Error {
    Error::system("cannot speak to the keeper", error).with_kind(ErrorKind::Keeper)
}

pub(super) fn full() -> Error {
    Error::new(ErrorKind::Exhausted, "no room for a descriptor from the keeper")
        .with_errno(Some(libc::EMFILE))
        .with_hint("raise the limit of open files where this service is started (LimitNOFILE=, ulimit -n)")
}

pub(super) fn confused() -> Error {
    Error::new(ErrorKind::Keeper, "the keeper's answer came with other descriptors than it names")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::Client;

    /// Who asked has been dropped, and then the keeper says that there is no process: nobody waits for its end.
    #[test]
    fn a_cancelled_start_that_fails_leaves_no_waiter() {
        let (client, _driver, _theirs) = Client::of_nobody();
        let (sender, receiver) = oneshot::channel();
        client.shared.lock().exits.insert(7, Awaited { sender, span: tracing::Span::none(), keep: false });
        drop(receiver);
        let message = Message { kind: Tell::Failed as u16, id: 7, ..Message::default() };
        client.shared.deliver(Heard { message, brought: Some(None), no_room: false, body: Vec::new() });
        assert!(client.shared.lock().exits.is_empty());
    }
}
