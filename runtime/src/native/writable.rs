//! A root that is written to and thrown away: an overlay, and where the kernel lets us mount none, a copy.

use std::sync::Arc;

use super::Inner;
use crate::error::{Error, ErrorKind, Errors};
use crate::rootfs::{RootKind, RootWay, Unpacking, data_dir};
use crate::spec::{Access, ContainerSpec, Rootfs};

/// It wants an overlay of directories, which a copy can stand in for.
pub(super) fn asks(spec: &ContainerSpec) -> bool {
    spec.rootfs.access() == Some(Access::Overlay) && spec.root_mounts.is_empty() && spec.rootfs_provider.is_none()
}

/// Why there can be no overlay, where that is why a creation has failed.
pub(super) fn no_overlay(errors: &Errors) -> Option<String> {
    let [error] = errors.0.as_slice() else { return None };
    let mounting = error.stage().is_some_and(|stage| stage.ends_with(" new-mount"));
    (mounting && error.field() == Some("rootfs")).then(|| error.to_string())
}

/// The same with a copy of its directories, which its container alone has, and which is removed with it. The limit of `disk`
/// is not one of it.
pub(super) fn copied(inner: &Inner, mut spec: ContainerSpec, why: &str) -> Result<ContainerSpec, Errors> {
    let no = |what: String| {
        let error = Error::new(ErrorKind::Unsupported, what).with_field("rootfs");
        Errors(vec![
            error.with_hint("copy it once, as `orangery rootfs unpack` does, and let the container write there"),
        ])
    };
    if inner.durable || inner.releases {
        return Err(no(format!("no overlay can be mounted ({why}), and a copy would not outlive its supervisor")));
    }
    let store = inner.roots.clone().or_else(data_dir).ok_or_else(|| {
        no(format!("no overlay can be mounted ({why}), and neither XDG_DATA_HOME nor HOME says where a copy may lie"))
    })?;
    tracing::warn!(container = spec.id, why, "no overlay: the root file system is copied");
    let lowest_first = spec.rootfs.directories().iter().rev().cloned();
    let copy = Unpacking::from_layers(store, lowest_first).plain_where_alone();
    spec.rootfs_provider = Some(Arc::new(copy));
    spec.rootfs = Rootfs::default();
    Ok(spec)
}

/// How a container has its root. `why`: it is a copy, because of that. `maps`: mounts of the host's map ids.
pub(super) fn way(spec: &ContainerSpec, maps: bool, why: Option<&str>) -> RootWay {
    let kind = match (spec.rootfs.access(), why) {
        (None, _) => RootKind::Host,
        (_, Some(_)) => RootKind::Copy,
        (Some(Access::Overlay), _) => RootKind::Overlay,
        (Some(_), _) if spec.rootfs.directories().len().max(spec.root_mounts.len()) > 1 => RootKind::Overlay,
        (Some(_), _) => RootKind::Mount,
    };
    RootWay { kind, id_mapped: maps && kind != RootKind::Host, why: why.map(str::to_owned) }
}
