//! How much may be unpacked, counted before the work is done.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::error::Error;

/// What an archive or a directory may amount to. It is refused, and nothing of it is left, when it is more.
///
/// ```
/// use orangery_runtime::rootfs::UnpackLimits;
/// let small = UnpackLimits::default().bytes(64 << 20).entries(10_000);
/// assert_ne!(small, UnpackLimits::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) path: usize,
    pub(super) depth: usize,
}

impl Default for UnpackLimits {
    /// 16 GiB of content, a million entries, paths of 4,096 bytes, 256 directories below each other.
    fn default() -> Self {
        Self { bytes: 16 << 30, entries: 1_000_000, path: 4096, depth: 256 }
    }
}

impl UnpackLimits {
    /// Bytes of content, over all files and layers; the holes of sparse files are none.
    #[must_use]
    pub fn bytes(mut self, most: u64) -> Self {
        self.bytes = most;
        self
    }

    /// Entries of all layers: files, directories, links, whiteouts, and headers that only describe the next one.
    #[must_use]
    pub fn entries(mut self, most: u64) -> Self {
        self.entries = most;
        self
    }

    /// Bytes of a path, and of what a link says.
    #[must_use]
    pub fn path(mut self, most: usize) -> Self {
        self.path = most;
        self
    }

    /// Directories below each other.
    #[must_use]
    pub fn depth(mut self, most: usize) -> Self {
        self.depth = most;
        self
    }
}

/// What of the limits is used.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) limits: UnpackLimits,
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

impl Budget {
    pub(super) fn new(limits: UnpackLimits) -> Self {
        Self { limits, bytes: 0, entries: 0 }
    }

    /// One more entry.
    pub(super) fn entry(&mut self, name: &[u8]) -> Result<(), Error> {
        if self.entries >= self.limits.entries {
            return Err(too_much("entries", self.limits.entries, name));
        }
        self.entries += 1;
        Ok(())
    }

    /// So many bytes more.
    pub(super) fn bytes(&mut self, count: u64, name: &[u8]) -> Result<(), Error> {
        match self.bytes.checked_add(count).filter(|all| *all <= self.limits.bytes) {
            Some(all) => self.bytes = all,
            None => return Err(too_much("bytes", self.limits.bytes, name)),
        }
        Ok(())
    }

    /// A path or a link of this length.
    pub(super) fn path(&self, len: u64, name: &[u8]) -> Result<(), Error> {
        match usize::try_from(len).is_ok_and(|len| len <= self.limits.path) {
            true => Ok(()),
            false => Err(too_much("path", self.limits.path as u64, name)),
        }
    }
}

fn too_much(which: &str, most: u64, name: &[u8]) -> Error {
    Error::invalid(format!("limits.{which}"), format!("the limit of {most} is passed at {}", quoted(name)))
}

/// A name of the archive's, as it can be shown in one line.
pub(super) fn quoted(name: &[u8]) -> String {
    let shown = name.get(..200).unwrap_or(name);
    let more = if shown.len() < name.len() { "..." } else { "" };
    format!("{:?}{more}", Path::new(OsStr::from_bytes(shown)))
}
