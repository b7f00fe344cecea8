//! A root of layers that is written to and thrown away, or that has several: an overlay, and where the kernel lets us mount
//! none what takes its place, in the order of [`Options::layering`](super::Options::layering).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Inner, reach, serving};
use crate::error::{Error, ErrorKind, Errors};
use crate::rootfs::{Layering, RootKind, RootWay, copy};
use crate::spec::{Access, ContainerSpec, UserNamespace};

/// One way to make it.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    pub(super) layering: Layering,
    /// Why it is no better one.
    pub(super) why: Option<String>,
    /// The file system that its copy lies in.
    pub(super) copy: Option<Arc<OwnedFd>>,
}

/// It is made of directories that lie over each other.
pub(super) fn asks(spec: &ContainerSpec) -> bool {
    let layered = spec.rootfs.access() == Some(Access::Overlay) || spec.rootfs.directories().len() > 1;
    layered
        && !spec.listed
        && !spec.rootfs.directories().is_empty()
        && spec.root_mounts.is_empty()
        && spec.rootfs_provider.is_none()
}

/// This way can be gone, because of `why` no better one. What it needs is made.
///
/// # Errors
/// It cannot.
pub(super) async fn begin(
    inner: &Inner,
    spec: &ContainerSpec,
    layering: Layering,
    why: Option<String>,
) -> Result<Way, Error> {
    let copy = match layering {
        Layering::Overlay => None,
        // It handles what a hostile container asks.
        Layering::FuseOverlayfs if inner.machine.privileged && spec.user_namespace == UserNamespace::Host => {
            let what = "fuse-overlayfs would be root of this machine, as the container has the host's user ids";
            return Err(Error::new(ErrorKind::Unsupported, what).with_field("rootfs"));
        }
        Layering::FuseOverlayfs => serving::look().map(|()| None)?,
        Layering::Copy => {
            let top = reach::file_system(&inner.keeper, spec.disk).await?;
            let lowest_first = spec.rootfs.directories().iter().rev().cloned().collect();
            let fill = top.try_clone().map_err(|error| Error::system("cannot duplicate a mount", error))?;
            copy::copy(fill, lowest_first).await?;
            Some(Arc::new(top))
        }
    };
    Ok(Way { layering, why, copy })
}

/// Why this way cannot be gone, where that is why a creation has failed.
pub(super) fn no_way(layering: Layering, errors: &Errors) -> Option<String> {
    let [error] = errors.0.as_slice() else { return None };
    let about = error.field().is_some_and(|field| field == "rootfs" || field.starts_with("rootfs."));
    let it = match layering {
        // Its mount; or a file system below it that cannot map ids.
        Layering::Overlay => {
            error.kind() == ErrorKind::Unsupported || error.stage().is_some_and(|stage| stage.ends_with(" new-mount"))
        }
        // Its device, its mount, or the program itself. What is wrong with the root is wrong in the next way, too.
        Layering::FuseOverlayfs => true,
        Layering::Copy => false,
    };
    (about && it).then(|| error.to_string())
}

/// The last way could not be gone either: with why it was not another one.
pub(super) fn besides(why: Option<&str>, errors: Errors) -> Errors {
    let Some(why) = why else { return errors };
    let told = |error: Error| match error.field() {
        Some("rootfs" | "disk") => error.because(why),
        _ => error,
    };
    Errors(errors.0.into_iter().map(told).collect())
}

/// In the log, that it is not an overlay, where that is so.
pub(super) fn told(container: &str, way: &Way) {
    let how = way.layering.name();
    match &way.why {
        Some(why) => tracing::warn!(container, how, why, "its root file system is no better one"),
        None if way.layering != Layering::Overlay => tracing::info!(container, how, "its root file system"),
        None => {}
    }
}

/// In words, why one more way was not gone.
pub(super) fn and(why: Option<String>, layering: Layering, reason: &str) -> String {
    let reason = format!("no {layering}: {reason}");
    tracing::debug!(reason, "a root file system is made otherwise");
    match why {
        Some(why) => format!("{why}; {reason}"),
        None => reason,
    }
}

/// How a container has its root. `maps`: mounts of the host's map ids.
pub(super) fn way(spec: &ContainerSpec, maps: bool, way: &Way) -> RootWay {
    let several = spec.rootfs.directories().len().max(spec.root_mounts.len()) > 1;
    let kind = match spec.rootfs.access() {
        None => RootKind::Host,
        Some(access) if several || access == Access::Overlay => way.layering.kind(),
        Some(_) => RootKind::Mount,
    };
    RootWay { kind, id_mapped: maps && kind != RootKind::Host, why: way.why.clone() }
}
