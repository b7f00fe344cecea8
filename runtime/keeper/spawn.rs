//! One request: a checked plan becomes a process.
//!
//! The child is cloned *sharing* the descriptor table and leaves it with its first call (`close_range` with UNSHARE
//! from [`HIGH`] on): so neither the clone nor the exec costs anything for the thousands of pidfds that the keeper
//! holds. Until one of the two has left the table (`birth.rs`), no descriptor of the request may be closed.

use crate::arch::nr;
use crate::serve::{Brought, CLONE_NEWPID, Keeper};
use crate::sys::{self, CStr, Errno, P_PIDFD, Received, Res, WNOHANG, WNOWAIT};
use crate::wire::{self, Header, Message, Purpose, Stage, Tell};
use crate::{birth, child};

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_FILES: u64 = 0x400;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const SIGCHLD: u64 = 17;

/// How long a middle process may take: 50 waits of 10 ms, then it is killed.
const PATIENCE: u32 = 50;

/// No answer of the middle process yet.
const NOT_YET: u32 = u32::MAX;

/// Words of the page that keeper and newborn share.
pub(crate) mod shared {
    /// The newest child that has left the keeper's descriptor table.
    pub(crate) const LEFT: usize = 0;
    /// The newest child whose maps are written.
    pub(crate) const MAPPED: usize = 1;
    /// pidfd that a middle process got from its clone; -1 before. The kernel writes it.
    pub(crate) const MIDDLE_PIDFD: usize = 2;
    /// errno of the middle process; `NOT_YET` before.
    pub(crate) const MIDDLE_ERRNO: usize = 3;
    /// The newest child whose pidfd the supervisor has been sent.
    pub(crate) const TOLD: usize = 4;
}

/// A plan as the child sees it.
#[derive(Clone, Copy)]
pub(crate) struct Birth {
    pub(crate) plan: &'static [u8],
    pub(crate) header: Header,
    /// This child's number in the shared page.
    pub(crate) seq: u32,
    pub(crate) page: *mut u32,
    /// The keeper's pidfd.
    pub(crate) keeper: i32,
    pub(crate) trace: i32,
    pub(crate) id: u64,
    pub(crate) fds: [i32; wire::MAX_FDS],
}

pub(crate) fn load(page: *mut u32, word: usize) -> u32 {
    // SAFETY: the page has 1024 words and lives as long as the keeper.
    unsafe { core::sync::atomic::AtomicU32::from_ptr(page.add(word)) }.load(core::sync::atomic::Ordering::Acquire)
}

pub(crate) fn store(page: *mut u32, word: usize, value: u32) {
    // SAFETY: as above.
    unsafe { core::sync::atomic::AtomicU32::from_ptr(page.add(word)) }
        .store(value, core::sync::atomic::Ordering::Release);
    // SAFETY: the word lies in the page.
    sys::futex_wake(unsafe { page.add(word) });
}

pub(crate) fn spawn(keeper: &mut Keeper, message: &Message, got: &Received) {
    let mut count = got.count;
    let mut big = None;
    let plan: &'static [u8] = if message.flags & 1 != 0 {
        count = count.saturating_sub(1);
        let len = message.x as usize;
        match map_plan(got, count, len) {
            Ok(at) => {
                big = Some((at, len));
                // SAFETY: just mapped with this length; unmapped at the end of this function, when only the child,
                // which has its own copy of the mapping, still reads it.
                unsafe { core::slice::from_raw_parts(at, len) }
            }
            Err(errno) => return keeper.refuse(message.id, Stage::Request, errno),
        }
    } else {
        keeper.body(message, got)
    };
    match wire::check(plan, count) {
        Ok(header) if !wire::fit(&header, keeper.purposes(message, got)) => {
            keeper.refuse(message.id, Stage::Purpose, sys::EPROTO);
        }
        Ok(header) => {
            let seq = keeper.seq.wrapping_add(1);
            keeper.seq = seq;
            let (page, trace) = (keeper.page, keeper.trace);
            let birth = Birth { plan, header, seq, page, keeper: keeper.me, trace, id: message.id, fds: got.fds };
            match start(keeper, &birth) {
                Ok((pid, pidfd)) => {
                    let done = Message { kind: Tell::Done as u16, id: message.id, pid, ..Message::default() };
                    keeper.answer(done, Some(Brought { purpose: Purpose::Pidfd, fd: pidfd, ours: false }));
                }
                Err((stage, errno)) => keeper.refuse(message.id, stage, errno),
            }
        }
        Err(_) => keeper.refuse(message.id, Stage::Request, sys::EPROTO),
    }
    if let Some((at, len)) = big {
        sys::munmap(at, len);
    }
}

