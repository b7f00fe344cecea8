//! What both sides of the conversation share: who waits for what, and what becomes of each thing that the keeper says.

use std::collections::{HashMap, HashSet, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot, watch};

use super::frame::{Heard, frame, transmit};
use super::lease::Done;
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
}

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) answers: HashMap<u64, oneshot::Sender<Answer>>,
    pub(super) exits: HashMap<u64, Awaited>,
    /// What is armed, and who hears of it.
    pub(super) leases: HashMap<u64, Held>,
    /// Given up before the keeper has said where it is: cancelled as soon as it says so.
    pub(super) forgotten: HashSet<u64>,
    /// The same of what was stored.
    pub(super) unwanted: HashSet<u64>,
    /// Started for somebody who has gone: nobody else settles their ends.
    pub(super) cancelled: HashSet<u64>,
    /// Deadlines of an earlier supervisor that were carried out and that nobody has claimed yet; `None`: nobody will.
    pub(super) early: Option<HashMap<u64, Done>>,
    pub(super) outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

pub(super) struct Shared {
    pub(super) socket: OwnedFd,
    pub(super) waiting: Mutex<Waiting>,
    pub(super) next: AtomicU64,
    pub(super) dead: AtomicBool,
    /// The outbox has something, or the client wants the conversation to end.
    pub(super) wake: Notify,
    pub(super) closing: AtomicBool,
    /// The keeper goes on when the conversation ends.
    pub(super) keeps: AtomicBool,
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

    /// Take a deadline back, wherever it is by now.
    pub(super) fn cancel(&self, id: u64, slot: u64) {
        let head = Message { kind: Ask::Cancel as u16, id, x: slot, ..Message::default() };
        // Without a keeper there is nothing to cancel.
        let _ = self.post(head, &[], Vec::new());
    }

    /// Send a request, or put it behind those that wait.
    pub(super) fn post(&self, head: Message, body: &[u8], fds: Vec<(Purpose, OwnedFd)>) -> Result<(), Error> {
        if self.dead.load(Ordering::Acquire) {
            return Err(gone());
        }
        if fds.len() > MAX_FDS {
            return Err(Error::new(
                ErrorKind::Exhausted,
                format!("{} descriptors in one request; {MAX_FDS} are possible", fds.len()),
            ));
        }
        let (bytes, fds) = frame(head, body, fds);
        let mut waiting = self.lock();
        if waiting.outbox.is_empty() {
            match transmit(&self.socket, &bytes, &fds) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => {}
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
                if !matches!(brought, Some(Some((Purpose::Pidfd, _)))) {
                    self.end_unowned(message);
                }
                let brought = brought.flatten().map(|(purpose, fd)| (purpose, Unclaimed(Some(fd))));
                self.answer(message.id, Ok(Answered { pid: message.pid, slot: message.x, brought }));
                // Afterwards: who gives up in between has said so by then.
                self.placed(message);
            }
            Some(Tell::Failed) => {
                let mut waiting = self.lock();
                waiting.forgotten.remove(&message.id);
                waiting.unwanted.remove(&message.id);
                waiting.cancelled.remove(&message.id);
                // Who asked may have gone.
                waiting.exits.remove(&message.id);
                drop(waiting);
                self.answer(message.id, Err(failed(message)));
            }
            Some(Tell::Exited) => {
                let (waiter, cancelled) = {
                    let mut waiting = self.lock();
                    (waiting.exits.remove(&message.id), waiting.cancelled.remove(&message.id))
                };
                if cancelled {
                    self.settle(message.id, message.x);
                }
                if let Some(Awaited { sender, span }) = waiter {
                    let exit = exit_of(message);
                    span.in_scope(
                        || tracing::debug!(request = message.id, status = ?exit.status, "the keeper tells an exit"),
                    );
                    let _ = sender.send(exit);
                }
            }
            Some(Tell::Fired) => {
                let mut waiting = self.lock();
                if let Some(held) = waiting.leases.get(&message.id) {
                    held.done.send_replace(Done::of(message));
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
    pub(super) fn end_unowned(self: &Arc<Self>, message: &Message) {
        let mut waiting = self.lock();
        if waiting.exits.remove(&message.id).is_some() {
            waiting.cancelled.insert(message.id);
            drop(waiting);
            let head = Message { kind: Ask::Kill as u16, id: message.id, ..Message::default() };
            // Without a keeper the supervisor's end is the process's.
            let _ = self.post(head, &[], Vec::new());
        }
    }

    /// How this process ended is of no interest any more.
    pub(super) fn settle(&self, id: u64, place: u64) {
        let head = Message { kind: Ask::Settle as u16, id, x: place, ..Message::default() };
        // Without a keeper nothing is kept.
        let _ = self.post(head, &[], Vec::new());
    }

    /// Close what is stored there.
    pub(super) fn discard(&self, id: u64, slot: u64) {
        let head = Message { kind: Ask::Discard as u16, id, x: slot, ..Message::default() };
        // Without a keeper nothing is held.
        let _ = self.post(head, &[], Vec::new());
    }

    /// If it is a deadline that was armed, or something that was stored, its slot is known now.
    pub(super) fn placed(self: &Arc<Self>, message: &Message) {
        if self.lock().unwanted.remove(&message.id) {
            self.discard(message.id, message.x);
        }
        let forgotten = {
            let mut waiting = self.lock();
            if let Some(held) = waiting.leases.get_mut(&message.id) {
                held.slot = Some(message.x);
            }
            waiting.forgotten.remove(&message.id)
        };
        if forgotten {
            self.cancel(message.id, message.x);
        }
    }

    /// Send what waits, as far as the socket takes it.
    pub(super) fn flush(&self) {
        loop {
            let mut waiting = self.lock();
            let Some((bytes, fds)) = waiting.outbox.pop_front() else { return };
            match transmit(&self.socket, &bytes, &fds) {
                Ok(()) => {}
                Err(rustix::io::Errno::AGAIN) => return waiting.outbox.push_front((bytes, fds)),
                Err(error) => {
                    drop(waiting);
                    let id = Message::decode(&bytes).map_or(0, |message| message.id);
                    self.answer(id, Err(unsaid(error)));
                }
            }
        }
    }

    /// Nobody will answer any more.
    pub(super) fn bury(&self) {
        self.dead.store(true, Ordering::Release);
        let mut waiting = self.lock();
        waiting.answers.clear();
        waiting.exits.clear();
        waiting.leases.clear();
        waiting.forgotten.clear();
        waiting.unwanted.clear();
        waiting.cancelled.clear();
        waiting.outbox.clear();
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
    use crate::keeper::{Client, Launched};
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    /// Who asked has been dropped, and then the keeper says that there is no process: nobody waits for its end.
    #[test]
    fn a_cancelled_start_that_fails_leaves_no_waiter() {
        let (ours, _theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).expect("a pair");
        let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
        let launched = Launched {
            socket: ours,
            pidfd: pidfd.expect("ours"),
            pid: 0,
            enters_pidns: false,
            privileged: false,
            range: None,
        };
        let (client, _driver) = Client::new(launched);
        let (sender, receiver) = oneshot::channel();
        client.shared.lock().exits.insert(7, Awaited { sender, span: tracing::Span::none() });
        drop(receiver);
        let message = Message { kind: Tell::Failed as u16, id: 7, ..Message::default() };
        client.shared.deliver(Heard { message, brought: Some(None), no_room: false, body: Vec::new() });
        assert!(client.shared.lock().exits.is_empty());
    }
}
