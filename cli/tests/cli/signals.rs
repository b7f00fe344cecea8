//! What is forwarded, and what kills.

use rustix::process::Signal;

use crate::kit::Running;
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("four_signals_are_forwarded", forwarded),
        always("a_signal_that_ends_the_command_is_its_exit_code", ends),
        always("a_second_int_kills_the_whole_container", second_int),
        always("kill_after_a_forwarded_term", kill_after),
        always("a_ladder_in_place_of_the_signal", ladder),
    ]
}

fn forwarded() {
    for (name, signal) in [("TERM", Signal::TERM), ("INT", Signal::INT), ("QUIT", Signal::QUIT), ("HUP", Signal::HUP)] {
        let script = format!("trap 'echo got {name}; exit 6' {name}; echo ready; while :; do sleep 0.05; done");
        let mut running = Running::start(&[], &script);
        running.signal(signal);
        assert_eq!(running.said(), format!("got {name}"));
        running.end().ended(6);
    }
}

fn ends() {
    let running = Running::start(&[], "echo ready; exec sleep 60");
    running.signal(Signal::TERM);
    running.end().ended(143);
}

fn second_int() {
    // The first is seen before the second is sent: two at once are one to the kernel.
    let script = "trap 'echo got' INT; sleep 60 & echo ready; while :; do sleep 0.05; done";
    let mut running = Running::start(&[], script);
    running.signal(Signal::INT);
    assert_eq!(running.said(), "got");
    running.signal(Signal::INT);
    running.end().ended(137);
}

fn ladder() {
    // In the order of their numbers: a shell that finds several of them runs their traps in that order.
    let script =
        "trap 'echo hup' HUP; trap '' TERM; trap 'echo int; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let mut running = Running::start(&["--stop", "HUP:100ms,TERM:100ms,INT:1h"], script);
    running.signal(Signal::TERM);
    assert_eq!((running.said(), running.said()), ("hup".into(), "int".into()));
    running.end().ended(9);
    let deaf = Running::start(&["--stop", "USR1:1ms"], "trap '' USR1; echo ready; while :; do sleep 0.05; done");
    deaf.signal(Signal::INT);
    deaf.end().ended(137);
}

fn kill_after() {
    let running = Running::start(&["--kill-after", "200ms"], "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    running.signal(Signal::TERM);
    running.end().ended(137);
}