fn map_plan(got: &Received, index: usize, len: usize) -> Res<*mut u8> {
    if len > wire::MAX_PLAN || len == 0 {
        return Err(sys::E2BIG);
    }
    let fd = got.fds.get(index).copied().unwrap_or(-1);
    // F_GET_SEALS: without SHRINK (2) and WRITE (8) the plan could change under the child.
    if sys::call(nr::FCNTL, [fd as usize, 1034, 0, 0, 0, 0])? & 10 != 10 {
        return Err(sys::EINVAL);
    }
    sys::mmap_fd(fd, len)
}

/// Clone the child and see it through its birth.
fn start(keeper: &mut Keeper, birth: &Birth) -> Result<(i32, i32), (Stage, Errno)> {
    let header = &birth.header;
    let slot = |slot: i16| usize::try_from(slot).ok().and_then(|slot| birth.fds.get(slot)).copied();
    let middle = header.pidns >= 0 && !keeper.enters_pidns;
    let (pid, pidfd) = if middle {
        through_middle(keeper, birth, slot(header.pidns).unwrap_or(-1))?
    } else {
        if let Some(init) = slot(header.pidns) {
            sys::setns(init, CLONE_NEWPID).map_err(|errno| (Stage::PidNamespace, errno))?;
        }
        let joined = join(birth);
        let cloned = match joined {
            Ok(()) => clone(birth, 0, header.clone, &mut -1).map_err(|errno| (Stage::Clone, errno)),
            Err(errno) => Err((Stage::Join, errno)),
        };
        come_back(keeper, header);
        cloned?
    };
    birth::settle(keeper, birth, pid, pidfd).map(|kept| (pid, kept))
}

/// Enter the namespaces that the child is to be born in; [`come_back`] follows in any case.
fn join(birth: &Birth) -> Res<()> {
    for (slot, kind) in birth.header.join.iter().zip(wire::JOINABLE) {
        if let Some(fd) = usize::try_from(*slot).ok().and_then(|slot| birth.fds.get(slot)) {
            sys::setns(*fd, kind as usize)?;
        }
    }
    Ok(())
}

fn come_back(keeper: &Keeper, header: &Header) {
    if header.pidns >= 0 {
        let _ = sys::setns(keeper.pidns, CLONE_NEWPID);
    }
    for ((slot, own), kind) in header.join.iter().zip(keeper.own).zip(wire::JOINABLE) {
        if *slot >= 0 {
            let _ = sys::setns(own, kind as usize);
        }
    }
}

/// `clone3`, fork-style. Returns in the parent, with the pidfd at `place`; the child goes into `child::main` and never
/// comes back.
fn clone(birth: &Birth, extra: u64, namespaces: u64, place: *mut i32) -> Res<(i32, i32)> {
    let cgroup = usize::try_from(birth.header.cgroup).ok().and_then(|slot| birth.fds.get(slot)).copied();
    let mut flags = CLONE_PIDFD | CLONE_FILES | CLONE_CLEAR_SIGHAND | namespaces | extra;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    // A sibling's exit signal is that of whoever clones it.
    let exit_signal = if extra & CLONE_PARENT != 0 { 0 } else { SIGCHLD };
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup
    let args = [flags, place as u64, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup.unwrap_or(0) as u64];
    let pid = sys::call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0])?;
    if pid == 0 {
        child::main(birth);
    }
    // SAFETY: the callers' word; the kernel wrote it before the clone returned, which the compiler does not know.
    Ok((pid as i32, unsafe { core::ptr::read_volatile(place) }))
}

