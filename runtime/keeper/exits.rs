//! Peek, record, reap: an exit is told before it is reaped, so that a keeper killed in between loses nothing. One that is to be
//! kept until it is settled is reaped first, into the table of `ends`: a zombie in a container's pid namespace would hold up the
//! end of its init. It is told from there, as often as there is somebody new; killed, a keeper takes that table along.
//!
//! A readable pidfd says that the process has ended, not that it is ours to wait for: while somebody in the container
//! traces the zombie, `waitid` says "nobody" to us, its parent. It stays watched; the kernel wakes us again when the
//! tracer lets go of it or ends.

use crate::arch::nr;
use crate::birth;
use crate::serve::{Brought, Entry, Keeper};
use crate::sys::{self, P_ALL, P_PID, P_PIDFD, WNOHANG, WNOWAIT, Waited};
use crate::wire::{ExitRecord, Message, Moment, Purpose, Stage, Tell};

/// The pidfd `fd` became readable: its process is a zombie. Append it to the list and tell what can be told.
pub(crate) fn ended(keeper: &mut Keeper, fd: i32) {
    let first = keeper.pending;
    match keeper.entry(fd) {
        Some(entry) if entry.state == 1 && !entry.leave => {
            entry.state = 2;
            entry.next = first;
        }
        _ => return,
    }
    keeper.pending = fd;
    keep(keeper, fd);
    if !keeper.blocked {
        drain(keeper);
    }
}

/// Tell and reap all that have ended, until the socket is full.
pub(crate) fn drain(keeper: &mut Keeper) {
    while keeper.pending != 0 {
        let fd = keeper.pending;
        let Some(entry) = keeper.entry(fd).copied() else { return };
        let came = tell(keeper, fd, &entry);
        if let Came::Full = came {
            return;
        }
        keeper.pending = entry.next;
        match (keeper.entry(fd), came) {
            (Some(entry), Came::Traced) => entry.state = 1,
            (Some(entry), Came::Kept) => entry.state = 3,
            _ => {
                release(keeper, fd);
                if entry.wanted > 0 {
                    // What fell to it has fallen to us.
                    take(keeper, entry.wanted_id, entry.wanted);
                }
            }
        }
        if keeper.blocked {
            return;
        }
    }
}

/// What came of telling an exit.
enum Came {
    /// Told and reaped.
    Reaped,
    /// Told, and kept as well.
    Kept,
    /// Somebody traces the zombie: not ours yet, and nothing is told.
    Traced,
    /// The socket is full: try again later.
    Full,
}

/// Send the record of the zombie behind `fd`, then reap it.
fn tell(keeper: &mut Keeper, fd: i32, entry: &Entry) -> Came {
    if let Some(end) = keeper.ends.at(entry.end) {
        let x = fd as u64;
        let message =
            Message { kind: Tell::Exited as u16, id: entry.id, pid: end.pid, x, exit: end.exit, ..Message::default() };
        if !keeper.say(message) {
            return Came::Full;
        }
        keeper.pass(Moment::Told);
        return if entry.keep { Came::Kept } else { Came::Reaped };
    }
    match sys::waitid(P_PIDFD, fd, WNOWAIT | WNOHANG) {
        Ok(Some(waited)) => {
            let message =
                Message { kind: Tell::Exited as u16, id: entry.id, pid: waited.pid, exit: record(&waited), ..Message::default() };
            if entry.told && !keeper.say(message) {
                return Came::Full;
            }
            if entry.told {
                keeper.pass(Moment::Told);
            }
            let _ = sys::waitid(P_PIDFD, fd, WNOHANG);
            Came::Reaped
        }
        Ok(None) => Came::Traced,
        // ECHILD, which cannot happen to us, who alone wait: nothing is left to be told.
        Err(_) => Came::Reaped,
    }
}

