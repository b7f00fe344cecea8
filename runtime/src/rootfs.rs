//! The seam for root file systems: whoever keeps images implements [`RootfsProvider`]. This crate knows no registries,
//! stores or snapshots.
//!
//! ```text
//!  prepare ──► layers and a guard ──► check, plan, the container's whole life ──► release
//! ```
//!
//! Below `rootfs/` is what makes root file systems of archives and directories, and removes them without root:
//!
//! ```text
//!  unpack.rs    what callers say, the order of the work      staging.rs   whole or not at all
//!  archive.rs   tar, and nothing but its bytes               decode.rs    compressed ones
//!  directory.rs the same of a directory                      limits.rs    counted before it is done
//!  tree.rs      entries are put into a tree, by descriptors  late.rs      what each is to have in the end
//!  content.rs   the bytes of files, with their holes         whiteout.rs  what layers take away
//!  owners.rs    given to the ids of a range                  remove.rs    a tree of theirs is removed
//!  unpacking.rs a provider of all that, for each container   copy.rs  directories into a file system of a limited size
//! ```

mod archive;
mod content;
pub(crate) mod copy;
mod decode;
mod directory;
mod entry;
mod late;
mod limits;
mod owners;
mod remove;
mod report;
mod staging;
mod tree;
mod unpack;
mod unpacking;
mod way;
mod whiteout;

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::BoxFuture;
use crate::error::{Error, ErrorKind};
use crate::spec::Access;

pub use archive::Archive;
pub use entry::{Entry, Extent, Kind};
pub use limits::UnpackLimits;
pub use remove::Removed;
pub use report::{LeftOut, Progress, UnpackReport, Unpacked, WhyLeftOut};
pub use unpack::{Layer, Unpack, remove, report_of};
pub use unpacking::Unpacking;
pub use way::{Layering, RootKind, RootWay, data_dir};

/// What lies below a container's `/`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Layers {
    /// Directories of the host, the uppermost first; id-mapped where the container has ids of its own.
    Directories(Vec<PathBuf>),
    /// Detached mounts (`open_tree`, `fsmount`), the uppermost first. Id-mapped where the container has ids of its own and
    /// they are not id-mapped already.
    Mounts(Vec<OwnedFd>),
}

/// A root file system that is ready to be used by one container.
#[derive(Debug)]
#[non_exhaustive]
pub struct PreparedRootfs {
    /// The layers, at least one.
    pub layers: Layers,
    /// What the container may do to them; [`Access::ReadWrite`] needs a single one.
    pub access: Access,
    /// Keeps the layers in being until it is released.
    pub guard: Box<dyn RootfsGuard>,
}

impl PreparedRootfs {
    /// Layers with their guard.
    #[must_use]
    pub fn new(layers: Layers, access: Access, guard: Box<dyn RootfsGuard>) -> Self {
        Self { layers, access, guard }
    }
}

/// How much a root file system takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct RootfsUsage {
    /// Bytes on the storage.
    pub bytes: u64,
    /// Files, directories and the like.
    pub inodes: u64,
}

impl RootfsUsage {
    /// Bytes and inodes.
    #[must_use]
    pub fn new(bytes: u64, inodes: u64) -> Self {
        Self { bytes, inodes }
    }
}

/// Gives containers their root file systems.
pub trait RootfsProvider: Debug + Send + Sync + 'static {
    /// Prepare one for the container with this id. Called once for each creation, before its spec is checked, because
    /// users are looked up in it.
    ///
    /// # Errors
    /// The creation fails with it. What was made until then has to be undone by the provider.
    ///
    /// # Cancel safety
    /// The future may be dropped at any await: then too the provider undoes what it made.
    fn prepare(&self, container: &str) -> BoxFuture<Result<PreparedRootfs, Error>>;

    /// The guard of a root file system that was prepared for a container of an earlier supervisor, with what that one was told
    /// by [`RootfsGuard::record`]. The container may have ended, and its root may have been released already.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] of a provider that cannot; the container is not adopted then.
    fn adopt(&self, container: &str, state: Option<String>) -> BoxFuture<Result<Box<dyn RootfsGuard>, Error>> {
        let (_, _) = (container, state);
        let why = "this provider's root file systems do not outlive their supervisor";
        let refused = Error::new(ErrorKind::Unsupported, why).with_field("rootfs_provider");
        Box::pin(std::future::ready(Err(refused)))
    }
}

/// Holds a prepared root file system. [`release`](Self::release) is called exactly once for each one that `prepare` has
/// given out, after the container's processes and mounts are gone, or at once when its creation fails or is dropped.
/// Only the death of the whole supervisor comes before it; the provider's next start sweeps then.
pub trait RootfsGuard: Debug + Send + Sync + 'static {
    /// How much this container's root takes now, as the provider counts.
    ///
    /// # Errors
    /// It cannot be told.
    fn usage(&self) -> BoxFuture<Result<RootfsUsage, Error>>;

    /// What a further supervisor has to give back to [`RootfsProvider::adopt`].
    fn record(&self) -> Option<String> {
        None
    }

    /// Nobody uses it any more. Removing the container waits for it, so it must end.
    fn release(&self) -> BoxFuture<()>;
}

/// The trivial provider: one directory for all, as [`Rootfs::Dir`](crate::spec::Rootfs::Dir) has it.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    access: Access,
}

impl Directory {
    /// This directory, with this access.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, access: Access) -> Self {
        Self { path: path.into(), access }
    }
}

impl RootfsProvider for Directory {
    fn adopt(&self, _: &str, _: Option<String>) -> BoxFuture<Result<Box<dyn RootfsGuard>, Error>> {
        let guard: Box<dyn RootfsGuard> = Box::new(self.clone());
        Box::pin(std::future::ready(Ok(guard)))
    }

    fn prepare(&self, _: &str) -> BoxFuture<Result<PreparedRootfs, Error>> {
        let (path, access) = (self.path.clone(), self.access);
        let guard = Box::new(self.clone());
        Box::pin(async move { Ok(PreparedRootfs::new(Layers::Directories(vec![path]), access, guard)) })
    }
}

impl RootfsGuard for Directory {
    /// Counts what lies below the directory, on its own file system.
    fn usage(&self) -> BoxFuture<Result<RootfsUsage, Error>> {
        let path = self.path.clone();
        Box::pin(async move {
            let counted = tokio::task::spawn_blocking(move || count(&path)).await;
            counted.map_err(|_| Error::new(ErrorKind::System, "the counting thread panicked"))?
        })
    }

    fn release(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}

/// Links are not followed; a file with several names counts once for each, as its blocks are not looked up.
fn count(root: &Path) -> Result<RootfsUsage, Error> {
    let failed = |path: &Path, error| Error::system(format!("cannot count {}", path.display()), error);
    let top = std::fs::symlink_metadata(root).map_err(|error| failed(root, error))?;
    let mut usage = RootfsUsage { bytes: top.blocks() * 512, inodes: 1 };
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|error| failed(&dir, error))?.flatten() {
            // Gone meanwhile: not counted.
            let Ok(meta) = entry.metadata() else { continue };
            usage.bytes = usage.bytes.saturating_add(meta.blocks().saturating_mul(512));
            usage.inodes += 1;
            if meta.is_dir() && meta.dev() == top.dev() {
                pending.push(entry.path());
            }
        }
    }
    Ok(usage)
}

#[cfg(test)]
mod tests;
