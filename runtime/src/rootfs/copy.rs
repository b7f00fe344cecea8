//! Directories are copied into a file system that was made for that, of a limited size.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use super::limits::UnpackLimits;
use super::owners::Owners;
use super::report::UnpackReport;
use super::unpack::{Layer, Unpack, off_thread, told_of_owners};
use crate::error::{Error, ErrorKind};
use crate::plan::layers::COPY;

/// Copy `layers`, the lowest first, to [`COPY`] in the file system behind `top`, which is empty and ours.
///
/// # Errors
/// [`ErrorKind::Exhausted`] with the field `disk`: there is no room for it. Else as [`Unpack::into_dir`].
///
/// # Cancel safety
/// Dropped early, the work ends at the next file.
pub(crate) async fn copy(top: OwnedFd, layers: Vec<PathBuf>) -> Result<(), Error> {
    off_thread(move |leave| {
        let report = copied(&top, layers, leave).map_err(no_room)?;
        tracing::info!(entries = report.entries, bytes = report.bytes, "a root file system was copied");
        told_of_owners(&report);
        Ok(())
    })
    .await
}

fn copied(top: &OwnedFd, layers: Vec<PathBuf>, leave: &dyn Fn() -> bool) -> Result<UnpackReport, Error> {
    let failed = |error: rustix::io::Errno| Error::system("cannot use what a root is copied to", error);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = rustix::fs::openat(top, ".", flags, Mode::empty()).map_err(failed)?;
    rustix::fs::mkdirat(&top, COPY, Mode::RWXU).map_err(failed)?;
    let root = rustix::fs::openat(&top, COPY, flags, Mode::empty()).map_err(failed)?;
    let layered = layers.len() > 1;
    let layers = layers.into_iter().map(Layer::directory).collect();
    let unpack = Unpack::new(layers, layered, UnpackLimits::default(), None);
    unpack.fill(root, &top, &mut Owners::new(), leave)
}

fn no_room(error: Error) -> Error {
    if error.errno() != Some(libc::ENOSPC) {
        // Its fields are those of an unpacking (`directory`, `limits.entries`), which a container does not have.
        return error.with_field("rootfs");
    }
    Error::new(ErrorKind::Exhausted, "a copy of the root file system does not fit into the limit of disk")
        .with_errno(error.errno())
        .with_field("disk")
        .with_hint("raise the limit, which bounds a copy as a whole and is memory; or unpack it once, and write there")
}
