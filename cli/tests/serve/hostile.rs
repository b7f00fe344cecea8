//! Clients that mean harm: none of them costs another one its answer, and nothing of them is left.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::client::{answer, ask};
use crate::daemon::{Daemon, PATIENCE, connect};
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("garbage_harms_nobody_else", garbage),
        always("bodies_without_end_are_refused", huge),
        always("heads_and_bodies_that_do_not_come_are_given_up", slow),
        always("ten_thousand_connections_harm_nobody_else", many),
        always("streams_have_a_limit_for_each_client", streams),
    ]
}

/// Another client works.
fn works(daemon: &Daemon) {
    assert_eq!(daemon.get("/v1/health").json(200)["status"], "ok");
}

fn garbage() {
    let daemon = Daemon::start();
    works(&daemon);
    let before = daemon.descriptors();
    for bytes in [
        &b"\0\xff\xfe garbage\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/health HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/containers HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/containers HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[b'A'; 300_000],
    ] {
        let mut client = daemon.connect();
        let _ = client.write_all(bytes);
        // It is refused, or closed; never left open.
        let mut said = Vec::new();
        let _ = client.shutdown(std::net::Shutdown::Write);
        let _ = client.read_to_end(&mut said);
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&said));
        works(&daemon);
    }
    let deep = format!("{{\"spec\":{{\"a\":{}1{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(daemon.ask("POST", "/v1/containers", &deep).refusal().0, 400);
    settled(&daemon, before);
    daemon.end();
}

fn huge() {
    let daemon = Daemon::start();
    for head in ["Content-Length: 9999999999", "Transfer-Encoding: chunked"] {
        let mut client = daemon.connect();
        write!(client, "POST /v1/containers HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n").unwrap();
        let piece = vec![b' '; 1 << 20];
        let chunk = [b"100000\r\n", &piece[..], b"\r\n"].concat();
        let body = if head.starts_with('T') { &chunk } else { &piece };
        // It goes on reading for a while and keeps nothing, so that the answer is not lost with the connection.
        let _ = (0..32).try_for_each(|_| client.write_all(body));
        let refused = answer(client.try_clone().unwrap()).refusal();
        assert_eq!((refused.0, refused.1.as_str()), (413, "too_large"));
        drop(client);
        works(&daemon);
    }
    daemon.end();
}

fn slow() {
    let daemon = Daemon::start();
    let half = |text: &str| {
        let mut client = daemon.connect();
        client.write_all(text.as_bytes()).unwrap();
        client
    };
    let head = half("GET /v1/health HTTP/1.1\r\nHost: ");
    let body = half("POST /v1/containers HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n{");
    works(&daemon);
    // A few bytes now and then are no reason to wait longer.
    let drips = [half("GET /v1/health HTTP/1.1\r\n"), body.try_clone().unwrap()];
    std::thread::scope(|scope| {
        let drips = drips.map(|client| scope.spawn(move || dripped(client)));
        works(&daemon);
        drips.into_iter().for_each(|drip| drip.join().unwrap());
    });
    // Each gets an answer that says so, or none; in any case its end comes by itself.
    let ended = |mut client: UnixStream| {
        let mut said = Vec::new();
        client.read_to_end(&mut said).unwrap();
        assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"), "{:?}", String::from_utf8_lossy(&said));
    };
    ended(head);
    ended(body);
    works(&daemon);
    daemon.end();
}

/// A byte of a header, or of a body, each time that nothing has come for a while; to the end of the connection.
fn dripped(mut client: UnixStream) {
    client.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let until = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < until {
        let waits = |kind| matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
        match client.read(&mut [0; 1 << 12]) {
            Err(error) if waits(error.kind()) => {}
            Err(_) | Ok(0) => return,
            Ok(_) => continue,
        }
        if client.write_all(b" ").is_err() {
            return;
        }
    }
    panic!("it is waited for");
}

/// As many descriptors as we may have, less those of other trials.
fn many_descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    maximum.map_or(usize::MAX, |maximum| usize::try_from(maximum).unwrap()).saturating_sub(1000).max(300)
}

fn many() {
    let daemon = Daemon::start();
    works(&daemon);
    let before = daemon.descriptors();
    let other = daemon.connect();
    // From here on it may be quiet for longer than one who has not said anything yet.
    assert!(ask(other.try_clone().unwrap(), "GET", "/v1/health", &[], "").body().is_ok());
    // One process: it has the connections that one may have, and the rest is closed. All of them stay open at this end, where
    // there are descriptors for them; else the last ones, of which none was let in, make room.
    let most = many_descriptors();
    println!("{} of 10000 connections are held at a time", most.min(10_000));
    let mut open = Vec::new();
    for _ in 0..10_000 {
        // A full queue of the kernel is waited for. Half a request each: nobody waits behind them.
        let mut one = connect(&daemon.socket());
        let _ = one.write_all(b"GET /v1/health HTTP/1.1\r\n");
        open.push(one);
        if open.len() == most {
            open.truncate(280);
        }
    }
    // Those that are let in, and a few.
    settled(&daemon, before + 256);
    // Who is there already is answered; so is another process, which has its own share.
    assert_eq!(ask(other, "GET", "/v1/health", &[], "").status, 200);
    let ran = elsewhere(&daemon);
    assert!(ran.contains("\"containers\""), "{ran}");
    drop(open);
    settled(&daemon, before);
    works(&daemon);
    daemon.end();
}

/// The same user in another process.
#[expect(clippy::disallowed_methods, reason = "a client that is a process of its own")]
fn elsewhere(daemon: &Daemon) -> String {
    let mut command = std::process::Command::new(crate::daemon::binary());
    let output = command.args(["ps", "--json", "--socket"]).arg(daemon.socket()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// What it holds is what it held.
fn settled(daemon: &Daemon, before: usize) {
    let until = std::time::Instant::now() + PATIENCE;
    while daemon.descriptors() > before + 2 {
        assert!(std::time::Instant::now() < until, "{} descriptors, {before} before", daemon.descriptors());
        std::thread::yield_now();
    }
}

fn streams() {
    let daemon = Daemon::start();
    daemon.sh("a", "exec sleep 1000").json(201);
    let mut open = Vec::new();
    let refused = loop {
        let mut client = daemon.connect();
        client.write_all(b"GET /v1/containers/a/logs HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let answer = answer(client);
        match answer.status {
            200 => open.push(answer),
            _ => break answer,
        }
        assert!(open.len() <= 200);
    };
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(refused.refusal().1, "exhausted");
    assert_eq!(open.len(), 128);
    works(&daemon);
    // One that leaves makes room, as soon as it is noticed.
    open.pop();
    let until = std::time::Instant::now() + PATIENCE;
    while daemon.get("/v1/containers/a/logs").status != 200 {
        assert!(std::time::Instant::now() < until, "no room");
    }
    daemon.end();
}
