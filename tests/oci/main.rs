//! `orangery-oci` as its callers use it: a subreaper that gives a container its stdio and sees how it ends.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod agent;
mod attacks;
mod bundle;
mod caller;
mod containerd;
mod crun;
mod docker;
mod garden;
mod hooks;
mod hung;
mod inside;
mod judged;
mod killed;
mod lives;
mod odd;
mod ordinary;
mod others;
mod podman;
mod unsaid;

use containerd::containerd_runs_containers;
use docker::docker_runs_containers;
use garden::as_guardian_calls_it;
use podman::{podman_runs_containers, podman_without_root_runs_containers};
use std::process::ExitCode;

use agent::{
    a_hook_whose_agent_does_not_answer_is_killed_in_time, an_agent_answers_what_a_filter_asks,
    without_an_agent_nothing_is_made,
};
use crun::{
    a_config_may_have_another_name, more_numbers_than_descriptors_are_preserved,
    one_that_is_frozen_elsewhere_is_deleted, those_of_a_regular_expression_are_deleted,
    who_is_not_root_has_inheritable_capabilities, who_is_ready_says_so_to_the_callers_manager,
};
use hooks::{
    a_hook_has_what_it_is_given, a_hook_may_leave_somebody_behind, a_hook_that_fails_ends_what_it_is_for,
    a_hook_that_is_none_is_refused, a_hook_that_takes_too_long_is_killed,
    a_hook_without_an_environment_has_the_callers, a_poststop_hook_that_fails_is_a_warning,
    an_interface_that_a_hook_renames_comes_back, hooks_of_a_container_with_ids_of_its_own,
    hooks_run_in_order_and_where_they_belong,
};
use hung::{
    a_command_that_is_killed_takes_its_hook_along, a_command_that_its_hook_has_stopped_is_woken,
    a_hook_may_call_for_its_own_container, a_hook_may_delete_its_own_container,
    a_hook_that_does_not_begin_is_killed_in_time, a_hung_hook_of_a_creation_holds_nobody_up,
    a_hung_hook_of_a_start_holds_nobody_up, a_lock_that_somebody_keeps_holds_nobody_up_for_ever,
    a_signal_ends_a_run_while_a_hook_runs, a_signal_ends_an_exec_that_has_not_begun, hooks_that_do_harm,
};
use inside::{
    a_detached_exec_ends_at_its_caller, an_exec_is_in_the_group_that_it_asks_for,
    an_oom_kill_that_ends_a_container_is_told, exec_is_a_further_process, limits_and_counters,
    processes_stand_still_and_go_on, terminals_go_over_a_socket, what_it_tells_of_itself,
};
use judged::{
    a_start_hook_has_the_environment_of_the_command, at_the_top_pids_may_be_shared,
    capabilities_beyond_the_bounding_set_are_none, proc_and_sys_are_mounted_on_directories,
    where_a_further_process_begins_is_told,
};
use killed::{
    a_cgroup_that_is_anothers_by_now_is_left_alone, a_create_that_is_killed_in_a_hook_is_deleted,
    a_create_that_is_killed_leaves_what_delete_removes, a_hook_ends_with_its_keeper,
    a_keeper_that_is_killed_leaves_nothing_unknown,
};
use lives::{
    a_life_by_commands, a_run_removes_its_own_container_alone, one_that_was_not_started_is_deleted,
    run_waits_and_tells_the_exit_code, states_in_which_a_command_is_refused, what_is_refused_leaves_nothing,
};
use odd::{
    a_device_directory_may_be_read_only, a_file_is_no_device, a_group_at_the_top_has_limits,
    a_process_file_need_not_say_who, a_tmpfs_has_the_mode_of_its_place, an_update_leaves_what_it_does_not_name,
    nothing_but_a_procfs_is_on_proc, who_wants_systemd_is_told, without_a_pid_namespace_all_are_killed,
    without_pivot_the_root_is_the_images,
};
use orangery_tests::trial;
use ordinary::{an_ordinary_user_with_a_range, an_ordinary_user_with_one_id};
use others::{
    a_config_that_is_changed_later_changes_nothing, a_group_that_is_not_fit_is_refused,
    a_start_waits_for_nobody_who_held_ids, an_exec_is_beside_the_first_process, counters_come_in_milliseconds,
    cpus_of_the_caller_are_not_the_containers, every_operation_wants_an_id, ids_are_those_of_others,
    keys_in_other_cases_are_the_fields, mounts_as_podman_asks_for_them, ps_takes_the_options_of_ps,
    sockets_that_are_listened_at_are_handed_on, what_is_mounted_is_mounted_again, words_of_runcs_command_line,
};
use unsaid::{devices_are_the_usual_ones_unless_rules_say_more, home_is_what_the_container_says};

