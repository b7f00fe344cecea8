//! Calls that change nothing, made to see what the kernel knows.
#![allow(unsafe_code)]

use std::io;

/// A call that exists says EINVAL, EFAULT or EBADF to arguments that make no sense.
pub(crate) fn refusable(number: libc::c_long, args: [libc::c_long; 3]) -> io::Result<()> {
    // SAFETY: null pointers with length 0 and descriptor -1: the kernel reads and writes no memory of ours and changes
    // nothing; it only says why it refuses.
    let done = unsafe { libc::syscall(number, args[0], args[1], args[2], 0 as libc::c_long, 0 as libc::c_long) };
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        _ if done >= 0 => Ok(()),
        Some(libc::EINVAL | libc::EFAULT | libc::EBADF) => Ok(()),
        _ => Err(error),
    }
}

/// RLIMIT_NPROC counts a user's processes in each user namespace apart: since 5.14, which nothing shows but what came with it
/// or right after it. `process_mrelease` (5.15) is in every build.
pub(crate) fn counts_by_namespace() -> bool {
    refusable(libc::SYS_process_mrelease, [-1, 0, 0]).is_ok()
}

/// The version of landlock that this kernel has and that is switched on; 0: none.
pub(crate) fn landlock() -> u32 {
    // SAFETY: no attributes and LANDLOCK_CREATE_RULESET_VERSION: the kernel answers a number and makes nothing.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0 as libc::c_long, 0 as libc::c_long, 1) };
    u32::try_from(version).unwrap_or(0)
}

/// On the last descriptor number that there is, which nobody has.
pub(crate) fn close_range() -> io::Result<()> {
    let last = libc::c_long::from(u32::MAX);
    // SAFETY: marks descriptor 2^32 - 1, which cannot exist, close-on-exec: no descriptor is closed or changed.
    let done = unsafe { libc::syscall(libc::SYS_close_range, last, last, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
