//! A daemon of our own, on a socket in a temporary state directory: every command as its users meet it, and nothing left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use super::Place;
use super::proxy::Proxy;
use crate::kit::{Ran, Running, fed, orangery};
use crate::stock::Stock;
use crate::tty::AtTerminal;
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("a_container_of_a_daemon_from_run_to_rm", a_life),
        always("further_commands_in_a_container_of_a_daemon", further),
        always("a_container_of_a_daemon_is_held_changed_and_killed", held),
        always("what_a_daemon_refuses_is_named", refused),
        always("a_shell_of_a_daemon_is_left_and_come_back_to", shell),
        always("services_of_a_daemon_from_up_to_down", services),
        always("what_is_followed_is_byte_exact_over_any_cuts", cuts),
        always("logs_are_followed_through_a_daemon_that_is_killed", killed),
    ]
}

/// One that runs.
struct Daemon {
    place: Place,
    /// `None` when it was ended.
    running: Option<Running>,
    state: PathBuf,
}

impl Drop for Daemon {
    /// Of a trial that has failed: what it ran goes on with its keeper, until that is ended by hand.
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.signal(Signal::KILL);
        }
    }
}

impl Daemon {
    fn start() -> Self {
        let place = Place::new();
        let state = place.socket().with_file_name("state");
        let running = Some(serve(&place, &state));
        Self { place, running, state }
    }

    /// Killed, as anything may be at any moment; and started again.
    fn killed(&mut self) {
        let running = self.running.take().unwrap();
        running.signal(Signal::KILL);
        assert_eq!(running.end().code, None);
        self.running = Some(serve(&self.place, &self.state));
    }

    fn ran(&self, args: &[&str]) -> Ran {
        self.place.ran(args)
    }

    /// It does what it should, and says this.
    #[track_caller]
    fn says(&self, args: &[&str], text: &str) {
        assert_eq!(self.ran(args).ended(0).text(), text, "{args:?}");
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let mut line = vec![args[0], "--json"];
        line.extend(&args[1..]);
        self.ran(&line).ended(0).json()
    }

    fn fed(&self, args: &[&str], input: &[u8]) -> Ran {
        let line = self.place.line(args);
        fed(&line.iter().map(String::as_str).collect::<Vec<_>>(), input)
    }

    /// Everything is taken away, and then it ends, and with it everything of its.
    #[track_caller]
    fn end(mut self) {
        let left = self.ran(&["ps", "--all", "--quiet"]).ended(0).text().to_owned();
        for name in left.lines() {
            self.ran(&["rm", "--force", name]).ended(0);
        }
        let running = self.running.take().unwrap();
        let stock = Stock::of(running.pid(), &self.state);
        running.signal(Signal::TERM);
        running.end().ended(0);
        stock.gone();
        assert!(!self.place.socket().exists(), "its socket is left");
    }
}

fn serve(place: &Place, state: &Path) -> Running {
    let mut command = orangery(&[]);
    command.args(place.line(&["serve", "--state", state.to_str().unwrap()]));
    Running::of(command, &format!("listening at {}", place.socket().display()))
}

