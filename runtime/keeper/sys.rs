//! System calls, each a thin wrapper that returns `Result<_, errno>`. The only callers of `arch::syscall6`.
//!
//! Safety of the whole file: every pointer handed to the kernel comes from a live reference or from a plan that
//! `wire::check` has accepted, and every length is that of the same object.

use crate::arch::{EpollEvent, nr, syscall6};

pub(crate) use crate::wire::HIGH;

pub(crate) type Errno = i32;
pub(crate) type Res<T> = Result<T, Errno>;

pub(crate) const EPERM: Errno = 1;
pub(crate) const EINTR: Errno = 4;
pub(crate) const ENOENT: Errno = 2;
pub(crate) const E2BIG: Errno = 7;
pub(crate) const EAGAIN: Errno = 11;
pub(crate) const EACCES: Errno = 13;
pub(crate) const EBUSY: Errno = 16;
pub(crate) const EEXIST: Errno = 17;
pub(crate) const EXDEV: Errno = 18;
pub(crate) const ENODEV: Errno = 19;
pub(crate) const ENOTDIR: Errno = 20;
pub(crate) const EINVAL: Errno = 22;
pub(crate) const EMFILE: Errno = 24;
pub(crate) const ENOSPC: Errno = 28;
pub(crate) const EPIPE: Errno = 32;
pub(crate) const ENAMETOOLONG: Errno = 36;
pub(crate) const ENOSYS: Errno = 38;
pub(crate) const ELOOP: Errno = 40;
pub(crate) const EPROTO: Errno = 71;
pub(crate) const ECONNRESET: Errno = 104;
pub(crate) const ETIMEDOUT: Errno = 110;
pub(crate) const EDQUOT: Errno = 122;
pub(crate) const ECANCELED: Errno = 125;

pub(crate) const AT_FDCWD: i32 = -100;
pub(crate) const AT_EMPTY_PATH: usize = 0x1000;
pub(crate) const O_CLOEXEC: usize = 0o2_000_000;
pub(crate) const O_PATH: usize = 0o10_000_000;
pub(crate) const O_WRONLY: usize = 1;
pub(crate) const SHUT_WR: usize = 1;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_DIRECTORY: usize = 0o200_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: usize = 0o40_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_NOFOLLOW: usize = 0o400_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_NOFOLLOW: usize = 0o100_000;

pub(crate) fn call(number: usize, args: [usize; 6]) -> Res<usize> {
    // SAFETY: see the file's header.
    let result = unsafe { syscall6(number, args) };
    if result < 0 { Err(-(result as i32)) } else { Ok(result as usize) }
}

fn retry(number: usize, args: [usize; 6]) -> Res<usize> {
    loop {
        match call(number, args) {
            Err(EINTR) => {}
            other => return other,
        }
    }
}

pub(crate) fn exit_group(code: i32) -> ! {
    loop {
        let _ = call(nr::EXIT_GROUP, [code as usize, 0, 0, 0, 0, 0]);
    }
}

/// A C string inside a checked plan, or a literal that ends in NUL.
#[derive(Clone, Copy)]
pub(crate) struct CStr(pub(crate) *const u8);

impl CStr {
    pub(crate) const EMPTY: CStr = CStr(c"".as_ptr().cast());
}

pub(crate) fn lit(text: &'static core::ffi::CStr) -> CStr {
    CStr(text.as_ptr().cast())
}

pub(crate) fn close(fd: i32) {
    let _ = call(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]);
}

pub(crate) fn close_range(first: usize, last: usize, flags: usize) -> Res<()> {
    call(nr::CLOSE_RANGE, [first, last, flags, 0, 0, 0]).map(drop)
}

pub(crate) fn read(fd: i32, buf: &mut [u8]) -> Res<usize> {
    retry(nr::READ, [fd as usize, buf.as_mut_ptr() as usize, buf.len(), 0, 0, 0])
}

pub(crate) fn write(fd: i32, buf: &[u8]) -> Res<usize> {
    retry(nr::WRITE, [fd as usize, buf.as_ptr() as usize, buf.len(), 0, 0, 0])
}

pub(crate) fn openat(dir: i32, path: CStr, flags: usize, mode: usize) -> Res<i32> {
    retry(nr::OPENAT, [dir as usize, path.0 as usize, flags | O_CLOEXEC, mode, 0, 0]).map(|fd| fd as i32)
}

