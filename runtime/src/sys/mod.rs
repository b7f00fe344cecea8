//! System calls that no library offers. The only unsafe code outside the keeper; one operation a block.
#![allow(unsafe_code)]

pub mod datagram;
pub mod notify;
pub mod pty;

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::mount::{OpenTreeFlags, open_tree};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) mod bpf;
mod identity;
mod inherited;
mod inside;
pub(crate) mod probe;
pub(crate) mod stat;

pub use identity::as_ids;
pub use inherited::{Inherited, inherited, taken};
pub(crate) use inside::INSIDE;
pub use inside::open_inside;

/// The number of a request as the C library takes it: musl's is signed, the kernel looks at 32 bits.
#[allow(
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    clippy::allow_attributes,
    reason = "one of both, by the C library"
)]
const fn ioctl(request: u32) -> libc::Ioctl {
    request as libc::Ioctl
}

/// Effective capability `number` of this thread.
#[must_use]
pub fn has_capability(number: u32) -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.bits() & (1 << number) != 0)
}

/// A small file of /proc. Its size is not known before, and without room for it the library begins with 32 bytes, doubling them.
pub(crate) fn text(path: &str) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::with_capacity(4096);
    std::fs::File::open(path)?.read_to_end(&mut text)?;
    Ok(text)
}

/// Every id that ranges are taken from exists in our user namespace: it is the machine's own.
#[must_use]
pub fn has_all_ids() -> bool {
    ["/proc/self/uid_map", "/proc/self/gid_map"].iter().all(|file| {
        let text = text(file).ok().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
        text.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>() == Ok(vec![0, 0, u32::MAX])
    })
}

/// Map the ids of a detached mount tree by a user namespace (5.12).
///
/// # Errors
/// EINVAL where the file system cannot (proc, sysfs, overlay), EPERM without CAP_SYS_ADMIN over it.
pub fn idmap_tree(tree: impl AsFd, userns: impl AsFd, below: bool) -> io::Result<()> {
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let fd = u64::try_from(userns.as_fd().as_raw_fd()).unwrap_or(u64::MAX);
    mount_setattr(tree, &[MOUNT_ATTR_IDMAP, 0, 0, fd], below)
}

/// `attr`: a struct mount_attr.
fn mount_setattr(tree: impl AsFd, attr: &[u64; 4], below: bool) -> io::Result<()> {
    const AT_RECURSIVE: libc::c_uint = 0x8000;
    let flags = if below { AT_RECURSIVE } else { 0 } | libc::AT_EMPTY_PATH.unsigned_abs();
    // SAFETY: `attr` is a struct mount_attr (four u64) of the length given, alive over the call; the path is empty
    // and NUL-terminated; both descriptors are borrowed for the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            attr.as_ptr(),
            size_of_val(attr),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What this is, as a mount of its own (5.12): with nothing above it, and read-only, so that nobody changes through it what belongs to the
/// host. Devices behave as ever.
///
/// # Errors
/// Those of open_tree(2) and mount_setattr(2).
pub fn apart_read_only(what: impl AsFd) -> io::Result<OwnedFd> {
    const READ_ONLY_NO_SUID_NO_EXEC: u64 = 0x1 | 0x2 | 0x8;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(what, "", flags)?;
    mount_setattr(&tree, &[READ_ONLY_NO_SUID_NO_EXEC, 0, 0, 0], false)?;
    Ok(tree)
}

/// The CLONE_NEW* kind of a namespace descriptor (4.11).
///
/// # Errors
/// ENOTTY for anything that is no namespace.
pub fn namespace_type(fd: impl AsFd) -> io::Result<u64> {
    // _IO(0xb7, 3)
    const NS_GET_NSTYPE: libc::Ioctl = ioctl(0xb703);
    // SAFETY: the request takes no argument and writes nothing.
    let kind = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), NS_GET_NSTYPE) };
    u64::try_from(kind).map_err(|_| io::Error::last_os_error())
}

/// The namespace that a pid or user namespace lies in (4.9).
///
/// # Errors
/// EPERM when that is above the caller's own.
pub fn parent_namespace(fd: impl AsFd) -> io::Result<OwnedFd> {
    // _IO(0xb7, 2)
    const NS_GET_PARENT: libc::Ioctl = ioctl(0xb702);
    ask_descriptor(fd, NS_GET_PARENT)
}

/// The user namespace that owns a namespace; of a user namespace the one that it lies in (4.9).
///
/// # Errors
/// EPERM when that is not the caller's own or one below it.
pub fn owner_namespace(fd: impl AsFd) -> io::Result<OwnedFd> {
    // NS_GET_USERNS: _IO(0xb7, 1)
    ask_descriptor(fd, 0xb701)
}

