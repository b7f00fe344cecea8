//! The supervisor is gone: kill and remove all that was its own, then end; or go on `alone`, if it wanted that.

use crate::arch::EpollEvent;
use crate::{alone, deadline};
use crate::serve::{Keeper, ROOTS, Root};
use crate::sys::{self, CStr, P_ALL, WNOHANG, lit};
use crate::wire::{End, Moment, Tree};

/// Longest time the keeper waits for what it has killed, in steps of 50 ms of an otherwise idle wait.
const PATIENCE: u32 = 200;

/// The same, for whom a call's attendant has left dying: it is killed with that one, and falls to us.
const LEFT: u32 = 20;

pub(crate) fn supervisor_gone(keeper: &mut Keeper) {
    if keeper.end == End::Keep && alone::holds_anything(keeper) {
        return alone::begin(keeper);
    }
    deadline::holder_gone(keeper);
    if keeper.end == End::Release {
        sys::exit_group(0);
    }
    deadline::none_left(keeper);
    remove_everything(keeper)
}

fn remove_everything(keeper: &mut Keeper) -> ! {
    keeper.pass(Moment::Ending);
    let mut index = 0;
    while index < ROOTS {
        if let Some(root) = keeper.roots.get(index).copied() {
            kill_cgroup(&root);
        }
        index += 1;
    }
    let patience = if kill_children(keeper) { LEFT } else { 0 };
    reap_all(keeper, patience);
    keeper.pass(Moment::Buried);
    for root in keeper.roots.iter().filter(|root| root.parent >= 0) {
        remove_root(root);
        keeper.pass(Moment::Removed);
    }
    sys::exit_group(0)
}

fn name(root: &Root) -> CStr {
    CStr(root.name.as_ptr())
}

/// `cgroup.kill` takes the whole subtree, frozen or not; a v1 freezer must be thawed so that SIGKILL is felt.
fn kill_cgroup(root: &Root) {
    if root.parent < 0 || root.kind != Tree::Cgroup as u64 {
        return;
    }
    let Ok(dir) = open_dir(root.parent, name(root)) else { return };
    write_file(dir, lit(c"cgroup.kill"), b"1");
    thaw_below(dir, 0);
    sys::close(dir);
}

fn open_dir(parent: i32, name: CStr) -> sys::Res<i32> {
    sys::openat(parent, name, sys::O_DIRECTORY | sys::O_NOFOLLOW, 0)
}

fn write_file(dir: i32, name: CStr, content: &[u8]) {
    if let Ok(fd) = sys::openat(dir, name, sys::O_WRONLY, 0) {
        let _ = sys::write(fd, content);
        sys::close(fd);
    }
}

fn thaw_below(dir: i32, depth: u32) {
    write_file(dir, lit(c"freezer.state"), b"THAWED");
    let _ = each_entry(dir, |name, is_dir| {
        if is_dir && depth < MAX_DEPTH {
            if let Ok(child) = open_dir(dir, name) {
                thaw_below(child, depth + 1);
                sys::close(child);
            }
        }
    });
}

/// With the groups that they lead: a program of a bundle has begun others, which nobody else would end. Whether one of them attends a
/// call.
fn kill_children(keeper: &mut Keeper) -> bool {
    let (mut fd, mut attends) = (sys::HIGH, false);
    while fd <= keeper.top {
        if let Some(entry) = keeper.entry(fd).copied().filter(|entry| entry.state == 1) {
            if entry.pid > 0 {
                let _ = sys::group_kill(entry.pid);
            }
            let _ = sys::pidfd_kill(fd);
            attends |= entry.brings;
        }
        fd += 1;
    }
    attends
}

/// Reap until nobody is left of those that were killed; the pidfds wake us, the time limit is for a process that cannot die. `left`:
/// so long for those who are none of ours.
fn reap_all(keeper: &mut Keeper, left: u32) {
    let mut events = [EpollEvent { events: 0, data: 0 }; 64];
    sys::epoll_del(keeper.epoll, keeper.socket);
    let mut idle = 0;
    while idle < PATIENCE {
        match sys::waitid(P_ALL, 0, WNOHANG) {
            Ok(Some(_)) => idle = 0,
            // A program of a bundle may have left somebody behind who fell to us and is none of ours.
            Ok(None) if idle >= left && !somebody_is_ours(keeper) => return,
            Ok(None) => {
                let mut info = [0u8; 128];
                while sys::read(keeper.orphans, &mut info) == Ok(info.len()) {}
                if sys::epoll_wait(keeper.epoll, &mut events, 50).unwrap_or(0) == 0 {
                    idle += 1;
                }
            }
            Err(_) => return,
        }
    }
}

