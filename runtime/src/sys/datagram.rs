//! Datagrams with the process that has sent them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The kernel's header, aligned, and room for one `struct ucred`: credentials come first, so that there is room for no
/// descriptor. What is sent along is closed by the kernel and never enters this process.
const CONTROL: usize = 4;
const HEADER: usize = 16;

/// What has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// How much of it is in the buffer.
    pub len: usize,
    /// The rest had no room and is gone.
    pub cut: bool,
    /// Its sender, as the kernel knows it; `None` where it is outside of our pid namespace.
    pub sender: Option<i32>,
    /// Descriptors came along, and are closed.
    pub descriptors: bool,
}

/// The next datagram of a unix socket with SO_PASSCRED. Never waits.
///
/// # Errors
/// EAGAIN when there is none.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut control = [0u64; CONTROL];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all fields of a msghdr are numbers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // Its type is the C library's.
    message.msg_controllen = size_of_val(&control) as _;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the message points to one part, which is the buffer, and to the control words, each with its length; all of
    // them live over the call, and nobody else uses them.
    let got = unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC) };
    let len = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    Ok(Datagram {
        len,
        cut: message.msg_flags & libc::MSG_TRUNC != 0,
        sender: sender(&control),
        descriptors: message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// From a `struct cmsghdr` (length, level, type) and the `struct ucred` (pid, uid, gid) behind it.
fn sender(control: &[u64; CONTROL]) -> Option<i32> {
    let mut bytes = [0; CONTROL * 8];
    for (eight, word) in bytes.chunks_exact_mut(8).zip(control) {
        eight.copy_from_slice(&word.to_ne_bytes());
    }
    let number = |at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let credentials = number(8)? == libc::SOL_SOCKET && number(12)? == libc::SCM_CREDENTIALS;
    number(HEADER).filter(|pid| credentials && *pid > 0)
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::unix::net::UnixDatagram;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[test]
    fn the_sender_is_told_and_no_descriptor_comes_in() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        rustix::net::sockopt::set_socket_passcred(&ours, true).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(receive(&ours, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        theirs.send(b"four").unwrap();
        let own = Some(std::process::id().cast_signed());
        let whole = Datagram { len: 4, cut: false, sender: own, descriptors: false };
        assert_eq!((receive(&ours, &mut buffer).unwrap(), &buffer), (whole, b"four"));

        // The write end goes along, and nobody has it afterwards.
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [write.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&theirs, &[IoSlice::new(b"longer")], &mut control, SendFlags::empty()).unwrap();
        drop(write);
        let cut = Datagram { len: 4, cut: true, sender: own, descriptors: true };
        assert_eq!((receive(&ours, &mut buffer).unwrap(), &buffer), (cut, b"long"));
        assert_eq!(rustix::io::read(&read, &mut buffer).unwrap(), 0, "its last end is closed");
    }

    #[test]
    fn a_socket_that_does_not_ask_for_credentials_gets_none() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.send(b"x").unwrap();
        assert_eq!(receive(&ours, &mut [0; 4]).unwrap().sender, None);
    }
}
