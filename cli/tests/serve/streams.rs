//! Streams: cut anywhere and resumed, every byte once; and how they end when the daemon goes.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::client::{Event, ask};
use crate::daemon::Daemon;
use crate::{Test, always, needs};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("logs_that_are_cut_and_resumed_lack_nothing", resumed),
        needs("curl_that_is_cut_and_resumed_lacks_nothing", no_curl(), curl),
        always("a_cursor_of_another_stream_is_gone", foreign),
        always("events_that_are_cut_and_resumed_lack_nothing", events),
        always("streams_are_told_where_they_stand_when_the_daemon_goes", farewell),
        always("what_is_there_now_and_no_more", now),
    ]
}

pub(crate) fn no_curl() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "a client that is not ours")]
    let there =
        Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    (!there).then(|| "there is no curl".to_owned())
}

const LINES: u32 = 20_000;

fn expected() -> String {
    (1..=LINES).map(|number| format!("line {number}\n")).collect()
}

fn flood(daemon: &Daemon) {
    daemon.sh("a", &format!("seq -f 'line %g' 1 {LINES}")).json(201);
}

/// The bytes of a message.
fn text(event: &Event) -> &str {
    event.data["text"].as_str().unwrap()
}

fn resumed() {
    let daemon = Daemon::start();
    flood(&daemon);
    let (mut got, mut id, mut cuts) = (String::new(), String::new(), 0);
    'all: loop {
        let last = [("Last-Event-ID", id.as_str())];
        let headers = if id.is_empty() { &[][..] } else { &last[..] };
        let events = ask(daemon.connect(), "GET", "/v1/containers/a/logs", headers, "").events();
        // Cut behind a number of events that differs each time.
        for event in events.take(1 + cuts % 7) {
            id.clone_from(&event.id);
            match event.name.as_str() {
                "" => got += text(&event),
                "exit" => assert_eq!(event.data["exit_code"], 0),
                "end" => break 'all,
                other => panic!("{other}"),
            }
        }
        cuts += 1;
    }
    assert!(got == expected(), "{} bytes of {} after {cuts} cuts", got.len(), expected().len());
    assert!(cuts > 10, "{cuts}");
    daemon.end();
}

/// The same by a client that everybody has, which is killed in the middle.
#[expect(clippy::disallowed_methods, reason = "a client that is not ours")]
fn curl() {
    let daemon = Daemon::start();
    flood(&daemon);
    let (mut got, mut id) = (String::new(), String::new());
    for limit in [20_000, 50_000, usize::MAX] {
        let mut curl = Command::new("curl");
        curl.args(["-sN", "--unix-socket"]).arg(daemon.socket()).arg("http://localhost/v1/containers/a/logs");
        if !id.is_empty() {
            curl.args(["-H", &format!("Last-Event-ID: {id}")]);
        }
        let mut curl = curl.stdout(Stdio::piped()).spawn().unwrap();
        let (mut said, mut part) = (Vec::new(), [0; 4096]);
        let mut out = curl.stdout.take().unwrap();
        while said.len() < limit {
            match std::io::Read::read(&mut out, &mut part).unwrap() {
                0 => break,
                read => said.extend_from_slice(&part[..read]),
            }
        }
        let _ = curl.kill();
        curl.wait().unwrap();
        // What is not whole was not received.
        let said = String::from_utf8_lossy(&said).into_owned();
        for event in said.rsplit_once("\n\n").map_or("", |(whole, _)| whole).split("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            if let Some(at) = field("id: ") {
                id = at.to_owned();
            }
            if let (Some(data), None) = (field("data: "), field("event: ")) {
                let data: serde_json::Value = serde_json::from_str(data).unwrap();
                got += data["text"].as_str().unwrap();
            }
        }
    }
    assert!(got == expected(), "{} bytes of {}", got.len(), expected().len());
    daemon.end();
}

fn foreign() {
    let daemon = Daemon::start();
    for name in ["a", "b"] {
        daemon.sh(name, "echo hi").json(201);
        daemon.exit(name);
    }
    let id = daemon.get("/v1/containers/a/logs").events().next().unwrap().id;
    let gone = daemon.get(&format!("/v1/containers/b/logs?cursor={id}"));
    let problem = gone.json(410);
    assert_eq!((problem["kind"].as_str(), problem["field"].as_str()), (Some("gone"), Some("cursor")));
    let oldest = problem["oldest"].as_str().unwrap();
    let first = daemon.get(&format!("/v1/containers/b/logs?cursor={oldest}")).events().next().unwrap();
    assert_eq!(text(&first), "hi\n");
    assert_eq!(daemon.get(&format!("/v1/events?cursor={id}")).refusal().1, "gone");
    daemon.end();
}

