//! One request: a checked plan becomes a process.
//!
//! The child is cloned *sharing* the descriptor table and leaves it with its first call (`close_range` with UNSHARE
//! from [`HIGH`] on): so neither the clone nor the exec costs anything for the thousands of pidfds that the keeper
//! holds. Until the child says that it has left, the keeper does not touch the table; a child that is killed before
//! that is noticed by its pidfd, and one that is stopped or frozen is killed after a bounded wait.

use crate::arch::nr;
use crate::serve::{Brought, CLONE_NEWPID, Entry, Keeper};
use crate::sys::{self, CStr, Errno, P_PIDFD, Received, Res, WNOHANG, WNOWAIT};
use crate::trace::Line;
use crate::wire::{self, Header, Message, Purpose, Stage, Tell};
use crate::{child, serve};

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_FILES: u64 = 0x400;
const CLONE_PARENT: u64 = 0x8000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;

/// How long a newborn may take to leave the shared table: 50 waits of 10 ms, then it is killed.
const PATIENCE: u32 = 50;

/// Words of the page that keeper and newborn share.
pub(crate) mod shared {
    /// The newest child that has left the keeper's descriptor table.
    pub(crate) const LEFT: usize = 0;
    /// The newest child whose maps are written.
    pub(crate) const MAPPED: usize = 1;
    /// pid in the keeper's namespace and pidfd that a middle process got from its clone.
    pub(crate) const MIDDLE_PIDFD: usize = 2;
    /// errno of the middle process.
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
            let birth =
                Birth { plan, header, seq, page: keeper.page, trace: keeper.trace, id: message.id, fds: got.fds };
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
            Ok(()) => clone(birth, 0, header.clone).map_err(|errno| (Stage::Clone, errno)),
            Err(errno) => Err((Stage::Join, errno)),
        };
        come_back(keeper, header);
        cloned?
    };
    settle(keeper, birth, pid, pidfd)
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

/// Parent of a newborn: wait until it has its own table, write its maps, watch it.
fn settle(keeper: &mut Keeper, birth: &Birth, pid: i32, pidfd: i32) -> Result<(i32, i32), (Stage, Errno)> {
    let failed = |stage: Stage, errno: Errno| {
        let _ = sys::pidfd_kill(pidfd);
        let _ = sys::waitid(P_PIDFD, pidfd, 0);
        (stage, errno)
    };
    wait_left(birth.page, birth.seq, pidfd).map_err(|errno| failed(Stage::Birth, errno))?;
    if birth.header.flags & wire::NEEDS_MAPS != 0 {
        let (uid, gid) = (birth.header.uid_map, birth.header.gid_map);
        let deny = birth.header.flags & wire::DENY_SETGROUPS != 0;
        write_maps(keeper.proc, pid, birth.plan, uid, gid, deny).map_err(|errno| failed(Stage::Maps, errno))?;
        store(birth.page, shared::MAPPED, birth.seq);
    }
    let kept = watch(keeper, birth, pid, pidfd).map_err(|errno| failed(Stage::Watch, errno))?;
    if let Some(line) = traced(keeper) {
        Line::new()
            .text(b"ns=")
            .number(sys::now_ns())
            .text(b" keeper id=")
            .number(birth.id)
            .text(b" clone pid=")
            .number(pid as u64)
            .end(line);
    }
    Ok((pid, kept))
}

fn traced(keeper: &Keeper) -> Option<i32> {
    if keeper.trace >= 0 { Some(keeper.trace) } else { None }
}

/// Bounded by the child's own death (its table is gone then) or by PATIENCE.
fn wait_left(page: *mut u32, seq: u32, pidfd: i32) -> Res<()> {
    let mut waited = 0;
    loop {
        let seen = load(page, shared::LEFT);
        if seen == seq {
            return Ok(());
        }
        // SAFETY: the word lies in the page.
        let late = sys::futex_wait(unsafe { page.add(shared::LEFT) }, seen, 10_000_000) == Err(sys::ETIMEDOUT);
        if late {
            if sys::waitid(P_PIDFD, pidfd, WNOHANG | WNOWAIT).is_ok_and(|ended| ended.is_some()) {
                // Killed before its first instruction: its exit is told like any other.
                return Ok(());
            }
            waited += 1;
            if waited > PATIENCE {
                return Err(sys::ETIMEDOUT);
            }
        }
    }
}

fn watch(keeper: &mut Keeper, birth: &Birth, pid: i32, pidfd: i32) -> Res<i32> {
    let kept = sys::dup_high(pidfd)?;
    let own_pidns = birth.header.pidns >= 0 || birth.header.clone & CLONE_NEWPID as u64 != 0;
    match keeper.entry(kept) {
        Some(entry) => *entry = Entry { id: birth.id, pid, next: 0, state: 1, own_pidns },
        None => {
            sys::close(kept);
            return Err(24); // EMFILE
        }
    }
    if let Err(errno) = sys::epoll_add(keeper.epoll, kept, serve::IN | serve::ET, kept as u64) {
        if let Some(entry) = keeper.entry(kept) {
            entry.state = 0;
        }
        sys::close(kept);
        return Err(errno);
    }
    keeper.top = keeper.top.max(kept);
    keeper.without_pidns += u32::from(!own_pidns);
    Ok(kept)
}

