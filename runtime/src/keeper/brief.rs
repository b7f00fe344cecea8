//! The conversation with a keeper that is started for one thing: one request at a time, waited for where it is asked. For a
//! program that makes one container or process and goes, without a tokio runtime ([`Client`](super::Client) is for all others).
//!
//! Until [`Brief::leave`] the keeper does what it does for any supervisor that goes, however it goes: kills and removes all
//! that it has started and was told of.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use super::client::{self, expect};
use super::conversation::{confused, failed, full, gone, unsaid};
use super::frame::{frame, receive, sealed, transmit};
use super::launch::launch_here;
use super::ledger::register;
use super::{Heard, Launched};
use crate::error::{Error, ErrorKind};
use crate::plan::Plan;
use crate::plan::wire::{self, Ask, End, ExitRecord, LEAVE_EXIT, MAX_INLINE, Message, Purpose, Tell};

/// After that it is looked why nothing is answered.
const SECOND: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A keeper of one's own. Dropped, it kills and removes everything, which is waited for.
#[derive(Debug)]
pub(crate) struct Brief {
    /// `None` when it has been let go, or is to end.
    socket: Option<OwnedFd>,
    keeper: OwnedFd,
    next: u64,
    /// Requests that were [posted](Brief::post), and not answered yet as far as we have heard.
    owed: usize,
    /// It has ended, and by itself.
    ended: Option<bool>,
}

/// What a request has brought.
struct Answered {
    pid: i32,
    brought: Option<(Purpose, OwnedFd)>,
}

/// A keeper as it was started, without its socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    pub(crate) pid: u32,
    pub(crate) enters_pidns: bool,
    pub(crate) privileged: bool,
}

impl Brief {
    /// Start one, in the user namespace of the one before it, where that is told.
    ///
    /// # Errors
    /// As [`launch`](super::launch).
    pub(crate) fn start(userns: Option<&OwnedFd>) -> Result<(Brief, Nature, Option<crate::plan::idmap::IdMap>), Error> {
        let Launched { socket, pidfd, pid, enters_pidns, privileged, ids } = launch_here(userns)?;
        let brief = Brief { socket: Some(socket), keeper: pidfd, next: 1, owed: 0, ended: None };
        Ok((brief, Nature { pid, enters_pidns, privileged }, ids))
    }

    /// What the end of the conversation means, and where traces go. Its refusal is told by what is asked next.
    pub(crate) fn hello(&mut self, end: End, trace: Option<OwnedFd>) -> Result<(), Error> {
        let (head, body, fds) = client::hello(self.id(), end, trace, None);
        self.post(head, &body, fds)
    }

    /// Remove `name` below `parent` when the conversation ends. Its refusal is told by what is asked next.
    pub(crate) fn register(&mut self, tree: wire::Tree, parent: OwnedFd, name: &str) -> Result<(), Error> {
        let (head, body, fds) = register(self.id(), tree, parent, name);
        self.post(head, &body, fds)
    }

    /// A user namespace with these maps, for id-mapped mounts.
    pub(crate) fn userns(&mut self, uid_map: &str, gid_map: &str) -> Result<OwnedFd, Error> {
        let text = [uid_map.as_bytes(), &[0], gid_map.as_bytes(), &[0]].concat();
        let head = Message { kind: Ask::Userns as u16, id: self.id(), ..Message::default() };
        expect(self.ask(head, &text, Vec::new())?.brought, Purpose::User)
    }

    /// A process by a plan, whose end is told to its next parent alone. It may still fail before its exec.
    pub(crate) fn spawn(&mut self, plan: &Plan, fds: Vec<OwnedFd>) -> Result<(i32, OwnedFd), Error> {
        self.born(plan, fds, LEAVE_EXIT).map(|(_, pid, pidfd)| (pid, pidfd))
    }

    /// One that ends before we go: its end is [told](Brief::end_of) to us, by the number that comes first.
    pub(crate) fn spawn_own(&mut self, plan: &Plan, fds: Vec<OwnedFd>) -> Result<(u64, i32, OwnedFd), Error> {
        self.born(plan, fds, 0)
    }

    fn born(&mut self, plan: &Plan, fds: Vec<OwnedFd>, flags: u16) -> Result<(u64, i32, OwnedFd), Error> {
        let mut fds: Vec<_> = plan.needs().iter().map(|need| need.purpose()).zip(fds).collect();
        let head = Message { kind: Ask::Spawn as u16, id: self.id(), flags, ..Message::default() };
        let answered = if plan.bytes().len() <= MAX_INLINE {
            self.ask(head, plan.bytes(), fds)?
        } else {
            fds.push((Purpose::Plan, sealed(plan.bytes())?));
            let head = Message { flags: flags | 1, x: plan.bytes().len() as u64, ..head };
            self.ask(head, &[], fds)?
        };
        Ok((head.id, answered.pid, expect(answered.brought, Purpose::Pidfd)?))
    }

    /// How the process has ended that was started by this number; `None`: nobody has said so yet, which is when the
    /// [socket](Brief::socket) can be read from again.
    pub(crate) fn end_of(&self, id: u64) -> Result<Option<ExitRecord>, Error> {
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        loop {
            match receive(socket) {
                Ok(Some(heard)) if heard.message.id == id && heard.message.kind == Tell::Exited as u16 => {
                    return Ok(Some(heard.message.exit));
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => return Err(gone()),
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(unsaid(error)),
            }
        }
    }

    /// What the keeper says comes here.
    pub(crate) fn socket(&self) -> Result<BorrowedFd<'_>, Error> {
        self.socket.as_ref().map(AsFd::as_fd).ok_or_else(gone)
    }

