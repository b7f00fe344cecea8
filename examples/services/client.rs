//! As much of an HTTP/1.1 client as a test needs: one request a connection, chunked and plain bodies.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// A response, read as far as it was asked for. Dropping it closes the connection.
pub(crate) struct Response {
    stream: BufReader<TcpStream>,
    status: u16,
    chunked: bool,
    length: Option<usize>,
    left: Vec<u8>,
}

/// Send `request` as it is and read the head of the answer.
pub(crate) fn ask(to: SocketAddr, request: &[u8]) -> Response {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(orangery_tests::wait::PATIENCE)).unwrap();
    // A server that refuses early may close before it has read all.
    let _ = stream.write_all(request);
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_ascii_lowercase()),
        }
    }
    let status = head.first().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).map(|n| n.parse().unwrap());
    let chunked = head.iter().any(|line| line == "transfer-encoding: chunked");
    Response { stream, status: status.unwrap_or(0), chunked, length, left: Vec::new() }
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// The next piece of the body; empty at its end.
    fn more(&mut self) -> Vec<u8> {
        if !self.chunked {
            let mut body = vec![0; self.length.take().unwrap_or(0)];
            self.stream.read_exact(&mut body).unwrap();
            return body;
        }
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap_or_else(|_| panic!("not a chunk: {line:?}"));
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        chunk.truncate(size);
        chunk
    }

    /// The next line of the body.
    pub(crate) fn line(&mut self) -> Vec<u8> {
        loop {
            if let Some(end) = self.left.iter().position(|byte| *byte == b'\n') {
                return self.left.drain(..=end).collect();
            }
            let more = self.more();
            assert!(!more.is_empty(), "the end, after {:?}", self.left);
            self.left.extend(more);
        }
    }

    /// The rest of the body.
    pub(crate) fn whole(mut self) -> Vec<u8> {
        let mut body = std::mem::take(&mut self.left);
        loop {
            match self.more() {
                more if more.is_empty() => return body,
                more => body.extend(more),
            }
        }
    }
}