fn a_life() {
    let daemon = Daemon::start();
    daemon.says(&["ps", "--quiet"], "");
    let script = "echo out; echo err >&2; read line; echo got $line; exit 3";
    daemon.says(&["run", "--detach", "-i", "--name", "a", "--label", "team=x", "--", "sh", "-c", script], "a\n");
    let table = daemon.ran(&["ps"]).ended(0).text().to_owned();
    assert!(table.starts_with("NAME") && table.contains("\na     running"), "{table}");
    assert_eq!(daemon.json(&["ps", "--label", "team=x"])["containers"][0]["name"], "a");
    daemon.says(&["ps", "--quiet", "--label", "team=y"], "");
    assert_eq!(daemon.json(&["inspect", "a"])["labels"]["team"], "x");
    daemon.ran(&["wait", "--timeout", "0s", "a"]).ended(124);
    let ran = daemon.fed(&["attach", "-i", "--history", "all", "a"], b"line\n");
    assert_eq!((ran.ended(3).text(), ran.err.as_str()), ("out\ngot line\n", "err\n"));
    daemon.ran(&["wait", "a"]).ended(3);
    let waited = daemon.ran(&["wait", "--json", "a"]);
    assert_eq!(waited.ended(3).json()["exit"]["exit"]["code"], 3);
    daemon.says(&["ps", "--quiet"], "");
    daemon.says(&["ps", "--quiet", "--state", "exited"], "a\n");
    assert!(daemon.ran(&["ps", "--all"]).ended(0).text().contains("exited (3)"));
    let logs = daemon.ran(&["logs", "a"]);
    assert_eq!((logs.ended(0).text(), logs.err.as_str()), ("out\ngot line\n", "err\n"));
    daemon.says(&["logs", "--follow", "--stream", "stdout", "--tail", "1", "a"], "got line\n");
    daemon.says(&["logs", "--stream", "stdout", "--from", "4", "--format", "lines", "a"], "got line\n");
    let lines = daemon.ran(&["logs", "--json", "a"]);
    let lines: Vec<Value> = lines.ended(0).text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["text"] == "got line" && line["time"].is_string()), "{lines:?}");
    // It has ended: there is nothing to be at, and its exit is still told.
    daemon.ran(&["attach", "a"]).ended(3);
    let kinds = daemon.ran(&["events", "--no-follow", "--json", "--container", "a", "--kind", "process_exited"]);
    assert_eq!(kinds.ended(0).text().lines().count(), 1, "{kinds:?}");
    daemon.says(&["rm", "a"], "a\n");
    daemon.says(&["ps", "--all", "--quiet"], "");
    daemon.end();
}

fn further() {
    let daemon = Daemon::start();
    daemon.says(&["run", "--detach", "--name", "a", "--", "sleep", "1000"], "a\n");
    let ran =
        daemon.ran(&["exec", "-e", "A=b", "-w", "/tmp", "a", "--", "sh", "-c", "echo $A; pwd; echo err >&2; exit 7"]);
    assert_eq!((ran.ended(7).text(), ran.err.as_str()), ("b\n/tmp\n", "err\n"));
    daemon.ran(&["exec", "a", "sh", "-c", "kill -9 $$"]).ended(137);
    daemon.ran(&["exec", "a", "no-such-command"]).ended(127);
    daemon.ran(&["exec", "a", "/etc/passwd"]).ended(126);
    daemon.ran(&["exec", "--timeout", "100ms", "a", "sleep", "1000"]).ended(124);
    // More than every buffer on the way, both ways.
    let input: Vec<u8> = (0..3_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let ran = daemon.fed(&["exec", "-i", "a", "cat"], &input);
    assert!(ran.ended(0).out == input, "{} bytes of {}", ran.out.len(), input.len());
    // One that does not read its input is not waited for.
    daemon.fed(&["exec", "-i", "a", "true"], &input).ended(0);
    let number = daemon.ran(&["exec", "--detach", "a", "sleep", "1000"]);
    assert!(number.ended(0).text().trim().parse::<u32>().unwrap() > 0);
    // A signal of ours is the command's; a second INT kills it.
    let mut command = orangery(&[]);
    command.args(daemon.place.line(&[
        "exec",
        "a",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done",
    ]));
    let running = Running::of(command, "ready");
    running.signal(Signal::TERM);
    running.end().ended(9);
    // Nobody reads it: as in a pipe.
    let mut command = orangery(&[]);
    command.args(daemon.place.line(&["exec", "a", "yes"])).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(141));
    daemon.end();
}

