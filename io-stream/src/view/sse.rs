//! Server-sent events (the `text/event-stream` of HTML): loses nothing, and each id is the place behind its
//! event.
//!
//! Pure: events in, text out. Bytes that may be the beginning of a character wait for the rest of it, at most
//! three of each source; the ids say so.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::json;
use super::ndjson;
use crate::chunk::{Chunk, PerSource, Source};
use crate::cursor::Cursor;
use crate::event::Event;

/// The most bytes in one event: a client that is cut off within it gets it again, and must get through.
const PIECE: usize = 2048;

/// One client's view of a stream as server-sent events.
///
/// | event | its data |
/// |---|---|
/// | (none: a message) | `stream`, `offset`, and `text` or, where the bytes are no UTF-8, `base64` |
/// | `gap` | `stream`, `from`, `to`, `cause` |
/// | `lagged` | `{}`: this reader was disconnected as too slow, the id is where it can resume |
/// | `end` | `reason` and the number of bytes of each stream |
/// | `bye` | `{}`: the server goes, not the stream |
///
/// The id of each is a [`Cursor`] over both streams: a client that comes back with it as `Last-Event-ID` gets
/// exactly what follows.
///
/// ```
/// use orangery_io_stream::view::ServerSentEvents;
/// use orangery_io_stream::{EndInfo, Hub, HubOptions, Source, SubscribeOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let hub = Hub::new(HubOptions::default());
/// let mut reader = hub.subscribe(SubscribeOptions::default());
/// // A character in two parts.
/// hub.publish(Source::Stdout, "gr\u{fc}n".as_bytes()[..3].to_vec().into()).await;
/// hub.publish(Source::Stdout, "gr\u{fc}n".as_bytes()[3..].to_vec().into()).await;
/// hub.close(EndInfo::default());
///
/// let mut view = ServerSentEvents::new(reader.opening().start);
/// let mut body = Vec::new();
/// while let Some(event) = reader.recv().await {
///     view.push(&event, &mut body);
/// }
/// let body = String::from_utf8(body).unwrap();
/// let data: Vec<_> = body.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
/// assert_eq!(data[0], r#"{"stream":"stdout","offset":0,"text":"gr"}"#);
/// assert_eq!(data[1], "{\"stream\":\"stdout\",\"offset\":2,\"text\":\"\u{fc}n\"}");
/// assert_eq!(data[2], r#"{"reason":"eof","stdout":5,"stderr":0,"exit":null}"#);
/// # }
/// ```
#[derive(Debug)]
pub struct ServerSentEvents {
    held: PerSource<Bytes>,
    place: Cursor,
    times: bool,
}

impl ServerSentEvents {
    /// The view of a reader that has got nothing behind `start`: what its
    /// [`opening`](crate::Subscriber::opening) tells.
    pub const fn new(start: Cursor) -> Self {
        Self { held: PerSource::new(Bytes::new(), Bytes::new()), place: start, times: false }
    }

    /// Messages have `at_ms` too: when their last bytes were read, in milliseconds since 1970; without it that is not known.
    pub const fn with_times(mut self) -> Self {
        self.times = true;
        self
    }

    /// The id of the last event: the place behind everything that was written.
    pub const fn cursor(&self) -> Cursor {
        self.place
    }

