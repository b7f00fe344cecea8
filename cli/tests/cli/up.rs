//! `up`: services from a file, as their user sees them.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::kit::{Ran, Running, binary, fed, orangery, ran};
use crate::stock::Stock;
use crate::tty::AtTerminal;
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("services_start_in_order_and_stop_in_reverse", order),
        always("a_service_that_fails_for_good_takes_the_rest_along", escalates),
        always("a_failure_is_restarted_by_the_group_too", group_restarts),
        always("who_comes_after_waits_until_it_is_ready", ready),
        always("what_is_not_ready_in_time_is_not_started", not_ready),
        always("what_is_unhealthy_is_restarted_and_fails_for_good", unhealthy),
        always("what_is_done_is_done_well", done),
        always("exit_classes_of_a_file", classes),
        always("a_second_signal_kills_what_ignores_the_first", second),
        always("a_ladder_and_commands_of_a_stop", ladder),
        always("a_signal_while_services_start", while_starting),
        always("lines_stand_behind_names_whole_and_prompts_show", lines),
        always("nobody_reads_us", unread),
        always("the_feed_as_json", json),
        always("at_a_terminal_one_line_for_each_service", terminal),
        always("a_log_of_a_service_is_kept", log),
        always("a_file_is_refused_with_all_that_is_wrong", refused),
        always("what_this_machine_refuses_is_told_at_its_place", machine),
        always("a_file_that_is_right_is_checked_and_not_started", checked),
        always("what_cannot_be_started_at_all", not_started),
        always("nothing_is_left_of_services", nothing_is_left),
        always("the_example_of_the_readme", example),
        always("the_schema_is_the_published_one", schema),
    ]
}

/// A service that says when it is told to end, from the line `up` on.
const WAITS: &str = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done";
/// Whoever comes after it comes when it listens.
const LISTENS: &str = "ready-line = \"up\"";
/// One that does not listen.
const DEAF: &str = "trap '' TERM INT; echo up; while :; do sleep 0.05; done";

fn service(name: &str, script: &str, more: &str) -> String {
    format!("[service.{name}]\ncommand = [\"sh\", \"-c\", {script:?}]\n{more}\n")
}

/// A file in a directory of its own.
struct Place(TempDir);

impl Place {
    fn of(file: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::write(place.file(), file).unwrap();
        place
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("up.toml")
    }

    fn command(&self, options: &[&str]) -> Command {
        orangery(&[&["up", self.file().to_str().unwrap()], options].concat())
    }

    fn ran(&self, options: &[&str]) -> Ran {
        self.command(options).output().unwrap().into()
    }
}

/// The lines of ours that are about states, without times.
fn states(ran: &Ran) -> Vec<&str> {
    ran.err.lines().filter_map(|line| line.strip_prefix("orangery: ")).collect()
}

fn at(lines: &[&str], wanted: &str) -> usize {
    lines.iter().position(|line| line.starts_with(wanted)).unwrap_or_else(|| panic!("no {wanted:?} in {lines:?}"))
}

fn order() {
    let file =
        [service("c", WAITS, "after = [\"b\"]"), service("b", WAITS, "after = [\"a\"]"), service("a", WAITS, "")];
    let place = Place::of(&file.concat());
    let mut running = Running::silent(place.command(&[]));
    // Started in order, which is looked at below; when each of them comes to say something is its own affair.
    let mut said = [running.said(), running.said(), running.said()];
    said.sort();
    assert_eq!(said, ["a | up", "b | up", "c | up"]);
    running.signal(Signal::INT);
    let said = [running.said(), running.said(), running.said()];
    assert_eq!(said, ["c | bye", "b | bye", "a | bye"]);
    let ran = running.end();
    let lines = states(ran.ended(0));
    assert!(
        at(&lines, "a runs") < at(&lines, "b starts") && at(&lines, "b runs") < at(&lines, "c starts"),
        "{lines:?}"
    );
    assert!(at(&lines, "c is stopped") < at(&lines, "b is told to stop"), "{lines:?}");
    assert!(at(&lines, "b is stopped") < at(&lines, "a is told to stop"), "{lines:?}");
}

fn escalates() {
    let flaky =
        service("flaky", "echo try; exit 3", "restart = \"on-failure:2\"\nrestart-delay = \"1ms\"\nafter = [\"db\"]");
    let db = service("db", WAITS, &format!("restart = \"always\"\n{LISTENS}"));
    let ran = Place::of(&(db + &flaky)).ran(&[]);
    let lines = states(ran.ended(1));
    assert_eq!(ran.text().matches("flaky | try\n").count(), 3, "{ran:?}");
    assert!(at(&lines, "flaky starts, restart 2") < at(&lines, "flaky has failed"), "{lines:?}");
    assert!(at(&lines, "flaky has failed") < at(&lines, "db is told to stop"), "{lines:?}");
    assert!(ran.text().ends_with("db    | bye\n"), "{ran:?}");
}

