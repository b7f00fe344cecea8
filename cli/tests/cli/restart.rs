//! `run --restart`: one command after the other, as if it were one.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use rustix::process::Signal;
use serde_json::Value;

use crate::kit::{Ran, Running, fed, ran, sh};
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("restarts_are_counted_and_the_last_code_is_ours", counted),
        always("who_succeeds_is_not_restarted", succeeds),
        always("what_an_end_means_can_be_said", meanings),
        always("each_incarnation_reads_on_and_writes_in_order", streams),
        always("a_signal_stops_it_for_good_while_it_runs_and_while_it_waits", signalled),
        always("a_second_int_kills_what_is_kept", second_int),
        always("the_output_limit_is_for_all_incarnations", output_limit),
        always("who_is_unhealthy_is_ended_and_restarted", unhealthy),
        always("a_restart_that_makes_no_sense_is_refused", refused),
    ]
}

const FAST: [&str; 2] = ["--restart-delay", "1ms"];

fn report(options: &[&str], script: &str) -> (Ran, Value) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report");
    let options = [options, &["--report", path.to_str().unwrap()]].concat();
    let ran = sh(&options, script);
    let text = std::fs::read(&path).unwrap();
    (ran, serde_json::from_slice(&text).unwrap())
}

fn counted() {
    let (ran, report) =
        report(&[&["--restart", "on-failure:2"], &FAST[..]].concat(), "ls -A /tmp; touch /tmp/x; echo out; exit 5");
    assert_eq!((ran.ended(5).text(), ran.err.as_str()), ("out\nout\nout\n", ""), "and each has a fresh /tmp");
    assert_eq!((&report["restarts"], &report["generation"]), (&2.into(), &3.into()));
    assert_eq!((&report["state"], &report["give_up"]), (&"failed".into(), &"window_spent".into()));
    assert_eq!(report["deaths"].as_array().unwrap().len(), 3);
    assert_eq!((&report["exit"]["code"], &report["stdout"]["bytes"]), (&5.into(), &12.into()));
}

fn succeeds() {
    let (ran, report) = report(&["--restart", "on-failure"], "echo once");
    assert_eq!((ran.ended(0).text(), &report["restarts"], &report["state"]), ("once\n", &0.into(), &"ended".into()));
    assert_eq!(sh(&["--restart", "never"], "echo once; exit 4").ended(4).text(), "once\n");
}

fn meanings() {
    let (ran, report) = report(&[&["--restart", "always", "--on-exit", "5=permanent"], &FAST[..]].concat(), "exit 5");
    assert_eq!((ran.ended(5).code, &report["restarts"], &report["state"]), (Some(5), &0.into(), &"failed".into()));
    assert_eq!(report["give_up"], "permanent");
    let ran = sh(&[&["--restart", "on-failure", "--on-exit", "TERM=success"], &FAST[..]].concat(), "kill -TERM $$");
    ran.ended(143);
    // The second restart of the hour would be one too many.
    let options =
        ["--restart", "always", "--restart-window", "1/1h", "--restart-jitter", "0", "--restart-stable", "1h"];
    assert_eq!(sh(&[&options[..], &FAST[..]].concat(), "echo out; exit 5").ended(5).text(), "out\nout\n");
}

/// From a pipe, which is handed over, and from a file, which is copied: a line each.
fn streams() {
    let words = |most| {
        [&["run", "-i", "--restart", most], &FAST[..], &["--", "sh", "-c", "read -r l && echo $l; exit 1"]].concat()
    };
    assert_eq!(fed(&words("on-failure:2"), b"a\nb\nc\nd\n").ended(1).text(), "a\nb\nc\n");
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in"), dir.path().join("out"));
    std::fs::write(&input, "a\nb\nc\nd\n").unwrap();
    let file = |path| std::fs::File::open(path).unwrap();
    let mut command = crate::kit::orangery(&words("on-failure:2"));
    command.stdin(file(&input)).stdout(std::fs::File::create(&output).unwrap());
    assert_eq!(command.status().unwrap().code(), Some(1));
    assert_eq!(std::fs::read(&output).unwrap(), b"a\nb\nc\n");
}

fn signalled() {
    let script = "trap 'echo got; exit 6' TERM INT; echo ready; while :; do sleep 0.05; done";
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = Running::start(&["--restart", "always"], script);
        running.signal(signal);
        assert_eq!(running.said(), "got");
        running.end().ended(6);
    }
    // Its delay would be an hour.
    let options = ["--restart", "always", "--restart-delay", "1h", "--restart-max-delay", "1h"];
    let running = Running::start(&options, "trap '' INT; echo ready; exit 9");
    running.signal(Signal::INT);
    running.end().ended(9);
}

fn second_int() {
    let mut running =
        Running::start(&["--restart", "always"], "trap 'echo got' INT; echo ready; while :; do sleep 0.05; done");
    running.signal(Signal::INT);
    assert_eq!(running.said(), "got");
    running.signal(Signal::INT);
    running.end().ended(137);
}

fn output_limit() {
    let ran = sh(&[&["--restart", "always", "--output-limit", "10"], &FAST[..]].concat(), "printf 1234");
    assert_eq!(ran.text(), "1234123412");
}

fn unhealthy() {
    // From when it listens for the signal: one that comes before would end it by itself.
    let check = "test ! -e /tmp/up";
    let health = ["--health-exec", "sh", "--health-exec=-c", "--health-exec", check, "--health-interval", "1ms"];
    let health = [&health[..], &["--health-failures", "1", "--stop", "USR1:1h"]].concat();
    let script = "trap 'exit 6' USR1; echo up; : >/tmp/up; while :; do sleep 0.05; done";
    let (first, alone) = report(&health, script);
    assert_eq!((first.ended(6).text(), &alone["cause"]), ("up\n", &"unhealthy".into()));
    let (both, kept) = report(&[&["--restart", "on-failure:1"], &FAST[..], &health].concat(), script);
    assert_eq!((both.ended(6).text(), &kept["cause"]), ("up\nup\n", &"unhealthy".into()));
    assert_eq!((&kept["restarts"], &kept["give_up"]), (&1.into(), &"window_spent".into()));
    let (_, late) = report(&["--ready-tcp", "1", "--ready-timeout", "10ms"], "exec sleep 1000");
    assert_eq!((&late["cause"], &late["exit"]["signal"]["signal"]), (&"not_ready".into(), &15.into()));
    for (options, named) in [
        (&["--ready-line", "up"][..], "--ready-line"),
        (&["--ready-after", "2m"], "--ready-after"),
        (&["--health-exec", ""], "--health-exec"),
        (&["--health-interval", "1s"], "--health"),
        (&["--health-tcp", "0"], "--health-tcp"),
    ] {
        let ran = ran(&[&["run"], options, &["--", "true"]].concat());
        assert!(ran.code == Some(125) && ran.err.contains(named), "{ran:?}");
    }
}

fn refused() {
    for options in [
        &["--restart", "sometimes"][..],
        &["--restart", "on-failure:x"],
        &["--restart-delay", "1s"],
        &["--restart", "always", "--timeout-idle", "1s"],
        &["--on-exit", "1=success"],
        &["--restart", "always", "--restart-window", "5"],
    ] {
        let ran = ran(&[&["run"], options, &["--", "true"]].concat());
        assert!(ran.code == Some(125) && ran.err.contains("restart"), "{ran:?}");
    }
}
