//! The ioctls of a seccomp listener (`seccomp_unotify(2)`, 5.0).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::seccomp::{Answer, Asked};

/// `struct seccomp_notif` with its `struct seccomp_data`.
#[repr(C)]
#[derive(Default)]
struct Notif {
    id: u64,
    pid: u32,
    flags: u32,
    number: u32,
    arch: u32,
    instruction: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECV: libc::Ioctl = super::ioctl(0xc050_2100);
const SEND: libc::Ioctl = super::ioctl(0xc018_2101);
const ID_VALID: libc::Ioctl = super::ioctl(0x4008_2102);

fn done(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Take the next question. **Blocks when there is none**, O_NONBLOCK or not: poll first, and be the only reader.
///
/// # Errors
/// ENOENT when its process was killed before this.
pub fn receive(listener: impl AsFd) -> io::Result<Asked> {
    // The kernel wants zeros (EINVAL otherwise).
    let mut notif = Notif::default();
    // SAFETY: the request writes one `struct seccomp_notif`, whose size it encodes and which lives over the call.
    done(unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), RECV, &raw mut notif) })?;
    let Notif { id, pid, number, arch, args, .. } = notif;
    Ok(Asked { id, pid, arch, number, args })
}

/// Whether a question still waits.
///
/// # Errors
/// ENOENT when it does not.
pub fn valid(listener: impl AsFd, id: u64) -> io::Result<()> {
    // SAFETY: the request reads one u64, which lives over the call.
    done(unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), ID_VALID, &raw const id) })
}

/// Answer a question.
///
/// # Errors
/// ENOENT when it does not wait any more.
pub fn answer(listener: impl AsFd, id: u64, answer: Answer) -> io::Result<()> {
    let mut response = match answer {
        Answer::Errno(errno) => Response { id, value: 0, error: -i32::from(errno), flags: 0 },
        Answer::Value(value) => Response { id, value, error: 0, flags: 0 },
        // SECCOMP_USER_NOTIF_FLAG_CONTINUE
        Answer::Continue => Response { id, value: 0, error: 0, flags: 1 },
    };
    // SAFETY: the request reads one `struct seccomp_notif_resp`, whose size it encodes and which lives over the call.
    done(unsafe { libc::ioctl(listener.as_fd().as_raw_fd(), SEND, &raw mut response) })
}
