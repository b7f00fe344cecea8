//! Root file systems are made and removed on a real file system, by whoever runs the tests.

mod attacks;
mod layers;
mod ordinary;
mod removal;
mod tar;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use super::*;
use crate::error::Error;
pub(super) use tar::Tar;

pub(super) fn root() -> bool {
    rustix::process::geteuid().is_root() && crate::keeper::is_privileged()
}

/// A directory that is removed with all that belongs to ids of a range in it.
pub(super) struct Spot(PathBuf);

impl Spot {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        let left = removed(&self.0);
        assert!(left.is_ok() || std::thread::panicking(), "{left:?}");
    }
}

/// A directory, and a place in it.
pub(super) fn place() -> (Spot, PathBuf) {
    let dir = Spot(tempfile::tempdir().unwrap().keep());
    let to = dir.path().join("made");
    (dir, to)
}

pub(super) fn unpacked(unpack: Unpack, to: &Path) -> Result<Unpacked, Error> {
    unpack.into_dir_blocking(to, &|| false).map(|(unpacked, _)| unpacked)
}

pub(super) fn of(tar: Tar) -> Unpack {
    Unpack::from_reader(Cursor::new(tar.end()))
}

pub(super) fn removed(path: &Path) -> Result<Removed, Error> {
    remove::tree(path, &mut owners::Owners::new(), &|| false)
}

/// Nothing is left beside what was there.
pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}