fn events() {
    let daemon = Daemon::start();
    for name in ["a", "b"] {
        daemon.sh(name, "exit 3").json(201);
        daemon.exit(name);
        daemon.ask("DELETE", &format!("/v1/containers/{name}"), "").done();
    }
    let all: Vec<Event> = daemon.get("/v1/events?from=start&follow=false").events().collect();
    let (now, all) = all.split_last().unwrap();
    assert_eq!(now.name, "now");
    assert!(all.len() >= 8, "{all:?}");
    let mut again = Vec::new();
    let mut id = None::<String>;
    while again.len() < all.len() {
        let from = id.as_ref().map_or("from=start".into(), |id| format!("cursor={id}"));
        let event = daemon.get(&format!("/v1/events?{from}&follow=false")).events().next().unwrap();
        id = Some(event.id.clone());
        again.push(event);
    }
    assert_eq!(again, all);
    let of_b: Vec<_> =
        all.iter().filter(|event| event.name == "process_exited" && event.data["container"] == "b").collect();
    let (status, _, field) = daemon.get("/v1/events?follow=false&kind=process_exited,nosuch").refusal();
    assert_eq!((status, field.as_str()), (400, "kind"));
    let filtered = daemon.get("/v1/events?from=start&follow=false&container=b&kind=process_exited").events();
    assert_eq!(
        filtered.filter(|event| event.name != "now").collect::<Vec<_>>(),
        of_b.into_iter().cloned().collect::<Vec<_>>()
    );
    daemon.end();
}

fn farewell() {
    let mut daemon = Daemon::start();
    daemon.sh("a", "echo hi; exec sleep 1000").json(201);
    let mut logs = daemon.get("/v1/containers/a/logs").events();
    let hi = logs.next().unwrap();
    assert_eq!(text(&hi), "hi\n");
    let feed = daemon.get("/v1/events").events();
    let mut bytes = daemon.get("/v1/containers/a/output");
    assert_eq!(bytes.piece().unwrap().unwrap(), b"hi\n");
    daemon.signal(Signal::TERM);
    let bye = logs.next().unwrap();
    assert_eq!((bye.name.as_str(), bye.id.as_str()), ("bye", hi.id.as_str()));
    assert!(logs.next().is_none());
    assert_eq!(feed.last().unwrap().name, "bye");
    // A part is not the whole: the last chunk does not come.
    assert!(bytes.piece().is_err());
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(!daemon.socket().exists());
    // What ran goes on, until the next one deletes it.
    daemon.again().end();
}

fn now() {
    let daemon = Daemon::start();
    daemon.sh("a", "echo one; echo two; echo ready >&2; exec sleep 1000").json(201);
    let mut errors = daemon.get("/v1/containers/a/output?stream=stderr");
    assert_eq!(errors.piece().unwrap().unwrap(), b"ready\n");
    // Each output is emptied by itself: what has come of one says nothing of the other.
    let (mut output, mut said) = (daemon.get("/v1/containers/a/output?stream=stdout"), Vec::new());
    while said.len() < b"one\ntwo\n".len() {
        said.extend(output.piece().unwrap().unwrap());
    }
    assert_eq!(daemon.get("/v1/containers/a/output?follow=false&stream=stdout").body().unwrap(), b"one\ntwo\n");
    assert_eq!(daemon.get("/v1/containers/a/output?follow=false&stream=stdout&tail=1").body().unwrap(), b"two\n");
    assert_eq!(daemon.get("/v1/containers/a/output?follow=false&stream=stdout&offset=2").body().unwrap(), b"e\ntwo\n");
    assert_eq!(daemon.get("/v1/containers/a/output?follow=false&from=now").body().unwrap(), b"");
    let names: Vec<_> = daemon.get("/v1/containers/a/logs?follow=false&times=true").events().collect();
    assert!(names.iter().filter(|event| event.name.is_empty()).all(|event| event.data["at_ms"].is_u64()), "{names:?}");
    assert_eq!(names.last().unwrap().name, "now");
    daemon.end();
}