    /// Appends `event`; nothing, while its bytes may be a part of a character.
    pub fn push(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Chunk(chunk) => self.chunk(chunk, out),
            Event::Gap(gap) => {
                self.flush(gap.source, out);
                self.place = self.place.with(gap.source, gap.to);
                self.write("gap", out, |out| ndjson::push_gap(gap, out));
            }
            Event::End(end) => {
                for source in Source::ALL {
                    self.flush(source, out);
                }
                self.write("end", out, |out| ndjson::push_end(end, out));
            }
            Event::Lagged { cursor, .. } => {
                self.place = *cursor;
                self.write("lagged", out, |out| out.extend_from_slice(b"{}"));
            }
        }
    }

    /// Appends an event of another kind: `data` is one line, such as a JSON document.
    pub fn push_other(&self, name: &str, data: &str, out: &mut Vec<u8>) {
        self.write(name, out, |out| out.extend(data.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n'))));
    }

    /// Appends the farewell of a server that goes while the stream goes on.
    pub fn push_bye(&self, out: &mut Vec<u8>) {
        self.write("bye", out, |out| out.extend_from_slice(b"{}"));
    }

    /// Appends a comment: shows that the connection lives, and says nothing.
    pub fn push_heartbeat(out: &mut Vec<u8>) {
        out.extend_from_slice(b":\n\n");
    }

    /// Appends how long a client that was cut off is to wait before it comes back.
    pub fn push_retry(after: Duration, out: &mut Vec<u8>) {
        out.extend_from_slice(b"retry: ");
        json::push_number(u64::try_from(after.as_millis()).unwrap_or(u64::MAX), out);
        out.extend_from_slice(b"\n\n");
    }

    fn chunk(&mut self, chunk: &Chunk, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held[chunk.source]);
        let mut data = match held.is_empty() {
            true => chunk.data.clone(),
            false => [&held[..], &chunk.data[..]].concat().into(),
        };
        while data.len() > PIECE {
            let piece = data.split_to(PIECE - unfinished(&data[..PIECE]));
            self.message(chunk.source, &piece, self.time(chunk), out);
        }
        self.held[chunk.source] = data.split_off(data.len() - unfinished(&data));
        self.message(chunk.source, &data, self.time(chunk), out);
    }

    /// The rest of a character will not come.
    fn flush(&mut self, source: Source, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held[source]);
        self.message(source, &held, None, out);
    }

    fn time(&self, chunk: &Chunk) -> Option<u64> {
        let since =
            chunk.wall.duration_since(SystemTime::UNIX_EPOCH).ok().filter(|since| self.times && !since.is_zero());
        since.map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn message(&mut self, source: Source, data: &[u8], at_ms: Option<u64>, out: &mut Vec<u8>) {
        if data.is_empty() {
            return;
        }
        let offset = self.place.offset(source);
        self.place = self.place.with(source, offset + data.len() as u64);
        self.write("", out, |out| {
            out.extend_from_slice(b"{\"stream\":");
            json::push_str(source.as_str(), out);
            ndjson::push_field("offset", offset, out);
            if let Some(at_ms) = at_ms {
                ndjson::push_field("at_ms", at_ms, out);
            }
            ndjson::push_payload(data, out);
            out.push(b'}');
        });
    }

    /// One event; JSON of ours has no line ends in it.
    fn write(&self, name: &str, out: &mut Vec<u8>, data: impl FnOnce(&mut Vec<u8>)) {
        if !name.is_empty() {
            out.extend_from_slice(format!("event: {name}\n").as_bytes());
        }
        out.extend_from_slice(format!("id: {}\ndata: ", self.place).as_bytes());
        data(out);
        out.extend_from_slice(b"\n\n");
    }
}

