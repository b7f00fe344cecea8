//! A daemon that says what the test tells it to: for answers, and ends of connections, that a real one gives only by chance.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, WebSocket, handshake::derive_accept_key};

/// What one connection was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Method and target.
    pub(crate) line: String,
    /// Names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn read(from: &mut BufReader<&UnixStream>) -> Self {
        let mut line = || {
            let mut text = String::new();
            from.read_line(&mut text).unwrap();
            text.trim_end().to_owned()
        };
        let first = line().trim_end_matches(" HTTP/1.1").to_owned();
        let mut headers = BTreeMap::new();
        while let Some((name, value)) = line().split_once(": ") {
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        from.read_exact(&mut body).unwrap();
        Self { line: first, headers, body: String::from_utf8(body).unwrap() }
    }
}

/// A WebSocket's end of a daemon.
pub(crate) type Attached<'a> = WebSocket<&'a UnixStream>;
type Work = Box<dyn FnOnce(&mut Attached<'_>) + Send>;

/// What one connection is answered; it is closed behind that.
pub(crate) enum Answer {
    /// Bytes, whatever they are.
    Raw(Vec<u8>),
    /// A WebSocket, of which the test does the rest.
    Attached(Work),
}

/// A document.
pub(crate) fn json(status: &str, text: &str) -> Answer {
    let kind = if status.starts_with('2') { "application/json" } else { "application/problem+json" };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", text.len());
    Answer::Raw((head + text).into_bytes())
}

/// A refusal.
pub(crate) fn problem(status: &str, kind: &str, more: &str) -> Answer {
    json(status, &format!(r#"{{"type":"","title":"","status":0,"detail":"no, says the test","kind":"{kind}"{more}}}"#))
}

/// Server-sent events, of an answer that is cut off, or ends.
pub(crate) fn events(text: &str, ends: bool) -> Answer {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let end = if ends { "0\r\n\r\n" } else { "" };
    Answer::Raw(format!("{head}{:x}\r\n{text}\r\n{end}", text.len()).into_bytes())
}

pub(crate) fn attached(work: impl FnOnce(&mut Attached<'_>) + Send + 'static) -> Answer {
    Answer::Attached(Box::new(work))
}

/// A text frame.
pub(crate) fn say(socket: &mut Attached<'_>, text: &str) {
    socket.send(Message::text(text)).unwrap();
}

/// A frame of output.
pub(crate) fn output(socket: &mut Attached<'_>, stream: u8, cursor: &str, bytes: &[u8]) {
    let frame = [&[stream, u8::try_from(cursor.len()).unwrap()], cursor.as_bytes(), bytes].concat();
    socket.send(Message::binary(frame)).unwrap();
}

/// One that listens, until it has answered all of its answers.
pub(crate) struct Fake {
    socket: PathBuf,
    thread: JoinHandle<Vec<Asked>>,
    answered: Receiver<()>,
}

impl Fake {
    pub(crate) fn start(socket: &Path, answers: impl IntoIterator<Item = Answer>) -> Self {
        let listener = UnixListener::bind(socket).unwrap();
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        let (tell, answered) = channel();
        let thread = std::thread::spawn(move || {
            let (mut all, mut others) = (Vec::new(), Vec::new());
            while let Some(answer) = answers.pop_front() {
                let (stream, _) = listener.accept().unwrap();
                let asked = Asked::read(&mut BufReader::new(&stream));
                match answer {
                    Answer::Raw(bytes) => (&stream).write_all(&bytes).unwrap(),
                    // Who is attached may ask for other things meanwhile.
                    Answer::Attached(work) => {
                        let key = asked.header("sec-websocket-key").unwrap().to_owned();
                        others.push(std::thread::spawn(move || attach(&stream, &key, work)));
                    }
                }
                all.push(asked);
                // Not every test wants to know.
                let _ = tell.send(());
            }
            others.into_iter().for_each(|other| other.join().unwrap());
            all
        });
        Self { socket: socket.to_owned(), thread, answered }
    }

    /// Wait until it has answered so many, besides those that were waited for before.
    pub(crate) fn answered(&self, count: usize) {
        (0..count).for_each(|_| self.answered.recv().unwrap());
    }

    /// What it was asked. It is gone then, and its socket with it.
    #[track_caller]
    pub(crate) fn end(self) -> Vec<Asked> {
        let socket = self.socket.clone();
        let all = self.killed();
        std::fs::remove_file(socket).unwrap();
        all
    }

    /// What it was asked. It is gone then, and has left its socket.
    #[track_caller]
    pub(crate) fn killed(self) -> Vec<Asked> {
        self.thread.join().unwrap()
    }
}

fn attach(stream: &UnixStream, key: &str, work: Work) {
    let key = derive_accept_key(key.as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {key}\r\n\r\n"
    );
    let mut to = stream;
    to.write_all(head.as_bytes()).unwrap();
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    work(&mut socket);
}
