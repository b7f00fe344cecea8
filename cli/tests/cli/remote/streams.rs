//! Streams that outlive their connections: nothing is missing, nothing comes twice, and it is said that one waits.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use super::Place;
use super::fake::{Answer, Fake, events, json, problem};
use crate::kit::orangery;
use crate::{Test, always};

/// Two places of one stream, as the library writes them, and one of another.
pub(super) fn cursors() -> [String; 3] {
    use orangery::Cursor;
    use orangery::stream::{Generation, StreamId};
    let (ours, other) = (StreamId::from_bytes([7; 16]), StreamId::from_bytes([8; 16]));
    [(ours, 5), (ours, 9), (other, 9)].map(|(id, at)| Cursor::of_parts(id, Generation(1), at, 0).to_string())
}

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("logs_go_on_where_they_were_cut", cut),
        always("logs_of_a_daemon_that_is_away_are_waited_for", away),
        always("logs_end_at_once_where_nobody_waits", impatient),
        always("what_a_log_has_no_more_is_told", gone),
        always("the_feed_goes_on_and_tells_what_is_missing", feed),
        always("a_wait_outlives_its_answers", wait),
    ]
}

/// The bytes of one event each, cut between events, within one, and by a daemon that says goodbye.
fn cut() {
    let place = Place::new();
    let fake = Fake::start(
        &place.socket(),
        [
            events("retry: 1000\n\nid: A\ndata: {\"stream\":\"stdout\",\"offset\":0,\"text\":\"one\\n\"}\n\n", false),
            events(
                ":\n\nid: B\ndata: {\"stream\":\"stdout\",\"offset\":4,\"base64\":\"/wA=\"}\n\nid: C\ndata: {\"stream\":\"stdout\"",
                false,
            ),
            events(
                "id: C\ndata: {\"stream\":\"stderr\",\"offset\":0,\"text\":\"err\"}\n\nevent: bye\nid: C\ndata: {}\n\n",
                true,
            ),
            events("id: D\ndata: {\"stream\":\"stdout\",\"offset\":6,\"text\":\"two\"}\n\n", true),
            events("event: exit\nid: D\ndata: {}\n\nevent: end\nid: D\ndata: {\"reason\":\"eof\"}\n\n", true),
        ],
    );
    let ran = place.ran(&["logs", "--follow", "a"]);
    assert_eq!((ran.ended(0).out.as_slice(), ran.err.as_str()), (&b"one\n\xff\0two"[..], "err"));
    let asked = fake.end();
    let places: Vec<Option<&str>> = asked.iter().map(|asked| asked.header("last-event-id")).collect();
    assert_eq!(places, [None, Some("A"), Some("B"), Some("C"), Some("D")]);
    assert!(asked.iter().all(|asked| asked.line == "GET /v1/containers/a/logs?follow=true"), "{asked:?}");
}

fn away() {
    let place = Place::new();
    let first = "id: A\ndata: {\"stream\":\"stdout\",\"offset\":0,\"text\":\"one\\n\"}\n\n";
    let fake = Fake::start(&place.socket(), [events(first, false)]);
    let mut command = orangery(&[]);
    command.args(place.line(&["logs", "--follow", "a"])).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    fake.end();
    let mut notice = String::new();
    err.read_line(&mut notice).unwrap();
    assert!(notice.contains("gone away") && notice.contains(&*place.socket().display().to_string()), "{notice}");
    let last = "id: B\ndata: {\"stream\":\"stdout\",\"offset\":4,\"text\":\"two\\n\"}\n\nevent: end\ndata: {}\n\n";
    let fake = Fake::start(&place.socket(), [events(last, true)]);
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(0), &b"one\ntwo\n"[..]));
    let rest: Vec<String> = err.lines().map(Result::unwrap).collect();
    assert!(rest.len() == 1 && rest[0].contains("is back"), "{rest:?}");
    assert_eq!(fake.end()[0].header("last-event-id"), Some("A"));
}

fn impatient() {
    let place = Place::new();
    let first = || events("id: A\ndata: {\"stream\":\"stdout\",\"offset\":0,\"text\":\"one\\n\"}\n\n", false);
    let fake = Fake::start(&place.socket(), [first()]);
    let ran = place.ran(&["logs", "--follow", "--reconnect=0s", "a"]);
    assert_eq!((ran.ended(125).text(), ran.err.lines().count()), ("one\n", 1), "{ran:?}");
    fake.end();
    // A daemon that is only ever cut off is given up, after a time that is said.
    let cuts = std::iter::repeat_with(|| Answer::Raw(Vec::new())).take(3);
    let fake = Fake::start(&place.socket(), [first()].into_iter().chain(cuts));
    let ran = place.ran(&["logs", "--follow", "--reconnect=140ms", "a"]);
    assert!(ran.ended(125).err.contains("--reconnect"), "{ran:?}");
    fake.end();
}