fn held() {
    let daemon = Daemon::start();
    daemon.says(&["run", "--detach", "--name", "a", "--", "sh", "-c", "while :; do sleep 0.1; done"], "a\n");
    daemon.says(&["run", "--detach", "--name", "b", "--", "sleep", "1000"], "b\n");
    daemon.says(&["pause", "--how", "stop", "a"], "a\n");
    assert_eq!(daemon.json(&["inspect", "a"])["state"], "paused");
    daemon.says(&["resume", "a"], "a\n");
    daemon.says(&["update", "--timeout", "1h", "--property", "owner=ann", "a"], "a\n");
    assert_eq!(daemon.json(&["inspect", "a"])["properties"]["owner"], "ann");
    daemon.says(&["update", "--property", "owner=", "a"], "a\n");
    assert_eq!(daemon.json(&["inspect", "a"])["properties"], serde_json::json!({}));
    assert!(daemon.json(&["stats", "a"]).is_object());
    assert!(daemon.ran(&["stats", "a"]).ended(0).text().contains("MEMORY"));
    daemon.says(&["stop", "a", "b"], "a\nb\n");
    daemon.ran(&["wait", "a"]).ended(143);
    daemon.says(&["start", "b"], "b\n");
    assert_eq!(daemon.json(&["inspect", "b"])["state"], "running");
    daemon.says(&["kill", "b"], "b\n");
    daemon.ran(&["wait", "b"]).ended(137);
    assert!(daemon.ran(&["ps", "--all"]).ended(0).text().contains("exited (KILL)"));
    daemon.says(&["rm", "a", "b"], "a\nb\n");
    daemon.end();
}

fn detached<'a>(options: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--detach"], options].concat()
}

fn refused() {
    let daemon = Daemon::start();
    daemon.says(&["run", "--detach", "--name", "a", "--", "sleep", "1000"], "a\n");
    for (args, code, part) in [
        (detached(&["--name", "a", "true"]), 125, "a"),
        (detached(&["--name", "../x", "true"]), 125, "--name"),
        (detached(&["--rootfs", "/no/such/root", "true"]), 125, "--rootfs"),
        (detached(&["--hostname", "a b", "true"]), 125, "--hostname"),
        (detached(&["no-such-command"]), 127, "no-such-command"),
        (detached(&["/etc/passwd"]), 126, "/etc/passwd"),
        (vec!["rm", "a"], 125, "--force"),
        (vec!["rm", "no-such"], 125, "ps --all"),
        (vec!["inspect", "a", "no-such"], 125, "no-such"),
        (vec!["logs", "no-such"], 125, "no-such"),
        (vec!["wait", "no-such"], 125, "no-such"),
        (vec!["attach", "-i", "a"], 125, "run --detach -i"),
        (vec!["exec", "no-such", "true"], 125, "no-such"),
        (vec!["exec", "--user", "nobody-here", "a", "true"], 125, "nobody-here"),
        (vec!["update", "--memory", "1K", "a"], 125, "memory"),
        (vec!["stats", "no-such"], 125, "no-such"),
        (vec!["down", "no-such"], 125, "no-such"),
        (vec!["events", "--container", "a b", "--no-follow"], 0, ""),
    ] {
        let ran = daemon.ran(&args);
        assert!(ran.ended(code).err.contains(part), "{args:?}: {part} is missing in\n{ran:?}");
    }
    daemon.end();
}

/// A terminal at the client, and one in the container, with a daemon between.
fn shell() {
    let daemon = Daemon::start();
    let at = |args: &[&str]| {
        let line = daemon.place.line(args);
        AtTerminal::run(&line.iter().map(String::as_str).collect::<Vec<_>>())
    };
    daemon.says(&["run", "--detach", "-it", "--name", "a", "--", "sh"], "a\n");
    let mut terminal = at(&["attach", "-i", "a"]);
    terminal.type_in("stty size; n=7; echo re''ady\r");
    assert!(terminal.until("ready\r\n").contains("33 101"), "its window is ours");
    assert!(terminal.is_raw());
    terminal.type_in("\u{10}\u{11}");
    terminal.until("detached");
    assert_eq!(terminal.end().0, Some(0));
    let mut terminal = at(&["attach", "-i", "a"]);
    terminal.type_in("echo still $n\r");
    // Its prompt too: what is typed before that is shown in front of it.
    terminal.until("still 7\r\n# ");
    // Something reads, is interrupted by a key, and the shell reads again.
    terminal.type_in("cat\rhere\r");
    terminal.until("here\r\nhere\r\n");
    terminal.type_in("\u{3}");
    terminal.until("# ");
    terminal.type_in("exit 4\r");
    assert_eq!(terminal.end().0, Some(4));
    daemon.says(&["start", "a"], "a\n");
    let mut terminal = at(&[
        "exec",
        "-it",
        "a",
        "--",
        "sh",
        "-c",
        "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.1; done",
    ]);
    terminal.until("ready");
    terminal.resize(20, 70);
    terminal.until("20 70");
    assert_eq!(terminal.end().0, Some(5));
    daemon.end();
}