pub(crate) fn openat2(dir: i32, path: CStr, flags: u64, mode: u64, resolve: u64) -> Res<i32> {
    let how = [flags | O_CLOEXEC as u64, mode, resolve];
    let mut tries = 0;
    loop {
        let args = [dir as usize, path.0 as usize, how.as_ptr() as usize, size_of_val(&how), 0, 0];
        match call(nr::OPENAT2, args) {
            // A rename somewhere below a RESOLVE_IN_ROOT walk; bounded, so that nobody can hold us here.
            Err(EAGAIN | EINTR) if tries < 128 => tries += 1,
            other => return other.map(|fd| fd as i32),
        }
    }
}

pub(crate) fn dup_high(fd: i32) -> Res<i32> {
    // F_DUPFD_CLOEXEC
    call(nr::FCNTL, [fd as usize, 1030, HIGH as usize, 0, 0, 0]).map(|fd| fd as i32)
}

const _: () = assert!(HIGH as usize >= FDS + 16, "a request's descriptors and what is opened for it lie below HIGH");

/// Both ends of a pipe, reading one first.
pub(crate) fn pipe() -> Res<[i32; 2]> {
    let mut ends = [-1i32; 2];
    call(nr::PIPE2, [ends.as_mut_ptr() as usize, O_CLOEXEC, 0, 0, 0, 0])?;
    Ok(ends)
}

/// Two ends of a stream.
pub(crate) fn pair() -> Res<[i32; 2]> {
    let mut ends = [-1i32; 2];
    // AF_UNIX, SOCK_STREAM
    call(nr::SOCKETPAIR, [1, 1 | O_CLOEXEC, 0, ends.as_mut_ptr() as usize, 0, 0])?;
    Ok(ends)
}

pub(crate) fn dup3(from: i32, to: i32, cloexec: bool) -> Res<()> {
    call(nr::DUP3, [from as usize, to as usize, if cloexec { O_CLOEXEC } else { 0 }, 0, 0, 0]).map(drop)
}

pub(crate) fn clear_cloexec(fd: i32) -> Res<()> {
    // F_SETFD 0
    call(nr::FCNTL, [fd as usize, 2, 0, 0, 0, 0]).map(drop)
}

pub(crate) fn setns(fd: i32, kind: usize) -> Res<()> {
    call(nr::SETNS, [fd as usize, kind, 0, 0, 0, 0]).map(drop)
}

pub(crate) fn unshare(flags: usize) -> Res<()> {
    call(nr::UNSHARE, [flags, 0, 0, 0, 0, 0]).map(drop)
}

pub(crate) fn prctl(option: usize, a: usize) -> Res<usize> {
    call(nr::PRCTL, [option, a, 0, 0, 0, 0])
}

/// PR_SET_PDEATHSIG
pub(crate) const PDEATHSIG: usize = 1;

pub(crate) fn now_ns() -> u64 {
    let mut time = [0i64; 2];
    let _ = call(nr::CLOCK_GETTIME, [1, time.as_mut_ptr() as usize, 0, 0, 0, 0]);
    (time[0] as u64).wrapping_mul(1_000_000_000).wrapping_add(time[1] as u64)
}

/// Anonymous memory; `shared` pages stay shared with children.
pub(crate) fn mmap(len: usize, shared: bool) -> Res<*mut u8> {
    // PROT_READ|PROT_WRITE, MAP_ANONYMOUS|MAP_NORESERVE|(SHARED or PRIVATE)
    let flags = 0x20 | 0x4000 | if shared { 1 } else { 2 };
    call(nr::MMAP, [0, len, 3, flags, usize::MAX, 0]).map(|at| at as *mut u8)
}

/// `len` bytes to grow down through, with a page below them that nobody may touch.
pub(crate) fn stack(len: usize) -> Res<*mut u8> {
    const PAGE: usize = 64 << 10;
    let at = mmap(PAGE + len, false)?;
    call(nr::MPROTECT, [at as usize, PAGE, 0, 0, 0, 0])?;
    // SAFETY: inside of what has just been mapped.
    Ok(unsafe { at.add(PAGE) })
}

/// Private, writable view of a memfd.
pub(crate) fn mmap_fd(fd: i32, len: usize) -> Res<*mut u8> {
    call(nr::MMAP, [0, len, 3, 2, fd as usize, 0]).map(|at| at as *mut u8)
}

pub(crate) fn munmap(at: *mut u8, len: usize) {
    let _ = call(nr::MUNMAP, [at as usize, len, 0, 0, 0, 0]);
}