fn gone() {
    let place = Place::new();
    let [here, there, other] = cursors();
    let first =
        || events(&format!("id: {here}\ndata: {{\"stream\":\"stdout\",\"offset\":0,\"text\":\"12345\"}}\n\n"), false);
    let refused = |oldest: &str| problem("410 Gone", "gone", &format!(",\"oldest\":\"{oldest}\""));
    let rest = format!(
        "id: {there}\ndata: {{\"stream\":\"stdout\",\"offset\":9,\"text\":\"x\"}}\n\nevent: end\ndata: {{}}\n\n"
    );
    let fake = Fake::start(&place.socket(), [first(), refused(&there), events(&rest, true)]);
    let ran = place.ran(&["logs", "--follow", "a"]);
    assert_eq!(ran.ended(0).text(), "12345x");
    assert!(ran.err.contains("4 bytes of stdout are missing from 5 on (removed)"), "{ran:?}");
    assert_eq!(fake.end()[2].header("last-event-id"), Some(there.as_str()));
    // The same name, and another container.
    let fake = Fake::start(&place.socket(), [first(), refused(&other)]);
    let ran = place.ran(&["logs", "--follow", "a"]);
    assert!(ran.ended(125).err.contains("another one"), "{ran:?}");
    fake.end();
}

fn feed() {
    let place = Place::new();
    let event = |seq: u32| {
        format!(
            "id: {seq}\nevent: container_removed\ndata: {{\"schema\":1,\"seq\":{seq},\"at_ms\":1700000000000,\"mono_ns\":1,\
             \"container\":\"web\",\"generation\":1,\"kind\":\"container_removed\"}}\n\n"
        )
    };
    let script = || {
        [
            events(&event(1), false),
            problem("410 Gone", "gone", ",\"oldest\":\"7\""),
            events(&format!("{}event: now\ndata: {{}}\n\n", event(8)), true),
        ]
    };
    let fake = Fake::start(&place.socket(), script());
    let ran = place.ran(&["events", "--no-follow", "--kind", "container_removed"]);
    assert_eq!(ran.ended(0).text().matches("web#1: nothing of it is left").count(), 2, "{ran:?}");
    assert!(ran.err.contains("events are missing"), "{ran:?}");
    let asked = fake.end();
    let target = "GET /v1/events?follow=false&kind=container_removed";
    assert_eq!([0, 1].map(|at: usize| asked[at].line.as_str()), [&*format!("{target}&from=start"), target]);
    assert_eq!([1, 2].map(|at: usize| asked[at].header("last-event-id")), [Some("1"), Some("7")]);
    // Cut before its first event, it goes on where it had begun.
    let begun = events("retry: 1000\nid: 5\n\n:\n\n", false);
    let fake = Fake::start(&place.socket(), [begun].into_iter().chain(script()));
    let ran = place.ran(&["events", "--json"]);
    let kinds: Vec<serde_json::Value> =
        ran.ended(0).text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = kinds.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["container_removed", "gap", "container_removed"]);
    assert_eq!(fake.end()[1].header("last-event-id"), Some("5"));
}

fn wait() {
    let place = Place::new();
    let exit = |code: i32, how: &str| {
        let exit = format!(r#"{{"exit_code":{code},"exit":{how},"cause":"own","report":{{}}}}"#);
        json("200 OK", &format!(r#"{{"done":true,"state":"exited","exit":{exit}}}"#))
    };
    let not_yet = || json("200 OK", r#"{"done":false,"state":"running","exit":null}"#);
    let fake = Fake::start(&place.socket(), [Answer::Raw(Vec::new()), not_yet(), not_yet(), exit(3, r#"{"code":3}"#)]);
    place.ran(&["wait", "a"]).ended(3);
    assert_eq!(fake.end().len(), 4);
    for (code, how) in [(137, r#"{"signal":{"signal":9,"core_dumped":false}}"#), (255, "\"lost\"")] {
        let fake = Fake::start(&place.socket(), [exit(code, how)]);
        let ran = place.ran(&["wait", "--json", "a"]);
        assert_eq!(ran.ended(code).json()["exit"]["exit_code"], code);
        fake.end();
    }
    let fake = Fake::start(&place.socket(), [not_yet()]);
    place.ran(&["wait", "--timeout", "0s", "a"]).ended(124);
    assert_eq!(fake.end()[0].line, "GET /v1/containers/a/wait?timeout=0ms&for=exit");
    let fake = Fake::start(&place.socket(), [problem("504 Gateway Timeout", "not_ready", "")]);
    place.ran(&["wait", "--ready", "a"]).ended(125);
    fake.end();
}
