//! The network of a container that has lost what kept it going, told when that happens.

use super::slot::ContainerSlot;
use crate::events::Kind;

/// Somebody wires it.
pub(super) fn is_wired(owner: &ContainerSlot) -> bool {
    owner.container.get().is_some_and(|container| container.network().is_some())
}

/// Tell of it, once.
pub(super) async fn watch(owner: &ContainerSlot) {
    let Some(container) = owner.container.get() else { return };
    let why = container.network_lost().await;
    tracing::warn!(container = %owner.id, why, "its network is gone");
    owner.main.tell_of_itself(Kind::NetworkLost { why });
}
