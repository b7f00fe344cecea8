//! A keeper without a runtime: what a trial sends to it is up to the trial, and so is what it gets to see of the answers.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use orangery_runtime::keeper::launch;
use orangery_runtime::plan::wire::{self, Ask, MESSAGE, Message, Purpose, Tell};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::wait;

/// A request whose descriptors are for this.
#[must_use]
pub fn framed(head: Message, purposes: &[Purpose], body: &[u8]) -> Vec<u8> {
    let count = purposes.len() as u16;
    let mut bytes = Message { fds: count, ..head }.encode().to_vec();
    bytes.extend(purposes.iter().map(|purpose| *purpose as u8));
    bytes.resize(wire::body_at(count), 0);
    bytes.extend_from_slice(body);
    bytes
}

/// A keeper that we speak to ourselves.
pub struct Raw {
    /// Our end of its socket.
    pub socket: OwnedFd,
    pidfd: OwnedFd,
    pid: u32,
}

impl Raw {
    /// A new one, that has said that it is ready.
    #[must_use]
    pub fn start() -> Self {
        let launched = launch(None).expect("a keeper");
        Self { socket: launched.socket, pidfd: launched.pidfd, pid: launched.pid }
    }

    /// Send these bytes with these descriptors, whatever they are.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        rustix::net::sendmsg(&self.socket, &[std::io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
            .expect("sent");
    }

    /// Its next message. A descriptor that comes along is closed.
    #[must_use]
    pub fn next(&self) -> Message {
        assert!(wait::readable(&self.socket, wait::PATIENCE), "the keeper says nothing");
        let mut bytes = [0; MESSAGE];
        let (len, _) = rustix::net::recv(&self.socket, &mut bytes, rustix::net::RecvFlags::empty()).expect("received");
        assert_eq!(len, MESSAGE, "the keeper is gone");
        Message::decode(&bytes).expect("our protocol")
    }

    /// Its next message is a refusal: the errno.
    pub fn refused(&self) -> i32 {
        let message = self.next();
        assert_eq!(Tell::from_u16(message.kind), Some(Tell::Failed), "{message:?}");
        message.errno
    }

    /// It answers a good question.
    pub fn lives(&self) {
        let head = Message { kind: Ask::Hello as u16, id: 77, ..Message::default() };
        self.send(&head.encode(), &[]);
        loop {
            let message = self.next();
            if message.id == 77 && Tell::from_u16(message.kind) == Some(Tell::Done) {
                return;
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How many descriptors it has; `None` when this user may not look.
    #[must_use]
    pub fn descriptors(&self) -> Option<usize> {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).ok().map(Iterator::count).filter(|count| *count > 0)
    }

    /// It does nothing any more, until [`Raw::end`].
    pub fn stop(&self) {
        wait::stop(&self.pidfd);
    }

    /// Close the socket, wait until it has ended, reap it.
    pub fn end(self) {
        drop(self.socket);
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::CONT);
        wait::gone(&self.pidfd, "the keeper");
        let id = rustix::process::WaitId::PidFd(self.pidfd.as_fd());
        rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED).expect("reaped");
    }
}