fn group_restarts() {
    let inner = "[group.g]\nrestart = \"on-failure:1\"\nrestart-delay = \"1ms\"\n[group.g.service.a]\n\
                 command = [\"sh\", \"-c\", \"echo try; exit 3\"]\nrestart = \"on-failure:1\"\nrestart-delay = \"1ms\"\n";
    let ran = Place::of(inner).ran(&[]);
    assert_eq!(ran.ended(1).text(), "g.a | try\n".repeat(4), "two of each start of the group: {ran:?}");
    // With one of them all are restarted.
    let both = service("a", WAITS, &format!("restart = \"always\"\n{LISTENS}"))
        + &service("b", "echo try; exit 3", "restart = \"on-failure:1\"\nrestart-delay = \"1ms\"\nafter = [\"a\"]");
    let ran = Place::of(&("strategy = \"one-for-all\"\n".to_owned() + &both)).ran(&[]);
    assert_eq!(ran.ended(1).text().matches("a | bye\n").count(), 2, "{ran:?}");
}

fn ready() {
    let slow = "echo soon; while ! [ -e /tmp/go ]; do sleep 0.05; done; echo ready now; while :; do sleep 0.05; done";
    // The first question makes it ready for the second.
    let asks =
        "ready-exec = [\"sh\", \"-c\", \"touch /tmp/go; grep -q x /tmp/asked || { echo x > /tmp/asked; exit 1; }\"]";
    let file = service("exec", slow, &format!("{asks}\nready-interval = \"10ms\""))
        + &service(
            "line",
            "echo first; sleep 0.2; echo ready at last; sleep 60",
            "after = [\"exec\"]\nready-line = \"ready at\"",
        )
        + &service("delay", "sleep 60", "after = [\"line\"]\nready-after = \"100ms\"")
        + &service("fd", "echo >&$NOTIFY_FD; sleep 60", "after = [\"delay\"]\nready-fd = true")
        + &service("last", "echo all are ready", "after = [\"fd\"]");
    let place = Place::of(&file);
    let mut running = Running::of(place.command(&[]), "exec  | soon");
    while running.said() != "last  | all are ready" {}
    running.signal(Signal::INT);
    let ran = running.end();
    let lines = states(ran.ended(0));
    assert!(lines.contains(&"exec runs, and is not ready yet"), "{lines:?}");
    for (first, then) in [("exec", "line"), ("line", "delay"), ("delay", "fd"), ("fd", "last")] {
        let up = lines.iter().position(|line| *line == format!("{first} runs"));
        assert!(up < Some(at(&lines, &format!("{then} starts"))), "{first}, {then}: {lines:?}");
    }
}

fn not_ready() {
    let file = service(
        "a",
        "while :; do sleep 0.05; done",
        "ready-line = \"never\"\nready-timeout = \"50ms\"\nrestart = \"always\"",
    ) + &service("b", "echo started", "after = [\"a\"]");
    let ran = Place::of(&file).ran(&[]);
    assert!(ran.ended(125).err.contains("not ready in time") && ran.text().is_empty(), "{ran:?}");
}

fn unhealthy() {
    // It is well until it has said that it is up.
    let asks = "health-exec = [\"sh\", \"-c\", \"[ ! -e /tmp/up ] || { echo sick; exit 1; }\"]\n\
                health-interval = \"10ms\"\nhealth-failures = 2";
    let more = format!("{asks}\nrestart = \"on-failure:1\"\nrestart-delay = \"1ms\"");
    let ran = Place::of(&service("a", "echo up; : > /tmp/up; sleep 60", &more)).ran(&["--watch-events"]);
    assert_eq!(ran.ended(1).text(), "a | up\na | up\n");
    assert!(ran.err.contains("up.a#1: is unhealthy: ") && ran.err.contains("up.a#2: has failed: "), "{ran:?}");
}

fn done() {
    let file = service("a", "echo one", "") + &service("b", "echo two", "after = [\"a\"]\nrestart = \"on-failure\"");
    // `b` begins when `a` runs, which may be before it has said anything.
    for ran in [Place::of(&file).ran(&[]), fed(&["up", "-"], file.as_bytes())] {
        let mut lines: Vec<_> = ran.ended(0).text().lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["a | one", "b | two"]);
    }
    let ran = Place::of(&service("a", "exit 3", "")).ran(&[]);
    assert!(ran.ended(1).err.contains("orangery: a has ended with code 3\n"), "{ran:?}");
}

