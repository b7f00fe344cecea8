//! The example services as their clients meet them: a real server on the loopback interface, spoken to byte by byte.
//! Trials of the kit; the example programs are those that `cargo test` has built beside this one.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

mod client;
#[cfg(feature = "actix-web")]
mod logs;
mod programs;
mod server;

use std::process::ExitCode;

use orangery_tests::{Scene, trial, wait};

use client::Response;
use server::Server;

fn main() -> ExitCode {
    let mut trials = vec![trial!(axum_streams), trial!(axum_refuses), trial!(axum_hang_up)];
    if cfg!(feature = "actix-web") {
        trials.extend([trial!(actix_streams), trial!(actix_refuses), trial!(actix_hang_up)]);
    }
    trials.push(trial!(answers_from_a_pool));
    trials.extend(programs::trials());
    #[cfg(feature = "actix-web")]
    trials.extend(logs::trials());
    orangery_tests::main(&trials)
}

fn axum_streams(_: &Scene) {
    streams("run_code_axum");
}

fn actix_streams(_: &Scene) {
    streams("run_code_actix");
}

fn axum_refuses(_: &Scene) {
    refuses("run_code_axum", 2 << 20);
}

fn actix_refuses(_: &Scene) {
    refuses("run_code_actix", 256 << 10);
}

fn axum_hang_up(_: &Scene) {
    hang_up("run_code_axum");
}

fn actix_hang_up(_: &Scene) {
    hang_up("run_code_actix");
}

/// What the script wrote, byte for byte, and the report as the last line; two clients at once get their own.
fn streams(example: &str) {
    let server = Server::start(example);
    let numbers: String = (0..10_000).map(|n| format!("{n}\n")).collect();
    let script = "i=0; while [ $i -lt 10000 ]; do echo $i; i=$((i+1)); done; exit 3";
    let long = server.post("/", script);
    let short = server.post("/", "printf 'a\\0b\\377'; echo").whole();
    assert!(short.starts_with(b"a\0b\xff\n{"), "{short:?}");
    assert_eq!(long.status(), 200);
    let body = String::from_utf8(long.whole()).unwrap();
    let report = body.strip_prefix(&numbers).expect("the numbers, then the report");
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    assert_eq!((&report["exit"]["code"], &report["stdout"]["bytes"]), (&3.into(), &numbers.len().into()));
    let limited = server.post("/?seconds=1", "while :; do :; done").whole();
    let report: serde_json::Value = serde_json::from_slice(&limited).unwrap();
    assert_eq!(report["cause"]["limit"], "wall");
    server.end();
}

/// Wrong input is the client's fault, and the server goes on. `most`: the framework's own limit of a body.
fn refuses(example: &str, most: usize) {
    let server = Server::start(example);
    let zero = server.post("/?seconds=0", "true");
    assert_eq!(zero.status(), 422);
    let why = String::from_utf8(zero.whole()).unwrap();
    assert!(why.contains("wall"), "{why}");
    for (status, response) in [
        (400, server.post("/?seconds=soon", "true")),
        (404, server.post("/elsewhere", "true")),
        (405, server.ask("GET", "/", b"")),
        (413, server.ask("POST", "/", &vec![b'#'; most + 1])),
        (400, server.raw(b"nonsense\r\n\r\n")),
    ] {
        assert_eq!(response.status(), status, "{}", String::from_utf8_lossy(&response.whole()));
    }
    assert_eq!(server.containers().len(), 0);
    assert!(server.post("/", "echo on").whole().starts_with(b"on\n"));
    server.end();
}

/// Mid-stream, with a script that says nothing more: its processes and its cgroups go, and nobody else's.
fn hang_up(example: &str) {
    let server = Server::start(example);
    // Nothing is forked after the line: what is there then is all.
    let script = "(setsid sleep 1000 &); sleep 1000 & echo started; wait";
    let mut stays = server.post("/", script);
    assert_eq!(stays.line(), b"started\n");
    let others = server.containers();
    let mut leaves = server.post("/", script);
    // It is there before the end: the output is streamed.
    assert_eq!(leaves.line(), b"started\n");
    let gone: Vec<_> =
        server.containers().into_iter().filter(|one| !others.iter().any(|other| other.is(one))).collect();
    assert!(gone.len() >= 4, "stub, shell, two sleeps: {gone:?}");
    drop(leaves);
    for process in &gone {
        process.gone();
    }
    assert!(others.iter().all(server::Process::alive), "the other client's container is untouched");
    assert!(server.post("/", "echo on").whole().starts_with(b"on\n"));
    drop::<Response>(stays);
    for process in &others {
        process.gone();
    }
    assert!(wait::readable(server.end(), wait::PATIENCE));
}

/// Each request from a sandbox of its own, which was there before; what they leave and what becomes of those who hang up.
fn answers_from_a_pool(_: &Scene) {
    let server = Server::start("pool");
    let figures = || serde_json::from_slice::<serde_json::Value>(&server.ask("GET", "/figures", b"").whole()).unwrap();
    assert_eq!(figures()["pool"]["idle"], 4);
    for _ in 0..6 {
        assert_eq!(server.post("/", "ls /tmp | wc -l; touch /tmp/mine").whole(), b"0\n");
    }
    let failed = String::from_utf8(server.post("/", "echo no; exit 3").whole()).unwrap();
    assert!(failed.starts_with("no\n") && failed.contains("Code(3)"), "{failed}");
    let flood = server.post("/", "yes").whole();
    assert!(flood.len() > 1 << 20 && flood.ends_with(b"Limit(Output)\n"));
    // Who hangs up takes the sandbox along.
    let script = b"sleep 1000";
    let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", script.len());
    let waits = server.ask_only(&[head.as_bytes(), script].concat());
    let leased = |count: u64| while figures()["pool"]["leased"] != count {};
    leased(1);
    drop(waits);
    leased(0);
    let figures = figures();
    assert_eq!(figures["pool"]["leases"], 9);
    assert!(figures["take_us"]["p50"].as_u64().is_some(), "{figures}");
    server.end();
}
