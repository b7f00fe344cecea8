//! A supervisor that is killed at any moment, with its keeper or without: the next one owns its containers and processes
//! again, with their streams and ends, and nothing is left in the end.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod both;
mod death;
mod ends;
mod moments;
mod network;
mod owned;
mod pace;
mod root;
mod saved;
mod steps;
mod terminal;
mod unwritten;

use std::process::ExitCode;

use orangery_tests::trial;

use both::{
    a_keeper_that_is_ending_is_waited_for, a_long_path_has_a_door, what_lives_is_claimed_on_an_older_kernel,
    what_lives_is_claimed_without_a_keeper, what_lives_is_killed_if_that_is_wanted,
};
use death::{
    a_deadline_is_kept_by_the_second, a_storm_of_deaths_has_an_end, another_keeper_has_everything,
    both_die_in_the_middle_of_it, it_dies_while_containers_are_made, the_next_has_it_from_the_second,
};
use ends::{an_end_is_told_until_it_is_settled, nothing_is_held_of_what_has_ended, who_gives_up_leaves_nothing};
use moments::{a_command_that_is_not_there, at_a_removal, at_each_moment_of_a_creation, at_each_moment_of_a_start};
use network::{a_network_goes_on_and_ends_without_a_supervisor, a_network_goes_on_and_ends_without_anybody};
use owned::{
    a_command_that_waits_is_started_by_the_next, a_container_is_owned_again,
    a_container_that_was_never_started_is_started, a_log_goes_on_in_another_file, a_pause_is_known,
    a_wrong_record_is_refused, limits_and_counters_are_its_own, one_leaves_and_the_next_comes,
    ranges_of_ids_stay_taken,
};
use root::{
    a_copied_root_goes_on_without_a_supervisor, a_served_root_goes_on_and_ends_without_a_supervisor,
    a_served_root_goes_on_and_ends_without_anybody,
};
use steps::{
    at_each_moment_of_a_keeper, at_each_moment_of_a_second_keeper, what_is_born_for_who_has_gone_is_the_next_ones,
};
use terminal::nobody_waits_for_a_reader_of_a_terminal;
use unwritten::{both_are_killed_while_one_is_made, what_is_not_written_down_goes_with_both};

fn main() -> ExitCode {
    orangery_tests::main(&[
        trial!(a_container_is_owned_again),
        trial!(limits_and_counters_are_its_own, Root, Memory),
        trial!(a_pause_is_known, Freezer),
        trial!(ranges_of_ids_stay_taken, Root),
        trial!(a_command_that_waits_is_started_by_the_next),
        trial!(a_container_that_was_never_started_is_started),
        trial!(one_leaves_and_the_next_comes),
        trial!(a_log_goes_on_in_another_file),
        trial!(a_wrong_record_is_refused),
        trial!(a_network_goes_on_and_ends_without_a_supervisor, Pasta),
        trial!(a_network_goes_on_and_ends_without_anybody, Pasta),
        trial!(a_served_root_goes_on_and_ends_without_a_supervisor, Busybox, Fuse),
        trial!(a_served_root_goes_on_and_ends_without_anybody, Busybox, Fuse),
        trial!(a_copied_root_goes_on_without_a_supervisor, Busybox),
        trial!(an_end_is_told_until_it_is_settled),
        trial!(nothing_is_held_of_what_has_ended, Root),
        trial!(who_gives_up_leaves_nothing),
        trial!(at_each_moment_of_a_creation),
        trial!(at_each_moment_of_a_start),
        trial!(a_command_that_is_not_there),
        trial!(at_a_removal),
        trial!(what_lives_is_claimed_without_a_keeper),
        trial!(what_lives_is_claimed_on_an_older_kernel),
        trial!(what_lives_is_killed_if_that_is_wanted),
        trial!(what_is_not_written_down_goes_with_both),
        trial!(both_are_killed_while_one_is_made),
        trial!(a_keeper_that_is_ending_is_waited_for).long(),
        trial!(a_long_path_has_a_door),
        trial!(nobody_waits_for_a_reader_of_a_terminal),
        trial!(another_keeper_has_everything),
        trial!(the_next_has_it_from_the_second),
        trial!(a_deadline_is_kept_by_the_second),
        trial!(it_dies_while_containers_are_made),
        trial!(a_storm_of_deaths_has_an_end),
        trial!(both_die_in_the_middle_of_it),
        trial!(at_each_moment_of_a_keeper).long(),
        trial!(at_each_moment_of_a_second_keeper),
        trial!(what_is_born_for_who_has_gone_is_the_next_ones),
    ])
}
