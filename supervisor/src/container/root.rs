//! The root of a container that has lost what served it: its end, and that it is told, once.

use orangery_runtime::rootfs::RootKind;

use super::slot::ContainerSlot;
use crate::events::Kind;
use crate::report::{Cause, Report};

/// A program serves it.
pub(super) fn is_served(owner: &ContainerSlot) -> bool {
    let way = owner.container.get().and_then(|container| container.root_way());
    way.is_some_and(|way| way.kind == RootKind::FuseOverlayfs)
}

/// End the container when that happens: nothing in it can open a file any more.
pub(super) async fn watch(owner: &ContainerSlot) {
    let Some(container) = owner.container.get() else { return };
    let why = container.root_lost().await;
    tracing::warn!(container = %owner.id, why, "its root file system is gone");
    let _ = owner.main.kill(Cause::RootLost { why });
    if let Some(why) = meant(owner) {
        owner.main.tell_of_itself(Kind::RootLost { why });
    }
}

/// Its main process ended by itself, at `before_ns`, before we came to end it for this.
pub(super) fn was_lost(owner: &ContainerSlot, before_ns: u64) -> Option<Cause> {
    let lost = owner.container.get().is_some_and(|container| container.root_was_lost(before_ns));
    lost.then(|| Cause::RootLost { why: "its helper has ended".into() })
}

/// Tell of what the report says and nobody else has told.
pub(super) fn tell(owner: &ContainerSlot, report: &Report) {
    if let Cause::RootLost { why } = &report.cause
        && meant(owner).is_none()
    {
        owner.main.tell_of_itself(Kind::RootLost { why: why.clone() });
    }
}

/// It was ended for that.
fn meant(owner: &ContainerSlot) -> Option<String> {
    match owner.main.intent()?.cause {
        Cause::RootLost { why } => Some(why),
        _ => None,
    }
}
