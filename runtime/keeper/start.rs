//! From `exec` to the loop: what the keeper does once.

use crate::arch::nr;
use crate::serve::{self, Entry, Keeper, PLACES};
use crate::{spawn, stub};
use crate::sys::{self, CStr, HIGH, Res, lit};
use crate::wire::{self, Message, Stage, Tell};

/// The supervisor's socket arrives as standard input.
const SOCKET: i32 = 0;

/// Descriptors that the hard limit must allow: a request's below [`HIGH`], then our own, then a few children.
const LEAST: usize = HIGH as usize + 64;

/// `argc` is 1, or 2 when a user namespace of the keeper's own comes first (the supervisor is unprivileged), or 3 when that is
/// there already, of a keeper before this one: it arrives as standard output. With 4 this is no keeper at all, but the init of a
/// container that another program has made.
pub(crate) fn run(argc: usize) -> ! {
    match argc {
        0 | 1 => {}
        2 => make_user_namespace(),
        3 => join_user_namespace(),
        _ => be_init(),
    }
    detach_from_host();
    let places = raise_descriptor_limit().min(PLACES);
    if places < LEAST {
        fail(SOCKET, sys::EMFILE);
    }
    let socket = match sys::dup_high(SOCKET) {
        Ok(socket) => socket,
        Err(errno) => fail(SOCKET, errno),
    };
    match prepare(socket, places) {
        Ok(mut keeper) => serve::run(&mut keeper),
        Err(errno) => fail(socket, errno),
    }
}

fn fail(socket: i32, errno: i32) -> ! {
    let message = Message { kind: Tell::Failed as u16, errno, x: Stage::Make as u64, ..Message::default() };
    let _ = sys::send(socket, &message.encode(), None);
    sys::exit_group(1)
}

/// pid 1 of a container that was made by another program: what it has been given is let go by the stub.
fn be_init() -> ! {
    let all = u64::MAX;
    // SIG_SETMASK
    let _ = sys::call(nr::RT_SIGPROCMASK, [2, &raw const all as usize, 0, 8, 0, 0]);
    let _ = sys::prctl(15, lit(c"orangery-init").0 as usize); // PR_SET_NAME
    let _ = sys::prctl(4, 0); // PR_SET_DUMPABLE
    stub::run(core::ptr::null_mut(), -1)
}

/// Enter a user namespace, wait for the supervisor to write the maps (it is outside, as the kernel wants), then run
/// this image again: the new memory image belongs to the new namespace, so that the keeper keeps its rights over its
/// own undumpable children.
fn make_user_namespace() {
    if let Err(errno) = sys::unshare(0x1000_0000) {
        fail(SOCKET, errno);
    }
    let ask = Message { kind: Tell::NeedsMaps as u16, ..Message::default() };
    let mut answer = [0u8; wire::MESSAGE];
    if let Err(errno) = sys::send(SOCKET, &ask.encode(), None) {
        fail(SOCKET, errno);
    }
    match sys::read(SOCKET, &mut answer) {
        Ok(0) | Err(_) => sys::exit_group(0),
        Ok(_) => again(),
    }
}

/// Enter that of a keeper before us. Whoever has made it may, from outside of it.
fn join_user_namespace() {
    if let Err(errno) = sys::setns(1, 0x1000_0000) {
        fail(SOCKET, errno);
    }
    again();
}

/// Run this image again, with no argument.
fn again() {
    let argv = [lit(c"orangery-keeper").0, core::ptr::null()];
    let envp: [*const u8; 1] = [core::ptr::null()];
    let path = lit(c"/proc/self/exe");
    let args = [path.0 as usize, argv.as_ptr() as usize, envp.as_ptr() as usize, 0, 0, 0];
    if let Err(errno) = sys::call(nr::EXECVE, args) {
        fail(SOCKET, errno);
    }
}

/// Nothing of the embedding service must stay: signals, session, name, descriptors, working directory.
fn detach_from_host() {
    let all = u64::MAX;
    // SIG_SETMASK
    let _ = sys::call(nr::RT_SIGPROCMASK, [2, &raw const all as usize, 0, 8, 0, 0]);
    let default = [0usize; 4];
    let mut signal = 1;
    while signal <= 64 {
        let _ = sys::call(nr::RT_SIGACTION, [signal, default.as_ptr() as usize, 0, 8, 0, 0]);
        signal += 1;
    }
    let _ = sys::call(nr::SETSID, [0; 6]);
    let _ = sys::prctl(36, 1); // PR_SET_CHILD_SUBREAPER
    let _ = sys::prctl(15, lit(c"orangery-keeper").0 as usize); // PR_SET_NAME
    let _ = sys::prctl(4, 0); // PR_SET_DUMPABLE
    // An empty session keyring of our own (KEYCTL_JOIN_SESSION_KEYRING): nothing of the supervisor's is inherited.
    let _ = sys::call(nr::KEYCTL, [1, 0, 0, 0, 0, 0]);
    let _ = sys::call(nr::CHDIR, [lit(c"/").0 as usize, 0, 0, 0, 0, 0]);
    let _ = sys::call(nr::UMASK, [0, 0, 0, 0, 0, 0]);
    let _ = sys::close_range(3, usize::MAX >> 32, 0);
}

