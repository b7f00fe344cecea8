//! The seams: networks and root file systems that somebody else provides. Whatever fails and whoever is dropped, what was
//! begun is taken back exactly once.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod layering;
mod layers;
mod network;
mod pasta;
mod plugin;
mod rootfs;
mod unpacked;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use layering::{
    a_copy_that_does_not_fit_is_refused, a_server_that_is_killed_or_stopped, layers_by_fuse_overlayfs,
    layers_in_a_copy, layers_in_an_overlay, the_next_way_is_gone_where_one_cannot_be,
};
use layers::{
    layers_are_read_through_and_written_over, missing_and_too_many_layers_are_named, mounts_are_layers_too,
    sixty_four_layers, two_layers_with_whiteouts_and_order,
};
use network::{
    a_dropped_creation_detaches, a_network_is_attached_changed_and_detached, a_provider_can_enter_the_namespace,
    each_failure_detaches_once, loopback_is_the_trivial_network, the_end_of_a_container_detaches_once,
    what_a_provider_cannot_wire_is_refused,
};
use orangery_tests::trial;
use pasta::{
    a_network_that_is_lost_is_told, each_root_has_its_resolvers, it_reaches_what_the_host_reaches, ports_lead_into_it,
    what_pasta_cannot_do_is_refused, without_a_route_or_the_program_it_says_so,
};
use plugin::{an_ordinary_user_gets_an_address_of_a_bridge, who_asks_the_plugin_for_what_is_not_his_gets_nothing};
use rootfs::{
    a_directory_is_the_trivial_root, a_dropped_creation_releases, a_root_is_prepared_and_released,
    each_failure_releases_once,
};

use unpacked::{an_unpacked_root_has_its_owners, what_is_left_of_an_unpacked_root};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(a_network_is_attached_changed_and_detached),
        trial!(a_provider_can_enter_the_namespace, Root),
        trial!(each_failure_detaches_once),
        trial!(a_dropped_creation_detaches),
        trial!(the_end_of_a_container_detaches_once),
        trial!(what_a_provider_cannot_wire_is_refused),
        trial!(loopback_is_the_trivial_network),
        trial!(ports_lead_into_it, Pasta),
        trial!(it_reaches_what_the_host_reaches, Pasta, Root),
        trial!(each_root_has_its_resolvers, Pasta, Root, Busybox),
        trial!(a_network_that_is_lost_is_told, Pasta),
        trial!(what_pasta_cannot_do_is_refused, Pasta),
        trial!(without_a_route_or_the_program_it_says_so, Pasta, Root),
        trial!(an_ordinary_user_gets_an_address_of_a_bridge, Root, Nets),
        trial!(who_asks_the_plugin_for_what_is_not_his_gets_nothing, Root, Nets),
        trial!(two_layers_with_whiteouts_and_order, Busybox),
        trial!(layers_are_read_through_and_written_over, Busybox),
        trial!(sixty_four_layers, Busybox),
        trial!(mounts_are_layers_too, Root, Busybox),
        trial!(missing_and_too_many_layers_are_named),
        trial!(a_root_is_prepared_and_released, Busybox),
        trial!(each_failure_releases_once, Busybox),
        trial!(a_dropped_creation_releases, Busybox),
        trial!(a_directory_is_the_trivial_root, Busybox),
        trial!(an_unpacked_root_has_its_owners, ManyIds, Busybox),
        trial!(layers_in_an_overlay, Busybox),
        trial!(layers_in_a_copy, Busybox),
        trial!(layers_by_fuse_overlayfs, Busybox, Fuse),
        trial!(a_server_that_is_killed_or_stopped, Busybox, Fuse),
        trial!(a_copy_that_does_not_fit_is_refused, Busybox),
        trial!(the_next_way_is_gone_where_one_cannot_be, Root, Busybox, Fuse),
        trial!(what_is_left_of_an_unpacked_root, Busybox),
    ])
}

/// What a provider was asked, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.0.lock().expect("no panic").push(what.into());
    }

    /// What was said since the last look.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }
}
