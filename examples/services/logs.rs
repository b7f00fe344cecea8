//! `log_server` as `curl` meets it: cut off at many places and resumed, refused, hung up on, and told good-bye.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use orangery_tests::{Scene, Trial, trial, wait};
use rustix::process::Signal;
use serde_json::Value;

use crate::server::Server;

pub(crate) fn trials() -> Vec<Trial> {
    let missing = curl().arg("--version").stdout(Stdio::null()).status().is_err().then_some("there is no curl");
    let all = [
        trial!(log_server_resumes_where_curl_was_cut).long(),
        trial!(log_server_refuses).long(),
        trial!(log_server_keeps_what_fits),
        trial!(log_server_hang_up),
        trial!(log_server_says_bye),
    ];
    all.map(|trial| trial.skip_if(missing)).into()
}

#[expect(clippy::disallowed_methods, reason = "the client under test")]
fn curl() -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--no-buffer"]).stdin(Stdio::null());
    command
}

/// What a whole request came to: the status, and the body.
fn answer(server: &Server, args: &[&str], path: &str) -> (u16, Vec<u8>) {
    let output = curl().args(args).args(["--write-out", "%{http_code}"]).arg(server.url(path)).output().unwrap();
    let (body, status) = output.stdout.split_at(output.stdout.len() - 3);
    (std::str::from_utf8(status).unwrap().parse().unwrap(), body.to_vec())
}

fn json(answer: &(u16, Vec<u8>)) -> Value {
    serde_json::from_slice(&answer.1).unwrap()
}

/// Start a script; its path.
fn start(server: &Server, script: &str) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, script.as_bytes()).unwrap();
    let data = format!("@{}", file.path().display());
    let answer = answer(server, &["--data-binary", &data], "/sandboxes");
    assert_eq!(answer.0, 201, "{answer:?}");
    format!("/sandboxes/{}", json(&answer)["id"].as_str().unwrap())
}

/// One server-sent event: its fields by name, comments as `""`.
type Event = BTreeMap<String, String>;

/// A `curl` that follows.
struct Follower {
    curl: Child,
    body: BufReader<ChildStdout>,
    read: usize,
}

impl Follower {
    fn new(server: &Server, path: &str, last: Option<&str>) -> Self {
        let mut command = curl();
        if let Some(last) = last {
            command.args(["--header", &format!("Last-Event-ID: {last}")]);
        }
        let mut curl = command.arg(server.url(path)).stdout(Stdio::piped()).spawn().unwrap();
        let body = BufReader::new(curl.stdout.take().unwrap());
        Self { curl, body, read: 0 }
    }

    /// The next whole event; `None` at the end, also within one, or when `most` bytes were read.
    fn event(&mut self, most: usize) -> Option<Event> {
        let mut event = Event::new();
        loop {
            let mut line = Vec::new();
            self.body.by_ref().take((most - self.read) as u64).read_until(b'\n', &mut line).unwrap();
            self.read += line.len();
            if line.pop() != Some(b'\n') {
                return None;
            }
            // What this protocol takes for the end of a line can only be one of its own.
            assert!(!line.contains(&b'\r') && !line.contains(&0));
            let line = String::from_utf8(line).unwrap();
            match line.split_once(':') {
                Some((name, value)) => drop(event.insert(name.into(), value.trim_start().into())),
                None => return Some(event),
            }
        }
    }

    fn next(&mut self) -> Event {
        self.event(usize::MAX).expect("an event")
    }

    /// Cut off, without a word.
    fn cut(mut self) {
        self.curl.kill().unwrap();
        self.curl.wait().unwrap();
    }

    fn code(mut self) -> Option<i32> {
        wait::child(&mut self.curl, wait::PATIENCE).unwrap().and_then(|status| status.code())
    }
}

fn data(event: &Event) -> Value {
    serde_json::from_str(&event["data"]).unwrap()
}

fn payload(data: &Value) -> Vec<u8> {
    match data["text"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => from_base64(data["base64"].as_str().unwrap()),
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut held, mut count) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter_map(|byte| digits.iter().position(|digit| *digit == byte)) {
        held = held << 6 | u32::try_from(digit).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push(u8::try_from(held >> count & 0xff).unwrap());
        }
    }
    out
}

/// A sequence of numbers that looks like none (Knuth's generator).
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }
}

