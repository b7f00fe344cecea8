//! Files of a container: read, written, copied in and out, by descriptors from its root directory.
//!
//! The tree on the other side may be hostile and may change under our hands. So: links lead nowhere outside (`openat2`
//! with IN_ROOT for the path that was named, no link followed below it); what a name means is decided on an O_PATH
//! descriptor and that very object is opened; fifos, sockets and devices are never opened; nothing is read from /proc,
//! /sys and their like, where a file acts on the kernel; everything is touched in the container's own name
//! ([`side`]); bytes, entries and depth are bounded.
//!
//! ```text
//!   job.rs     a future for the caller, a blocking thread for the work
//!   side.rs    a root and the ids to touch it with
//!   hands.rs   who does it where we cannot become the one
//!   single.rs  one file            tree.rs  a whole tree: the walk
//!   target.rs  what is made appears whole or not at all
//!   options.rs limits, and what was copied
//! ```

mod hands;
mod job;
mod options;
mod side;
mod single;
mod target;
mod tree;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use orangery_runtime as runtime;

use crate::container::slot::ContainerSlot;
use crate::error::{Error, ErrorKind};
use crate::handle::ContainerHandle;

use job::Leave;
pub use options::{Copied, CopyOptions, SkipReason, Skipped};
use side::Side;

/// A failed operation on `path`.
fn failed(what: &str, path: &Path, error: impl Into<std::io::Error>) -> runtime::Error {
    runtime::Error::system(format!("cannot {what} {}", path.display()), error)
}

/// The container's side: its root as it was kept, or as it is now.
fn inside<'a>(slot: &ContainerSlot, leave: Leave<'a>) -> Result<Side<'a>, Error> {
    if slot.let_go() {
        return Err(Error::new(ErrorKind::State, "the container has ended"));
    }
    let not_yet = || Error::new(ErrorKind::State, "the container has not started");
    let container = slot.container.get().ok_or_else(not_yet)?;
    let root = match slot.kept_root() {
        Some(root) => root,
        None => Arc::new(container.root()?),
    };
    Ok(Side::container(root, container, leave))
}

/// Files. All of these work while the container lives; with
/// [`SandboxBuilder::keep_files`](crate::SandboxBuilder::keep_files) also after its exit, until it is deleted, its last
/// handle goes or the supervisor is shut down. The work is done on a thread of ours that may block.
///
/// Each takes eight [descriptors](crate::Budget::Descriptors) while it goes on, and a copy two more for each level that it is
/// below its top, and four more where somebody else than ourselves must do it: [`ErrorKind::Exhausted`], with the field `descriptors`, where there is no room for them.
///
/// The tree may be hostile: no link leads outside of the container, and nothing but regular files, directories and links
/// is ever opened. A file that only somebody else than the container's root and the user of its main process may read is
/// refused.
impl ContainerHandle {
    /// A regular file of the container, of at most `max` bytes. Links lead nowhere outside.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::Invalid`] with the field `max` when it is larger, `path` when it is no
    /// regular file; [`ErrorKind::State`] when the container has ended.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub fn read_file<P: AsRef<Path>>(
        &self,
        path: P,
        max: u64,
    ) -> impl Future<Output = Result<Bytes, Error>> + Send + 'static + use<P> {
        let path = path.as_ref().to_path_buf();
        job::run(self, move |slot, leave| {
            let side = inside(slot, leave)?;
            side.outcome(single::read(&side, &path, max))
        })
    }

    /// Write a regular file into the container, replacing a file or link that is there; nothing is written through a link.
    /// It belongs to the container's root, or to the user of its main process where the root may not write.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] without its directory, [`ErrorKind::Permission`] where that cannot be written,
    /// [`ErrorKind::Exhausted`] when the disk limit is reached, [`ErrorKind::State`] when the container has ended.
    ///
    /// # Cancel safety
    /// Dropped early, the file is there whole or not at all.
    pub fn write_file<P: AsRef<Path>, B: Into<Bytes>>(
        &self,
        path: P,
        content: B,
        mode: u32,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<P, B> {
        let (path, content) = (path.as_ref().to_path_buf(), content.into());
        job::run(self, move |slot, leave| {
            let side = inside(slot, leave)?;
            side.outcome(single::write(&side, &path, &content, mode))
        })
    }

    /// Copy a file or a whole tree of the host to `to` in the container, which must not exist; its directory must. Links
    /// are copied as links. Owners and times are not kept; permission bits are, and a directory's owner may always use it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the field `limits.bytes`, `limits.entries` or `limits.depth` and the path at which the
    /// limit was passed; [`ErrorKind::Exists`] with the field `to`; else as for [`ContainerHandle::write_file`]. Nothing
    /// of the copy is left.
    ///
    /// # Cancel safety
    /// Dropped early, the copy stops at the next entry and what was copied is removed.
    pub fn copy_in<F: AsRef<Path>, T: AsRef<Path>>(
        &self,
        from: F,
        to: T,
        options: CopyOptions,
    ) -> impl Future<Output = Result<Copied, Error>> + Send + 'static + use<F, T> {
        let (from, to): (PathBuf, PathBuf) = (from.as_ref().into(), to.as_ref().into());
        job::run(self, move |slot, leave| {
            let options = CopyOptions { outside_links: true, ..options };
            let (host, side) = (Side::host()?, inside(slot, leave)?);
            side.outcome(tree::copy((&host, &from), (&side, &to), options, leave))
        })
    }

    /// Copy a file or a whole tree of the container to `to` on the host, which must not exist; its directory must. What
    /// could not be copied is listed in [`Copied::skipped`]: special files, and links that would lead out of the copy.
    /// Owners and times are not kept; of the mode only the permission bits are.
    ///
    /// # Errors
    /// As for [`ContainerHandle::copy_in`]; [`ErrorKind::NotFound`] with the field `from`.
    ///
    /// # Cancel safety
    /// As for [`ContainerHandle::copy_in`].
    pub fn copy_out<F: AsRef<Path>, T: AsRef<Path>>(
        &self,
        from: F,
        to: T,
        options: CopyOptions,
    ) -> impl Future<Output = Result<Copied, Error>> + Send + 'static + use<F, T> {
        let (from, to): (PathBuf, PathBuf) = (from.as_ref().into(), to.as_ref().into());
        job::run(self, move |slot, leave| {
            let (side, host) = (inside(slot, leave)?, Side::host()?);
            side.outcome(tree::copy((&side, &from), (&host, &to), options, leave))
        })
    }
}