fn classes() {
    let more = "restart = \"always\"\nrestart-delay = \"1ms\"\non-exit = { 5 = \"permanent\" }";
    let ran = Place::of(&service("a", "echo once; exit 5", more)).ran(&[]);
    assert_eq!(ran.ended(1).text(), "a | once\n");
    assert!(ran.err.contains("a has failed: it has ended with code 5; it said that it can never work"), "{ran:?}");
    let more = more.replace("permanent", "prevent");
    assert_eq!(Place::of(&service("a", "echo once; exit 5", &more)).ran(&[]).ended(0).text(), "a | once\n");
}

fn second() {
    let place = Place::of(&service("a", DEAF, "restart = \"always\"\nstop = \"TERM:1h\""));
    let running = Running::of(place.command(&["--watch-events"]), "a | up");
    running.signal(Signal::INT);
    // The kernel makes one of two of the same; these are two.
    running.signal(Signal::TERM);
    let ran = running.end();
    assert!(ran.ended(137).err.contains("up.a#1: its command has ended by signal KILL"), "{ran:?}");
    // Alone, the grace kills.
    let place = Place::of(&service("a", DEAF, "restart = \"always\"\nstop = \"TERM:10ms\""));
    let running = Running::of(place.command(&[]), "a | up");
    running.signal(Signal::TERM);
    running.end().ended(0);
}

/// Each service has its own.
fn ladder() {
    let script = "trap '' TERM; trap 'cat /tmp/said; echo int; exit 0' INT; echo up; while :; do sleep 0.05; done";
    let more =
        "stop = \"TERM:10ms,INT:1h\"\npre-stop = [\"sh\", \"-c\", \"echo first > /tmp/said\"]\npost-stop = [\"false\"]";
    let place = Place::of(&service("a", script, more));
    let mut running = Running::of(place.command(&["--watch-events"]), "a | up");
    running.signal(Signal::INT);
    assert_eq!((running.said(), running.said()), ("a | first".into(), "a | int".into()));
    let ran = running.end();
    assert!(ran.ended(0).err.contains("up.a#1: its pre-stop command has ended well"), "{ran:?}");
    assert!(ran.err.contains("up.a#1: its post-stop command has ended with code 1"), "{ran:?}");
}

/// What waits for a delay is not started any more, and neither is who comes after it.
fn while_starting() {
    let slow = "restart = \"always\"\nrestart-delay = \"1h\"\nrestart-max-delay = \"1h\"";
    let file = service("a", "echo up; exit 1", slow) + &service("b", WAITS, "after = [\"a\"]\n");
    let place = Place::of(&file);
    let mut running = Running::silent(place.command(&[]));
    // Whichever comes first: one waits for an hour to start again, the other may just have been started.
    assert!(running.said().ends_with(" | up"));
    running.signal(Signal::TERM);
    running.end().ended(0);
}

fn lines() {
    let script = "printf 'question: '; printf 'no newline' >&2; while ! [ -e /here/answer ]; do sleep 0.05; done; \
                  printf 'answer\\n\\377\\n'; printf end";
    let mount = "mount = [\"type=bind,src=here,dst=/here,ro\"]";
    let file = service("talker", script, mount) + &service("x", "echo y", "after = [\"talker\"]");
    let place = Place::of(&file);
    // Beside the file, which is not where we are.
    let here = place.0.path().join("here");
    std::fs::create_dir(&here).unwrap();
    let mut running = Running::silent(place.command(&[]));
    // A prompt is shown although its line has not ended: the rest comes when it was seen.
    let mut said = [running.said(), running.said()];
    said.sort();
    assert_eq!(said, ["talker | question: ", "x      | y"]);
    std::fs::write(here.join("answer"), "").unwrap();
    let ran = running.end();
    let talk = |line: &[u8]| [b"talker | ", line, b"\n"].concat();
    assert_eq!(ran.out, [talk(b"answer"), talk(b"\xff"), talk(b"end")].concat(), "{ran:?}");
    assert!(ran.err.contains("talker | no newline\n") && !ran.err.contains('\x1b'), "{ran:?}");
}

fn unread() {
    let place = Place::of(&(service("a", "while :; do echo x; sleep 0.01; done", "") + &service("b", WAITS, "")));
    let mut child = place.command(&[]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0), "it is stopped in order");
}