/// Reap the zombie behind `fd` and keep how it ended, where that was wanted: also while nobody is there to be told. Without
/// room for it, and while somebody traces it, it stays a zombie.
fn keep(keeper: &mut Keeper, fd: i32) {
    if !keeper.entry(fd).is_some_and(|entry| entry.keep && entry.end == 0) {
        return;
    }
    let Some(place) = keeper.ends.take() else { return };
    let Ok(Some(waited)) = sys::waitid(P_PIDFD, fd, WNOHANG) else { return keeper.ends.release(place) };
    keeper.ends.put(place, waited.pid, record(&waited));
    if let Some(entry) = keeper.entry(fd) {
        entry.end = place;
        // Its number is somebody else's from now on.
        entry.pid = 0;
    }
    keeper.pass(Moment::Reaped);
}

/// The supervisor has written it down.
pub(crate) fn settle(keeper: &mut Keeper, message: &Message) {
    let Ok(fd) = i32::try_from(message.x) else { return };
    let Some(entry) = keeper.entry(fd).copied().filter(|entry| entry.state != 0 && entry.id == message.id) else { return };
    if entry.state == 3 {
        release(keeper, fd);
    } else if let Some(entry) = keeper.entry(fd) {
        // Nobody asks, and nobody is to be told.
        entry.keep = false;
        entry.told = false;
    }
    keeper.pass(Moment::Settled);
}

/// There is no supervisor any more: what it was told and has not written down is told to the next one.
pub(crate) fn untell(keeper: &mut Keeper) {
    let mut fd = sys::HIGH;
    while fd <= keeper.top {
        let first = keeper.pending;
        if let Some(entry) = keeper.entry(fd).filter(|entry| entry.state == 3) {
            entry.state = 2;
            entry.next = first;
            keeper.pending = fd;
        }
        fd += 1;
    }
}

fn record(waited: &Waited) -> ExitRecord {
    let usage = &waited.usage;
    let us = |at: usize| {
        let seconds = usage.get(at).copied().unwrap_or(0) as u64;
        seconds.wrapping_mul(1_000_000).wrapping_add(usage.get(at + 1).copied().unwrap_or(0) as u64)
    };
    let long = |at: usize| usage.get(at).copied().unwrap_or(0) as u64;
    ExitRecord {
        code: waited.code,
        status: waited.status,
        user_us: us(0),
        system_us: us(2),
        max_rss_kib: long(4),
        minor_faults: long(8),
        major_faults: long(9),
        voluntary: long(16),
        involuntary: long(17),
        at_ns: sys::now_ns(),
    }
}

/// Forget a reaped child. Unregistered first: the supervisor holds the same open file, so closing ours alone would
/// leave it in the epoll set.
fn release(keeper: &mut Keeper, fd: i32) {
    sys::epoll_del(keeper.epoll, fd);
    let end = keeper.entry(fd).map_or(0, |entry| entry.end);
    keeper.ends.release(end);
    if let Some(entry) = keeper.entry(fd) {
        entry.state = 0;
        entry.id = 0;
        entry.end = 0;
    }
    sys::close(fd);
}

/// SIGCHLD: a child that we do not watch may have ended. Either it could not be watched, or it is an orphan that was
/// handed to us, the subreaper: only processes that were born into an existing pid namespace, which may be ours, leave such.
/// With neither this costs one read.
pub(crate) fn sweep_orphans(keeper: &mut Keeper) {
    let mut info = [0u8; 128];
    while sys::read(keeper.orphans, &mut info) == Ok(info.len()) {}
    keeper.unswept = false;
    if !keeper.adopts && keeper.unwatched == 0 {
        return;
    }
    loop {
        let Ok(Some(waited)) = sys::waitid(P_ALL, 0, WNOHANG | WNOWAIT) else { return };
        if let Some(fd) = known(keeper, waited.pid) {
            // One of ours: its own event tells it. What waits behind it is seen when that is told.
            ended(keeper, fd);
            if keeper.entry(fd).is_some_and(|entry| entry.state != 0) {
                keeper.unswept = true;
                return;
            }
        } else if wanted(keeper, waited.pid) {
            // Its number is its own until it is watched, which is with the end of who attended it.
            keeper.unswept = true;
            return;
        } else {
            keeper.unwatched = keeper.unwatched.saturating_sub(1);
            if sys::waitid(P_PID, waited.pid, WNOHANG).is_err() {
                return;
            }
        }
    }
}