/// A script that writes them piece by piece, in turn to both, and what it writes to each. Pieces end within characters.
fn pseudo_random(seed: u64) -> (String, [Vec<u8>; 2]) {
    let words: [&[u8]; 12] = [
        b"\r",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\0",
        b"\xff\xfe",
        b"\xe2\x82",
        "\u{20ac}".as_bytes(),
        "\u{1d11e}".as_bytes(),
        b"data: no\n\n",
        b"id: no\r",
        b"plain \"text\" \\ and more of it",
    ];
    let (mut random, mut streams, mut script) = (Random(seed), [Vec::new(), Vec::new()], String::new());
    for piece in 0..300 {
        let at = random.below(2);
        let mut bytes: Vec<u8> = (0..40).flat_map(|_| words[random.below(words.len())]).copied().collect();
        bytes.truncate(1 + random.below(250));
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
        script += &format!("printf '{escaped}' >&{}\n", at + 1);
        if piece % 10 == 0 {
            script += "sleep 0.02\n";
        }
        streams[at].extend(bytes);
    }
    (script + "exit 3\n", streams)
}

/// Follows to the end, cut off after so many bytes each time.
fn collect(server: &Server, path: &str, mut random: Random) -> ([Vec<u8>; 2], usize, Value) {
    let (mut streams, mut last, mut cuts, mut report) = ([Vec::new(), Vec::new()], None::<String>, 0, Value::Null);
    loop {
        let most = 1 + random.below(6000);
        let mut follower = Follower::new(server, path, last.as_deref());
        while let Some(event) = follower.event(most) {
            last = event.get("id").cloned().or(last);
            match event.get("event").map(String::as_str) {
                None if event.contains_key("data") => {
                    let data = data(&event);
                    let stream = &mut streams[usize::from(data["stream"] == "stderr")];
                    assert_eq!(data["offset"], stream.len(), "once, and nothing is missing");
                    stream.extend(payload(&data));
                }
                None => {}
                Some("exit") => report = data(&event),
                Some("end") => {
                    let end = data(&event);
                    assert_eq!((&end["stdout"], &end["stderr"]), (&streams[0].len().into(), &streams[1].len().into()));
                    assert_eq!(follower.code(), Some(0));
                    return (streams, cuts, report);
                }
                Some(other) => panic!("unexpected {other}: {event:?}"),
            }
        }
        follower.cut();
        cuts += 1;
    }
}

fn log_server_resumes_where_curl_was_cut(_: &Scene) {
    let server = Server::start_with("log_server", &[]);
    let (script, want) = pseudo_random(7);
    let path = start(&server, &script);
    let events = format!("{path}/events");
    std::thread::scope(|scope| {
        let (server, events) = (&server, &events);
        let clients = [11, 13].map(|seed| scope.spawn(move || collect(server, events, Random(seed))));
        for client in clients {
            let (got, cuts, report) = client.join().unwrap();
            assert!(got == want, "each byte of both streams");
            assert!(cuts > 10, "{cuts}");
            assert_eq!((&report["exit"]["code"], &report["stdout"]["bytes"]), (&3.into(), &want[0].len().into()));
        }
    });
    for (stream, want) in [("stdout", &want[0]), ("stderr", &want[1])] {
        let (status, got) = answer(&server, &[], &format!("{path}/output?stream={stream}"));
        assert_eq!(status, 200);
        assert!(&got == want, "{stream} as plain bytes");
    }
    server.end();
}

fn log_server_refuses(_: &Scene) {
    let server = Server::start_with("log_server", &[]);
    // On a busy machine the first line may be gone before the follower comes: then with more time.
    let (path, mut follower, first) = [0.2, 1.0, 5.0, 25.0]
        .iter()
        .find_map(|seconds| {
            let path = start(&server, &format!("echo first; sleep {seconds}; head -c 8000000 /dev/zero"));
            let mut follower = Follower::new(&server, &format!("{path}/events"), None);
            let first = follower.next();
            if first.get("event").is_none_or(|event| event == "output") && first.contains_key("data") {
                return Some((path, follower, first));
            }
            follower.cut();
            None
        })
        .expect("the first line");
    let events = format!("{path}/events");
    assert_eq!(payload(&data(&first)), b"first\n");
    while follower.next().get("event").is_none_or(|event| event != "end") {}
    assert_eq!(follower.code(), Some(0));
    let resumed = |path: &str, id: &str| answer(&server, &["--header", &format!("Last-Event-ID: {id}")], path);
    // Its bytes were removed; from the oldest on they are there.
    let gone = resumed(&events, &first["id"]);
    assert_eq!(
        (gone.0, &json(&gone)["error"]),
        (410, &"cannot resume: the bytes at the cursor are no longer kept".into())
    );
    let (status, rest) = resumed(&format!("{path}/output"), json(&gone)["oldest"].as_str().unwrap());
    assert!(status == 200 && rest.len() < 8_000_006 && rest.len() > 3_000_000, "{status}, {} bytes", rest.len());
    let bad = resumed(&events, "nonsense");
    assert_eq!((bad.0, &json(&bad)["error"]), (400, &"Last-Event-ID: the text is no cursor".into()));
    let damaged = resumed(&events, &first["id"].replacen('A', "B", 1));
    assert_eq!(damaged.0, 400, "{damaged:?}");
    let other = start(&server, "true");
    let foreign = resumed(&format!("{other}/output"), &first["id"]);
    assert_eq!(
        (foreign.0, &json(&foreign)["error"]),
        (410, &"cannot resume: the cursor belongs to another stream".into())
    );
    for path in ["/sandboxes/none/events", "/sandboxes/none/output", "/elsewhere"] {
        assert_eq!(answer(&server, &[], path).0, 404, "{path}");
    }
    assert_eq!(answer(&server, &["--request", "DELETE"], "/sandboxes/none").0, 404);
    assert_eq!(answer(&server, &[], &format!("{events}?stream=stdin")).0, 400);
    assert_eq!(answer(&server, &["--data-binary", ""], &events).0, 405);
    server.end();
}

