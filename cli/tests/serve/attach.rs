//! WebSockets: a terminal, its size and signals; input and its end; one writer at a time.

use std::os::unix::net::UnixStream;
use std::time::Instant;

use orangery_daemon::wire::{Output, Told};
use rustix::process::Signal;
use serde_json::json;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, HandshakeError, Message, WebSocket, client};

use crate::daemon::{Daemon, PATIENCE};
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("a_terminal_with_its_size_and_signals", terminal),
        always("input_arrives_and_its_end_is_told", input),
        always("an_attachment_that_is_cut_goes_on_where_it_was", cut),
        always("an_attachment_is_told_where_it_stands_when_the_daemon_goes", farewell),
        always("frames_that_make_no_sense", nonsense),
    ]
}

struct Attached {
    socket: WebSocket<UnixStream>,
    /// What was written, and where that ends.
    bytes: Vec<u8>,
    cursor: String,
}

/// What else came.
#[derive(Debug)]
enum Came {
    Told(Told),
    Closed(Option<CloseCode>),
}

pub(crate) type Socket = WebSocket<UnixStream>;

/// `None`: it was refused as taken.
pub(crate) fn open(daemon: &Daemon, target: &str) -> Option<Socket> {
    match client(format!("ws://localhost{target}"), daemon.connect()) {
        Ok((socket, _)) => Some(socket),
        Err(HandshakeError::Failure(Error::Http(answer))) if answer.status() == 409 => None,
        Err(error) => panic!("{target}: {error}"),
    }
}

fn attach(daemon: &Daemon, target: &str) -> Attached {
    attached(open(daemon, target).unwrap())
}

fn attached(socket: Socket) -> Attached {
    let mut attached = Attached { socket, bytes: Vec::new(), cursor: String::new() };
    match attached.next() {
        Came::Told(Told::Attached { cursor, .. }) => attached.cursor = cursor,
        other => panic!("{other:?}"),
    }
    attached
}

impl Attached {
    fn say(&mut self, text: &serde_json::Value) {
        self.socket.send(Message::text(text.to_string())).unwrap();
    }

    fn write(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).unwrap();
    }

    /// The next that is no output.
    fn next(&mut self) -> Came {
        loop {
            if let Some(came) = self.step() {
                return came;
            }
        }
    }

    fn step(&mut self) -> Option<Came> {
        match self.socket.read().unwrap() {
            Message::Text(text) => Some(Came::Told(serde_json::from_str(&text).unwrap())),
            Message::Binary(frame) => {
                let output = Output::decode(&frame).unwrap();
                self.bytes.extend_from_slice(output.bytes);
                self.cursor = output.cursor.to_owned();
                None
            }
            Message::Close(frame) => Some(Came::Closed(frame.map(|frame| frame.code))),
            _ => None,
        }
    }

    /// Read on until this was written.
    fn until(&mut self, text: &str) {
        while !String::from_utf8_lossy(&self.bytes).contains(text) {
            if let Some(came) = self.step() {
                panic!("{came:?} before {text:?}: {:?}", String::from_utf8_lossy(&self.bytes));
            }
        }
    }

    /// Its exit, its end and the farewell.
    fn ended(mut self, exit_code: i32) -> Vec<u8> {
        let exit = loop {
            match self.next() {
                Came::Told(Told::Exit(exit)) => break exit,
                // Who has ended reads no more, and that may be noticed first.
                Came::Told(Told::StdinClosed) => {}
                other => panic!("{other:?} instead of an exit"),
            }
        };
        assert_eq!(exit.exit_code, exit_code);
        assert!(matches!(self.next(), Came::Told(Told::End { cursor }) if cursor == self.cursor));
        assert!(matches!(self.next(), Came::Closed(Some(CloseCode::Normal))));
        self.bytes
    }
}