/// A process that was left to a child of ours is one that the supervisor wants to have. It falls to us when that child ends, and from
/// there on it is as one that we have started.
pub(crate) fn claim(keeper: &mut Keeper, message: &Message) {
    let (id, pid) = (message.id, message.pid);
    if pid <= 0 || known(keeper, pid).is_some() || wanted(keeper, pid) {
        return keeper.refuse(id, Stage::Watch, sys::EINVAL);
    }
    let attendant = attendant(keeper, message.x);
    match attendant.and_then(|fd| keeper.entry(fd)) {
        Some(entry) if entry.wanted == 0 => (entry.wanted, entry.wanted_id) = (pid, id),
        Some(_) => return keeper.refuse(id, Stage::Watch, sys::EINVAL),
        None => return take(keeper, id, pid),
    }
    if let Some(fd) = attendant {
        let _ = sys::pidfd_kill(fd);
    }
}

/// Watch who has fallen to us, and say so.
fn take(keeper: &mut Keeper, id: u64, pid: i32) {
    // Ours, and not reaped, also where it has ended: until we do that, its number is nobody else's.
    let watched = sys::waitid(P_PID, pid, WNOHANG | WNOWAIT)
        .and_then(|_| sys::call(nr::PIDFD_OPEN, [pid as usize, 0, 0, 0, 0, 0]))
        .and_then(|pidfd| {
            let kept = birth::adopt(keeper, id, pid, pidfd as i32);
            sys::close(pidfd as i32);
            kept
        });
    match watched {
        Ok(kept) => {
            let done = Message { kind: Tell::Done as u16, id, pid, x: kept as u64, ..Message::default() };
            keeper.answer(done, Some(Brought { purpose: Purpose::Pidfd, fd: kept, ours: false }));
        }
        Err(errno) => keeper.refuse(id, Stage::Watch, errno),
    }
}

/// Who attends the call that request `id` has started, as long as its end is not told.
fn attendant(keeper: &mut Keeper, id: u64) -> Option<i32> {
    find(keeper, |entry| entry.brings && entry.id == id)
}

/// This process is claimed of somebody who has not ended yet, or whose end is not told yet.
fn wanted(keeper: &mut Keeper, pid: i32) -> bool {
    find(keeper, |entry| entry.wanted == pid).is_some()
}

/// The supervisor had no room for the pidfd of the child that request `id` has started: nobody but us can end it. Looks
/// through all children, which is for an emergency.
pub(crate) fn kill(keeper: &mut Keeper, id: u64) {
    let mut fd = sys::HIGH;
    while fd <= keeper.top {
        if keeper.entry(fd).is_some_and(|entry| entry.state == 1 && entry.told && entry.id == id) {
            let _ = sys::pidfd_kill(fd);
        }
        fd += 1;
    }
}

/// The pidfd of a child that we started.
fn known(keeper: &mut Keeper, pid: i32) -> Option<i32> {
    find(keeper, |entry| entry.pid == pid)
}

/// The first child that is like this.
fn find(keeper: &mut Keeper, like: impl Fn(&Entry) -> bool) -> Option<i32> {
    let mut fd = sys::HIGH;
    while fd <= keeper.top {
        match keeper.entry(fd) {
            Some(entry) if entry.state != 0 && like(entry) => return Some(fd),
            Some(_) => fd += 1,
            None => return None,
        }
    }
    None
}