fn log_server_keeps_what_fits(_: &Scene) {
    let server = Server::start_with("log_server", &[]);
    let mut paths: Vec<_> = (0..16).map(|_| start(&server, "sleep 1000")).collect();
    let full = answer(&server, &["--data-binary", "true"], "/sandboxes");
    assert_eq!(full.0, 503);
    assert!(json(&full)["error"].as_str().unwrap().contains("limit, 16"), "{full:?}");
    let path = paths.pop().unwrap();
    assert_eq!(answer(&server, &["--request", "DELETE"], &path).0, 204);
    assert_eq!(answer(&server, &[], &format!("{path}/output")).0, 404);
    start(&server, "true");
    server.end();
}

/// A client that goes leaves nothing, the sandbox runs on, and goes when it is told to.
fn log_server_hang_up(_: &Scene) {
    let server = Server::start_with("log_server", &[]);
    let path = start(&server, "echo started; sleep 1000");
    let follow = |way: &str| {
        let mut follower = Follower::new(&server, &format!("{path}/{way}"), None);
        follower.body.read_exact(&mut [0; 8]).unwrap();
        follower
    };
    // One that stays, so that everything that is made once is there.
    let stays = follow("events");
    let (before, running) = (server.descriptors(), server.containers());
    assert!(running.len() >= 2, "{running:?}");
    for way in ["events", "output"] {
        let leaves = follow(way);
        assert!(server.descriptors() > before);
        leaves.cut();
        let until = Instant::now() + wait::PATIENCE;
        while server.descriptors() > before {
            assert!(Instant::now() < until, "{} descriptors, {before} before", server.descriptors());
            std::thread::yield_now();
        }
    }
    assert!(running.iter().all(crate::server::Process::alive));
    assert_eq!(answer(&server, &["--request", "DELETE"], &path).0, 204);
    assert_eq!(stays.code(), Some(0), "its stream has ended");
    for process in &running {
        process.gone();
    }
    server.end();
}

fn log_server_says_bye(_: &Scene) {
    let server = Server::start_with("log_server", &["1"]);
    let path = start(&server, "echo before; sleep 1000");
    let mut events = Follower::new(&server, &format!("{path}/events"), None);
    let mut plain = Follower::new(&server, &format!("{path}/output"), None);
    let told = loop {
        let event = events.next();
        match event.get("data") {
            Some(_) => break event,
            None => assert!(event.contains_key("") || event.is_empty()),
        }
    };
    assert_eq!(payload(&data(&told)), b"before\n");
    let heartbeat = events.next();
    assert_eq!(heartbeat, Event::from([(String::new(), String::new())]), "a comment, while nothing happens");
    let mut line = String::new();
    plain.body.read_line(&mut line).unwrap();
    assert_eq!(line, "before\n");
    server.end_by(Signal::TERM);
    let bye = std::iter::from_fn(|| events.event(usize::MAX)).find(|event| event.contains_key("event")).unwrap();
    assert_eq!((&*bye["event"], &bye["id"]), ("bye", &told["id"]));
    assert_eq!(events.code(), Some(0), "an end of its own");
    assert_eq!(plain.code(), Some(18), "and one that nobody takes for the whole");
    // Another server: the place is gone with the log that it was in.
    let server = Server::start_with("log_server", &[]);
    let last = format!("Last-Event-ID: {}", bye["id"]);
    assert_eq!(answer(&server, &["--header", &last], &format!("{path}/events")).0, 404);
    assert_eq!(start(&server, "sleep 1000"), path);
    let gone = answer(&server, &["--header", &last], &format!("{path}/events"));
    assert_eq!((gone.0, &json(&gone)["error"]), (410, &"cannot resume: the cursor belongs to another stream".into()));
    server.end();
}
