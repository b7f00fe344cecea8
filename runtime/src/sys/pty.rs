//! Pseudoterminals by descriptor alone: a path could be another terminal's by the time it is opened.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Unlock the slave of a master and open it (`TIOCSPTLCK`, `TIOCGPTPEER`, 4.13), as no controlling terminal of ours.
///
/// # Errors
/// ENOTTY for anything that is no master, EIO when its devpts is gone.
pub fn slave(master: impl AsFd) -> io::Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one int, which lives over the call; the descriptor is borrowed for it.
    let done = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the request takes open flags by value and returns a new descriptor.
    let fd = unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