    /// The keeper goes, and everything that it has started is a child of our nearest subreaper's, ended or not.
    ///
    /// # Errors
    /// The keeper does not answer: then it is dead, or kills everything as it goes.
    pub(crate) fn leave(&mut self) -> Result<(), Error> {
        self.hello(End::Release, None)?;
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        // With it goes the end of the conversation, so that the keeper wakes once; its answer waits until it has gone.
        rustix::net::shutdown(socket, rustix::net::Shutdown::Write).map_err(unsaid)?;
        self.ended();
        self.settle()?;
        self.socket = None;
        Ok(())
    }

    /// A program that it has started may have stopped it.
    pub(crate) fn wake(&self) {
        let _ = pidfd_send_signal(&self.keeper, Signal::CONT);
    }

    /// Close our end, and wait until it has ended. `false`: somebody has killed it, and it has killed and removed nothing.
    pub(crate) fn end(&mut self) -> bool {
        self.socket = None;
        self.ended()
    }

    /// Wait until it has ended, which it does by itself unless somebody has killed it.
    fn ended(&mut self) -> bool {
        self.wake();
        let keeper = &self.keeper;
        *self.ended.get_or_insert_with(|| {
            loop {
                match waitid(WaitId::PidFd(keeper.as_fd()), WaitIdOptions::EXITED) {
                    Err(rustix::io::Errno::INTR) => {}
                    ended => {
                        return !ended
                            .is_ok_and(|ended| ended.is_some_and(|status| status.killed() || status.dumped()));
                    }
                }
            }
        })
    }

    fn id(&mut self) -> u64 {
        let id = self.next;
        self.next += 1;
        id
    }

    /// Ask for what brings nothing, and go on: a change of process for each answer would be most of what it costs. What was asked
    /// counts from here on, also if we are killed: the keeper reads all of it before it takes our end for one.
    fn post(&mut self, head: Message, body: &[u8], fds: Vec<(Purpose, OwnedFd)>) -> Result<(), Error> {
        self.say(head, body, fds)?;
        self.owed += 1;
        Ok(())
    }

    /// Wait until all that was posted is done.
    ///
    /// # Errors
    /// The first refusal of it.
    pub(crate) fn settle(&mut self) -> Result<(), Error> {
        let mut settled = Ok(());
        while self.owed > 0 {
            let heard = self.hear()?;
            // How something ended that was asked for before: its own report has told.
            if heard.message.kind != Tell::Exited as u16 {
                self.owed -= 1;
                settled = settled.and(answered(heard).map(drop));
            }
        }
        settled
    }

    /// Nothing is asked for before all is done that it may depend on.
    fn ask(&mut self, head: Message, body: &[u8], fds: Vec<(Purpose, OwnedFd)>) -> Result<Answered, Error> {
        self.settle()?;
        self.say(head, body, fds)?;
        loop {
            let heard = self.hear()?;
            if heard.message.id == head.id {
                return answered(heard);
            }
        }
    }

    fn say(&self, head: Message, body: &[u8], fds: Vec<(Purpose, OwnedFd)>) -> Result<(), Error> {
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        if fds.len() > wire::MAX_FDS {
            let what = format!("{} descriptors in one request; {} are possible", fds.len(), wire::MAX_FDS);
            return Err(Error::new(ErrorKind::Exhausted, what));
        }
        let (bytes, fds) = frame(head, body, fds);
        loop {
            match transmit(socket, &bytes, &fds) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => wait(socket, PollFlags::OUT)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(unsaid(error)),
            }
        }
    }

    /// The next that the keeper says.
    fn hear(&self) -> Result<Heard, Error> {
        let socket = self.socket.as_ref().ok_or_else(gone)?;
        loop {
            match receive(socket) {
                Ok(Some(heard)) => return Ok(heard),
                Ok(None) => return Err(gone()),
                Err(rustix::io::Errno::AGAIN) => {
                    // What it was asked to start may have stopped it before it could answer.
                    if !waited(socket, PollFlags::IN, Some(&SECOND))? {
                        self.wake();
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(unsaid(error)),
            }
        }
    }
}

impl Drop for Brief {
    fn drop(&mut self) {
        self.end();
    }
}

fn wait(socket: &OwnedFd, what: PollFlags) -> Result<(), Error> {
    waited(socket, what, None).map(drop)
}

/// `false`: so long nothing has come.
fn waited(socket: &OwnedFd, what: PollFlags, long: Option<&Timespec>) -> Result<bool, Error> {
    match poll(&mut [PollFd::new(socket, what)], long) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(true),
        Err(error) => Err(unsaid(error)),
    }
}

fn answered(heard: Heard) -> Result<Answered, Error> {
    match (Tell::from_u16(heard.message.kind), heard.brought) {
        (_, None) if heard.no_room => Err(full()),
        (Some(Tell::Done), Some(brought)) => Ok(Answered { pid: heard.message.pid, brought }),
        (Some(Tell::Failed), Some(_)) => Err(failed(&heard.message)),
        _ => Err(confused()),
    }
}
