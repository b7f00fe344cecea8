//! What is made: under a name of our own until it is complete, then under its own. Dropped before that, it is removed.
//! So nobody ever sees half of it, and nothing is left of a copy that failed.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use orangery_runtime as runtime;
use rustix::fs::RawDir;
use rustix::io::{Errno, Result as IoResult};

use super::failed;
use super::side::Side;
use crate::error::Error;

/// A file or tree on its way.
#[derive(Debug)]
pub(super) struct Target<'a> {
    side: &'a Side<'a>,
    dir: OwnedFd,
    name: OsString,
    temporary: OsString,
    path: PathBuf,
    field: &'static str,
    /// How many names a removal may meet before it gives up: whoever lives there may add faster than we remove.
    entries: u64,
    done: bool,
}

impl<'a> Target<'a> {
    pub(super) fn new(side: &'a Side<'a>, path: &Path, field: &'static str, entries: u64) -> Result<Self, Error> {
        let (dir, name) = side.parent(path, field)?;
        let mut random = [0u8; 8];
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let temporary = format!(".orangery-{:016x}", u64::from_ne_bytes(random)).into();
        let (name, path) = (name.to_os_string(), path.to_path_buf());
        Ok(Self { side, dir, name, temporary, path, field, entries, done: false })
    }

    /// Refuse what is there already, before any work.
    pub(super) fn must_be_new(&self) -> Result<(), Error> {
        match self.side.entry(&self.dir, &self.name) {
            Err(Errno::NOENT) => Ok(()),
            Ok(_) => Err(self.exists()),
            Err(error) => Err(self.failed("look at", error)),
        }
    }

    /// Where it is made.
    pub(super) fn side(&self) -> &Side<'a> {
        self.side
    }

    pub(super) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// The name until it is complete.
    pub(super) fn temporary(&self) -> &OsStr {
        &self.temporary
    }

    /// Complete: give it its name, which must still be free.
    pub(super) fn appear(mut self) -> Result<(), Error> {
        let renamed = self.side.rename(&self.dir, &self.temporary, &self.name, false);
        match renamed {
            Ok(()) => self.done = true,
            Err(Errno::EXIST) => return Err(self.exists()),
            Err(error) => return Err(self.failed("make", error)),
        }
        Ok(())
    }

    /// Complete: give it its name, in place of a file or link that is there.
    pub(super) fn replace(mut self) -> Result<(), Error> {
        let renamed = self.side.rename(&self.dir, &self.temporary, &self.name, true);
        renamed.map_err(|error| self.failed("replace", error))?;
        self.done = true;
        Ok(())
    }

    fn failed(&self, what: &str, error: Errno) -> Error {
        failed(what, &self.path, error).with_field(self.field).into()
    }

    fn exists(&self) -> Error {
        let what = format!("{} exists", self.path.display());
        let error = runtime::Error::new(runtime::ErrorKind::Exists, what).with_field(self.field);
        error.into()
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Err(error) = remove(self.side, &self.dir, &self.temporary, self.entries) {
            tracing::warn!(path = %self.path.display(), %error, "what was copied could not be removed");
        }
    }
}

/// Deeper than any copy of ours; each level takes a descriptor.
const DEEPEST: usize = 1024;

/// Remove a tree by descriptors; no link is followed, and no more than twice `entries` names are looked at.
fn remove(side: &Side<'_>, parent: &OwnedFd, name: &OsStr, entries: u64) -> IoResult<()> {
    let mut left = entries.saturating_mul(2).saturating_add(64);
    let mut stack: Vec<(OwnedFd, OsString, Vec<OsString>)> = Vec::new();
    let mut next = Some(name.to_os_string());
    loop {
        if stack.len() > DEEPEST {
            return Err(Errno::LOOP);
        }
        if let Some(name) = next.take() {
            let dir = stack.last().map_or(parent, |(dir, ..)| dir);
            match side.remove(dir, &name, false) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::ISDIR) => {
                    let opened = side.directory(dir, &name)?;
                    let (names, _) = names(&opened, left)?;
                    stack.push((opened, name, names));
                }
                Err(error) => return Err(error),
            }
            left = left.checked_sub(1).ok_or(Errno::LOOP)?;
        }
        let Some((_, _, names)) = stack.last_mut() else { return Ok(()) };
        next = names.pop();
        if next.is_none()
            && let Some((dir, name, _)) = stack.pop()
        {
            drop(dir);
            let above = stack.last().map_or(parent, |(dir, ..)| dir);
            side.remove(above, &name, true)?;
        }
    }
}

/// The names in a directory that was just opened, at most `most`; `true`: there are more. It is not opened again: who may
/// do that is not who we are.
pub(super) fn names(dir: &OwnedFd, most: u64) -> IoResult<(Vec<OsString>, bool)> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            // It was removed meanwhile.
            Err(Errno::NOENT) => break,
            Err(error) => return Err(error),
        };
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        if names.len() as u64 >= most {
            return Ok((names, true));
        }
        names.push(name.to_os_string());
    }
    Ok((names, false))
}
