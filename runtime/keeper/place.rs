//! A place inside a root that somebody else may be writing to at the same time: looked up, and made where it is missing,
//! without ever leaving that root.
//!
//! The walk is ours, name by name, so that what a link leads to can be made as well. What has been walked is kept as a path
//! without links and each look begins again at the root, where the kernel follows none (`RESOLVE_IN_ROOT |
//! RESOLVE_NO_SYMLINKS`): a name that has become a link meanwhile is an error, whoever made it one.

use crate::arch::nr;
use crate::steps::{fs_magic, stat};
use crate::sys::{self, CStr, O_DIRECTORY, O_NOFOLLOW, O_PATH, Res, call};

/// As many as the kernel follows in a path.
const LINKS: u32 = 40;
/// RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS
const STRICT: u64 = 0x10 | 0x04 | 0x02;

/// A path of bounded length, NUL-terminated.
struct Text {
    bytes: [u8; 4096],
    len: usize,
}

impl Text {
    const fn new() -> Text {
        Text { bytes: [0; 4096], len: 0 }
    }

    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// In the child.
    fn c_str(&self) -> CStr {
        if self.len == 0 { sys::lit(c".") } else { CStr(self.bytes.as_ptr()) }
    }

    fn push(&mut self, text: &[u8]) -> Res<()> {
        let end = self.len.saturating_add(text.len());
        // One byte stays for the NUL.
        if end >= self.bytes.len() {
            return Err(sys::ENAMETOOLONG);
        }
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(text) {
            *to = *from;
        }
        self.cut(end);
        Ok(())
    }

    fn cut(&mut self, len: usize) {
        self.len = len;
        if let Some(end) = self.bytes.get_mut(len) {
            *end = 0;
        }
    }

    /// Where the last name begins, or the slash before it.
    fn last(&self) -> usize {
        let mut at = self.len;
        while at > 0 {
            at -= 1;
            if self.bytes.get(at) == Some(&b'/') {
                return at;
            }
        }
        0
    }
}

/// In the child: opened O_PATH; the last name is made as a directory, a file (1), or a directory for everybody (2).
pub(crate) fn open(root: i32, path: &[u8], kind: u64, not_on: u64) -> Res<usize> {
    let (mut done, mut left) = (Text::new(), Text::new());
    left.push(path)?;
    let mut links = 0;
    while let Some(name) = first(&mut left) {
        if name.get() == b".." {
            let at = done.last();
            done.cut(at);
        } else if !matches!(name.get(), b"" | b".") {
            let target = enter(root, &mut done, &name, if is_end(&left) { kind } else { 0 })?;
            if target.len > 0 {
                links += 1;
                if links > LINKS {
                    return Err(sys::ELOOP);
                }
                left = behind(&target, &left)?;
            }
        }
    }
    let place = sys::openat2(root, done.c_str(), O_PATH as u64, 0, STRICT)?;
    match fs_magic(place) {
        Ok(magic) if magic != not_on => Ok(place as usize),
        found => {
            sys::close(place);
            found.and(Err(sys::EXDEV))
        }
    }
}

/// Take the first name off a path.
fn first(left: &mut Text) -> Option<Text> {
    if left.len == 0 {
        return None;
    }
    let end = left.get().iter().position(|byte| *byte == b'/').unwrap_or(left.len);
    let mut name = Text::new();
    let _ = name.push(left.get().get(..end).unwrap_or(&[]));
    let mut rest = Text::new();
    let _ = rest.push(left.get().get(end.saturating_add(1)..).unwrap_or(&[]));
    *left = rest;
    Some(name)
}

fn is_end(left: &Text) -> bool {
    left.get().iter().all(|byte| *byte == b'/')
}

/// In the child: one name further, made if it is missing. A link is not entered: its target is given back, and what has been
/// walked is where that begins.
fn enter(root: i32, done: &mut Text, name: &Text, kind: u64) -> Res<Text> {
    let mut next = Text::new();
    next.push(done.get())?;
    if next.len > 0 {
        next.push(b"/")?;
    }
    next.push(name.get())?;
    let none = Text::new();
    let fd = match sys::openat2(root, next.c_str(), (O_PATH | O_NOFOLLOW) as u64, 0, STRICT) {
        Err(sys::ENOENT) => {
            make(root, done, name, kind)?;
            *done = next;
            return Ok(none);
        }
        other => other?,
    };
    let mode = stat(fd).map(|(mode, _)| mode & 0o170_000);
    let target = if mode == Ok(0o120_000) { target(fd) } else { Ok(none) };
    sys::close(fd);
    mode?;
    let target = target?;
    if target.len == 0 {
        *done = next;
    } else if target.get().first() == Some(&b'/') {
        done.cut(0);
    }
    Ok(target)
}

/// In the child: where a link leads to, which is never nowhere.
fn target(link: i32) -> Res<Text> {
    let mut target = Text::new();
    let args = [link as usize, CStr::EMPTY.0 as usize, target.bytes.as_mut_ptr() as usize, 4095, 0, 0];
    let len = call(nr::READLINKAT, args)?;
    target.cut(len);
    if len == 0 { Err(sys::ENOENT) } else { Ok(target) }
}

/// In the child: what somebody else has made at the same moment is as good.
fn make(root: i32, dir: &Text, name: &Text, kind: u64) -> Res<()> {
    let parent = sys::openat2(root, dir.c_str(), (O_PATH | O_DIRECTORY) as u64, 0, STRICT)?;
    let made = if kind == 1 {
        // O_CREAT | O_EXCL
        sys::openat(parent, name.c_str(), sys::O_WRONLY | 0o100 | 0o200 | O_NOFOLLOW, 0o644).map(sys::close)
    } else {
        call(nr::MKDIRAT, [parent as usize, name.c_str().0 as usize, if kind == 2 { 0o1777 } else { 0o755 }, 0, 0, 0]).map(drop)
    };
    sys::close(parent);
    match made {
        Err(sys::EEXIST) => Ok(()),
        other => other,
    }
}

/// `target`, and what was left behind the link.
fn behind(target: &Text, left: &Text) -> Res<Text> {
    let mut path = Text::new();
    path.push(target.get())?;
    path.push(b"/")?;
    path.push(left.get())?;
    Ok(path)
}
