//! A new file system gets a copy of what lies where it is about to be mounted.
//!
//! Somebody else may be changing that tree meanwhile: each name is looked at once, by a descriptor that follows no link and
//! crosses no mount, and all that is done with it goes through that descriptor. How much is copied is bounded by the size of the
//! new file system, a file by what it had when it was looked at.

use crate::arch::nr;
use crate::spawn;
use crate::steps::{Stat, look};
use crate::sweep::each_entry;
use crate::sys::{self, AT_EMPTY_PATH, CStr, O_DIRECTORY, O_NOFOLLOW, O_PATH, Res, call, lit};

/// Directories in each other.
const DEPTH: u32 = 64;
/// RESOLVE_NO_XDEV
const ONE_MOUNT: u64 = 1;
const KIND: u32 = 0o170_000;

/// In the child: all below `from` into `to`, but for 4: nothing; `what` says what of the directory itself (1: mode, 2: owner).
pub(crate) fn run(from: i32, to: i32, what: u64) -> Res<()> {
    let (from, to) = (directory(from, lit(c"."))?, directory(to, lit(c"."))?);
    let stat = look(from)?;
    if what & 4 == 0 {
        below(from, to, 0)?;
    }
    if what & 2 != 0 {
        let _ = give(to, CStr::EMPTY, &stat);
    }
    if what & 1 != 0 {
        mode(to, stat.mode)?;
    }
    sys::close(from);
    sys::close(to);
    Ok(())
}

/// In the child.
fn directory(at: i32, name: CStr) -> Res<i32> {
    sys::openat(at, name, O_DIRECTORY | O_NOFOLLOW, 0)
}

/// In the child.
fn below(from: i32, to: i32, depth: u32) -> Res<()> {
    if depth == DEPTH {
        return Err(sys::ELOOP);
    }
    let mut done = Ok(());
    each_entry(from, |name, _| {
        if done.is_ok() {
            done = one(from, to, name, depth);
        }
    })?;
    done
}

/// In the child: what has gone since it was listed is not there, and what is mounted there stays what it is.
fn one(from: i32, to: i32, name: CStr, depth: u32) -> Res<()> {
    let found = match sys::openat2(from, name, (O_PATH | O_NOFOLLOW) as u64, 0, ONE_MOUNT) {
        Err(sys::ENOENT | sys::EXDEV) => return Ok(()),
        found => found?,
    };
    let copied = look(found).and_then(|stat| match stat.mode & KIND {
        0o040_000 => tree(found, to, name, &stat, depth),
        0o100_000 => file(found, to, name, &stat),
        0o120_000 => link(found, to, name, &stat),
        _ => node(to, name, &stat),
    });
    sys::close(found);
    copied
}

/// In the child.
fn tree(found: i32, to: i32, name: CStr, stat: &Stat, depth: u32) -> Res<()> {
    call(nr::MKDIRAT, [to as usize, name.0 as usize, 0o700, 0, 0, 0])?;
    let inside = directory(found, lit(c"."))?;
    let made = directory(to, name)?;
    below(inside, made, depth + 1)?;
    finish(made, stat)?;
    sys::close(inside);
    sys::close(made);
    Ok(())
}

/// In the child: what was looked at is opened, whatever has its name by now. The old /proc is still there.
fn file(found: i32, to: i32, name: CStr, stat: &Stat) -> Res<()> {
    let mut path = [0u8; 40];
    spawn::fill(&mut path, b"/proc/self/fd/", found as u64, b"");
    let content = sys::openat(sys::AT_FDCWD, CStr(path.as_ptr()), 0, 0)?;
    // O_CREAT | O_EXCL
    let made = sys::openat(to, name, sys::O_WRONLY | 0o100 | 0o200 | O_NOFOLLOW, 0o600)?;
    let mut left = stat.size;
    while left > 0 {
        let args = [made as usize, content as usize, 0, left.min(1 << 30) as usize, 0, 0];
        match call(nr::SENDFILE, args)? {
            0 => break,
            count => left = left.saturating_sub(count as u64),
        }
    }
    finish(made, stat)?;
    sys::close(content);
    sys::close(made);
    Ok(())
}

/// In the child.
fn link(found: i32, to: i32, name: CStr, stat: &Stat) -> Res<()> {
    let mut target = [0u8; 4096];
    let args = [found as usize, CStr::EMPTY.0 as usize, target.as_mut_ptr() as usize, 4095, 0, 0];
    call(nr::READLINKAT, args)?;
    call(nr::SYMLINKAT, [target.as_ptr() as usize, to as usize, name.0 as usize, 0, 0, 0])?;
    let _ = give(to, name, stat);
    Ok(())
}

/// In the child: a node that may not be made here would be no device either.
fn node(to: i32, name: CStr, stat: &Stat) -> Res<()> {
    let mode = (stat.mode & (KIND | 0o777)) as usize;
    match call(nr::MKNODAT, [to as usize, name.0 as usize, mode, stat.rdev as usize, 0, 0]) {
        Err(sys::EPERM) => return Ok(()),
        made => made?,
    };
    let _ = give(to, name, stat);
    Ok(())
}

/// In the child: an owner that does not exist here cannot be had; what ran in his name must not run in ours then.
fn finish(made: i32, stat: &Stat) -> Res<()> {
    let kept = if give(made, CStr::EMPTY, stat).is_ok() { 0o7777 } else { 0o1777 };
    mode(made, stat.mode & kept)
}

/// In the child.
fn give(dir: i32, name: CStr, stat: &Stat) -> Res<()> {
    // AT_SYMLINK_NOFOLLOW
    let flags = 0x100 | AT_EMPTY_PATH;
    call(nr::FCHOWNAT, [dir as usize, name.0 as usize, stat.uid as usize, stat.gid as usize, flags, 0]).map(drop)
}

/// In the child.
fn mode(made: i32, mode: u32) -> Res<()> {
    call(nr::FCHMOD, [made as usize, (mode & 0o7777) as usize, 0, 0, 0, 0]).map(drop)
}
