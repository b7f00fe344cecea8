//! Clients that ask for something and then do not keep to it: who reads nothing, leaves halfway, or abuses a WebSocket. The
//! container is not held up, the daemon does not grow, and others are answered.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::attach::{Socket, open};
use crate::client::answer;
use crate::daemon::{Daemon, PATIENCE};
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("half_closed_connections_are_let_go", half_open),
        always("streams_that_nobody_reads_hold_up_nobody", unread),
        always("websockets_that_are_abused_harm_nobody_else", websockets),
        always("containers_leave_descriptors_to_clients", descriptors),
    ]
}

/// Another client is answered, and what it holds is what it held.
fn settled(daemon: &Daemon, before: usize) {
    assert_eq!(daemon.get("/v1/health").json(200)["status"], "ok");
    let until = Instant::now() + PATIENCE;
    while daemon.descriptors() > before.saturating_add(2) {
        assert!(Instant::now() < until, "{} descriptors, {before} before", daemon.descriptors());
        std::thread::yield_now();
    }
}

/// Memory of its own, KiB.
fn anonymous(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn half_open() {
    let daemon = Daemon::start();
    settled(&daemon, usize::MAX);
    let before = daemon.descriptors();
    let asks = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n";
    for sent in [&b""[..], &asks[..10], asks] {
        let mut all: Vec<UnixStream> = (0..50).map(|_| daemon.connect()).collect();
        for client in &mut all {
            let _ = client.write_all(sent);
            let _ = client.shutdown(Shutdown::Write);
        }
        // What was asked whole may be answered; then it is the daemon that closes.
        for client in &mut all {
            let mut said = Vec::new();
            let _ = client.read_to_end(&mut said);
            assert!(said.is_empty() || sent.len() == asks.len(), "{:?}", String::from_utf8_lossy(&said));
        }
        settled(&daemon, before);
    }
    // Nobody there who hears the answer.
    for _ in 0..50 {
        let mut client = daemon.connect();
        let _ = client.shutdown(Shutdown::Read);
        let _ = client.write_all(asks);
    }
    settled(&daemon, before);
    daemon.end();
}

/// Requests until it takes no more; nothing is read.
fn pushed(daemon: &Daemon, request: &[u8]) -> UnixStream {
    let mut client = daemon.connect();
    client.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    let many = request.repeat(1000);
    for _ in 0..1000 {
        match client.write_all(&many) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::BrokenPipe) =>
            {
                return client;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("a million requests were taken, and no answer");
}

fn unread() {
    let daemon = Daemon::start();
    // Its writes wait for nobody: 64 MiB, of which a pipe and its readers' sockets hold a small part.
    let flood = "read x; head -c 67108864 /dev/zero | tr '\\0' 'x'; echo; echo over >&2; exit 9";
    daemon.make("a", flood, json!({ "stdin": "keep" })).json(201);
    let (before, memory) = (daemon.descriptors(), anonymous(&daemon));
    let mut clients = Vec::new();
    for target in ["logs", "output?follow=true", "logs?from=start"].iter().cycle().take(24) {
        let mut client = daemon.connect();
        write!(client, "GET /v1/containers/a/{target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let answer = answer(client);
        assert_eq!(answer.status, 200, "{target}");
        clients.push(answer);
    }
    let pushing = pushed(&daemon, b"GET /v1/containers/a HTTP/1.1\r\nHost: x\r\n\r\n");
    let attached = open(&daemon, "/v1/containers/a/attach?stdin=true").unwrap();
    let mut attached = go(attached);
    assert_eq!(daemon.exit("a")["exit_code"], 9, "the container is not held up");
    let grown = anonymous(&daemon).saturating_sub(memory);
    assert!(grown < 32 << 10, "{grown} KiB for 25 readers that do not read");
    // Whoever reads on has all of it.
    let mut bytes = 0;
    while bytes < 67_108_864 + 6 {
        let message = attached.read().unwrap();
        if message.is_binary() {
            let frame = message.into_data();
            bytes += orangery_daemon::wire::Output::decode(&frame).unwrap().bytes.len();
        }
    }
    drop((clients, pushing, attached));
    settled(&daemon, before);
    daemon.end();
}

fn go(mut socket: Socket) -> Socket {
    socket.send(Message::binary(b"go\n".to_vec())).unwrap();
    socket
}

fn websockets() {
    let daemon = Daemon::start();
    daemon.sh("a", "exec sleep 1000").json(201);
    // Threads that may block come and go, and so do their descriptors.
    for _ in 0..3 {
        drop(open(&daemon, "/v1/containers/a/attach"));
    }
    settled(&daemon, usize::MAX);
    let (before, memory) = (daemon.descriptors() + 4, anonymous(&daemon));
    let target = "/v1/containers/a/attach";
    let masked = |first: u8, length: u64| {
        let mut head = vec![first, 0x80 | 127];
        head.extend(length.to_be_bytes());
        head.extend([0; 4]);
        head
    };
    // A frame of 2^62 bytes; one that is not masked; one of a kind that there is not; a message that is never
    // whole, in ever more parts.
    let fragment = [&masked(0x02, 1 << 19)[..], &vec![0; 1 << 19]].concat();
    let more = [&masked(0x00, 1 << 19)[..], &vec![0; 1 << 19]].concat();
    let endless: Vec<u8> =
        std::iter::once(&fragment).chain(std::iter::repeat_n(&more, 40)).flatten().copied().collect();
    // Of the first, more than a message may have is sent.
    let huge = [&masked(0x82, 1 << 62)[..], &vec![0; 64 << 20]].concat();
    for bytes in [huge, vec![0x82, 0x01, 0x00], vec![0x83, 0x80, 0, 0, 0, 0], vec![0xff; 64], endless] {
        let mut socket = open(&daemon, target).unwrap();
        let stream = socket.get_mut();
        stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        let _ = stream.write_all(&bytes);
        // It is told so, or cut.
        while !matches!(socket.read(), Err(_) | Ok(Message::Close(_))) {}
        drop(socket);
        settled(&daemon, before);
    }
    // Pings whose answers nobody reads.
    let mut pings = open(&daemon, target).unwrap();
    let stream = pings.get_mut();
    stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
    // A few MiB, and no answer is taken.
    let ping = [&[0x89, 0x80 | 125, 0, 0, 0, 0][..], &[0; 125]].concat().repeat(1000);
    let held_up = (0..1000).any(|_| stream.write_all(&ping).is_err());
    assert!(held_up, "it reads on, and keeps the answers");
    settled(&daemon, before + 8);
    let grown = anonymous(&daemon).saturating_sub(memory);
    assert!(grown < 32 << 10, "{grown} KiB for WebSockets that are gone, and one that does not read");
    drop(pings);
    settled(&daemon, before);
    assert_eq!(daemon.get("/v1/containers/a").json(200)["state"], "running");
    daemon.end();
}

/// With few descriptors: containers take what is theirs, and clients find theirs.
#[expect(clippy::disallowed_methods, reason = "another process's limit")]
fn descriptors() {
    let daemon = Daemon::start();
    // It has looked at its limit by then: it listens a moment before that.
    daemon.get("/v1/health").json(200);
    // What is left to clients, what is always kept free, and room for a few containers.
    let limit = format!("--nofile={0}:{0}", 2 * 1024 + 64 + 60);
    let lowered = std::process::Command::new("prlimit").args(["--pid", &daemon.pid().to_string(), &limit]).status();
    assert!(lowered.unwrap().success());
    let mut made = 0;
    let refused = loop {
        let answer = daemon.sh(&format!("c{made}"), "exec sleep 1000");
        match answer.status {
            201 => made += 1,
            _ => break answer.refusal(),
        }
        assert!(made < 20);
    };
    assert_eq!((refused.0, refused.1.as_str(), refused.2.as_str()), (429, "exhausted", "descriptors"));
    assert!(made >= 4, "{made} containers");
    // Many at a time, and each is answered.
    let asked = (0..100).map(|_| {
        let mut client = daemon.connect();
        client.write_all(b"GET /v1/containers/c0 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        client
    });
    let all: Vec<UnixStream> = asked.collect();
    for client in all {
        assert_eq!(answer(client).status, 200);
    }
    daemon.end();
}