fn json() {
    let file = service("a", "echo out; echo err >&2; exit 3", "restart = \"on-failure:1\"\nrestart-delay = \"1ms\"");
    let ran = Place::of(&file).ran(&["--json"]);
    let lines: Vec<Value> = ran.ended(1).text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<u64> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert!(seqs.iter().copied().eq(0..seqs.len() as u64), "none is missing: {seqs:?}");
    let states = lines.iter().filter(|line| line["kind"] == "service_changed");
    let states: Vec<&str> = states.filter_map(|line| line["state"].as_str()).collect();
    assert_eq!(states, ["starting", "running", "back_off", "starting", "running", "failed"]);
    let output = lines.iter().filter(|line| line["kind"] == "output" && line["container"] == "up.a");
    let output: Vec<(&str, &str)> =
        output.map(|line| (line["stream"].as_str().unwrap(), line["text"].as_str().unwrap())).collect();
    assert_eq!(output.iter().filter(|line| **line == ("stdout", "out")).count(), 2, "{output:?}");
    assert_eq!(output.iter().filter(|line| **line == ("stderr", "err")).count(), 2, "{output:?}");
    let last = lines.last().unwrap();
    assert_eq!((&last["kind"], &last["exit_code"]), (&"final".into(), &1.into()));
    assert_eq!(last["group"]["members"][0][1]["service"]["restarts"], 1);
}

fn terminal() {
    let script = "trap 'exit 0' TERM; echo 'a\\033[2Jb'; while :; do sleep 0.05; done";
    // Says nothing: whose line comes first is nobody's business.
    let api = "trap 'exit 0' TERM; while :; do sleep 0.05; done";
    let file = service("db", script, "") + &service("api", api, "after = [\"db\"]");
    let place = Place::of(&file);
    let start = |more: &[(&str, &str)]| {
        let mut command = Command::new("setsid");
        command.args(["--ctty".as_ref(), binary().as_os_str(), "up".as_ref(), place.file().as_os_str()]);
        command.env("TERM", "xterm").env_remove("NO_COLOR").env_remove("RUST_LOG").envs(more.iter().copied());
        AtTerminal::start(command)
    };
    let mut running = start(&[]);
    running.until("  db   is to start\r\n  api  waits for db\r\n");
    // Drawn anew over the same two lines, the output above them.
    running.until("\x1b[2A\r\x1b[J\x1b[36mdb  |\x1b[0m ab\r\n");
    running.until("  db   runs\r\n  api  runs\r\n");
    running.signal(Signal::INT);
    // It may have been told before it listened.
    running.until("  db   is stopped: it has ended well\r\n  api  is stopped: it has ended ");
    assert_eq!(running.end().0, Some(0));
    let mut running = start(&[("NO_COLOR", "1")]);
    running.until("db  | ab\r\n");
    running.until("  db   runs\r\n  api  runs\r\n");
    running.signal(Signal::INT);
    assert_eq!(running.end().0, Some(0));
}

/// Relative to the file, wherever we are.
fn log() {
    let place = Place::of(&service(
        "a",
        "echo kept; exit 3",
        "log = \"log\"\nrestart = \"on-failure:1\"\nrestart-delay = \"1ms\"",
    ));
    assert_eq!(place.ran(&[]).ended(1).text(), "a | kept\na | kept\n");
    assert_eq!(ran(&["logs", place.0.path().join("log").to_str().unwrap()]).ended(0).text(), "kept\nkept\n");
}

