//! The least client that the daemon can be spoken to with: one request a connection, so that a kill costs one request.

use std::borrow::Cow;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

/// What was answered, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The daemon is about to go, or what was asked for went with its keeper: to be asked again.
    pub(crate) fn is_for_now(&self) -> bool {
        self.status == 503 || self.status >= 500 && self.json()["kind"] == "keeper"
    }

    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} is no JSON ({error}): {}", self.status, self.text()))
    }
}

/// Ask once. A daemon that goes while it answers is an error, whatever it has said so far.
pub(crate) fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: Option<&Value>,
) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let key = key.map(|key| format!("Idempotency-Key: {key}\r\n")).unwrap_or_default();
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let length = body.len();
    let head = "Host: orangery\r\nConnection: close\r\n";
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}{key}{kind}Content-Length: {length}\r\n\r\n{body}")?;
    answer(BufReader::new(stream))
}

fn answer(mut from: BufReader<UnixStream>) -> io::Result<Answer> {
    let status = line(&mut from)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(cut)?;
    let (mut length, mut chunked) = (None, false);
    loop {
        let header = line(&mut from)?.to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse::<u64>().ok();
        }
        chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
    }
    let mut body = Vec::new();
    match length {
        _ if chunked => chunks(&mut from, &mut body)?,
        Some(length) => exactly(&mut from, length, &mut body)?,
        None => drop(from.read_to_end(&mut body)?),
    }
    Ok(Answer { status, body })
}

fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn line(from: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(cut());
    }
    Ok(line.trim_end().to_owned())
}

fn exactly(from: &mut impl Read, length: u64, to: &mut Vec<u8>) -> io::Result<()> {
    let read = from.take(length).read_to_end(to)? as u64;
    if read == length { Ok(()) } else { Err(cut()) }
}

fn chunks(from: &mut BufReader<UnixStream>, to: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let head = line(from)?;
        let length = u64::from_str_radix(head.split(';').next().unwrap_or_default(), 16).map_err(|_| cut())?;
        exactly(from, length, to)?;
        line(from)?;
        if length == 0 {
            return Ok(());
        }
    }
}
