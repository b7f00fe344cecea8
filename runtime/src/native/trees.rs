//! Mount trees that only the supervisor can make: with its own rights over the source, id-mapped to the container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, ErrorKind};
use crate::spec::check::CheckedSpec;
use crate::spec::{Access, MountSource, Rootfs};

/// Which trees a container needs from us: 0 for the root, 1 + n for the nth mount.
pub(super) fn wanted(spec: &CheckedSpec) -> Vec<u16> {
    let root = matches!(spec.container().rootfs, Rootfs::Dir { .. }).then_some(0);
    let mounts = spec.container().mounts.iter().enumerate();
    let binds = mounts.filter(|(_, mount)| matches!(mount.source, MountSource::Bind(_)));
    root.into_iter().chain(binds.filter_map(|(index, _)| u16::try_from(index + 1).ok())).collect()
}

/// Make them, in the order of [`wanted`]; `pass` is asked after each.
pub(super) fn make(
    spec: &CheckedSpec,
    userns: &OwnedFd,
    pass: impl Fn(u16) -> Result<(), Error>,
) -> Result<Vec<OwnedFd>, Error> {
    let make = |index| {
        let tree = one(spec, index, userns)?;
        pass(index).map(|()| tree)
    };
    wanted(spec).into_iter().map(make).collect()
}

fn one(spec: &CheckedSpec, index: u16, userns: &OwnedFd) -> Result<OwnedFd, Error> {
    let Some(mount) = index.checked_sub(1) else { return root(spec, userns) };
    let field = format!("mounts[{mount}].source");
    let Some(MountSource::Bind(path)) = spec.container().mounts.get(usize::from(mount)).map(|mount| &mount.source)
    else {
        return Err(Error::invalid(field, "not a bind mount"));
    };
    let tree = copy(path, true).map_err(|error| error.with_field(field))?;
    if let Err(error) = crate::sys::idmap_tree(tree.as_fd(), userns) {
        // Its files belong to nobody inside; what everybody may read can still be read.
        tracing::warn!(path = %path.display(), %error, "this file system cannot map ids: mounted without");
    }
    Ok(tree)
}

fn root(spec: &CheckedSpec, userns: &OwnedFd) -> Result<OwnedFd, Error> {
    let Rootfs::Dir { path, access } = &spec.container().rootfs else {
        return Err(Error::invalid("rootfs", "not a directory"));
    };
    // The lower layer of an overlay may not have mounts of its own below it.
    let tree = copy(path, *access != Access::Overlay).map_err(|error| error.with_field("rootfs"))?;
    crate::sys::idmap_tree(tree.as_fd(), userns).map_err(|error| {
        Error::system(format!("the file system of {} cannot map user ids", path.display()), error)
            .with_kind(ErrorKind::Unsupported)
            .with_field("rootfs")
            .with_hint("use --userns host, or a root file system on ext4, xfs, btrfs or tmpfs")
    })?;
    Ok(tree)
}

fn copy(path: &Path, recursive: bool) -> Result<OwnedFd, Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let flags = if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
    open_tree(rustix::fs::CWD, path, flags)
        .map_err(|error| Error::system(format!("cannot copy the mounts of {}", path.display()), error))
}
