//! Checks of a root file system that is the user's: its layers exist, are few enough, and have what is mounted on.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::check::{Refusals, read_inside};
use super::{Access, ContainerSpec, Rootfs};
use crate::error::{Error, ErrorKind};

/// Every refusal of `rootfs`, by layer.
pub(super) fn check(no: &mut Refusals, spec: &ContainerSpec) {
    let Some(access) = spec.rootfs.access() else {
        if !spec.root_mounts.is_empty() {
            no.add("root_mounts", "mounts are the layers of a root: give them with Rootfs::Layers");
        }
        return;
    };
    let directories = spec.rootfs.directories();
    if !spec.root_mounts.is_empty() && !directories.is_empty() {
        return no.add("root_mounts", "a root is made of directories or of mounts, not of both");
    }
    let count = directories.len().max(spec.root_mounts.len());
    if count == 0 {
        return no.add("rootfs.lower", "no layer is given");
    }
    if count > Rootfs::MAX_LAYERS {
        return no.add("rootfs.lower", format!("{count} layers are given; {} are possible", Rootfs::MAX_LAYERS));
    }
    if count > 1 && access == Access::ReadWrite {
        no.add("rootfs.access", "several layers cannot be written to; a throw-away overlay can");
    }
    let mut good = true;
    for (index, path) in directories.iter().enumerate() {
        good &= directory(no, &field(&spec.rootfs, index), path);
    }
    // The mount points of a list are made before the root is read-only.
    if good && access == Access::ReadOnly && !spec.listed {
        mount_points(no, spec);
    }
}

fn field(rootfs: &Rootfs, index: usize) -> String {
    if matches!(rootfs, Rootfs::Layers { .. }) { format!("rootfs.lower[{index}]") } else { "rootfs".into() }
}

fn directory(no: &mut Refusals, field: &str, path: &Path) -> bool {
    match std::fs::metadata(path) {
        Err(error) => {
            let what = format!("cannot use {} as the root file system", path.display());
            let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
            let kind = if denied { ErrorKind::Permission } else { ErrorKind::NotFound };
            no.push(Error::system(what, error).with_kind(kind).with_field(field));
            return false;
        }
        Ok(meta) if !meta.is_dir() => {
            no.add(field, format!("{} is not a directory", path.display()));
            return false;
        }
        Ok(_) => {}
    }
    if !path.is_absolute() {
        no.add(field, format!("{} is not an absolute path", path.display()));
    }
    path.is_absolute()
}

/// What cannot be made in a root that is only read must be there.
fn mount_points(no: &mut Refusals, spec: &ContainerSpec) {
    let needed: &[&str] = if spec.plain_root { &["proc", "sys", "dev"] } else { &["proc", "sys", "dev", "tmp", "run"] };
    let layers = open(spec);
    let place = match spec.rootfs.directories() {
        [one] => one.display().to_string(),
        _ => "the uppermost layer".into(),
    };
    for name in needed {
        // The uppermost layer that has the name decides.
        let found = layers.iter().find_map(|layer| kind(layer.as_fd(), name));
        if found != Some(FileType::Directory) {
            let hint = "make it, or use a throw-away overlay (--writable)";
            no.add("rootfs", format!("{place} has no directory /{name} to mount on; {hint}"));
        }
    }
}

fn kind(layer: BorrowedFd<'_>, name: &str) -> Option<FileType> {
    let stat = rustix::fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

/// The layers that can be opened, the uppermost first.
pub(super) fn open(spec: &ContainerSpec) -> Vec<OwnedFd> {
    let directories = spec.rootfs.directories().iter();
    let opened = directories.filter_map(|path| {
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
    });
    opened.chain(spec.root_mounts.iter().filter_map(|mount| mount.try_clone().ok())).collect()
}

/// A file of the uppermost layer that has something of that name; a whiteout is something.
pub(super) fn read(layers: &[OwnedFd], path: &str) -> Option<Vec<u8>> {
    let layer = layers.iter().find(|layer| kind(layer.as_fd(), path).is_some())?;
    read_inside(layer, path)
}