fn services() {
    let daemon = Daemon::start();
    let file = daemon.place.socket().with_file_name("shop.toml");
    let text = "[service.db]\ncommand = ['sh', '-c', 'echo up; exec sleep 1000']\nready-line = 'up'\nrestart = 'always'\n\
                [service.api]\ncommand = ['sh', '-c', 'echo $PORT; exec sleep 1000']\nafter = ['db']\nenv = { PORT = 8080 }\nready-line = '8080'\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let names = daemon.ran(&["up", "--detach", file]);
    let mut names: Vec<&str> = names.ended(0).text().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["shop.api", "shop.db"]);
    daemon.says(&["ps", "--quiet", "shop."], "shop.api\nshop.db\n");
    daemon.ran(&["wait", "--ready", "shop.db"]).ended(0);
    daemon.ran(&["wait", "--ready", "shop.api"]).ended(0);
    daemon.says(&["logs", "shop.api"], "8080\n");
    assert!(daemon.ran(&["up", "--detach", file]).ended(125).err.contains("shop"));
    daemon.says(&["down", "shop"], "shop\n");
    daemon.says(&["ps", "--all", "--quiet"], "");
    std::fs::write(file, "[service.db]\ncommand = ['true']\nmemry = '1M'\n").unwrap();
    assert!(daemon.ran(&["up", "--detach", file]).ended(125).err.contains("memry"));
    daemon.end();
}

/// Behind a proxy that cuts each answer after some bytes: of what is followed nothing is missing, and nothing comes twice.
fn cuts() {
    const LINES: usize = 20_000;
    let daemon = Daemon::start();
    let script = format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; exit 6");
    let expected: String = (0..LINES).map(|number| format!("line {number}\n")).collect();
    daemon.says(&["run", "--detach", "--name", "a", "--", "sh", "-c", &script], "a\n");
    let run = |args: &[&str], socket: &Path| -> Ran {
        let mut command: Command = orangery(args);
        command.env("ORANGERY_SOCKET", socket).output().unwrap().into()
    };
    // Sizes that are no power of anything: cuts in heads, in events, in frames, between them.
    let proxy = Proxy::start(&daemon.place.socket(), 4_001);
    let ran = run(&["logs", "--follow", "a"], proxy.socket());
    assert!(ran.ended(0).text() == expected, "{} bytes of {}", ran.out.len(), expected.len());
    assert!(proxy.end() > 20, "it was hardly cut");
    daemon.says(&["run", "--detach", "--name", "b", "--", "sh", "-c", "seq 100000; exit 7"], "b\n");
    // A frame is 64 KiB at most: one that never comes whole would never be behind us.
    let proxy = Proxy::start(&daemon.place.socket(), 70_001);
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    let ran = run(&["attach", "--history", "all", "b"], proxy.socket());
    assert!(ran.text() == expected, "{} bytes of {}, {:?}", ran.out.len(), expected.len(), ran.err);
    ran.ended(7);
    assert!(proxy.end() > 5, "it was hardly cut");
    daemon.end();
}

/// Whether the container lives on or goes with it: what was followed is what is in its log, and nothing else.
fn killed() {
    let mut daemon = Daemon::start();
    let script = "echo ready; i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.01; done";
    daemon.says(&["run", "--detach", "--name", "a", "--", "sh", "-c", script], "a\n");
    let mut command = orangery(&[]);
    command.args(daemon.place.line(&["logs", "--follow", "a"]));
    let mut following = Running::of(command, "ready");
    for number in 0..20 {
        assert_eq!(following.said(), format!("line {number}"));
    }
    daemon.killed();
    let rest = following.end();
    let whole = daemon.ran(&["logs", "a"]).ended(0).text().to_owned();
    let seen: String = (0..20).map(|number| format!("line {number}\n")).collect();
    assert_eq!(format!("ready\n{seen}{}", rest.ended(0).text()), whole);
    daemon.end();
}
