//! Mount trees that only the supervisor can make: with its own rights over the source, id-mapped to the container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::mount::{OpenTreeFlags, open_tree};

use crate::error::{Error, ErrorKind};
use crate::plan::Need;
use crate::plan::idmap::IdMap;
use crate::spec::check::CheckedSpec;
use crate::spec::{Access, ContainerSpec, Mount, MountIds};

/// Which trees a container needs from us: mounts that we were given, and, where ids are `mapped`, everything of the host's. Of
/// a root that is `copied` its copy alone.
pub(super) fn wanted(spec: &CheckedSpec, mapped: bool, copied: bool) -> Vec<Need> {
    let spec = spec.container();
    let directories = if mapped { spec.rootfs.directories().len() } else { 0 };
    let layers = if copied { 1 } else { directories.max(spec.root_mounts.len()) };
    let layers = (0u16..).take(layers).map(Need::Layer);
    let own = |mount: &Mount| mount.exact.as_ref().is_some_and(|exact| exact.ids.is_some());
    let ours = |mount: &Mount| mount.source.path().is_some() && (mapped || own(mount));
    let binds = (0u16..).zip(&spec.mounts).filter(|(_, mount)| ours(mount));
    layers.chain(binds.map(|(index, _)| Need::Bind(index))).collect()
}

/// User namespaces that trees are mapped by.
pub(super) type Mapped<T> = Vec<(IdMap, T)>;

/// The maps of all that is wanted, each once. `ids`: the container's, where we have the rights.
pub(super) fn maps(spec: &CheckedSpec, wanted: &[Need], ids: Option<&IdMap>) -> Vec<IdMap> {
    let mut all = Vec::new();
    for map in wanted.iter().filter_map(|need| map(spec, *need, ids)) {
        if !all.contains(&map) {
            all.push(map);
        }
    }
    all
}

/// What maps this one.
fn map(spec: &CheckedSpec, need: Need, ids: Option<&IdMap>) -> Option<IdMap> {
    let of_mount = match need {
        Need::Bind(index) => ids_of(spec.container(), index),
        _ => None,
    };
    match of_mount {
        Some(MountIds { maps: Some(maps), .. }) => Some(IdMap::of(maps)),
        Some(_) => ids.cloned(),
        // Where a bundle has chosen the ids, the files belong to whom they belong.
        None => ids.filter(|_| spec.container().id_maps.is_none() && !spec.container().listed).cloned(),
    }
}

fn ids_of(spec: &ContainerSpec, index: u16) -> Option<&MountIds> {
    spec.mounts.get(usize::from(index))?.exact.as_ref()?.ids.as_ref()
}

/// Make one of them, id-mapped by the one of `mapped` that is its own. `copy`: what the root was copied to.
pub(super) fn make<T: std::borrow::Borrow<OwnedFd>>(
    spec: &CheckedSpec,
    need: Need,
    copy: Option<&Arc<OwnedFd>>,
    (ids, mapped): (Option<&IdMap>, &Mapped<T>),
) -> Result<OwnedFd, Error> {
    let map = map(spec, need, ids);
    let userns = mapped.iter().find(|(of, _)| Some(of) == map.as_ref()).map(|(_, userns)| userns.borrow());
    match need {
        Need::Layer(index) => match copy {
            Some(copy) => given(copy, "rootfs", userns),
            None => layer(spec.container(), index, userns),
        },
        Need::Bind(index) => bind(spec.container(), index, userns),
        other => Err(Error::new(ErrorKind::System, format!("{other} is no mount tree"))),
    }
}