/// A child that we have started is there still, or somebody in a cgroup that is to be removed.
fn somebody_is_ours(keeper: &mut Keeper) -> bool {
    let mut fd = sys::HIGH;
    while fd <= keeper.top {
        let watched = keeper.entry(fd).is_some_and(|entry| entry.state != 0);
        if watched && sys::waitid(sys::P_PIDFD, fd, WNOHANG | sys::WNOWAIT).is_ok() {
            return true;
        }
        fd += 1;
    }
    let cgroups = keeper.roots.iter().filter(|root| root.parent >= 0 && root.kind == Tree::Cgroup as u64);
    for root in cgroups {
        if let Ok(dir) = open_dir(root.parent, name(root)) {
            let lives = has_somebody(dir, 0);
            sys::close(dir);
            if lives {
                return true;
            }
        }
    }
    false
}

/// In this cgroup, or below it.
fn has_somebody(dir: i32, depth: u32) -> bool {
    let mut found = false;
    if let Ok(file) = sys::openat(dir, lit(c"cgroup.procs"), 0, 0) {
        found = sys::read(file, &mut [0u8; 1]).is_ok_and(|len| len > 0);
        sys::close(file);
    }
    let _ = each_entry(dir, |name, is_dir| {
        if is_dir && !found && depth < MAX_DEPTH {
            if let Ok(child) = open_dir(dir, name) {
                found = has_somebody(child, depth + 1);
                sys::close(child);
            }
        }
    });
    found
}

fn remove_root(root: &Root) {
    if root.parent < 0 {
        return;
    }
    let files = root.kind == Tree::Files as u64;
    if files && sys::unlinkat(root.parent, name(root), false).is_ok() {
        return;
    }
    if let Ok(dir) = open_dir(root.parent, name(root)) {
        remove_below(dir, files, 0);
        sys::close(dir);
    }
    remove_dir(root.parent, name(root));
}

/// A cgroup whose last process has just been reaped may still say EBUSY for a moment: ask again, bounded.
fn remove_dir(parent: i32, name: CStr) {
    let mut tries = 0;
    while tries < 100 && sys::unlinkat(parent, name, true) == Err(sys::EBUSY) {
        tries += 1;
        let word = 0u32;
        let _ = sys::futex_wait(&raw const word, 0, 5_000_000);
    }
}

const MAX_DEPTH: u32 = 32;

fn remove_below(dir: i32, files: bool, depth: u32) {
    if depth > MAX_DEPTH {
        return;
    }
    let _ = each_entry(dir, |name, is_dir| {
        if is_dir {
            if let Ok(child) = open_dir(dir, name) {
                remove_below(child, files, depth + 1);
                sys::close(child);
            }
            remove_dir(dir, name);
        } else if files {
            let _ = sys::unlinkat(dir, name, false);
        }
    });
}

/// Call `act` for each entry of `dir` but `.` and `..`. It may remove the entry: getdents lists each one that stays
/// exactly once.
pub(crate) fn each_entry(dir: i32, mut act: impl FnMut(CStr, bool)) -> sys::Res<()> {
    let mut buf = [0u64; 256];
    loop {
        // SAFETY: the words of `buf` as bytes; alignment 8 is what linux_dirent64 wants.
        let bytes = unsafe { core::slice::from_raw_parts_mut(buf.as_mut_ptr().cast::<u8>(), 2048) };
        let len = sys::getdents(dir, bytes)?;
        if len == 0 {
            return Ok(());
        }
        let mut at = 0;
        // linux_dirent64: ino (8), off (8), reclen (2), type (1), name.
        while at + 19 < len {
            let size =
                usize::from(*bytes.get(at + 16).unwrap_or(&0)) | usize::from(*bytes.get(at + 17).unwrap_or(&0)) << 8;
            let kind = *bytes.get(at + 18).unwrap_or(&0);
            let Some(name) = bytes.get(at + 19..) else { return Ok(()) };
            let dots = name.starts_with(b".\0") || name.starts_with(b"..\0");
            if !dots {
                act(CStr(name.as_ptr()), kind == 4);
            }
            if size == 0 {
                return Ok(());
            }
            at += size;
        }
    }
}