fn open_high(path: CStr, flags: usize) -> Res<i32> {
    let low = sys::openat(sys::AT_FDCWD, path, flags, 0)?;
    high(low)
}

fn high(low: i32) -> Res<i32> {
    let high = sys::dup_high(low);
    sys::close(low);
    high
}

/// As many descriptors as the hard limit allows; the children get the caller's limit back by a plan step.
fn raise_descriptor_limit() -> usize {
    let mut limit = [1024u64; 2];
    let _ = sys::call(nr::PRLIMIT64, [0, 7, 0, limit.as_mut_ptr() as usize, 0, 0]);
    let wanted = [limit[1], limit[1]];
    if sys::call(nr::PRLIMIT64, [0, 7, wanted.as_ptr() as usize, 0, 0, 0]).is_ok() {
        return limit[1] as usize;
    }
    limit[0] as usize
}

/// Grow our descriptor table to `size` while nobody shares it: a shared one would wait for an RCU grace period. `any` is
/// a descriptor.
pub(crate) fn grow(any: i32, size: usize) {
    let last = (size as i32).saturating_sub(1).max(HIGH);
    if sys::dup3(any, last, true).is_ok() {
        sys::close(last);
    }
}

/// A pidfd of the supervisor, which is our parent. The socket alone does not tell that it has gone: a process that it has
/// forked without an exec may hold its end. `None` where it is outside our pid namespace, or gone already.
fn supervisor() -> Option<i32> {
    let parent = || sys::call(nr::GETPPID, [0; 6]);
    let pid = parent().ok().filter(|pid| *pid > 0)?;
    let pidfd = sys::call(nr::PIDFD_OPEN, [pid, 0, 0, 0, 0, 0]).ok()? as i32;
    if parent() == Ok(pid) {
        return Some(pidfd);
    }
    // The number may be somebody else's by now.
    sys::close(pidfd);
    None
}

/// The socket has been moved up: its old number becomes /dev/null.
fn prepare(socket: i32, places: usize) -> Res<Keeper> {
    let null = open_high(lit(c"/dev/null"), 2)?;
    for fd in 0..3 {
        sys::dup3(null, fd, false)?;
    }
    let pidns = sys::openat(sys::AT_FDCWD, lit(c"/proc/self/ns/pid"), 0, 0)?;
    let enters_pidns = sys::setns(pidns, serve::CLONE_NEWPID).is_ok();
    sys::close(pidns);
    let epoll = high(sys::call(nr::EPOLL_CREATE1, [sys::O_CLOEXEC, 0, 0, 0, 0, 0])? as i32)?;
    let proc = open_high(lit(c"/proc"), sys::O_PATH | sys::O_DIRECTORY)?;
    grow(null, serve::TABLE.min(places));
    sys::epoll_add(epoll, socket, serve::IN, u64::MAX)?;
    let chld: u64 = 1 << 16; // SIGCHLD is 17
    let orphans = sys::call(nr::SIGNALFD4, [usize::MAX, &raw const chld as usize, 8, 0o2_004_000, 0, 0])?;
    let orphans = high(orphans as i32)?;
    sys::epoll_add(epoll, orphans, serve::IN, u64::MAX - 1)?;
    let me = sys::call(nr::PIDFD_OPEN, [sys::call(nr::GETPID, [0; 6])?, 0, 0, 0, 0, 0])?;
    let me = high(me as i32)?;
    // Of a pipe whoever sees one end in /proc could open the other there, and write to it.
    let [alive, end] = sys::pair()?;
    let alive = high(alive)?;
    high(end)?;
    let supervisor = match supervisor() {
        Some(supervisor) => high(supervisor)?,
        None => -1,
    };
    if supervisor >= 0 {
        sys::epoll_add(epoll, supervisor, serve::IN | serve::ET, serve::SUPERVISOR)?;
    }
    Ok(Keeper {
        socket,
        supervisor,
        door: -1,
        guest: -1,
        replay: None,
        store: crate::store::Store::NONE,
        ends: crate::ends::Ends::NONE,
        last_id: 0,
        epoll,
        me,
        proc,
        alive,
        orphans,
        trace: -1,
        paced: false,
        page: sys::mmap(4096, true)?.cast(),
        stack: sys::stack(spawn::STACK)?,
        table: sys::mmap(places * size_of::<Entry>(), false)?.cast(),
        places,
        size: serve::TABLE.min(places),
        top: HIGH,
        buf: sys::mmap(serve::BUFFER, false)?,
        seq: 0,
        enters_pidns,
        end: wire::End::Kill,
        roots: [serve::Root::NONE; serve::ROOTS],
        pending: 0,
        adopts: false,
        unswept: false,
        unwatched: 0,
        reply: None,
        blocked: false,
        deadlines: crate::deadline::Deadlines::NONE,
    })
}
