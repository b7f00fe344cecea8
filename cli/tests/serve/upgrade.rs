//! A daemon that is replaced while it serves: nobody is turned away, no line is missing, no container is made twice.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::process::Signal;
use serde_json::json;

use crate::daemon::{Daemon, PATIENCE, binary};
use crate::strangers::no_root;
use crate::{Test, always, needs};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("a_new_program_goes_on_in_the_same_process", same_process),
        always("a_program_that_cannot_take_over_is_not_run", broken),
        always("another_process_takes_over", other_process),
        always("who_cannot_take_over_does_not", not_taken),
        needs("another_user_cannot_take_over", no_root(), stranger),
    ]
}

/// A daemon whose program lies in its directory, and what it says of itself.
fn start() -> (Daemon, UnixDatagram) {
    let dir = tempfile::tempdir().unwrap();
    let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let program = dir.path().join("orangery");
    symlink(binary(), &program).unwrap();
    let mut command = Command::new(program);
    command.arg("serve").arg("--state").arg(dir.path().join("state"));
    command.arg("--socket").arg(dir.path().join("own/socket"));
    command.env("NOTIFY_SOCKET", dir.path().join("notify")).env_remove("ORANGERY_SOCKET").env_remove("WATCHDOG_USEC");
    let daemon = Daemon::of_any(command.stdin(Stdio::null()), dir);
    assert_eq!(said(&notify), "READY=1");
    (daemon, notify)
}

fn said(notify: &UnixDatagram) -> String {
    let mut text = [0; 1024];
    let length = notify.recv(&mut text).unwrap();
    String::from_utf8_lossy(&text[..length]).into_owned()
}

