//! One request: a checked plan becomes a process.
//!
//! The child is cloned *sharing* the descriptor table and leaves it with its first call (`close_range` with UNSHARE
//! from [`HIGH`] on): so neither the clone nor the exec costs anything for the thousands of pidfds that the keeper
//! holds. Until one of the two has left the table (`birth.rs`), no descriptor of the request may be closed.

use crate::arch::nr;
use crate::serve::{Brought, Keeper};
use crate::sys::{self, CStr, Errno, Received, Res};
use crate::wire::{self, Header, Message, Moment, Purpose, Stage, Tell};
use crate::steps::Slots;
use crate::{birth, child, middle};

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VM: u64 = 0x100;
const CLONE_FILES: u64 = 0x400;
pub(crate) const CLONE_PARENT: u64 = 0x8000;
pub(crate) const CLONE_PARENT_SETTID: u64 = 0x10_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
pub(crate) const SIGCHLD: u64 = 17;

/// Words of the page that keeper and newborn share.
pub(crate) mod shared {
    /// The newest child that has left the keeper's descriptor table.
    pub(crate) const LEFT: usize = 0;
    /// The newest child whose maps are written.
    pub(crate) const MAPPED: usize = 1;
    /// Number of the child that a middle process has cloned; 0 before. The kernel writes it.
    pub(crate) const MIDDLE_PID: usize = 2;
    /// What the middle process has come to; `middle::NOT_YET` before.
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
    /// Readable once the keeper has ended.
    pub(crate) keeper: i32,
    pub(crate) trace: i32,
    pub(crate) id: u64,
    /// How it ends is kept.
    pub(crate) keep: bool,
    /// How it ends is for its next parent.
    pub(crate) leave: bool,
    /// What falls to it may be claimed.
    pub(crate) brings: bool,
    pub(crate) fds: [i32; wire::MAX_FDS],
    /// The step that it begins with: those before it are done.
    pub(crate) first: u16,
    /// That step has failed already, so.
    pub(crate) failed: Option<Errno>,
}

impl Birth {
    fn fd(&self, slot: i16) -> Option<i32> {
        usize::try_from(slot).ok().and_then(|slot| self.fds.get(slot)).copied()
    }

    /// The pidfd whose pid namespace it is born in.
    pub(crate) fn init(&self) -> Option<i32> {
        self.fd(self.header.pidns)
    }

    /// The cgroup v2 that it is born in.
    pub(crate) fn cgroup(&self) -> Option<i32> {
        self.fd(self.header.cgroup)
    }

    /// The namespace of this place of [`wire::JOINABLE`] that it is born in, if that exists already.
    pub(crate) fn joined(&self, place: usize) -> Option<i32> {
        self.header.join.get(place).and_then(|slot| self.fd(*slot))
    }

    /// It is born in a namespace that exists already.
    pub(crate) fn joins(&self) -> bool {
        self.header.join.iter().any(|slot| *slot >= 0)
    }
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
            let keep = message.flags & wire::KEEP_EXIT != 0;
            let leave = message.flags & wire::LEAVE_EXIT != 0;
            let brings = message.flags & wire::BRINGS != 0;
            let (id, fds) = (message.id, got.fds);
            let (first, failed) = (0, None);
            let me = keeper.me;
            let birth =
                Birth { plan, header, seq, page, keeper: me, trace, id, keep, leave, brings, fds, first, failed };
            match start(keeper, &birth) {
                Ok((pid, pidfd)) => {
                    let x = pidfd as u64;
                    let done = Message { kind: Tell::Done as u16, id: message.id, pid, x, ..Message::default() };
                    keeper.pass(Moment::Born);
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
    if birth.init().is_some() || birth.joins() {
        let (pid, pidfd) = middle::through(keeper, birth)?;
        return birth::settle(keeper, birth, pid, pidfd, false).map(|kept| (pid, kept));
    }
    let mut pidfd: i32 = -1;
    let place = &raw mut pidfd as u64;
    let pid = clone(birth, None, CLONE_PIDFD, birth.header.clone, birth.cgroup(), (place, 0))
        .map_err(|errno| (Stage::Clone, errno))?;
    // SAFETY: our own word; the kernel wrote it before the clone returned, which the compiler does not know.
    let pidfd = unsafe { core::ptr::read_volatile(&raw const pidfd) };
    birth::settle(keeper, birth, pid, pidfd, true).map(|kept| (pid, kept))
}

/// `clone3`, fork-style. Returns in the parent, with pidfd and number at `places` as far as `extra` asks for them; the child goes into
/// `child::main`, with what steps before it have opened, and never comes back.
pub(crate) fn clone(
    birth: &Birth,
    slots: Option<&Slots>,
    extra: u64,
    namespaces: u64,
    cgroup: Option<i32>,
    places: (u64, u64),
) -> Res<i32> {
    let mut flags = CLONE_FILES | CLONE_CLEAR_SIGHAND | namespaces | extra;
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    // A sibling's exit signal is that of whoever clones it.
    let exit_signal = if extra & CLONE_PARENT != 0 { 0 } else { SIGCHLD };
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
    // set_tid_size, cgroup
    let args = [flags, places.0, 0, places.1, exit_signal, 0, 0, 0, 0, 0, cgroup.unwrap_or(0) as u64];
    let pid = sys::call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0])?;
    if pid == 0 {
        child::main(birth, slots);
    }
    Ok(pid as i32)
}

/// A clone that shares the table, without a plan: in the child it returns pid 0.
pub(crate) fn helper(extra: u64, cgroup: Option<i32>) -> Res<(i32, i32)> {
    let mut pidfd: i32 = -1;
    let into = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let flags = CLONE_PIDFD | CLONE_FILES | into | extra;
    let args = [flags, &raw mut pidfd as u64, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, cgroup.unwrap_or(0) as u64];
    let pid = sys::call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0])?;
    // SAFETY: our own word; see `clone`.
    Ok((pid as i32, unsafe { core::ptr::read_volatile(&raw const pidfd) }))
}

/// The stack of one that shares our memory, below which there is nothing.
pub(crate) const STACK: usize = 512 << 10;

/// A clone that shares table and memory: it is `run`, on `stack`, and ends before anything of ours changes that it looks at, which
/// the caller sees to by waiting for its end.
pub(crate) fn beside<T>(stack: *mut u8, run: extern "C" fn(&T) -> !, with: &T) -> Res<(i32, i32)> {
    let mut pidfd: i32 = -1;
    let flags = CLONE_PIDFD | CLONE_FILES | CLONE_VM;
    let args = [flags, &raw mut pidfd as u64, 0, 0, SIGCHLD, stack as u64, STACK as u64, 0, 0, 0, 0];
    // SAFETY: the stack is ours, and nobody else's until this one has ended; what it is called with lives as long.
    let pid = unsafe {
        let (run, with) = (run as *const () as usize, (&raw const *with) as usize);
        crate::arch::clone3_beside(args.as_ptr(), size_of_val(&args), run, with)
    };
    if pid < 0 {
        return Err(-pid as Errno);
    }
    // SAFETY: our own word; see `clone`.
    Ok((pid as i32, unsafe { core::ptr::read_volatile(&raw const pidfd) }))
}

/// `before`, a decimal number and `after` as a NUL-terminated path.
pub(crate) fn fill(path: &mut [u8; 40], before: &[u8], number: u64, after: &[u8]) {
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
    let (pid, pidfd) = match helper(CLONE_NEWUSER, None) {
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