/// A clone that shares the table, without a plan: in the child it returns pid 0.
fn helper(extra: u64) -> Res<(i32, i32)> {
    let mut pidfd: i32 = -1;
    let args = [CLONE_PIDFD | CLONE_FILES | extra, &raw mut pidfd as u64, 0, 0, SIGCHLD, 0, 0, 0];
    let pid = sys::call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0])?;
    // SAFETY: our own word; see `clone`.
    Ok((pid as i32, unsafe { core::ptr::read_volatile(&raw const pidfd) }))
}

/// An unprivileged keeper may not come back from another pid namespace: a middle process enters it, clones the child
/// as its sibling (CLONE_PARENT, so that the keeper is the parent) into the shared table, and ends.
fn through_middle(keeper: &mut Keeper, birth: &Birth, init: i32) -> Result<(i32, i32), (Stage, Errno)> {
    store(keeper.page, shared::MIDDLE_PIDFD, -1i32 as u32);
    store(keeper.page, shared::MIDDLE_ERRNO, NOT_YET);
    let (pid, middle_pidfd) = helper(0).map_err(|errno| (Stage::Clone, errno))?;
    if pid == 0 {
        middle(birth, init);
    }
    // It does three system calls and ends, in our own cgroup: nothing but a signal of our own user, or the end of the
    // memory, can hold it up.
    let answer = wait_middle(keeper.page, middle_pidfd);
    let _ = sys::pidfd_kill(middle_pidfd);
    let _ = sys::waitid(P_PIDFD, middle_pidfd, 0);
    let pidfd = load(keeper.page, shared::MIDDLE_PIDFD) as i32;
    match answer {
        0 => match pid_of(keeper.proc, pidfd) {
            Ok(pid) => Ok((pid, pidfd)),
            Err(errno) => {
                birth::give_up(keeper, pidfd);
                Err((Stage::Birth, errno))
            }
        },
        NOT_YET => {
            if pidfd >= 0 {
                birth::give_up(keeper, pidfd);
            }
            Err((Stage::Birth, sys::ETIMEDOUT))
        }
        errno if errno >= 0x1000 => Err((Stage::PidNamespace, errno as i32 - 0x1000)),
        errno => Err((Stage::Clone, errno as i32)),
    }
}

/// Bounded by the middle process's end or by [`PATIENCE`].
fn wait_middle(page: *mut u32, middle_pidfd: i32) -> u32 {
    let mut waited = 0;
    loop {
        let answer = load(page, shared::MIDDLE_ERRNO);
        if answer != NOT_YET || waited >= PATIENCE {
            return answer;
        }
        // SAFETY: the word lies in the page.
        let word = unsafe { page.add(shared::MIDDLE_ERRNO) };
        if sys::futex_wait(word, NOT_YET, 10_000_000) == Err(sys::ETIMEDOUT) {
            waited += 1;
            if sys::waitid(P_PIDFD, middle_pidfd, WNOHANG | WNOWAIT).is_ok_and(|ended| ended.is_some()) {
                return load(page, shared::MIDDLE_ERRNO);
            }
        }
    }
}

/// In the middle process: same user as the keeper, sharing its descriptor table.
fn middle(birth: &Birth, init: i32) -> ! {
    if let Err(errno) = sys::setns(init, birth.header.clone as usize | CLONE_NEWPID) {
        store(birth.page, shared::MIDDLE_ERRNO, errno as u32 + 0x1000);
        sys::exit_group(1);
    }
    // SAFETY: the word lies in the page. In there, so that a child can never be without a pidfd that the keeper knows.
    let place = unsafe { birth.page.add(shared::MIDDLE_PIDFD) };
    let errno = clone(birth, CLONE_PARENT, 0, place.cast()).map_or_else(|errno| errno as u32, |_| 0);
    store(birth.page, shared::MIDDLE_ERRNO, errno);
    sys::exit_group(0)
}

