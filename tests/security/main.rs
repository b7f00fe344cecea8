//! What is tried against a container, a room for each way: `docs/security.md` has the table of what is met by what.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod image;
mod inside;
mod landlock;
mod privileged;
mod races;
mod rights;
mod staged;
mod strings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use orangery_runtime::ContainerSpec;
use orangery_runtime::spec::{Access, Mount, Rootfs};
use orangery_tests::{Host, trial};

use image::{
    a_fake_null_in_the_image, a_fake_proc_in_the_image, a_mount_target_that_leads_outside,
    hostile_passwd_and_group_files, proc_sys_and_dev_as_links_files_and_loops,
};
use inside::{
    cgroup_files_cannot_be_written, no_descriptor_reaches_the_process, signals_stay_inside,
    the_helper_cannot_be_looked_into_on_its_way, the_stub_init_cannot_be_looked_into, what_a_container_must_not_do,
    what_an_ordinary_user_inside_must_not_do, what_the_kernel_refuses_without_the_filter,
};
use landlock::{
    lacks, ports_that_are_not_named_are_refused, rules_are_made_of_what_lies_inside,
    rules_that_cannot_be_are_refused_by_field, signals_do_not_leave_their_scope,
    what_is_not_named_cannot_be_read_or_executed, what_permissions_allow_and_rules_do_not,
};
use privileged::what_only_root_can_have_is_refused_with_the_reason;
use races::{
    a_mount_point_is_not_made_outside, a_mount_target_swapped_during_the_creation,
    a_read_only_path_swapped_during_the_creation,
};
use rights::{
    all_five_capability_sets, asked_capabilities_and_no_others, no_new_privileges_and_a_filter,
    setgroups_is_denied_with_one_id,
};
use staged::{
    devices_of_the_host_stay_as_they_are, mount_points_are_never_made_in_the_hosts_trees,
    staged_files_are_there_in_every_root, staged_files_follow_no_links, staged_files_never_reach_the_hosts_trees,
};
use strings::{
    hostile_strings_are_refused_by_field, limits_of_the_spec_are_refused_by_field, the_most_that_is_accepted_works,
    the_state_is_for_its_owner_alone, users_are_parsed_strictly,
};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(what_a_container_must_not_do),
        trial!(what_an_ordinary_user_inside_must_not_do),
        trial!(what_the_kernel_refuses_without_the_filter),
        trial!(the_stub_init_cannot_be_looked_into),
        trial!(the_helper_cannot_be_looked_into_on_its_way),
        trial!(no_descriptor_reaches_the_process),
        trial!(all_five_capability_sets),
        trial!(asked_capabilities_and_no_others),
        trial!(no_new_privileges_and_a_filter),
        trial!(setgroups_is_denied_with_one_id, User),
        trial!(what_only_root_can_have_is_refused_with_the_reason, User),
        trial!(signals_stay_inside),
        trial!(cgroup_files_cannot_be_written, Cgroups),
        trial!(a_mount_target_swapped_during_the_creation, Busybox),
        trial!(a_read_only_path_swapped_during_the_creation, Busybox),
        trial!(a_mount_target_that_leads_outside, Busybox),
        trial!(a_mount_point_is_not_made_outside, Busybox),
        trial!(proc_sys_and_dev_as_links_files_and_loops, Busybox),
        trial!(a_fake_null_in_the_image, Busybox),
        trial!(a_fake_proc_in_the_image, Busybox),
        trial!(hostile_passwd_and_group_files, Busybox),
        trial!(staged_files_are_there_in_every_root, Busybox),
        trial!(staged_files_never_reach_the_hosts_trees),
        trial!(mount_points_are_never_made_in_the_hosts_trees),
        trial!(staged_files_follow_no_links, Busybox),
        trial!(devices_of_the_host_stay_as_they_are, Root),
        trial!(users_are_parsed_strictly),
        trial!(hostile_strings_are_refused_by_field),
        trial!(the_state_is_for_its_owner_alone),
        trial!(limits_of_the_spec_are_refused_by_field),
        trial!(the_most_that_is_accepted_works),
        trial!(what_permissions_allow_and_rules_do_not).skip_if(lacks(3)),
        trial!(what_is_not_named_cannot_be_read_or_executed).skip_if(lacks(3)),
        trial!(ports_that_are_not_named_are_refused).skip_if(lacks(4)),
        trial!(signals_do_not_leave_their_scope).skip_if(lacks(6)),
        trial!(rules_are_made_of_what_lies_inside, Busybox).skip_if(lacks(3)),
        trial!(rules_that_cannot_be_are_refused_by_field).skip_if(lacks(5)),
    ])
}

pub(crate) fn imaged(host: &Host, image: &Path, access: Access) -> ContainerSpec {
    let mut spec = host.spec("image");
    spec.mounts.clear();
    spec.rootfs = Rootfs::Dir { path: image.into(), access };
    spec
}

pub(crate) fn bind(source: impl Into<PathBuf>, target: &str) -> Mount {
    Mount::bind(source, target)
}
