//! As much of an HTTP/1.1 client as the tests need: one request a connection, and server-sent events.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read, Write};

use serde_json::Value;

/// The head of an answer, and its body as far as it was asked for. Dropping it closes the connection.
pub(crate) struct Answer {
    stream: BufReader<Box<dyn Read>>,
    pub(crate) status: u16,
    /// Names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    chunked: bool,
    length: Option<usize>,
}

/// Send a request, and read the head of its answer.
pub(crate) fn ask<S: Read + Write + 'static>(
    mut stream: S,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: test\r\n{more}Content-Length: {}\r\n\r\n{body}", body.len());
    // A daemon that refuses early may close before it has read all.
    let _ = stream.write_all(head.as_bytes());
    answer(stream)
}

/// The answer to what was sent.
pub(crate) fn answer<S: Read + 'static>(stream: S) -> Answer {
    let mut stream: BufReader<Box<dyn Read>> = BufReader::new(Box::new(stream));
    let mut line = || {
        let mut text = String::new();
        stream.read_line(&mut text).unwrap();
        text.trim_end().to_owned()
    };
    let first = line();
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {first:?}"));
    let mut headers = BTreeMap::new();
    while let Some((name, value)) = line().split_once(": ") {
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map(|length| length.parse().unwrap());
    let chunked = headers.get("transfer-encoding").is_some_and(|how| how == "chunked");
    Answer { stream, status, headers, chunked, length }
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// It is cut.
    pub(crate) fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
        if !self.chunked {
            let length = self.length.take().unwrap_or(0);
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body)?;
            return Ok((length > 0).then_some(body));
        }
        let mut size = String::new();
        self.stream.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim_end(), 16).map_err(|_| cut())?;
        let mut piece = vec![0; size + 2];
        self.stream.read_exact(&mut piece)?;
        piece.truncate(size);
        Ok((size > 0).then_some(piece))
    }

    /// All of the body.
    ///
    /// # Errors
    /// It is cut.
    pub(crate) fn body(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece()? {
            body.extend(piece);
        }
        Ok(body)
    }

    /// The body, of an answer with this status.
    #[track_caller]
    pub(crate) fn json(mut self, status: u16) -> Value {
        let body = self.body().unwrap();
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }

    /// It has this status and no body.
    #[track_caller]
    pub(crate) fn done(mut self) {
        let body = self.body().unwrap();
        assert_eq!((self.status, &*String::from_utf8_lossy(&body)), (204, ""));
    }

    /// A refusal: its status, its kind and its field.
    #[track_caller]
    pub(crate) fn refusal(self) -> (u16, String, String) {
        let status = self.status;
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json(status);
        let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        assert!(text("detail").len() > 3 && problem["status"] == status, "{problem}");
        (status, text("kind"), text("field"))
    }

    /// The events of the body as they come.
    pub(crate) fn events(self) -> Events {
        assert_eq!(self.status, 200);
        Events { answer: self, text: String::new() }
    }
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

/// Events as they come.
pub(crate) struct Events {
    answer: Answer,
    text: String,
}

impl Iterator for Events {
    type Item = Event;

    /// `None` at the end, and where it is cut.
    fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                let event = (!field("data: ").is_empty()).then(|| Event {
                    name: field("event: ").to_owned(),
                    id: field("id: ").to_owned(),
                    data: serde_json::from_str(field("data: ")).unwrap(),
                });
                self.text = rest.to_owned();
                if event.is_some() {
                    return event;
                }
            }
            let piece = self.answer.piece().ok()??;
            self.text += std::str::from_utf8(&piece).unwrap();
        }
    }
}