/// The pid of `pidfd` in the keeper's pid namespace, from its fdinfo.
fn pid_of(proc: i32, pidfd: i32) -> Res<i32> {
    let mut path = [0u8; 40];
    fill(&mut path, b"self/fdinfo/", pidfd as u64, b"");
    let fd = sys::openat(proc, CStr(path.as_ptr()), 0, 0)?;
    let mut text = [0u8; 512];
    let len = sys::read(fd, &mut text);
    sys::close(fd);
    let text = text.get(..len?).unwrap_or(&[]);
    let mut at = 0;
    while let Some(tail) = text.get(at..) {
        if let Some(digits) = tail.strip_prefix(b"\nPid:\t") {
            return Ok(digits
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .fold(0i32, |sum, byte| sum.wrapping_mul(10).wrapping_add(i32::from(byte - b'0'))));
        }
        if tail.is_empty() {
            break;
        }
        at += 1;
    }
    Err(sys::EINVAL)
}

/// `before`, a decimal number and `after` as a NUL-terminated path.
fn fill(path: &mut [u8; 40], before: &[u8], number: u64, after: &[u8]) {
    let mut digits = [0u8; 20];
    let mut first = 20;
    let mut left = number;
    loop {
        first -= 1;
        if let Some(digit) = digits.get_mut(first) {
            *digit = b'0' + (left % 10) as u8;
        }
        left /= 10;
        if left == 0 || first == 0 {
            break;
        }
    }
    let number = digits.get(first..).unwrap_or(&[]);
    let text = before.iter().chain(number).chain(after);
    for (to, from) in path.iter_mut().take(39).zip(text) {
        *to = *from;
    }
}

fn write_proc(proc: i32, pid: i32, file: &[u8], content: &[u8]) -> Res<()> {
    let mut path = [0u8; 40];
    fill(&mut path, b"", pid as u64, file);
    let fd = sys::openat(proc, CStr(path.as_ptr()), sys::O_WRONLY, 0)?;
    let wrote = sys::write(fd, content);
    sys::close(fd);
    wrote.map(drop)
}

pub(crate) fn write_maps(proc: i32, pid: i32, text: &[u8], uid: u32, gid: u32, deny: bool) -> Res<()> {
    if deny {
        write_proc(proc, pid, b"/setgroups", b"deny")?;
    }
    write_proc(proc, pid, b"/uid_map", wire::string(text, uid).unwrap_or(&[]))?;
    write_proc(proc, pid, b"/gid_map", wire::string(text, gid).unwrap_or(&[]))
}

/// A user namespace that nobody lives in, for id-mapped mounts: made by a child that waits, mapped, opened, kept by
/// its descriptor alone.
pub(crate) fn userns(keeper: &mut Keeper, message: &Message, got: &Received) {
    let text = keeper.body(message, got);
    let uid = 0;
    let Some(gid) = wire::list_end(text, uid, 1) else {
        return keeper.refuse(message.id, Stage::Request, sys::EPROTO);
    };
    if wire::string(text, gid).is_none() {
        return keeper.refuse(message.id, Stage::Request, sys::EPROTO);
    }
    let (pid, pidfd) = match helper(CLONE_NEWUSER) {
        Ok((0, _)) => loop {
            // In the child, with nothing to do until it is killed.
            child::die_with(keeper.me);
            let word = 0u32;
            let _ = sys::futex_wait(&raw const word, 0, 0);
        },
        Ok(made) => made,
        Err(errno) => return keeper.refuse(message.id, Stage::Clone, errno),
    };
    let made = write_maps(keeper.proc, pid, text, uid, gid, message.x != 0).and_then(|()| {
        let mut path = [0u8; 40];
        fill(&mut path, b"", pid as u64, b"/ns/user");
        sys::openat(keeper.proc, CStr(path.as_ptr()), 0, 0)
    });
    birth::dismiss(keeper, pid, pidfd);
    match made {
        Ok(fd) => keeper.bring(message.id, Purpose::User, fd),
        Err(errno) => keeper.refuse(message.id, Stage::Maps, errno),
    }
}
