//! Messages as they travel on the keeper's socket: head, purposes, body, descriptors.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::error::Error;
use crate::plan::wire::{DRAINED, LABEL, MAX_FDS, MESSAGE, Message, Purpose, WITH_ONE, body_at};

/// Descriptors that an answer may bring before the kernel cuts; one is all that is ever right.
const MOST: usize = 4;

/// One message from the keeper.
pub(crate) struct Heard {
    pub(crate) message: Message,
    /// `None`: the descriptors were not what the message says, and are closed.
    pub(crate) brought: Option<Option<(Purpose, OwnedFd)>>,
    /// There was no room for them here.
    pub(crate) no_room: bool,
    /// What stands behind head and purposes.
    pub(crate) body: Vec<u8>,
}

/// The bytes of a request, and its descriptors in the order of their purposes.
pub(super) fn frame(head: Message, body: &[u8], fds: Vec<(Purpose, OwnedFd)>) -> (Vec<u8>, Vec<OwnedFd>) {
    let count = u16::try_from(fds.len()).unwrap_or(u16::MAX);
    let mut bytes = Message { fds: count, ..head }.encode().to_vec();
    bytes.reserve(body_at(count).saturating_sub(MESSAGE) + body.len());
    bytes.extend(fds.iter().map(|(purpose, _)| *purpose as u8));
    bytes.resize(body_at(count), 0);
    bytes.extend_from_slice(body);
    (bytes, fds.into_iter().map(|(_, fd)| fd).collect())
}

/// A memfd that cannot change any more.
pub(super) fn sealed(bytes: &[u8]) -> Result<OwnedFd, Error> {
    use rustix::fs::{MemfdFlags, SealFlags};
    use std::io::Write as _;
    let failed = |error: std::io::Error| Error::system("cannot make a memfd for a large plan", error);
    let fd = rustix::fs::memfd_create("orangery-plan", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
        .map_err(|error| failed(error.into()))?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes).map_err(failed)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals).map_err(|error| failed(error.into()))?;
    Ok(file.into())
}

pub(super) fn transmit(socket: &OwnedFd, bytes: &[u8], fds: &[OwnedFd]) -> Result<(), rustix::io::Errno> {
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !borrowed.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&borrowed));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags).map(drop)
}

/// One message; `None` at the end.
pub(crate) fn receive(socket: &OwnedFd) -> Result<Option<Heard>, rustix::io::Errno> {
    receive_with(socket, RecvFlags::empty())
}

/// The next message, which stays where it is, with a duplicate of its descriptor.
pub(crate) fn peek(socket: &OwnedFd) -> Result<Option<Heard>, rustix::io::Errno> {
    receive_with(socket, RecvFlags::PEEK)
}

fn receive_with(socket: &OwnedFd, how: RecvFlags) -> Result<Option<Heard>, rustix::io::Errno> {
    let mut buffer = [0; WITH_ONE + DRAINED + LABEL];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT | how;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, flags)?;
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let bytes = buffer.get(..got.bytes).unwrap_or(&buffer);
    let message = Message::decode(bytes).unwrap_or_default();
    let whole = !got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    let purpose = if whole { message.tells_with(bytes, fds.len()) } else { None };
    let brought = purpose.map(|purpose| purpose.zip(fds.pop()));
    // The kernel cuts where our table is full, and where more come than we take.
    let no_room = got.flags.contains(ReturnFlags::CTRUNC) && usize::from(message.fds) <= MOST;
    let body = bytes.get(body_at(message.fds)..).unwrap_or_default().to_vec();
    Ok(Some(Heard { message, brought, no_room, body }))
}
