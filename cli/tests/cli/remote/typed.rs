//! At a terminal, and by signals: what is typed, how large it is, and that it is as it was afterwards.

use std::process::Stdio;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::process::Signal;
use tokio_tungstenite::tungstenite::Message;

use super::Place;
use super::fake::{Answer, Attached, Fake, attached, json, output, say};
use super::sessions::{ATTACHED, END, exit, made};
use crate::kit::{Running, orangery};
use crate::tty::AtTerminal;
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("a_remote_terminal_is_as_large_as_ours_and_gets_every_key", keys),
        always("the_detach_keys_leave_a_remote_terminal", detach),
        always("our_terminal_is_as_it_was_when_the_daemon_goes", gone),
        always("signals_go_to_a_remote_command", signals),
        always("a_pipe_that_nobody_reads_is_told_to_a_remote_command", unread),
    ]
}

fn at(place: &Place, args: &[&str]) -> AtTerminal {
    let line = place.line(args);
    AtTerminal::run(&line.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What is typed, until it ends so.
fn typed(socket: &mut Attached<'_>, end: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while !data.ends_with(end) {
        match socket.read().unwrap() {
            Message::Binary(bytes) => data.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    data
}

/// Ends when the test says so.
fn until_told(told: Receiver<()>, code: i32) -> Answer {
    attached(move |socket| {
        say(socket, ATTACHED);
        output(socket, 1, "A", b"ready\n");
        told.recv().unwrap();
        say(socket, &exit(code));
        say(socket, END);
    })
}

fn keys() {
    let place = Place::new();
    let fake = Fake::start(
        &place.socket(),
        [
            made(),
            attached(|socket| {
                say(socket, ATTACHED);
                output(socket, 1, "A", b"$ ");
                // ^C is a key like others.
                assert_eq!(typed(socket, b"\r"), b"ab\x03\r");
                output(socket, 1, "B", b"thanks");
                typed(socket, b"x");
                say(socket, &exit(3));
                say(socket, END);
            }),
            json("204 No Content", ""),
        ],
    );
    let mut terminal = at(&place, &["exec", "-it", "a", "sh"]);
    terminal.until("$ ");
    assert!(terminal.is_raw());
    terminal.type_in("ab\u{3}\r");
    terminal.until("thanks");
    terminal.resize(20, 70);
    fake.answered(3);
    terminal.type_in("x");
    assert_eq!(terminal.end().0, Some(3));
    let asked = fake.end();
    assert_eq!(asked[0].json()["tty"], serde_json::json!({ "rows": 33, "columns": 101 }));
    assert_eq!(asked[0].json()["stdin"], "open");
    let process = "/v1/containers/a/processes/3";
    assert_eq!(asked[1].line, format!("GET {process}/attach?from=start&rows=33&columns=101&stdin=true"));
    assert_eq!(asked[2].line, format!("POST {process}/resize"));
    assert_eq!(asked[2].json(), serde_json::json!({ "rows": 20, "columns": 70 }));
}

fn detach() {
    let place = Place::new();
    let fake = Fake::start(
        &place.socket(),
        [
            made(),
            attached(|socket| {
                say(socket, ATTACHED);
                output(socket, 1, "A", b"$ ");
                assert_eq!(typed(socket, b"a"), b"a");
                // It leaves, and what it has typed of the keys does not come.
                while let Ok(frame) = socket.read() {
                    assert!(!frame.is_binary(), "{frame:?}");
                }
            }),
        ],
    );
    let mut terminal = at(&place, &["exec", "-it", "--detach-keys=ctrl-a,d", "a", "sh"]);
    terminal.until("$ ");
    terminal.type_in("a\u{1}d");
    terminal.until("detached");
    assert_eq!(terminal.end().0, Some(0));
    fake.end();
}

fn gone() {
    let place = Place::new();
    let fake = Fake::start(
        &place.socket(),
        [
            made(),
            attached(|socket| {
                say(socket, ATTACHED);
                output(socket, 1, "A", b"$ ");
            }),
        ],
    );
    let mut terminal = at(&place, &["exec", "-it", "--reconnect=0s", "a", "sh"]);
    terminal.until("gone away");
    assert_eq!(terminal.end().0, Some(125));
    fake.end();
}

fn signals() {
    let place = Place::new();
    for (signals, names) in [
        (&[Signal::TERM][..], &["TERM"][..]),
        (&[Signal::QUIT], &["QUIT"]),
        (&[Signal::INT, Signal::INT], &["INT", "KILL"]),
    ] {
        let (end, told): (Sender<()>, _) = channel();
        let answers = [made(), until_told(told, 7)].into_iter();
        let fake = Fake::start(&place.socket(), answers.chain(names.iter().map(|_| json("204 No Content", ""))));
        let mut command = orangery(&[]);
        command.args(place.line(&["exec", "a", "x"]));
        let running = Running::of(command, "ready");
        fake.answered(2);
        for signal in signals {
            running.signal(*signal);
            // Two of one kind at one time are one.
            fake.answered(1);
        }
        end.send(()).unwrap();
        running.end().ended(7);
        let asked = fake.end();
        let sent: Vec<String> =
            asked[2..].iter().map(|asked| asked.json()["signal"].as_str().unwrap().to_owned()).collect();
        assert_eq!(sent, names);
        assert!(asked[2..].iter().all(|asked| asked.line == "POST /v1/containers/a/processes/3/kill"), "{asked:?}");
    }
}

fn unread() {
    let place = Place::new();
    let (end, told): (Sender<()>, Receiver<()>) = channel();
    let fake = Fake::start(
        &place.socket(),
        [
            made(),
            attached(move |socket| {
                say(socket, ATTACHED);
                // More than a pipe and what waits in front of it can hold.
                (0..64).for_each(|_| output(socket, 1, "A", &[b'x'; 1 << 16]));
                told.recv().unwrap();
                say(socket, &exit(141));
                say(socket, END);
            }),
            json("204 No Content", ""),
        ],
    );
    let mut command = orangery(&[]);
    command.args(place.line(&["exec", "a", "yes"])).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    fake.answered(3);
    end.send(()).unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(141));
    assert_eq!(fake.end()[2].json(), serde_json::json!({ "signal": "PIPE" }));
}