pub(crate) fn futex_wait(word: *const u32, value: u32, timeout_ns: i64) -> Res<()> {
    let timeout = [0i64, timeout_ns];
    // FUTEX_WAIT, not PRIVATE: the page is shared between processes.
    let until = if timeout_ns == 0 { 0 } else { timeout.as_ptr() as usize };
    call(nr::FUTEX, [word as usize, 0, value as usize, until, 0, 0]).map(drop)
}

pub(crate) fn futex_wake(word: *const u32) {
    let _ = call(nr::FUTEX, [word as usize, 1, i32::MAX as usize, 0, 0, 0]);
}

pub(crate) fn epoll_add(epoll: i32, fd: i32, events: u32, data: u64) -> Res<()> {
    epoll_ctl(epoll, 1, fd, events, data)
}

pub(crate) fn epoll_mod(epoll: i32, fd: i32, events: u32, data: u64) -> Res<()> {
    epoll_ctl(epoll, 3, fd, events, data)
}

pub(crate) fn epoll_del(epoll: i32, fd: i32) {
    let _ = epoll_ctl(epoll, 2, fd, 0, 0);
}

fn epoll_ctl(epoll: i32, op: usize, fd: i32, events: u32, data: u64) -> Res<()> {
    let event = EpollEvent { events, data };
    call(nr::EPOLL_CTL, [epoll as usize, op, fd as usize, &raw const event as usize, 0, 0]).map(drop)
}

pub(crate) fn epoll_wait(epoll: i32, events: &mut [EpollEvent], timeout_ms: i32) -> Res<usize> {
    let args = [epoll as usize, events.as_mut_ptr() as usize, events.len(), timeout_ms as usize, 0, 8];
    match call(nr::EPOLL_PWAIT, args) {
        Err(EINTR) => Ok(0),
        other => other,
    }
}

/// What `waitid` tells of an ended child.
#[derive(Clone, Copy)]
pub(crate) struct Waited {
    pub(crate) pid: i32,
    pub(crate) code: i32,
    pub(crate) status: i32,
    /// `struct rusage` as 18 longs.
    pub(crate) usage: [i64; 18],
}

pub(crate) const P_ALL: usize = 0;
pub(crate) const P_PID: usize = 1;
pub(crate) const P_PIDFD: usize = 3;
pub(crate) const WNOHANG: usize = 1;
pub(crate) const WEXITED: usize = 4;
pub(crate) const WNOWAIT: usize = 0x0100_0000;
const WALL: usize = 0x4000_0000;

/// `waitid` with rusage, which only the raw call returns. `Ok(None)`: nobody has ended.
pub(crate) fn waitid(kind: usize, id: i32, options: usize) -> Res<Option<Waited>> {
    // siginfo_t: si_signo, si_errno, si_code, padding, si_pid (byte 16), si_uid, si_status (byte 24)
    let mut info = [0i32; 32];
    let mut usage = [0i64; 18];
    let args =
        [kind, id as usize, info.as_mut_ptr() as usize, options | WEXITED | WALL, usage.as_mut_ptr() as usize, 0];
    retry(nr::WAITID, args)?;
    if info[4] == 0 {
        return Ok(None);
    }
    Ok(Some(Waited { pid: info[4], code: info[2], status: info[6], usage }))
}

pub(crate) fn pidfd_kill(pidfd: i32) -> Res<()> {
    call(nr::PIDFD_SEND_SIGNAL, [pidfd as usize, 9, 0, 0, 0, 0]).map(drop)
}

/// All of the process group that `leader`, a child of ours that nobody has reaped, has made; nobody where it has made none.
pub(crate) fn group_kill(leader: i32) -> Res<()> {
    call(nr::KILL, [leader.wrapping_neg() as usize, 9, 0, 0, 0, 0]).map(drop)
}

/// Whether a descriptor is readable now; a pidfd: its process has ended.
pub(crate) fn readable(fd: i32) -> bool {
    let now = [0i64; 2];
    poll(fd, now.as_ptr() as usize)
}

/// The same, and wait for it; `false` when something else has ended the wait.
pub(crate) fn wait_readable(fd: i32) -> bool {
    poll(fd, 0)
}

/// Whether it is within a second.
pub(crate) fn readable_soon(fd: i32) -> bool {
    let second = [1i64, 0];
    poll(fd, second.as_ptr() as usize)
}

/// Wait until one of the two is readable or its other end is closed; which. A negative one is left out.
pub(crate) fn either_readable(a: i32, b: i32) -> (bool, bool) {
    let mut polls = [a as u32 as u64 | 1 << 32, b as u32 as u64 | 1 << 32];
    let _ = call(nr::PPOLL, [polls.as_mut_ptr() as usize, 2, 0, 0, 8, 0]);
    (polls[0] >> 48 != 0, polls[1] >> 48 != 0)
}