/// The next one is asked for; what is said when that is over.
fn replaced(daemon: &Daemon, notify: &UnixDatagram) -> String {
    daemon.signal(Signal::USR2);
    let begun = said(notify);
    assert!(begun.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{begun}");
    std::iter::from_fn(|| Some(said(notify))).find(|text| text.starts_with("READY=1")).unwrap()
}

/// Since when which process serves.
fn incarnation(daemon: &Daemon) -> (u64, u64) {
    let health = daemon.get("/v1/health").json(200);
    (health["pid"].as_u64().unwrap(), health["started_at_ms"].as_u64().unwrap())
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

/// What each of its threads says of signals (proc_pid_status(5)).
fn masks(daemon: &Daemon, of: &str) -> Vec<u64> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    // One that has ended meanwhile says nothing.
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let mask = |status: String| status.lines().find_map(|line| Some(line.strip_prefix(of)?.trim().to_owned()));
    status.filter_map(mask).map(|mask| u64::from_str_radix(&mask, 16).unwrap()).collect()
}

/// Another thread that heard of a signal would keep it from the next program.
fn one_hears(daemon: &Daemon) {
    for signal in [Signal::INT, Signal::TERM, Signal::USR2] {
        let hearing = masks(daemon, "SigBlk:").into_iter().filter(|mask| mask & bit(signal) == 0).count();
        assert!(hearing <= 1, "{signal:?} comes to {hearing} threads");
    }
}

/// Writes numbered lines as fast as it can, fewer than a log keeps, until it is told to end with 7.
const WRITER: &str = r#"trap 'exit 7' TERM; i=0; while [ $i -lt 2000000 ]; do i=$((i+1)); echo "line $i"; done
                        while :; do sleep 0.05; done"#;

/// Who reads all that it writes, to its end.
fn follow(socket: &Path, name: &str) -> JoinHandle<String> {
    let mut command = Command::new(binary());
    command.args(["logs", "--follow", name, "--socket"]).arg(socket).env_remove("ORANGERY_SOCKET");
    let mut reader = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::spawn(move || {
        let mut read = String::new();
        reader.stdout.take().unwrap().read_to_string(&mut read).unwrap();
        assert!(reader.wait().unwrap().success());
        read
    })
}

/// One request; the connection is made, whatever happens. `None`: it was not answered.
fn asked(socket: &Path, request: &str) -> Option<u16> {
    let mut stream = UnixStream::connect(socket).expect("a client is turned away");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// Containers are made, one after the other, until it is over; their number.
fn make_many(socket: &Path, over: &AtomicBool) -> usize {
    let (mut made, mut answered) = (0, true);
    // One that was not answered may have been made: it counts when it is known.
    while !answered || !over.load(Ordering::Acquire) {
        let body = json!({ "name": format!("m{made}"), "spec": { "command": ["sleep", "1000"] } }).to_string();
        let (key, length) = (made, body.len());
        let request = format!(
            "POST /v1/containers HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIdempotency-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        // Finished, or refused because the daemon goes, or cut: the same again makes it once.
        let status = asked(socket, &request);
        answered = status == Some(201);
        match status {
            Some(201) => made += 1,
            None | Some(503) => {}
            Some(other) => panic!("{other}"),
        }
    }
    made
}

/// Somebody connects all the time.
fn look_often(socket: &Path, over: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        let status = asked(socket, "GET /v1/containers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(matches!(status, Some(200) | None), "{status:?}");
    }
}

/// What was read are all lines that were written, each once.
fn whole(daemon: &Daemon, name: &str, reader: JoinHandle<String>) {
    daemon.ask("POST", &format!("/v1/containers/{name}/kill"), r#"{"signal":"TERM"}"#).done();
    assert_eq!(daemon.exit(name)["exit_code"], 7);
    let read = reader.join().unwrap();
    let written = daemon.get(&format!("/v1/containers/{name}/output?follow=false")).body().unwrap();
    let wrong = read.lines().zip(1_u64..).find(|(line, number)| *line != format!("line {number}"));
    assert_eq!(wrong, None);
    assert_eq!(read.len(), written.len());
}

fn same_process() {
    let (daemon, notify) = start();
    daemon.sh("w", WRITER).json(201);
    let (socket, over) = (daemon.socket(), AtomicBool::new(false));
    let reader = follow(&socket, "w");
    let made = std::thread::scope(|scope| {
        let maker = scope.spawn(|| make_many(&socket, &over));
        let looker = scope.spawn(|| look_often(&socket, &over));
        let mut last = incarnation(&daemon);
        one_hears(&daemon);
        for _ in 0..3 {
            assert_eq!(replaced(&daemon, &notify), "READY=1");
            let next = incarnation(&daemon);
            assert_eq!(next.0, last.0);
            one_hears(&daemon);
            assert_ne!(next.1, last.1, "it is the same program");
            last = next;
        }
        over.store(true, Ordering::Release);
        looker.join().unwrap();
        maker.join().unwrap()
    });
    whole(&daemon, "w", reader);
    let all = daemon.get("/v1/containers?state=running").json(200);
    assert_eq!(all["containers"].as_array().unwrap().len(), made);
    daemon.end();
}

fn broken() {
    let (daemon, notify) = start();
    daemon.sh("a", "exec sleep 1000").json(201);
    let (before, program) = (incarnation(&daemon), daemon.dir.path().join("orangery"));
    let put = |text: &str| {
        let new = daemon.dir.path().join("new");
        // By a process of its own: a child of another trial, not yet at its exec, would hold a file of ours open for writing.
        let script = r#"printf %s "$1" >"$2" && chmod 755 "$2""#;
        let written = Command::new("sh").args(["-c", script, "sh", text]).arg(&new).status().unwrap();
        assert!(written.success());
        fs::rename(&new, &program).unwrap();
    };
    for (text, what) in [
        ("", "cannot be run"),
        ("#!/bin/sh\necho cannot load libx >&2; exit 127\n", "cannot load libx"),
        ("#!/bin/sh\necho '{\"schema\":1,\"version\":\"9.9\",\"keeper\":9999}'\n", "speaks version 9999"),
    ] {
        put(text);
        let said = replaced(&daemon, &notify);
        assert!(said.starts_with("READY=1\nSTATUS=not replaced: ") && said.contains(what), "{said}");
        assert_eq!(incarnation(&daemon), before);
    }
    // It says that it can, and is gone when it is to be run: this one has left by then, and goes on as it was.
    put(&format!("#!/bin/sh\nrm \"$0\"\nexec '{}' \"$@\"\n", binary().display()));
    assert_eq!(replaced(&daemon, &notify), "READY=1");
    let after = incarnation(&daemon);
    assert!(after.0 == before.0 && after.1 != before.1, "{before:?} {after:?}");
    let ignored = masks(&daemon, "SigIgn:");
    assert!(ignored.iter().all(|mask| mask & bit(Signal::PIPE) != 0), "a pipe that nobody reads would end it");
    assert!(replaced(&daemon, &notify).contains("cannot be run"));
    symlink(binary(), &program).unwrap();
    assert_eq!(replaced(&daemon, &notify), "READY=1");
    assert_ne!(incarnation(&daemon), after);
    assert_eq!(daemon.get("/v1/containers/a").json(200)["state"], "running");
    daemon.end();
}

/// What another one is started with, to go on in its place.
fn takeover(daemon: &Daemon) -> Command {
    let mut command = Command::new(binary());
    command.arg("serve").arg("--takeover").arg("--state").arg(daemon.state());
    command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET").env_remove("ORANGERY_SOCKET").stdin(Stdio::null());
    command
}

fn other_process() {
    // Nobody is there: it starts.
    let mut daemon = Daemon::start_with(&["--takeover"]);
    daemon.sh("w", WRITER).json(201);
    let (socket, over) = (daemon.socket(), AtomicBool::new(false));
    let reader = follow(&socket, "w");
    let (made, daemon) = std::thread::scope(|scope| {
        let maker = scope.spawn(|| make_many(&socket, &over));
        let looker = scope.spawn(|| look_often(&socket, &over));
        for _ in 0..3 {
            let mut next = takeover(&daemon);
            daemon = daemon.succeeded(&mut next);
            assert_eq!(incarnation(&daemon).0, u64::from(daemon.pid()));
        }
        over.store(true, Ordering::Release);
        looker.join().unwrap();
        (maker.join().unwrap(), daemon)
    });
    whole(&daemon, "w", reader);
    let all = daemon.get("/v1/containers?state=running").json(200);
    assert_eq!(all["containers"].as_array().unwrap().len(), made);
    daemon.end();
}

/// What one says that does not take over.
fn failed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    String::from_utf8(output.stderr).unwrap()
}

fn not_taken() {
    let daemon = Daemon::start();
    daemon.sh("a", "exec sleep 1000").json(201);
    let before = incarnation(&daemon);
    let mut plain = Command::new(binary());
    plain.arg("serve").arg("--state").arg(daemon.state()).arg("--socket").arg(daemon.dir.path().join("other/socket"));
    let said = failed(&mut plain);
    assert!(said.contains("supervises what is in") && said.contains("--takeover"), "{said}");
    let said = failed(takeover(&daemon).arg("--socket").arg(daemon.dir.path().join("other/socket")));
    assert!(said.contains("taken over with its socket"), "{said}");
    // Of another protocol, and what is none at all.
    for (said, why) in
        [("{\"schema\":1,\"version\":\"9.9\",\"keeper\":9999}\n", "speaks version 9999"), ("x\n", "able to")]
    {
        let mut asked = UnixStream::connect(daemon.state().join("handover")).unwrap();
        asked.write_all(said.as_bytes()).unwrap();
        let mut answer = String::new();
        asked.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("refused") && answer.contains(why), "{answer}");
    }
    // Who dies before it has taken anything, in whatever it is.
    let able = able(&daemon);
    for said in ["", "{\"sch", &able, &format!("{able}tak")] {
        let mut asked = UnixStream::connect(daemon.state().join("handover")).unwrap();
        asked.write_all(said.as_bytes()).unwrap();
    }
    assert_eq!(incarnation(&daemon), before);
    goes_half_way(&daemon);
    assert_eq!(daemon.get("/v1/containers/a").json(200)["state"], "running");
    daemon.end();
    // One that is kept by systemd.
    let (daemon, _notify) = start();
    let said = failed(&mut takeover(&daemon));
    assert!(said.contains("systemctl reload"), "{said}");
    daemon.end();
}

/// What this program says of itself.
fn able(daemon: &Daemon) -> String {
    let output = Command::new(binary()).args(["serve", "--check", "--state"]).arg(daemon.state()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// It has left, and who was to go on goes: it goes on itself.
fn goes_half_way(daemon: &Daemon) {
    let before = incarnation(daemon);
    let mut successor = UnixStream::connect(daemon.state().join("handover")).unwrap();
    successor.write_all(format!("{}take\n", able(daemon)).as_bytes()).unwrap();
    let mut said = [0; 1024];
    while !String::from_utf8_lossy(&said).contains("left\n") {
        let read = successor.read(&mut said).unwrap();
        assert_ne!(read, 0, "it has not left");
    }
    drop(successor);
    let after = incarnation(daemon);
    assert_eq!(after.0, before.0);
    assert_ne!(after.1, before.1);
}

fn stranger() {
    let daemon = Daemon::start();
    let before = incarnation(&daemon);
    for (path, mode) in
        [(daemon.dir.path().to_owned(), 0o755), (daemon.state(), 0o755), (daemon.state().join("handover"), 0o666)]
    {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let door = daemon.state().join("handover");
    // In a thread of another user: the kernel says who connects.
    let asked = std::thread::spawn(move || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(1001)).unwrap();
        let mut said = String::new();
        UnixStream::connect(door).unwrap().read_to_string(&mut said).unwrap();
        said
    });
    let said = asked.join().unwrap();
    assert!(said.contains("\"refused\":\"user 1001 is not this daemon's\""), "{said}");
    assert_eq!(incarnation(&daemon), before);
    fs::set_permissions(daemon.state(), Permissions::from_mode(0o700)).unwrap();
    daemon.end();
}