fn bind(spec: &ContainerSpec, index: u16, userns: Option<&OwnedFd>) -> Result<OwnedFd, Error> {
    let field = format!("mounts[{index}].source");
    let mount = spec.mounts.get(usize::from(index));
    let Some((mount, path)) = mount.and_then(|mount| Some((mount, mount.source.path()?))) else {
        return Err(Error::invalid(field, "not a mount of the host's"));
    };
    let exact = mount.exact.clone().unwrap_or_default();
    if let Some(ids) = &exact.ids {
        let none = || Error::invalid(format!("mounts[{index}].uidMappings"), "there are no ids that it could have");
        let userns = userns.ok_or_else(none)?;
        let tree = copy(path, !exact.single).map_err(|error| error.with_field(field))?;
        return own_ids(tree, path, (ids, userns), index);
    }
    if exact.single {
        return copy(path, false).map_err(|error| error.with_field(field));
    }
    of_host(path, userns).map_err(|error| error.with_field(field))
}

/// A bind mount with ids of its own: without them it is not what was asked for.
fn own_ids(tree: OwnedFd, path: &Path, (ids, userns): (&MountIds, &OwnedFd), index: u16) -> Result<OwnedFd, Error> {
    crate::sys::idmap_tree(tree.as_fd(), userns, ids.below).map_err(|error| {
        Error::system(format!("the file system of {} cannot map user ids", path.display()), error)
            .with_kind(ErrorKind::Unsupported)
            .with_field(format!("mounts[{index}].uidMappings"))
    })?;
    Ok(tree)
}

/// A tree of the host, with the container's ids where it has its own and the file system can map them.
pub(super) fn of_host(path: &Path, userns: Option<&OwnedFd>) -> Result<OwnedFd, Error> {
    let tree = copy(path, true)?;
    if let Some(Err(error)) = userns.map(|userns| crate::sys::idmap_tree(tree.as_fd(), userns, true)) {
        // Its files belong to nobody inside; what everybody may read can still be read.
        tracing::warn!(path = %path.display(), %error, "this file system cannot map ids: mounted without");
    }
    Ok(tree)
}

fn layer(spec: &ContainerSpec, index: u16, userns: Option<&OwnedFd>) -> Result<OwnedFd, Error> {
    if let Some(mount) = spec.root_mounts.get(usize::from(index)) {
        return given(mount, &format!("root_mounts[{index}]"), userns);
    }
    let directories = spec.rootfs.directories();
    let field = if directories.len() > 1 { format!("rootfs.lower[{index}]") } else { "rootfs".to_owned() };
    let Some(path) = directories.get(usize::from(index)) else {
        return Err(Error::invalid(field, "not a layer"));
    };
    // The lower layer of an overlay may not have mounts of its own below it.
    let recursive = spec.rootfs.access() != Some(Access::Overlay) && directories.len() == 1;
    let tree = copy(path, recursive).map_err(|error| error.with_field(field.clone()))?;
    if let Some(userns) = userns {
        crate::sys::idmap_tree(tree.as_fd(), userns, true).map_err(|error| {
            Error::system(format!("the file system of {} cannot map user ids", path.display()), error)
                .with_kind(ErrorKind::Unsupported)
                .with_field(field)
                .with_hint("use --userns host, or a root file system on ext4, xfs, btrfs or tmpfs")
        })?;
    }
    Ok(tree)
}

/// A mount of a provider's. One that is id-mapped already says EPERM and is right as it is.
fn given(mount: &OwnedFd, field: &str, userns: Option<&OwnedFd>) -> Result<OwnedFd, Error> {
    let tree = mount.try_clone().map_err(|error| Error::system("cannot duplicate a mount", error).with_field(field))?;
    match userns.map(|userns| crate::sys::idmap_tree(tree.as_fd(), userns, true)) {
        Some(Err(error)) if error.raw_os_error() != Some(libc::EPERM) => {
            Err(Error::system("this mount cannot map user ids", error)
                .with_kind(ErrorKind::Unsupported)
                .with_field(field)
                .with_hint("use --userns host, or a detached mount of ext4, xfs, btrfs or tmpfs"))
        }
        _ => Ok(tree),
    }
}

fn copy(path: &Path, recursive: bool) -> Result<OwnedFd, Error> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let flags = if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags };
    open_tree(rustix::fs::CWD, path, flags)
        .map_err(|error| Error::system(format!("cannot copy the mounts of {}", path.display()), error))
}
