//! Handing a descriptor to whoever listens at a socket: the master of a terminal (`--console-socket`), a pidfd
//! (`--pidfd-socket`), the listener of a filter.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use orangery_runtime::ProcessSpec;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};

use crate::failure::Failure;

/// How long somebody may take to take it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Send `fd` to who listens at `path`, with `name`, as the protocol wants a byte at least.
///
/// # Errors
/// Nobody listens there; `option` is what named the path.
pub(crate) fn send(option: &str, path: &Path, name: &[u8], fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let failed = |error: rustix::io::Errno| Failure::system(format!("{option} {}", path.display()), error);
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    // Who listens and never comes to accept anybody is not waited for.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE)).map_err(failed)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let sent =
        rustix::net::sendmsg(&socket, &[IoSlice::new(name)], &mut control, SendFlags::NOSIGNAL).map_err(failed)?;
    // A signal has come when a part of it was on its way.
    if sent < name.len() {
        return Err(Failure::new(format!("{option} {}: it was not taken as a whole", path.display())));
    }
    Ok(())
}

/// Who waits at the socket would wait for ever, without a terminal to be sent.
///
/// # Errors
/// There is a socket and no terminal.
pub(crate) fn is_for_a_terminal(socket: Option<&Path>, process: &ProcessSpec) -> Result<(), Failure> {
    match socket {
        Some(path) if process.tty.is_none() => {
            let path = path.display();
            Err(Failure::new(format!(
                "--console-socket {path}: the process has no terminal whose master could be sent"
            )))
        }
        _ => Ok(()),
    }
}
