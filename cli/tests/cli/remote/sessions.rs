//! `exec` and `attach`: both ways, across connections, and every way to end.

use tokio_tungstenite::tungstenite::Message;

use super::Place;
use super::fake::{Answer, Attached, Fake, attached, events, json, output, problem, say};
use super::streams::cursors;
use crate::kit::fed;
use crate::{Test, always};

pub(super) const ATTACHED: &str = r#"{"type":"attached","process":3,"tty":false,"stdin":false,"cursor":"0"}"#;
pub(super) const END: &str = r#"{"type":"end","cursor":"9"}"#;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("a_session_goes_on_where_it_was_cut", cut),
        always("a_session_ends_as_its_process_did", ends),
        always("input_that_may_be_lost_is_told", input),
        always("a_process_that_reads_no_input_is_attached_without", without_input),
        always("the_rest_of_a_session_that_has_ended_comes_from_its_log", ended),
        always("what_a_session_has_missed_for_good_is_told", gone),
        always("attach_asks_for_what_is_wanted", attach),
    ]
}

pub(super) fn made() -> Answer {
    json("201 Created", r#"{"id":3,"pid":77,"ended":false,"tty":false,"exit":null}"#)
}

pub(super) fn exit(code: i32) -> String {
    format!(r#"{{"type":"exit","exit_code":{code},"exit":{{"code":{code}}},"cause":"own","report":{{}}}}"#)
}

fn cut() {
    let place = Place::new();
    let fake = Fake::start(
        &place.socket(),
        [
            made(),
            attached(|socket| {
                say(socket, ATTACHED);
                output(socket, 1, "A", b"one");
                output(socket, 2, "B", b"err");
            }),
            Answer::Raw(Vec::new()),
            attached(|socket| {
                say(socket, ATTACHED);
                output(socket, 1, "C", b"\xff\0");
                say(socket, r#"{"type":"of_tomorrow"}"#);
                say(socket, r#"{"type":"gap","stream":"stdout","from":5,"to":8,"cause":"removed","cursor":"D"}"#);
                say(socket, r#"{"type":"bye","cursor":"D"}"#);
            }),
            attached(|socket| {
                output(socket, 1, "E", b"two");
                say(socket, &exit(7));
                say(socket, END);
            }),
        ],
    );
    let ran = place.ran(&["exec", "--env", "A=1", "--workdir", "/x", "a", "--", "sh", "-c", "x"]);
    assert_eq!(ran.ended(7).out, b"one\xff\0two");
    // Once it was tried in vain.
    let told: Vec<&str> = ran.err.lines().collect();
    assert!(told.len() == 3 && told[0].starts_with("errorangery: the daemon has gone away"), "{told:?}");
    assert!(
        told[1].contains("is back") && told[2].contains("3 bytes of stdout are missing from 5 on (removed)"),
        "{told:?}"
    );
    let asked = fake.end();
    let expected =
        serde_json::json!({ "command": ["sh", "-c", "x"], "env": { "A": "1" }, "workdir": "/x", "stdin": "null" });
    assert_eq!(asked[0].json(), expected);
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    let process = "/v1/containers/a/processes";
    assert_eq!(
        lines,
        [
            format!("POST {process}"),
            format!("GET {process}/3/attach?from=start&stdin=false"),
            format!("GET {process}/3/attach?cursor=B&stdin=false"),
            format!("GET {process}/3/attach?cursor=B&stdin=false"),
            format!("GET {process}/3/attach?cursor=D&stdin=false"),
        ]
    );
}

fn ends() {
    let place = Place::new();
    let said = |text: String| attached(move |socket| say(socket, &text));
    let problem_told =
        r#"{"type":"problem","problem":{"type":"","title":"","status":500,"detail":"no","kind":"system"}}"#;
    for (answers, code) in [
        (
            vec![
                made(),
                attached(|socket| {
                    say(socket, &exit(0));
                    say(socket, END);
                }),
            ],
            0,
        ),
        (
            vec![
                made(),
                attached(|socket| {
                    say(socket, &exit(137));
                    say(socket, END);
                }),
            ],
            137,
        ),
        (vec![made(), attached(|socket| say(socket, END))], 125),
        (vec![made(), said(problem_told.into())], 125),
        (
            vec![
                made(),
                attached(|socket| {
                    let _ = socket.send(Message::text("no JSON"));
                    say(socket, &exit(4));
                    say(socket, END);
                }),
            ],
            4,
        ),
        (vec![problem("422 Unprocessable Content", "command_not_found", "")], 127),
        (vec![made(), problem("404 Not Found", "not_found", "")], 125),
    ] {
        let fake = Fake::start(&place.socket(), answers);
        place.ran(&["exec", "--reconnect=0s", "a", "true"]).ended(code);
        fake.end();
    }
    let fake = Fake::start(&place.socket(), [made()]);
    assert_eq!(place.ran(&["exec", "--detach", "a", "true"]).ended(0).text(), "3\n");
    fake.end();
}

/// Reads frames until one is this.
fn until(socket: &mut Attached<'_>, wanted: &Message) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        match socket.read().unwrap() {
            frame if frame == *wanted => return data,
            Message::Binary(bytes) => data.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
}

fn input() {
    let place = Place::new();
    let closed = Message::text(r#"{"type":"close_stdin"}"#);
    let line = place.line(&["exec", "-i", "a", "cat"]);
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let end = closed.clone();
    let fake = Fake::start(
        &place.socket(),
        [
            made(),
            attached(move |socket| {
                say(socket, ATTACHED);
                let data = until(socket, &end);
                output(socket, 1, "A", &data);
                say(socket, r#"{"type":"stdin_closed"}"#);
            }),
            // All of it has arrived: the cut is no harm.
            attached(|socket| {
                say(socket, &exit(0));
                say(socket, END);
            }),
        ],
    );
    let ran = fed(&line, b"abc\n\xff");
    assert_eq!(ran.ended(0).out, b"abc\n\xff");
    let asked = fake.end();
    assert!(
        asked[1].line.ends_with("?from=start&stdin=true") && asked[2].line.ends_with("?cursor=A&stdin=false"),
        "{asked:?}"
    );
    // Nobody has said that it arrived: not even its end, where that is all there is.
    let end = closed.clone();
    let fake = Fake::start(&place.socket(), [made(), attached(move |socket| drop(until(socket, &end)))]);
    assert!(fed(&line, b"").ended(125).err.contains("input was on its way"));
    fake.end();
    let fake = Fake::start(&place.socket(), [made(), attached(move |socket| drop(until(socket, &closed)))]);
    let ran = fed(&line, b"abc");
    assert!(ran.ended(125).err.contains("input was on its way"), "{ran:?}");
    fake.end();
}

fn without_input() {
    let place = Place::new();
    let fake = Fake::start(
        &place.socket(),
        [
            made(),
            problem("409 Conflict", "state", ""),
            attached(|socket| {
                say(socket, &exit(5));
                say(socket, END);
            }),
        ],
    );
    let line = place.line(&["exec", "-i", "a", "true"]);
    fed(&line.iter().map(String::as_str).collect::<Vec<_>>(), b"abc").ended(5);
    let asked = fake.end();
    assert!(asked[1].line.ends_with("stdin=true") && !asked[2].line.contains("stdin=true"), "{asked:?}");
}

/// It has ended while nobody was there: nobody can be at it, and its log has the rest.
fn ended() {
    let place = Place::new();
    let log = format!(
        "id: B\ndata: {{\"stream\":\"stdout\",\"offset\":3,\"text\":\"two\"}}\n\nevent: exit\nid: B\ndata: {}\n\nevent: end\ndata: {{}}\n\n",
        exit(6).replacen("\"type\":\"exit\",", "", 1),
    );
    let fake = Fake::start(
        &place.socket(),
        [
            made(),
            attached(|socket| {
                say(socket, ATTACHED);
                output(socket, 1, "A", b"one");
            }),
            problem("409 Conflict", "state", ""),
            events(&log, true),
        ],
    );
    assert_eq!(place.ran(&["exec", "a", "x"]).ended(6).text(), "onetwo");
    let asked = fake.end();
    assert_eq!(
        (&*asked[3].line, asked[3].header("last-event-id")),
        ("GET /v1/containers/a/processes/3/logs", Some("A"))
    );
}

/// What it wrote meanwhile is not kept whole: that is told, and the rest comes.
fn gone() {
    let place = Place::new();
    let [here, there, other] = cursors();
    let cut = |cursor: String| attached(move |socket| output(socket, 1, &cursor, b"12345"));
    let refused = |oldest: &str| problem("410 Gone", "gone", &format!(",\"oldest\":\"{oldest}\""));
    let rest = attached(|socket| {
        output(socket, 1, "X", b"x");
        say(socket, &exit(2));
        say(socket, END);
    });
    let fake = Fake::start(&place.socket(), [made(), cut(here.clone()), refused(&there), rest]);
    let ran = place.ran(&["exec", "a", "x"]);
    assert_eq!(
        (ran.ended(2).text(), ran.err.contains("4 bytes of stdout are missing from 5 on")),
        ("12345x", true),
        "{ran:?}"
    );
    assert!(fake.end()[3].line.contains(&there));
    let fake = Fake::start(&place.socket(), [made(), cut(here), refused(&other)]);
    place.ran(&["exec", "a", "x"]).ended(125);
    fake.end();
}

fn attach() {
    let place = Place::new();
    let container = |stdin: &str| {
        json(
            "200 OK",
            &format!(
                r#"{{"name":"a","state":"running","command":["sh"],"created_at_ms":1,"started_at_ms":1,"tty":false,"stdin":"{stdin}",
                "pid":1,"init_pid":1,"generation":1,"labels":{{}},"properties":{{}},"ready":true,"health":null,"limits":{{}},"watched":{{}},
                "cgroup_mode":"v2","processes":[],"service":null,"exit":null,"why":null}}"#
            ),
        )
    };
    for (options, stdin, target) in [
        (&[][..], "null", "from=now&stdin=false"),
        (&["--history=all"], "keep", "from=start&stdin=false"),
        (&["--history=7"], "keep", "tail=7&stdin=false"),
        (&["-i"], "keep", "from=now&stdin=true"),
    ] {
        let fake = Fake::start(
            &place.socket(),
            [
                container(stdin),
                attached(|socket| {
                    say(socket, ATTACHED);
                    say(socket, &exit(9));
                    say(socket, END);
                }),
            ],
        );
        place.ran(&[&["attach", "a"], options].concat()).ended(9);
        assert_eq!(fake.end()[1].line, format!("GET /v1/containers/a/attach?{target}"));
    }
    // Somebody else types: that is told, and not left out in silence.
    let refused = problem("409 Conflict", "state", "");
    let fake = Fake::start(&place.socket(), [container("keep"), refused, container("keep")]);
    assert!(place.ran(&["attach", "-i", "a"]).ended(125).err.contains("without -i"));
    fake.end();
    let fake = Fake::start(&place.socket(), [container("null")]);
    assert!(place.ran(&["attach", "-i", "a"]).ended(125).err.contains("run --detach -i"));
    fake.end();
}