/// The user who has made a user namespace, as the caller's own has him (4.11).
///
/// # Errors
/// EINVAL for anything that is no user namespace.
pub fn namespace_owner(userns: impl AsFd) -> io::Result<u32> {
    // NS_GET_OWNER_UID: _IO(0xb7, 4), with where the answer goes.
    const NS_GET_OWNER_UID: libc::Ioctl = ioctl(0xb704);
    let mut uid: libc::uid_t = u32::MAX;
    // SAFETY: the request writes one `uid_t` to the place that it is given, which is ours.
    let done = unsafe { libc::ioctl(userns.as_fd().as_raw_fd(), NS_GET_OWNER_UID, &raw mut uid) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(uid) }
}

/// The process, in our own pid namespace, that is pid 1 of this one (6.11).
///
/// # Errors
/// ESRCH when there is none any more; ENOTTY before 6.11.
pub fn pid_namespace_init(fd: impl AsFd) -> io::Result<i32> {
    // NS_GET_PID_FROM_PIDNS: _IOR(0xb7, 6, int); the number is the argument itself.
    const REQUEST: libc::Ioctl = ioctl(2 << 30 | 4 << 16 | 0xb706);
    // SAFETY: the request takes a number and writes nothing.
    let pid = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), REQUEST, 1) };
    if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// The network namespace of the process behind a pidfd (6.11).
///
/// # Errors
/// ENOTTY or EINVAL before 6.11; EACCES for a process that this one may not look into.
pub fn network_namespace(pidfd: impl AsFd) -> io::Result<OwnedFd> {
    // PIDFD_GET_NET_NAMESPACE: _IO(0xff, 4)
    ask_descriptor(pidfd, 0xff04)
}

/// The network namespace that a socket lives in (4.9 or so).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over it.
pub fn network_of_socket(socket: impl AsFd) -> io::Result<OwnedFd> {
    // SIOCGSKNS
    ask_descriptor(socket, 0x894c)
}

/// An ioctl without argument that answers with a new, close-on-exec descriptor.
fn ask_descriptor(fd: impl AsFd, request: libc::Ioctl) -> io::Result<OwnedFd> {
    // SAFETY: the requests that are made here take no argument and write nothing.
    let made = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, 0) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor (close-on-exec) for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(made) })
}

/// Send a signal by its number, real-time ones included, which no library names.
///
/// # Errors
/// ESRCH when the process is reaped, EPERM without the right to signal it, EINVAL for a number that is no signal.
pub fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed for the call; without a siginfo the kernel makes one and reads nothing.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), signal, none, 0) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// SIGKILL to the process group that the process behind a pidfd leads (6.9).
///
/// # Errors
/// ESRCH when it leads none, or nobody is in it any more; EINVAL before 6.9.
pub fn pidfd_kill_group(pidfd: impl AsFd) -> io::Result<()> {
    // PIDFD_SIGNAL_PROCESS_GROUP
    const GROUP: libc::c_uint = 4;
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed for the call; without a siginfo the kernel makes one and reads nothing.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_fd().as_raw_fd(), libc::SIGKILL, none, GROUP) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How the process behind a pidfd ended, in wait(2) form, from the kernel's own record (6.15); `None` while it is not
/// reaped yet.
///
/// # Errors
/// ENOTTY or EINVAL before 6.13; EREMOTE from a pid namespace that does not contain it.
pub fn pidfd_exit_status(pidfd: impl AsFd) -> io::Result<Option<i32>> {
    /// `struct pidfd_info` of 6.15: mask, cgroup id, pid, tgid, ppid, eight ids, exit code, coredump fields.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup: u64,
        ids: [u32; 11],
        exit_code: i32,
        rest: [u32; 8],
    }
    const EXIT: u64 = 8;
    let mut info = Info { mask: EXIT, ..Info::default() };
    // _IOWR(0xff, 11, struct pidfd_info)
    let size = u32::try_from(size_of::<Info>()).unwrap_or(0);
    let request = ioctl(3 << 30 | size << 16 | 0xff << 8 | 11);
    // SAFETY: the kernel writes at most the size encoded in the request, which is that of `info`.
    let done = unsafe { libc::ioctl(pidfd.as_fd().as_raw_fd(), request, &raw mut info) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((info.mask & EXIT != 0).then_some(info.exit_code))
}

/// Watch a descriptor on the current tokio runtime. Panics without one, as tokio does.
///
/// # Errors
/// The descriptor cannot be polled (EPERM for regular files), or epoll is full.
pub fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same, open descriptor until it is dropped, and `AsyncFd` unregisters it
    // before that.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(Into::into)
}
