//! Who has connected, and what he has sent.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};

use orangery_runtime::network::PluginMessage as Message;
use orangery_runtime::sys;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, sockopt};

use crate::fatal;

/// CLONE_NEWNET
const NEWNET: u64 = 0x4000_0000;
/// More descriptors than any message has: who sends more is cut off, and refused.
const DESCRIPTORS: usize = 4;

/// A user who may ask.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) uid: u32,
}

impl Peer {
    /// As the kernel knows him: what he was when he connected.
    pub(crate) fn of(connection: &OwnedFd, allow: &[u32]) -> Result<Self, Message> {
        let unknown = |_| fatal("system", "who is there cannot be found out");
        let uid = sockopt::socket_peercred(connection).map_err(unknown)?.uid.as_raw();
        if !allow.contains(&uid) {
            return Err(fatal("permission", format!("user {uid} may not ask for a network here")));
        }
        Ok(Self { uid })
    }

    /// It is a network namespace, of a user namespace that this user has made, and not ours.
    pub(crate) fn owns(&self, namespace: &OwnedFd) -> Result<(), Message> {
        let not_one = || fatal("invalid", "the descriptor is no network namespace");
        if sys::namespace_type(namespace).ok() != Some(NEWNET) {
            return Err(not_one());
        }
        let same = |ours: rustix::fs::Stat| {
            rustix::fs::fstat(namespace)
                .is_ok_and(|theirs| (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
        };
        // Where we cannot look, it could be ours.
        if rustix::fs::stat("/proc/self/ns/net").map_or(true, same) {
            return Err(fatal("permission", "the descriptor is the plugin's own network"));
        }
        let owner = sys::owner_namespace(namespace).and_then(sys::namespace_owner);
        match owner {
            Ok(owner) if owner == self.uid => Ok(()),
            Ok(_) => Err(fatal("permission", format!("the network namespace is not one of user {}", self.uid))),
            Err(_) => Err(fatal("permission", "whose network namespace it is cannot be found out")),
        }
    }
}

/// One message with its descriptors.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) message: Message,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Asked {
    /// The next; `None` at the end. What is no message is refused; the descriptors that came with it are closed.
    pub(crate) fn receive(connection: &OwnedFd, flags: RecvFlags) -> rustix::io::Result<Option<Result<Self, Message>>> {
        let mut buffer = [0u8; Message::MOST];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let socket = connection.as_fd();
        let got = loop {
            match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        };
        let descriptors: Vec<OwnedFd> = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        if got.bytes == 0 && descriptors.is_empty() {
            return Ok(None);
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Ok(Some(Err(fatal("invalid", "the message is too long, or has too many descriptors"))));
        }
        let message = Message::decode(buffer.get(..got.bytes).unwrap_or_default());
        Ok(Some(message.map(|message| Self { message, descriptors }).map_err(|why| fatal("invalid", why))))
    }
}
