//! A provider that unpacks: each container gets a root file system of its own, which is removed with it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::limits::UnpackLimits;
use super::owners::Owners;
use super::report::{Progress, Unpacked};
use super::staging::Staging;
use super::unpack::{Layer, Told, Unpack, off_thread, remove, told_of_owners};
use super::{Layers, PreparedRootfs, RootfsGuard, RootfsProvider, RootfsUsage, count};
use crate::BoxFuture;
use crate::error::{Error, ErrorKind};
use crate::spec::Access;

/// Gives each container a root file system that is unpacked for it, of an archive, a directory or layers, and removed with it.
///
/// They lie in a directory, which is made and closed to other users, each locked as long as it is used: what a killed process has
/// left there is removed by the next one's first container. Several processes may use one.
///
/// Not for a durable supervisor, whose providers cannot be written down: unpack once ([`Unpack::into_dir`]) and name the directory.
///
/// ```
/// use orangery_runtime::rootfs::Unpacking;
/// use orangery_runtime::spec::Access;
/// let alpine = Unpacking::from_tar("/var/lib/me/roots", "alpine.tar").access(Access::ReadWrite);
/// # drop(alpine);
/// ```
#[derive(Clone)]
pub struct Unpacking {
    store: PathBuf,
    layers: Arc<[PathBuf]>,
    layered: bool,
    access: Access,
    limits: UnpackLimits,
    told: Option<Told>,
}

/// A name is tried anew so often.
const AGAIN: u32 = 5;

impl std::fmt::Debug for Unpacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unpacking").field("store", &self.store).field("layers", &self.layers).finish_non_exhaustive()
    }
}

impl Unpacking {
    /// Of one archive, in the directory `store`.
    #[must_use]
    pub fn from_tar(store: impl Into<PathBuf>, archive: impl Into<PathBuf>) -> Self {
        Self { layered: false, ..Self::from_layers(store, [archive]) }
    }

    /// Of archives and directories that lie over each other, the lowest first.
    #[must_use]
    pub fn from_layers(store: impl Into<PathBuf>, layers: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Self {
            store: store.into(),
            layers: layers.into_iter().map(Into::into).collect(),
            layered: true,
            access: Access::ReadWrite,
            limits: UnpackLimits::default(),
            told: None,
        }
    }

    /// What a container may do to its own. Default: write to it.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// How much it may be.
    #[must_use]
    pub fn limits(mut self, limits: UnpackLimits) -> Self {
        self.limits = limits;
        self
    }

    /// See [`Unpack::progress`].
    #[must_use]
    pub fn progress(mut self, told: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.told = Some(Arc::new(told));
        self
    }

    fn unpack(&self) -> Unpack {
        let layer = |path: &PathBuf| if path.is_dir() { Layer::directory(path) } else { Layer::tar(path) };
        Unpack::new(self.layers.iter().map(layer).collect(), self.layered, self.limits, self.told.clone())
    }

    /// On a thread that may block.
    fn prepared(&self, container: &str, leave: &dyn Fn() -> bool) -> Result<Tree, Error> {
        opened(&self.store)?;
        sweep(&self.store);
        let mut left = AGAIN;
        let (dir, Unpacked { rootfs, report, .. }, staging) = loop {
            let dir = self.store.join(name(container)?);
            match self.unpack().into_dir_blocking(&dir, leave) {
                Ok((unpacked, staging)) => break (dir, unpacked, staging),
                // Another process has swept what it saw before it was locked.
                Err(error) if error.kind() == ErrorKind::Exists && left > 0 => left -= 1,
                Err(error) => return Err(error),
            }
        };
        tracing::info!(entries = report.entries, bytes = report.bytes, "a root file system was unpacked");
        told_of_owners(&report);
        Ok(Tree { dir, rootfs, locked: Mutex::new(Some(staging)) })
    }
}

/// A name that nobody has: containers of several supervisors may be called the same.
fn name(container: &str) -> Result<String, Error> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::system("cannot get random bytes", error))?;
    Ok(format!("{container}-{:016x}", u64::from_le_bytes(bytes)))
}

/// The directory of the roots is there, is ours, and closed to others.
fn opened(store: &Path) -> Result<(), Error> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    let failed = |error| Error::system(format!("cannot use {}", store.display()), error).with_field("store");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(store).map_err(failed)?;
    let meta = std::fs::symlink_metadata(store).map_err(failed)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        let why = format!("{} is not a directory of this user that nobody else may write to", store.display());
        return Err(Error::invalid("store", why));
    }
    Ok(())
}

/// What nobody holds any more is removed. What cannot be is no reason to refuse a container.
fn sweep(store: &Path) {
    let Ok(entries) = std::fs::read_dir(store) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if let Err(error) = swept(&path) {
            tracing::warn!(path = %path.display(), %error, "what an earlier process has left cannot be removed");
        }
    }
}

fn swept(path: &Path) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(dir) => dir,
        // Gone, or none of ours.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
        Err(error) => return Err(Error::system("cannot open it", error)),
    };
    if !is_left(&dir)? {
        return Ok(());
    }
    // Locked until it is gone: nobody else sweeps it at the same time.
    super::remove::tree(path, &mut Owners::new(), &|| false).map(drop)
}

/// Nobody holds it. One that is being made may be seen between its making and its lock: its maker begins anew then.
fn is_left(dir: &OwnedFd) -> Result<bool, Error> {
    match rustix::fs::flock(dir, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(Error::system("cannot lock it", error)),
    }
}

impl RootfsProvider for Unpacking {
    fn prepare(&self, container: &str) -> BoxFuture<Result<PreparedRootfs, Error>> {
        let (unpacking, container) = (self.clone(), container.to_owned());
        Box::pin(async move {
            let access = unpacking.access;
            let tree = off_thread(move |leave| unpacking.prepared(&container, leave)).await?;
            let layers = Layers::Directories(vec![tree.rootfs.clone()]);
            Ok(PreparedRootfs::new(layers, access, Box::new(tree)))
        })
    }
}

/// The root of one container.
#[derive(Debug)]
struct Tree {
    dir: PathBuf,
    rootfs: PathBuf,
    /// `None`: it was released.
    locked: Mutex<Option<Staging>>,
}

impl Tree {
    fn take(&self) -> Option<Staging> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl RootfsGuard for Tree {
    fn usage(&self) -> BoxFuture<Result<RootfsUsage, Error>> {
        let path = self.rootfs.clone();
        Box::pin(off_thread(move |_| count(&path)))
    }

    fn release(&self) -> BoxFuture<()> {
        let (staging, dir) = (self.take(), self.dir.clone());
        Box::pin(async move {
            if staging.is_some()
                && let Err(error) = remove(&dir).await
            {
                tracing::warn!(dir = %dir.display(), %error, "a container's root file system could not be removed");
            }
        })
    }
}

impl Drop for Tree {
    /// Nobody came to release it: the creation was dropped when all was there.
    fn drop(&mut self) {
        let Some(staging) = self.take() else { return };
        let dir = self.dir.clone();
        let removal = move || {
            let removed = super::remove::tree(&dir, &mut Owners::new(), &|| false);
            if let Err(error) = removed {
                tracing::warn!(dir = %dir.display(), %error, "a root file system could not be removed");
            }
            drop(staging);
        };
        if let Err(error) = std::thread::Builder::new().name("orangery-rootfs".into()).spawn(removal) {
            tracing::warn!(%error, "a root file system is left to the next sweep");
        }
    }
}