/// How many bytes at the end may be the beginning of a character.
fn unfinished(data: &[u8]) -> usize {
    let from = data.len().saturating_sub(3);
    // Only the last three can be: a character has four bytes at most.
    (from..data.len())
        .find(|at| {
            std::str::from_utf8(&data[*at..])
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .map_or(0, |at| data.len() - at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::chunk::{Generation, Totals};
    use crate::cursor::StreamId;
    use crate::event::{End, EndReason, Gap, GapCause};
    use crate::fate::Fate;

    fn start(stdout: u64, stderr: u64) -> Cursor {
        Cursor::new(StreamId::from_bytes([7; 16]), Generation(1), Source::Stdout, stdout, stderr)
    }

    fn chunk(source: Source, offset: u64, other_offset: u64, data: &[u8]) -> Event {
        Event::Chunk(Chunk {
            stream: StreamId::from_bytes([7; 16]),
            source,
            generation: Generation(1),
            offset,
            other_offset,
            seq: 0,
            wall: SystemTime::UNIX_EPOCH,
            mono: Duration::ZERO,
            data: Bytes::copy_from_slice(data),
        })
    }

    fn end() -> Event {
        Event::End(End::new(PerSource::from_fn(|_| Totals::default()), EndReason::Eof, Fate::Unknown))
    }

    /// What a client has: the bytes of each source, and the id of the last event.
    #[derive(Debug, Default, Clone, PartialEq)]
    struct Client {
        bytes: [Vec<u8>; 2],
        id: String,
    }

    impl Client {
        fn read(&mut self, body: &str) {
            for event in body.split("\n\n").filter(|event| !event.is_empty()) {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
                self.id = field("id: ").unwrap_or(&self.id).to_owned();
                let data: serde_json::Value = serde_json::from_str(field("data: ").unwrap()).unwrap();
                if field("event: ").is_some() {
                    continue;
                }
                let bytes = &mut self.bytes[usize::from(data["stream"] == "stderr")];
                assert_eq!(data["offset"], bytes.len());
                match data["text"].as_str() {
                    Some(text) => bytes.extend_from_slice(text.as_bytes()),
                    None => bytes.extend(decode(data["base64"].as_str().unwrap())),
                }
            }
        }
    }

    fn decode(text: &str) -> Vec<u8> {
        let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let bits = text.bytes().filter_map(|byte| digits.iter().position(|digit| *digit == byte));
        let (mut out, mut held, mut count) = (Vec::new(), 0_u32, 0);
        for digit in bits {
            held = held << 6 | digit as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                out.push((held >> count) as u8);
            }
        }
        out
    }

    #[test]
    fn only_the_beginning_of_a_character_waits() {
        let euro = "\u{20ac}".as_bytes();
        let clef = "\u{1d11e}".as_bytes();
        for (data, waits) in [
            (&b""[..], 0),
            (b"abc", 0),
            (euro, 0),
            (&euro[..1], 1),
            (&euro[..2], 2),
            (&clef[..3], 3),
            (clef, 0),
            (b"\xff", 0),
            (b"\x80\x80", 0),
            (b"a\xffb\xe2\x82", 2),
            // No character begins so.
            (b"\xed\xa0", 0),
            (b"\xf5", 0),
        ] {
            assert_eq!(unfinished(data), waits, "{data:x?}");
        }
    }

    #[test]
    fn what_waits_is_told_when_its_rest_will_not_come() {
        let mut view = ServerSentEvents::new(start(0, 0));
        let mut out = Vec::new();
        view.push(&chunk(Source::Stdout, 0, 0, b"\xe2\x82"), &mut out);
        view.push(&chunk(Source::Stderr, 0, 2, b"x"), &mut out);
        assert_eq!((view.cursor().offset(Source::Stdout), view.cursor().offset(Source::Stderr)), (0, 1));
        let gap = Gap { source: Source::Stdout, from: 2, to: 9, cause: GapCause::Removed };
        view.push(&Event::Gap(gap), &mut out);
        view.push_other("exit", "{\"a\":\n1}", &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("id: ") && !line.is_empty()).collect();
        assert_eq!(
            lines,
            [
                r#"data: {"stream":"stderr","offset":0,"text":"x"}"#,
                r#"data: {"stream":"stdout","offset":0,"base64":"4oI="}"#,
                "event: gap",
                r#"data: {"stream":"stdout","from":2,"to":9,"cause":"removed"}"#,
                "event: exit",
                r#"data: {"a":1}"#,
            ]
        );
        assert_eq!(view.cursor(), start(9, 1));
    }

    #[test]
    fn times_are_told_where_they_are_wanted_and_known() {
        let mut view = ServerSentEvents::new(start(0, 0)).with_times();
        let mut out = Vec::new();
        let Event::Chunk(mut later) = chunk(Source::Stdout, 1, 0, b"b") else { panic!() };
        later.wall += Duration::from_millis(1500);
        view.push(&chunk(Source::Stdout, 0, 0, b"a"), &mut out);
        view.push(&Event::Chunk(later), &mut out);
        let text = String::from_utf8(out).unwrap();
        let data: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data[0], r#"{"stream":"stdout","offset":0,"text":"a"}"#);
        assert_eq!(data[1], r#"{"stream":"stdout","offset":1,"at_ms":1500,"text":"b"}"#);
    }

    #[test]
    fn a_large_chunk_comes_in_pieces_that_end_with_characters() {
        let text = "\u{20ac}".repeat(3 * PIECE);
        let mut out = Vec::new();
        ServerSentEvents::new(start(0, 0)).push(&chunk(Source::Stdout, 0, 0, text.as_bytes()), &mut out);
        let body = String::from_utf8(out).unwrap();
        assert!(!body.contains("base64") && body.matches("data: ").count() == 10, "{body}");
        let mut client = Client::default();
        client.read(&body);
        assert_eq!(client.bytes[0], text.as_bytes());
    }

    proptest! {
        /// Any bytes in any pieces, cut off behind any event and resumed at its id.
        #[test]
        fn every_byte_once(
            pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(0_u8), Just(0xe2), Just(0x82), Just(0xac), any::<u8>()], 1..9)), 1..20),
            cut in 0..40_usize,
        ) {
            let mut whole = [Vec::new(), Vec::new()];
            let mut events = Vec::new();
            for (err, data) in &pieces {
                let source = if *err { Source::Stderr } else { Source::Stdout };
                let [at, other] = [source, source.other()].map(|each| whole[each as usize].len() as u64);
                whole[source as usize].extend_from_slice(data);
                events.push(chunk(source, at, other, data));
            }
            events.push(end());
            let mut view = ServerSentEvents::new(start(0, 0));
            let mut body = Vec::new();
            events.iter().for_each(|event| view.push(event, &mut body));
            let body = String::from_utf8(body).unwrap();
            let parts: Vec<_> = body.split_inclusive("\n\n").collect();
            let mut client = Client::default();
            client.read(&parts[..cut.min(parts.len() - 1)].concat());
            // Comes back: a hub or a log gives what is behind the place of the last id.
            let place: Cursor = if client.id.is_empty() { start(0, 0) } else { client.id.parse().unwrap() };
            let mut view = ServerSentEvents::new(place);
            let mut rest = Vec::new();
            for event in &events {
                match event {
                    Event::Chunk(chunk) => {
                        if let Some(chunk) = chunk.since(place.offset(chunk.source)) {
                            view.push(&Event::Chunk(chunk), &mut rest);
                        }
                    }
                    event => view.push(event, &mut rest),
                }
            }
            client.read(&String::from_utf8(rest).unwrap());
            prop_assert_eq!(client.bytes, whole);
        }
    }
}
