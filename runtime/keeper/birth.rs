//! What the keeper does for a newborn, between its clone and the answer: watch it, wait until each of the two has a
//! descriptor table of its own, write its maps.
//!
//! Everything cloned is watched from the first moment, so that whatever fails later needs no wait for a corpse: it is
//! killed, and the loop reaps it. A newborn is killed by its pidfd before it has run an instruction or not at all, so
//! the table may be used again as soon as the signal is sent.

use crate::serve::{self, CLONE_NEWPID, Entry, Keeper};
use crate::spawn::{Birth, load, shared, store, write_maps};
use crate::sys::{self, Errno, HIGH, Res};
use crate::trace::Line;
use crate::wire::{self, Stage};
use crate::{child, start};

/// How long the keeper waits for a newborn to leave the shared descriptor table, which takes some 30 us; then it leaves
/// the table itself. A newborn whose cgroup is frozen or out of CPU time, or that was stopped, may not run for long.
const PATIENCE_NS: i64 = 2_000_000;

/// Parent of a newborn, which `shares` our descriptor table. The pidfd that it gives back is kept and watched.
pub(crate) fn settle(
    keeper: &mut Keeper,
    birth: &Birth,
    pid: i32,
    pidfd: i32,
    shares: bool,
) -> Result<i32, (Stage, Errno)> {
    let kept = match watch(keeper, birth, pid, pidfd) {
        Ok(kept) => kept,
        Err(errno) => {
            give_up(keeper, pidfd);
            return Err((Stage::Watch, errno));
        }
    };
    let apart = if shares { apart(keeper, birth) } else { Ok(()) };
    match apart.and_then(|()| maps(keeper, birth, pid)) {
        Ok(()) => {}
        Err(failed) => {
            abandon(keeper, kept);
            return Err(failed);
        }
    }
    make_room(keeper, kept);
    if keeper.trace >= 0 {
        Line::new()
            .text(b"ns=")
            .number(sys::now_ns())
            .text(b" keeper id=")
            .number(birth.id)
            .text(b" clone pid=")
            .number(pid as u64)
            .end(keeper.trace);
    }
    Ok(kept)
}

/// Double the descriptor table before it is full, as long as nobody shares it.
fn make_room(keeper: &mut Keeper, kept: i32) {
    if kept as usize + HIGH as usize > keeper.size && keeper.size < keeper.places {
        keeper.size = keeper.size.saturating_mul(2).min(keeper.places);
        start::grow(keeper.proc, keeper.size);
    }
}

/// Kill a child that could not be watched; its SIGCHLD says when it can be reaped.
pub(crate) fn give_up(keeper: &mut Keeper, pidfd: i32) {
    let _ = sys::pidfd_kill(pidfd);
    keeper.unwatched += 1;
}

/// Kill a watched child that nobody will be told of.
pub(crate) fn abandon(keeper: &mut Keeper, kept: i32) {
    let _ = sys::pidfd_kill(kept);
    if let Some(entry) = keeper.entry(kept) {
        entry.told = false;
        entry.keep = false;
    }
}

/// Watch a child by a copy of its pidfd, which is given back.
pub(crate) fn watch(keeper: &mut Keeper, birth: &Birth, pid: i32, pidfd: i32) -> Res<i32> {
    // In a pid namespace of its own its orphans stay there. For good: those of one that shares ours may end long after it.
    keeper.adopts |= birth.header.pidns < 0 && birth.header.clone & CLONE_NEWPID as u64 == 0;
    let (keep, leave, brings) = (birth.keep, birth.leave, birth.brings);
    let new = Entry { keep, leave, brings, ..Entry::alive(birth.id, pid, true) };
    enter(keeper, pidfd, new)
}

/// Watch a child that another one has left to us.
pub(crate) fn adopt(keeper: &mut Keeper, id: u64, pid: i32, pidfd: i32) -> Res<i32> {
    let kept = enter(keeper, pidfd, Entry::alive(id, pid, true))?;
    make_room(keeper, kept);
    Ok(kept)
}

/// Watch a child that has served its purpose: kill it, reap it when it is dead, say nothing about it.
pub(crate) fn dismiss(keeper: &mut Keeper, pid: i32, pidfd: i32) {
    match enter(keeper, pidfd, Entry::alive(0, pid, false)) {
        Ok(kept) => abandon(keeper, kept),
        Err(_) => give_up(keeper, pidfd),
    }
}

fn enter(keeper: &mut Keeper, pidfd: i32, new: Entry) -> Res<i32> {
    let kept = sys::dup_high(pidfd)?;
    match keeper.entry(kept) {
        Some(entry) => *entry = new,
        None => {
            sys::close(kept);
            return Err(sys::EMFILE);
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
    Ok(kept)
}

/// Until here the newborn shares our descriptor table; afterwards nobody does.
fn apart(keeper: &mut Keeper, birth: &Birth) -> Result<(), (Stage, Errno)> {
    if has_left(birth) {
        return Ok(());
    }
    // It keeps the table that we shared, with what its plan needs, and makes it its own when it runs. Ours is a copy
    // without a request's descriptors.
    let first = serve::first_of_request(keeper);
    sys::close_range(first, HIGH as usize - 1, child::UNSHARE).map_err(|errno| (Stage::Birth, errno))?;
    start::grow(keeper.proc, keeper.size);
    Ok(())
}

/// Wait for the newborn's first instructions, bounded by [`PATIENCE_NS`].
fn has_left(birth: &Birth) -> bool {
    loop {
        let seen = load(birth.page, shared::LEFT);
        if seen == birth.seq {
            return true;
        }
        // SAFETY: the word lies in the page.
        let word = unsafe { birth.page.add(shared::LEFT) };
        if sys::futex_wait(word, seen, PATIENCE_NS) == Err(sys::ETIMEDOUT) {
            return load(birth.page, shared::LEFT) == birth.seq;
        }
    }
}

fn maps(keeper: &Keeper, birth: &Birth, pid: i32) -> Result<(), (Stage, Errno)> {
    if birth.header.flags & wire::NEEDS_MAPS == 0 {
        return Ok(());
    }
    let (uid, gid) = (birth.header.uid_map, birth.header.gid_map);
    let deny = birth.header.flags & wire::DENY_SETGROUPS != 0;
    write_maps(keeper.proc, pid, birth.plan, uid, gid, deny).map_err(|errno| (Stage::Maps, errno))?;
    store(birth.page, shared::MAPPED, birth.seq);
    Ok(())
}
