//! The two calls of bpf(2) that decide which devices a cgroup of version 2 may use.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// BPF_PROG_LOAD, BPF_PROG_ATTACH
const LOAD: libc::c_int = 5;
const ATTACH: libc::c_int = 8;
/// BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE
const KIND: u32 = 15;
const AT: u32 = 6;
/// BPF_F_ALLOW_MULTI: beside those of the groups above it.
const MULTI: u32 = 2;

/// The head of `union bpf_attr` of a load; what is behind it is zero.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    version_and_flags: [u32; 2],
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    at: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads as many bytes as it is told, which are those of a structure that lives over the call; what that
    // points to lives as long (see the callers).
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

/// Before 5.11 all programs of a user are counted against RLIMIT_MEMLOCK, by default 16 of them.
fn with_unbounded_memlock<T>(again: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Memlock);
    setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None })?;
    let done = again();
    let _ = setrlimit(Resource::Memlock, before);
    done
}

/// Let `program`, the instructions of a device program, decide in this cgroup for as long as that is there.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN (or CAP_BPF and CAP_NET_ADMIN) over the machine; EINVAL for a kernel without it, or for a
/// program that the kernel does not take.
pub(crate) fn attach_device_program(cgroup: impl AsFd, program: &[u64]) -> io::Result<()> {
    let count = u32::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let load = Load {
        kind: KIND,
        count,
        instructions: program.as_ptr() as u64,
        license: c"Apache".as_ptr() as u64,
        log: [0; 2],
        version_and_flags: [0; 2],
    };
    let made = bpf(LOAD, &load).or_else(|error| {
        if error.raw_os_error() == Some(libc::EPERM) { with_unbounded_memlock(|| bpf(LOAD, &load)) } else { Err(error) }
    })?;
    // SAFETY: the kernel has just made it for us (close-on-exec, as it makes them all); nobody else knows it.
    let loaded = unsafe { OwnedFd::from_raw_fd(libc::c_int::try_from(made).map_err(io::Error::other)?) };
    let number = |fd: libc::c_int| u32::try_from(fd).map_err(io::Error::other);
    let (target, program) = (number(cgroup.as_fd().as_raw_fd())?, number(loaded.as_raw_fd())?);
    bpf(ATTACH, &Attach { target, program, at: AT, flags: MULTI }).map(drop)
}