/// `timeout`: where a `struct timespec` is, or 0.
fn poll(fd: i32, timeout: usize) -> bool {
    // struct pollfd: fd (4), events (2), revents (2); POLLIN is 1.
    let mut poll = fd as u32 as u64 | 1 << 32;
    call(nr::PPOLL, [&raw mut poll as usize, 1, timeout, 0, 8, 0]).is_ok_and(|ready| ready > 0)
}

pub(crate) fn unlinkat(dir: i32, path: CStr, directory: bool) -> Res<()> {
    // AT_REMOVEDIR
    call(nr::UNLINKAT, [dir as usize, path.0 as usize, if directory { 0x200 } else { 0 }, 0, 0, 0]).map(drop)
}

pub(crate) fn getdents(fd: i32, buf: &mut [u8]) -> Res<usize> {
    call(nr::GETDENTS64, [fd as usize, buf.as_mut_ptr() as usize, buf.len(), 0, 0, 0])
}

/// The kernel's `struct msghdr`.
#[repr(C)]
struct MsgHdr {
    name: usize,
    name_len: usize,
    iov: usize,
    iov_len: usize,
    control: usize,
    control_len: usize,
    flags: usize,
}

const CMSG_HEAD: usize = 16;
const FDS: usize = crate::wire::MAX_FDS;
/// Room for a control message with [`FDS`] descriptors, as words so that it is aligned.
const CONTROL: usize = (CMSG_HEAD + FDS * 4).div_ceil(8);

/// Descriptors that came with a message. They are closed by whoever takes them.
pub(crate) struct Received {
    pub(crate) len: usize,
    pub(crate) fds: [i32; FDS],
    pub(crate) count: usize,
    /// Bytes or descriptors were cut off.
    pub(crate) truncated: bool,
}

/// Receive one message without blocking.
pub(crate) fn recv(socket: i32, buf: &mut [u8]) -> Res<Received> {
    let mut control = [0u64; CONTROL];
    let iov = [buf.as_mut_ptr() as usize, buf.len()];
    let mut head = MsgHdr {
        name: 0,
        name_len: 0,
        iov: iov.as_ptr() as usize,
        iov_len: 1,
        control: control.as_mut_ptr() as usize,
        control_len: size_of_val(&control),
        flags: 0,
    };
    // MSG_DONTWAIT | MSG_CMSG_CLOEXEC
    let flags = 0x40 | 0x4000_0000;
    let len = retry(nr::RECVMSG, [socket as usize, &raw mut head as usize, flags, 0, 0, 0])?;
    let mut got = Received { len, fds: [-1; FDS], count: 0, truncated: head.flags & (0x20 | 0x8) != 0 };
    // cmsghdr: length (8), level (4), type (4), then the descriptors. One message of SOL_SOCKET, SCM_RIGHTS.
    let (Some(first), Some(kind)) = (control.first(), control.get(1)) else { return Ok(got) };
    if head.control_len >= CMSG_HEAD && *kind == (1 | (1 << 32)) {
        let fds = (*first as usize).saturating_sub(CMSG_HEAD) / 4;
        while got.count < fds && got.count < FDS {
            let word = control.get(2 + got.count / 2).copied().unwrap_or(0);
            let fd = if got.count % 2 == 0 { word as u32 } else { (word >> 32) as u32 };
            if let Some(slot) = got.fds.get_mut(got.count) {
                *slot = fd as i32;
            }
            got.count += 1;
        }
    }
    Ok(got)
}

/// Send one message without blocking, with at most one descriptor.
pub(crate) fn send(socket: i32, bytes: &[u8], fd: Option<i32>) -> Res<()> {
    let control = [20u64, 1 | (1 << 32), fd.unwrap_or(0) as u32 as u64];
    let iov = [bytes.as_ptr() as usize, bytes.len()];
    let head = MsgHdr {
        name: 0,
        name_len: 0,
        iov: iov.as_ptr() as usize,
        iov_len: 1,
        control: if fd.is_some() { control.as_ptr() as usize } else { 0 },
        control_len: if fd.is_some() { size_of_val(&control) } else { 0 },
        flags: 0,
    };
    // MSG_DONTWAIT | MSG_NOSIGNAL
    retry(nr::SENDMSG, [socket as usize, &raw const head as usize, 0x40 | 0x4000, 0, 0, 0]).map(drop)
}