fn main() -> ExitCode {
    if caller::is_the_program() {
        return orangery_oci::main(std::env::args_os());
    }
    let trials = [
        trial!(a_life_by_commands, Root, Busybox, Cgroups),
        trial!(what_is_refused_leaves_nothing, Root, Busybox),
        trial!(states_in_which_a_command_is_refused, Root, Busybox),
        trial!(run_waits_and_tells_the_exit_code, Root, Busybox),
        trial!(a_run_removes_its_own_container_alone, Root, Busybox, Cgroups),
        trial!(one_that_was_not_started_is_deleted, Root, Busybox, Cgroups),
        trial!(a_create_that_is_killed_leaves_what_delete_removes, Root, Busybox, Cgroups),
        trial!(a_keeper_that_is_killed_leaves_nothing_unknown, Root, Busybox, Cgroups),
        trial!(a_create_that_is_killed_in_a_hook_is_deleted, Root, Busybox, Cgroups),
        trial!(a_hook_ends_with_its_keeper, Root, Busybox, Cgroups),
        trial!(a_cgroup_that_is_anothers_by_now_is_left_alone, Root, Busybox, Cgroups),
        trial!(exec_is_a_further_process, Root, Busybox),
        trial!(an_exec_is_in_the_group_that_it_asks_for, Root, Busybox, Cgroups),
        trial!(a_detached_exec_ends_at_its_caller, Root, Busybox),
        trial!(processes_stand_still_and_go_on, Root, Busybox, Freezer),
        trial!(limits_and_counters, Root, Busybox, Memory, Pids),
        trial!(an_oom_kill_that_ends_a_container_is_told, Root, Busybox, Memory),
        trial!(terminals_go_over_a_socket, Root, Busybox),
        trial!(what_it_tells_of_itself, Root, Busybox),
        trial!(as_guardian_calls_it, Root, Busybox, Memory, Pids),
        trial!(a_device_directory_may_be_read_only, Root, Busybox),
        trial!(nothing_but_a_procfs_is_on_proc, Root, Busybox),
        trial!(hooks_run_in_order_and_where_they_belong, Root, Busybox, Cgroups),
        trial!(hooks_of_a_container_with_ids_of_its_own, Root, Busybox, Cgroups),
        trial!(a_hook_has_what_it_is_given, Root, Busybox),
        trial!(a_hook_without_an_environment_has_the_callers, Root, Busybox),
        trial!(a_hook_that_fails_ends_what_it_is_for, Root, Busybox, Cgroups),
        trial!(a_poststop_hook_that_fails_is_a_warning, Root, Busybox),
        trial!(a_hook_that_takes_too_long_is_killed, Root, Busybox, Cgroups),
        trial!(an_interface_that_a_hook_renames_comes_back, Root, Busybox, Nets),
        trial!(a_hook_may_leave_somebody_behind, Root, Busybox),
        trial!(a_hook_that_is_none_is_refused, Root, Busybox),
        trial!(a_hung_hook_of_a_creation_holds_nobody_up, Root, Busybox, Cgroups),
        trial!(a_hung_hook_of_a_start_holds_nobody_up, Root, Busybox, Cgroups, Freezer),
        trial!(a_hook_may_call_for_its_own_container, Root, Busybox, Pids, Freezer),
        trial!(a_hook_may_delete_its_own_container, Root, Busybox, Cgroups),
        trial!(a_command_that_is_killed_takes_its_hook_along, Root, Busybox, Cgroups),
        trial!(a_command_that_its_hook_has_stopped_is_woken, Root, Busybox, Cgroups),
        trial!(a_signal_ends_a_run_while_a_hook_runs, Root, Busybox, Cgroups),
        trial!(a_signal_ends_an_exec_that_has_not_begun, Root, Busybox, Freezer),
        trial!(a_lock_that_somebody_keeps_holds_nobody_up_for_ever, Root, Busybox, Freezer).long(),
        trial!(a_hook_that_does_not_begin_is_killed_in_time, Root, Busybox, Freezer),
        trial!(a_hook_whose_agent_does_not_answer_is_killed_in_time, Root, Busybox),
        trial!(hooks_that_do_harm, Root, Busybox, Cgroups),
        trial!(an_agent_answers_what_a_filter_asks, Root, Busybox),
        trial!(without_an_agent_nothing_is_made, Root, Busybox, Cgroups),
        trial!(home_is_what_the_container_says, Root, Busybox),
        trial!(devices_are_the_usual_ones_unless_rules_say_more, Root, Busybox, Cgroups, GroupKill),
        trial!(a_tmpfs_has_the_mode_of_its_place, Root, Busybox),
        trial!(without_pivot_the_root_is_the_images, Root, Busybox),
        trial!(a_group_at_the_top_has_limits, Root, Busybox, Pids),
        trial!(who_wants_systemd_is_told, Root, Busybox),
        trial!(a_file_is_no_device, Root, Busybox),
        trial!(a_process_file_need_not_say_who, Root, Busybox),
        trial!(without_a_pid_namespace_all_are_killed, Root, Busybox, GroupKill),
        trial!(an_update_leaves_what_it_does_not_name, Root, Busybox, Memory, Pids, Cpu),
        trial!(what_is_mounted_is_mounted_again, Root, Busybox),
        trial!(ps_takes_the_options_of_ps, Root, Busybox, Cgroups).skip_if(others::lacks_ps()),
        trial!(an_exec_is_beside_the_first_process, Root, Busybox, Cgroups).skip_if(others::lacks_division()),
        trial!(mounts_as_podman_asks_for_them, Root, Busybox, Cgroups),
        trial!(ids_are_those_of_others, Root, Busybox),
        trial!(words_of_runcs_command_line, Root, Busybox, Cgroups),
        trial!(counters_come_in_milliseconds, Root, Busybox, Cgroups),
        trial!(sockets_that_are_listened_at_are_handed_on, Root, Busybox),
        trial!(a_config_that_is_changed_later_changes_nothing, Root, Busybox),
        trial!(cpus_of_the_caller_are_not_the_containers, Root, Busybox).skip_if(others::lacks_cpus()),
        trial!(a_start_waits_for_nobody_who_held_ids, Root, Busybox),
        trial!(keys_in_other_cases_are_the_fields, Root, Busybox),
        trial!(every_operation_wants_an_id, Root, Busybox),
        trial!(a_group_that_is_not_fit_is_refused, Root, Busybox, Cgroups),
        trial!(a_start_hook_has_the_environment_of_the_command, Root, Busybox),
        trial!(capabilities_beyond_the_bounding_set_are_none, Root, Busybox),
        trial!(proc_and_sys_are_mounted_on_directories, Root, Busybox),
        trial!(at_the_top_pids_may_be_shared, Root, Busybox, GroupKill),
        trial!(where_a_further_process_begins_is_told, Root, Busybox, Cgroups),
        trial!(a_config_may_have_another_name, Root, Busybox),
        trial!(those_of_a_regular_expression_are_deleted, Root, Busybox),
        trial!(more_numbers_than_descriptors_are_preserved, Root, Busybox),
        trial!(who_is_not_root_has_inheritable_capabilities, Root, Busybox),
        trial!(who_is_ready_says_so_to_the_callers_manager, Root, Busybox),
        trial!(one_that_is_frozen_elsewhere_is_deleted, Root, Busybox, Freezer).skip_if(crun::lacks_an_old_freezer()),
        trial!(an_ordinary_user_with_one_id, Root, Busybox).skip_if(ordinary::lacks()),
        trial!(an_ordinary_user_with_a_range, Root, Busybox).skip_if(ordinary::lacks_a_range()),
        trial!(containerd_runs_containers, Root, Busybox, Cgroups).skip_if(containerd::lacks()),
        trial!(docker_runs_containers, Root, Busybox, Cgroups, Memory, Pids).skip_if(docker::lacks()),
        trial!(podman_runs_containers, Root, Busybox, Cgroups).skip_if(podman::lacks()),
        trial!(podman_without_root_runs_containers, Root, Busybox).skip_if(podman::lacks_without_root()),
    ];
    orangery_tests::main(&[&trials[..], &attacks::trials()].concat())
}