/// `clone3`, fork-style. Returns in the parent; the child goes into `child::main` and never comes back.
fn clone(birth: &Birth, extra: u64, namespaces: u64) -> Res<(i32, i32)> {
    let mut pidfd: i32 = -1;
    let cgroup = usize::try_from(birth.header.cgroup).ok().and_then(|slot| birth.fds.get(slot)).copied();
    let mut flags = CLONE_PIDFD | CLONE_FILES | CLONE_CLEAR_SIGHAND | namespaces | extra;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let exit_signal = if extra & CLONE_PARENT != 0 { 0 } else { 17 };
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup
    let args = [flags, &raw mut pidfd as u64, 0, 0, exit_signal, 0, 0, 0, 0, 0, cgroup.unwrap_or(0) as u64];
    let pid = sys::call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0])?;
    if pid == 0 {
        child::main(birth);
    }
    // The kernel wrote it before the clone returned.
    let pidfd = unsafe_read(&pidfd);
    Ok((pid as i32, pidfd))
}

/// The compiler does not know that the kernel writes to the word whose address is in `clone_args`.
fn unsafe_read(word: &i32) -> i32 {
    // SAFETY: a live reference.
    unsafe { core::ptr::read_volatile(word) }
}

/// An unprivileged keeper may not come back from another pid namespace: a middle process enters it, clones the child
/// as its sibling (CLONE_PARENT, so that the keeper is the parent) into the shared table, and ends.
fn through_middle(keeper: &mut Keeper, birth: &Birth, init: i32) -> Result<(i32, i32), (Stage, Errno)> {
    store(keeper.page, shared::MIDDLE_ERRNO, 0);
    let mut middle_pidfd: i32 = -1;
    let flags = CLONE_PIDFD | CLONE_FILES;
    let args = [flags, &raw mut middle_pidfd as u64, 0, 0, 0, 0, 0, 0];
    let pid = sys::call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0])
        .map_err(|errno| (Stage::Clone, errno))?;
    if pid == 0 {
        middle(birth, init);
    }
    let middle_pidfd = unsafe_read(&middle_pidfd);
    // It does three system calls and ends; nothing outside can hold it up but a signal from the same user.
    let _ = sys::waitid(P_PIDFD, middle_pidfd, 0);
    match load(keeper.page, shared::MIDDLE_ERRNO) as i32 {
        0 => {
            let pidfd = load(keeper.page, shared::MIDDLE_PIDFD) as i32;
            let pid = pid_of(keeper.proc, pidfd).map_err(|errno| (Stage::Birth, errno))?;
            Ok((pid, pidfd))
        }
        errno if errno >= 0x1000 => Err((Stage::PidNamespace, errno - 0x1000)),
        errno => Err((Stage::Clone, errno)),
    }
}

/// In the middle process: same user as the keeper, sharing its descriptor table.
fn middle(birth: &Birth, init: i32) -> ! {
    if let Err(errno) = sys::setns(init, birth.header.clone as usize | CLONE_NEWPID) {
        store(birth.page, shared::MIDDLE_ERRNO, errno as u32 + 0x1000);
        sys::exit_group(1);
    }
    match clone(birth, CLONE_PARENT, 0) {
        Ok((_, pidfd)) => store(birth.page, shared::MIDDLE_PIDFD, pidfd as u32),
        Err(errno) => store(birth.page, shared::MIDDLE_ERRNO, errno as u32),
    }
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

fn write_maps(proc: i32, pid: i32, text: &[u8], uid: u32, gid: u32, deny: bool) -> Res<()> {
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
    let mut pidfd: i32 = -1;
    let args = [CLONE_PIDFD | CLONE_FILES | CLONE_NEWUSER, &raw mut pidfd as u64, 0, 0, 17, 0, 0, 0];
    let pid = match sys::call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0]) {
        Ok(0) => loop {
            // In the child, with nothing to do until it is killed.
            let word = 0u32;
            let _ = sys::futex_wait(&raw const word, 0, 0);
        },
        Ok(pid) => pid as i32,
        Err(errno) => return keeper.refuse(message.id, Stage::Clone, errno),
    };
    let pidfd = unsafe_read(&pidfd);
    let made = write_maps(keeper.proc, pid, text, uid, gid, message.x != 0).and_then(|()| {
        let mut path = [0u8; 40];
        fill(&mut path, b"", pid as u64, b"/ns/user");
        sys::openat(keeper.proc, CStr(path.as_ptr()), 0, 0)
    });
    let _ = sys::pidfd_kill(pidfd);
    let _ = sys::waitid(P_PIDFD, pidfd, 0);
    match made {
        Ok(fd) => keeper.bring(message.id, Purpose::User, fd),
        Err(errno) => keeper.refuse(message.id, Stage::Maps, errno),
    }
}

/// A socket in the network namespace of the process behind the first descriptor, and back.
pub(crate) fn socket(keeper: &mut Keeper, message: &Message, got: &Received) {
    let target = got.fds.first().copied().unwrap_or(-1);
    let net = 0x4000_0000;
    let made = sys::setns(target, net).and_then(|()| {
        let kind = message.y as usize | sys::O_CLOEXEC;
        let made = sys::call(nr::SOCKET, [message.x as usize, kind, 0, 0, 0, 0]);
        let back = sys::setns(keeper.own[0], net);
        back.and(made)
    });
    match made {
        Ok(fd) => keeper.bring(message.id, Purpose::Socket, fd as i32),
        Err(errno) => keeper.refuse(message.id, Stage::Make, errno),
    }
}
