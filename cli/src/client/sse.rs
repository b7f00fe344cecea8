//! `text/event-stream`, as HTML has it: bytes in pieces of any size become messages. Pure, bounded.

use std::collections::VecDeque;

/// A message that is longer than this is none of our daemon's.
const LONGEST: usize = 4 << 20;

/// One message of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its name; empty for a plain message.
    pub(crate) event: String,
    /// Its lines, joined by `\n`.
    pub(crate) data: String,
    /// The place behind it: the last that was told, by this message or an earlier one.
    pub(crate) id: String,
}

/// A line, or a message, is longer than anything that we may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// What has come and is no message yet.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The beginning of a line.
    line: Vec<u8>,
    /// A `\r` has ended the last line: a `\n` that follows belongs to it.
    returned: bool,
    /// The first line is behind us, and with it the mark of a byte order.
    begun: bool,
    event: String,
    data: Option<String>,
    /// The last id that was written.
    id: String,
    /// The last one behind which a line was empty: the place behind all messages.
    place: String,
    ready: VecDeque<Message>,
}

impl Parser {
    /// Of a stream that goes on behind `id`.
    pub(crate) fn going_on(id: &str) -> Self {
        Self { id: id.to_owned(), place: id.to_owned(), ..Self::default() }
    }

    /// Take more bytes in.
    ///
    /// # Errors
    /// A message is too long; nothing more comes of this stream.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        if self.returned && !bytes.is_empty() {
            self.returned = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, rest) = bytes.split_at(at);
            self.keep(line)?;
            let line = std::mem::take(&mut self.line);
            self.line(&line)?;
            bytes = match rest {
                [b'\r', b'\n', rest @ ..] => rest,
                [b'\r'] => {
                    self.returned = true;
                    &[]
                }
                [_, rest @ ..] => rest,
                [] => &[],
            };
        }
        self.keep(bytes)
    }

    /// The place behind all messages that are whole, also behind those without data, which are none.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// The next message that is whole.
    pub(crate) fn next(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + part.len() > LONGEST {
            return Err(TooLong);
        }
        self.line.extend_from_slice(part);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), TooLong> {
        let line = match std::mem::replace(&mut self.begun, true) {
            true => line,
            false => line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line),
        };
        if line.is_empty() {
            self.end();
            return Ok(());
        }
        let text = String::from_utf8_lossy(line);
        let (field, value) = text.split_once(':').unwrap_or((&text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event = value.to_owned(),
            "data" => return self.data(value),
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            // Among them the empty field, a comment, and `retry`: our own back-off knows that nobody listens.
            _ => {}
        }
        Ok(())
    }

    fn data(&mut self, value: &str) -> Result<(), TooLong> {
        match &mut self.data {
            Some(data) if data.len() + value.len() >= LONGEST => return Err(TooLong),
            Some(data) => data.extend(["\n", value]),
            None => self.data = Some(value.to_owned()),
        }
        Ok(())
    }

    fn end(&mut self) {
        let event = std::mem::take(&mut self.event);
        self.place.clone_from(&self.id);
        // Without data it is none, says the standard; its id counts.
        let Some(data) = self.data.take() else { return };
        self.ready.push_back(Message { event, data, id: self.id.clone() });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(pieces: &[&[u8]]) -> Vec<Message> {
        let mut parser = Parser::default();
        pieces.iter().for_each(|piece| parser.push(piece).unwrap());
        std::iter::from_fn(|| parser.next()).collect()
    }

    fn message(event: &str, data: &str, id: &str) -> Message {
        Message { event: event.into(), data: data.into(), id: id.into() }
    }

    #[test]
    fn what_the_standard_says() {
        let text = "\u{feff}: comment\n\ndata: a\ndata:b\ndata:  c\n\nevent: x\rid: 7\r\rdata\r\n\r\nid:8\n\nretry: 12\nretry: 1x\nevent: y\ndata: d\nwhat: e\n\ndata: lost";
        let mut parser = Parser::default();
        parser.push(text.as_bytes()).unwrap();
        assert_eq!(parser.next(), Some(message("", "a\nb\n c", "")));
        // The one named x had no data; its id is the next one's too.
        assert_eq!(parser.next(), Some(message("", "", "7")));
        assert_eq!(parser.next(), Some(message("y", "d", "8")));
        assert_eq!(parser.next(), None);
        assert_eq!(parser.place(), "8");
        parser.push(b"\nid: 9\n").unwrap();
        assert_eq!(parser.place(), "8");
        parser.push(b"\n").unwrap();
        assert_eq!(parser.place(), "9");
    }

    #[test]
    fn an_id_with_a_zero_byte_is_none() {
        assert_eq!(all(&[b"id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n"]), [message("", "a", "1"), message("", "b", "1")]);
    }

    #[test]
    fn what_is_endless_is_refused() {
        let mut parser = Parser::default();
        let part = vec![b'x'; 1 << 20];
        assert_eq!((0..5).map(|_| parser.push(&part)).find(Result::is_err), Some(Err(TooLong)));
        let (mut parser, line) = (Parser::default(), [b"data: ", &part[..], b"\n"].concat());
        assert_eq!((0..5).map(|_| parser.push(&line)).find(Result::is_err), Some(Err(TooLong)));
    }

    /// Of what a server of ours writes: any names and texts without ends of lines in names and ids.
    fn messages() -> impl Strategy<Value = Vec<Message>> {
        let name = "[^\r\n\0\u{feff}]{0,8}";
        let message = (name, "[^\r\0]{0,40}", name).prop_map(|(event, data, id)| Message { event, data, id });
        prop::collection::vec(message, 0..6)
    }

    fn write(messages: &[Message], end: &str) -> String {
        let mut text = String::new();
        for Message { event, data, id } in messages {
            text += &format!("event: {event}{end}id: {id}{end}: a comment{end}");
            data.split('\n').for_each(|line| text += &format!("data: {line}{end}"));
            text += end;
        }
        text
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_whatever_the_pieces(
            messages in messages(),
            end in prop::sample::select(vec!["\n", "\r", "\r\n"]),
            cuts in prop::collection::vec(1_usize..9, 1..40),
        ) {
            let text = write(&messages, end);
            let (mut rest, mut pieces, mut cuts) = (text.as_bytes(), Vec::new(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            prop_assert_eq!(all(&pieces), messages);
        }

        #[test]
        fn any_bytes_are_read_alike_in_any_pieces(
            bytes in prop::collection::vec(prop::sample::select(b"\r\n:d ata0\xff\xef\xbb\xbf".to_vec()), 0..200),
            size in 1_usize..20,
        ) {
            let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
            prop_assert_eq!(all(&pieces), all(&[&bytes]));
        }
    }
}
