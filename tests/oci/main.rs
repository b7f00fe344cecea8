//! `orangery-oci` as its callers use it: a subreaper that gives a container its stdio and sees how it ends.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod bundle;
mod caller;
mod killed;
mod lives;

use std::process::ExitCode;

use killed::a_create_that_is_killed_leaves_what_delete_removes;
use lives::{
    a_life_by_commands, one_that_was_not_started_is_deleted, run_waits_and_tells_the_exit_code,
    states_in_which_a_command_is_refused, what_is_refused_leaves_nothing,
};
use orangery_tests::trial;

fn main() -> ExitCode {
    if caller::is_the_program() {
        return orangery_oci::main(std::env::args_os());
    }
    orangery_tests::main(&[
        trial!(a_life_by_commands, Root, Busybox, Cgroups),
        trial!(what_is_refused_leaves_nothing, Root, Busybox),
        trial!(states_in_which_a_command_is_refused, Root, Busybox),
        trial!(run_waits_and_tells_the_exit_code, Root, Busybox),
        trial!(one_that_was_not_started_is_deleted, Root, Busybox, Cgroups),
        trial!(a_create_that_is_killed_leaves_what_delete_removes, Root, Busybox, Cgroups),
    ])
}
