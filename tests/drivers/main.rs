//! The life of a container by each runtime that is driven: one table of trials, for each program that is installed, and for our
//! own `orangery-oci`, which is driven as they are.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod ends;
mod inside;
mod lies;
mod lives;
mod program;
mod refused;
mod terminals;

use std::process::ExitCode;

use orangery_tests::{Need, Trial, trial};
use program::{SENDS, Which, is_the_program, send_something};

/// A trial of this name for each program.
macro_rules! each {
    ($trials:ident: $($module:ident::$name:ident($($need:ident),*);)*) => { $(
        each!(@ $trials, Runc, "runc_", $module::$name, $name, [$(Need::$need),*]);
        each!(@ $trials, Crun, "crun_", $module::$name, $name, [$(Need::$need),*]);
        each!(@ $trials, Youki, "youki_", $module::$name, $name, [$(Need::$need),*]);
        each!(@ $trials, Ours, "ours_", $module::$name, $name, [$(Need::$need),*]);
    )* };
    (@ $trials:ident, $which:ident, $prefix:literal, $run:path, $name:ident, [$($need:expr),*]) => {
        $trials.push(
            Trial::new(
                concat!($prefix, stringify!($name)),
                &[Need::Containers, Need::Busybox, $($need),*],
                |scene| $run(scene, Which::$which),
            )
            .skip_if(Which::$which.lacks()),
        );
    };
}

fn main() -> ExitCode {
    if is_the_program() {
        return orangery_oci::main(std::env::args_os());
    }
    if let Some(socket) = std::env::var_os(SENDS) {
        return send_something(socket.as_ref());
    }
    let mut trials = vec![
        trial!(a_program_that_is_not_there, Containers),
        trial!(a_program_that_is_too_old, Containers),
        trial!(a_program_that_hangs, Containers, Busybox),
        trial!(the_words_of_a_program, Containers, Busybox),
        trial!(orphans_are_reaped_while_a_call_goes_on, Containers, Busybox),
        trial!(numbers_that_are_none, Containers, Busybox),
        trial!(words_without_end, Containers, Busybox),
        trial!(more_than_was_asked_for, Containers, Busybox),
        trial!(strays_are_ended, Containers, Busybox),
        trial!(a_removal_that_is_held_up, Root, Busybox, Cgroups).skip_if(without_freezer()),
        trial!(what_is_no_terminal, Containers, Busybox),
    ];
    each! { trials:
        lives::output_and_exit_codes();
        lives::a_command_that_is_pid_1();
        lives::standard_input();
        lives::signals();
        lives::further_processes(ManyIds);
        lives::many_short_processes_at_once();
        lives::an_idle_container();
        ends::a_kill_takes_all();
        ends::pause_and_resume(Freezer);
        ends::memory_ends_in_an_oom_kill(Memory);
        ends::the_number_of_processes(Pids);
        ends::counters(Memory);
        ends::dropped_creations_leave_nothing();
        ends::a_dropped_process_is_killed();
        ends::without_a_shutdown_nothing_is_left();
        terminals::a_terminal_of_each();
        terminals::a_hang_up();
        inside::what_a_command_sees(ManyIds);
        inside::ids_of_its_own();
        inside::filters();
        inside::mounts_and_private_directories();
        inside::layers();
        refused::commands_that_are_not_there();
        refused::a_failed_creation_leaves_nothing();
        refused::fields_that_it_cannot_have();
        refused::a_user_beside_the_one_id();
    }
    orangery_tests::main(&trials)
}

/// What is frozen by version 2 can be killed.
fn without_freezer() -> Option<&'static str> {
    let there = orangery_tests::scene::hierarchies().iter().any(|top| top.ends_with("freezer"));
    (!there).then_some("needs the freezer of cgroup v1")
}

use lies::{
    a_removal_that_is_held_up, more_than_was_asked_for, numbers_that_are_none, orphans_are_reaped_while_a_call_goes_on,
    strays_are_ended, words_without_end,
};
use refused::{a_program_that_hangs, a_program_that_is_not_there, a_program_that_is_too_old, the_words_of_a_program};
use terminals::what_is_no_terminal;