fn refused() {
    let file = "[service.a]\ncommand = [\"true\"]\nmemory = \"64Q\"\nmemroy = 1\nafter = [\"a\"]\n[service.b]\n";
    let place = Place::of(file);
    let ran = place.ran(&[]);
    let name = place.file();
    let name = name.to_str().unwrap();
    let expected = format!(
        "orangery: {name} is refused, for 4 reasons\n\
         {name}:3:10: service.a.memory: \"64Q\" is not a size: write bytes or a number with K, M, G or T (also KiB, \
         MiB, GiB, TiB; B for bytes; 1K is 1024)\n  3 | memory = \"64Q\"\n    |          ^^^^^\n\
         {name}:4:1: service.a.memroy: there is no such key\n  4 | memroy = 1\n    | ^^^^^^\n  try: memory\n\
         {name}:5:10: service.a.after: they wait for each other: a waits for a (line 5)\n  5 | after = [\"a\"]\n    \
         |          ^^^\n  try: take one of these out\n\
         {name}:6:10: service.b: command is missing\n  6 | [service.b]\n    |          ^\n  \
         try: command = [\"sh\", \"-c\", \"...\"]\n"
    );
    assert_eq!(ran.ended(125).err, expected);
    let told: Value = serde_json::from_str(&place.ran(&["--json"]).ended(125).err).unwrap();
    let mistakes = told["error"]["mistakes"].as_array().unwrap();
    assert_eq!((mistakes.len(), &mistakes[1]["line"], &mistakes[1]["column"]), (4, &4.into(), &1.into()));
    assert_eq!((&mistakes[1]["field"], &mistakes[1]["hint"]), (&"service.a.memroy".into(), &"memory".into()));
    let broken = Place::of("[service.a\nx = ").ran(&[]);
    assert!(broken.ended(125).err.contains("up.toml:1:11: unclosed table"), "{broken:?}");
    let long = Place::of(&"#".repeat((1 << 20) + 1)).ran(&[]);
    assert!(long.ended(125).err.contains("longer than 1024 KiB"), "{long:?}");
    std::fs::write(place.file(), b"a = \"\xff\"").unwrap();
    assert!(place.ran(&[]).ended(125).err.contains("byte 5 is no UTF-8"));
    let none = ran_up("/no/such/file");
    assert!(none.ended(125).err.contains("No such file") && none.err.contains("in FILE"), "{none:?}");
}

fn ran_up(file: &str) -> Ran {
    ran(&["up", file])
}

fn machine() {
    let file = service("a", "true", "workdir = \"relative\"\nhostname = \"a b\"")
        + &service("b", "true", "rootfs = \"no-such-root\"");
    let ran = Place::of(&file).ran(&["--check"]);
    let err = &ran.ended(125).err;
    for part in ["up.toml:3:11: service.a.workdir: ", "up.toml:4:12: service.a.hostname: ", ":7:10: service.b.rootfs: "]
    {
        assert!(err.contains(part), "{part} is missing in {err}");
    }
    let ran = Place::of(&service("a", "true", "env = [\"NOT_SET_ANYWHERE\"]")).ran(&[]);
    assert!(ran.ended(125).err.contains("up.toml:3:7: service.a.env: NOT_SET_ANYWHERE"), "{ran:?}");
}

fn checked() {
    let place = Place::of(&service("a", "touch /made", "mount = [\"type=bind,src=.,dst=/x\"]"));
    let ran = place.ran(&["--check"]);
    assert!(ran.ended(0).text().ends_with("up.toml: nothing is wrong; 1 service: a\n"), "{ran:?}");
    assert_eq!((ran.err.as_str(), std::fs::read_dir(place.0.path()).unwrap().count()), ("", 1));
}

fn not_started() {
    let file = service("a", WAITS, LISTENS) + "[service.b]\ncommand = [\"no-such-command\"]\nafter = [\"a\"]\n";
    let ran = Place::of(&file).ran(&[]);
    assert!(ran.ended(127).err.contains("no-such-command") && ran.text().ends_with("a | bye\n"), "{ran:?}");
}

fn nothing_is_left() {
    for signals in [&[Signal::INT][..], &[Signal::INT, Signal::TERM], &[Signal::KILL]] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let inner = "[group.g.service.b]\nrestart = \"always\"\ncommand = [\"sh\", \"-c\", \"sleep 60 & sleep 60\"]\n";
        let first = service("a", "sleep 60 & echo up; exec sleep 60", "after = [\"g\"]\nrestart = \"always\"");
        let place = Place::of(&(first + inner));
        let running = Running::of(place.command(&["--state-dir", state.to_str().unwrap()]), "a   | up");
        let stock = Stock::take(running.pid(), &state);
        signals.iter().for_each(|signal| running.signal(*signal));
        running.end();
        stock.gone();
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "{signals:?}: state is left");
    }
}

fn example() {
    let place = Place::of(include_str!("../../../examples/up.toml"));
    let mut running = Running::of(place.command(&[]), "db            | ready for queries");
    let mut seen = std::collections::BTreeSet::new();
    while !["migrate", "api", "workers.mail", "workers.clean"].iter().all(|name| seen.contains(*name)) {
        seen.insert(running.said().split(' ').next().unwrap().to_owned());
    }
    running.signal(Signal::INT);
    let ran = running.end();
    assert!(ran.ended(0).text().ends_with("db            | bye\n"), "{ran:?}");
}

fn schema() {
    let published: Value = serde_json::from_str(include_str!("../../../contrib/up.schema.json")).unwrap();
    assert_eq!(ran(&["schema"]).ended(0).json(), published, "cargo run -- schema > contrib/up.schema.json");
}