fn exec(daemon: &Daemon, script: &str, more: serde_json::Value) -> u64 {
    let mut body = json!({ "command": ["sh", "-c", script] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    daemon.ask("POST", "/v1/containers/a/processes", &body.to_string()).json(201)["id"].as_u64().unwrap()
}

fn terminal() {
    let daemon = Daemon::start();
    daemon.sh("a", "exec sleep 1000").json(201);
    let script = "trap 'echo winch; stty size' WINCH; trap 'echo int; exit 5' INT; stty size; echo ready; while :; do read x; echo \"<$x>\"; done";
    let id = exec(&daemon, script, json!({ "tty": { "rows": 10, "columns": 20 }, "stdin": "keep" }));
    let mut client = attach(&daemon, &format!("/v1/containers/a/processes/{id}/attach?stdin=true"));
    client.until("ready");
    assert!(String::from_utf8_lossy(&client.bytes).contains("10 20"));
    client.write(b"typed\n");
    client.until("<typed>");
    client.say(&json!({ "type": "resize", "rows": 30, "columns": 90 }));
    client.write(b"\n");
    client.until("30 90");
    client.say(&json!({ "type": "signal", "signal": "INT" }));
    client.write(b"\n");
    client.ended(5);
    daemon.end();
}

fn input() {
    let daemon = Daemon::start();
    daemon.sh("a", "exec sleep 1000").json(201);
    let id = exec(&daemon, "cat; echo end", json!({ "stdin": "open" }));
    let target = format!("/v1/containers/a/processes/{id}/attach?stdin=true");
    // What is no WebSocket takes no input, and closes none.
    assert_eq!(daemon.get(&target).refusal().1, "usage");
    let mut client = attach(&daemon, &target);
    assert!(open(&daemon, &target).is_none(), "one writer at a time");
    let piece = vec![b'x'; 100_000];
    for _ in 0..20 {
        client.write(&piece);
    }
    client.say(&json!({ "type": "close_stdin" }));
    assert!(matches!(client.next(), Came::Told(Told::StdinClosed)));
    let bytes = client.ended(0);
    assert_eq!((bytes.len(), &bytes[2_000_000..]), (2_000_004, &b"end\n"[..]));
    daemon.end();
}

fn cut() {
    let daemon = Daemon::start();
    daemon.make("a", "read x; seq 1 20000; read x; exit 6", json!({ "stdin": "keep" })).json(201);
    let mut client = attach(&daemon, "/v1/containers/a/attach?stdin=true");
    client.write(b"go\n");
    client.until("\n1000\n");
    let (cursor, mut bytes) = (client.cursor.clone(), std::mem::take(&mut client.bytes));
    drop(client);
    // Who was there before is noticed to have left.
    let again = format!("/v1/containers/a/attach?stdin=true&cursor={cursor}");
    let until = Instant::now() + PATIENCE;
    let mut client = loop {
        if let Some(socket) = open(&daemon, &again) {
            break attached(socket);
        }
        assert!(Instant::now() < until, "its input stays taken");
    };
    client.write(b"go\n");
    bytes.extend(client.ended(6));
    let expected: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    assert!(bytes == expected.as_bytes(), "{} bytes of {}", bytes.len(), expected.len());
    daemon.end();
}

fn farewell() {
    let mut daemon = Daemon::start();
    daemon.sh("a", "echo hi; exec sleep 1000").json(201);
    let mut client = attach(&daemon, "/v1/containers/a/attach");
    client.until("hi\n");
    daemon.signal(Signal::TERM);
    assert!(matches!(client.next(), Came::Told(Told::Bye { cursor }) if cursor == client.cursor));
    assert!(matches!(client.next(), Came::Closed(Some(CloseCode::Away))));
    // Who keeps the connection would be waited for.
    drop(client);
    assert_eq!(daemon.ended().code(), Some(0));
    // What ran goes on, until the next one deletes it.
    daemon.again().end();
}

fn nonsense() {
    let daemon = Daemon::start();
    daemon.sh("a", "exec sleep 1000").json(201);
    let mut client = attach(&daemon, "/v1/containers/a/attach");
    let mut refused = |message: Message| {
        client.socket.send(message).unwrap();
        match client.next() {
            Came::Told(Told::Problem { problem }) => problem.kind.name(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(Message::text("no json")), "invalid");
    assert_eq!(refused(Message::text(r#"{"type":"dance"}"#)), "invalid");
    assert_eq!(refused(Message::text(r#"{"type":"signal","signal":"TREM"}"#)), "invalid");
    assert_eq!(refused(Message::text(r#"{"type":"resize","rows":1,"columns":1}"#)), "state");
    assert_eq!(refused(Message::binary(b"typed".to_vec())), "state");
    // One that is too large ends it, and nothing else.
    let _ = client.socket.send(Message::binary(vec![0; 3 << 20]));
    while !matches!(client.next(), Came::Closed(_)) {}
    drop(client);
    assert_eq!(daemon.get("/v1/containers/a").json(200)["state"], "running");
    daemon.end();
}
