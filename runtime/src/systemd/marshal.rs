//! D-Bus messages as bytes: as much of the format as one call to systemd needs. Pure.
//!
//! Numbers are little endian, each value is aligned to its size from the beginning of the message.

/// A message under construction, or a part of one that begins at a multiple of eight.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

/// What can be in a variant here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Path(&'a str),
    Signature(&'a str),
    Flag(bool),
    Numbers(&'a [u32]),
    Number(u32),
    Wide(u64),
    Signed(i32),
    SignedWide(i64),
    Real(f64),
    Bytes(&'a [u8]),
    Texts(&'a [String]),
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    fn wide(&mut self, bytes: [u8; 8]) {
        self.align(8);
        self.bytes.extend_from_slice(&bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, text: &str) {
        self.bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
    }

    /// Elements that `fill` writes, each aligned as the first.
    pub(super) fn array(&mut self, align: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let length = self.bytes.len() - 4;
        self.align(align);
        let begin = self.bytes.len();
        fill(self);
        let size = u32::try_from(self.bytes.len() - begin).unwrap_or(u32::MAX);
        self.bytes[length..length + 4].copy_from_slice(&size.to_le_bytes());
    }

    /// A structure of a name and a variant.
    pub(super) fn property(&mut self, name: &str, value: Value<'_>) {
        self.align(8);
        self.text(name);
        self.variant(value);
    }

    fn variant(&mut self, value: Value<'_>) {
        let signature = match value {
            Value::Text(_) => "s",
            Value::Path(_) => "o",
            Value::Signature(_) => "g",
            Value::Flag(_) => "b",
            Value::Numbers(_) => "au",
            Value::Number(_) => "u",
            Value::Wide(_) => "t",
            Value::Signed(_) => "i",
            Value::SignedWide(_) => "x",
            Value::Real(_) => "d",
            Value::Bytes(_) => "ay",
            Value::Texts(_) => "as",
        };
        self.signature(signature);
        match value {
            Value::Text(text) | Value::Path(text) => self.text(text),
            Value::Signature(text) => self.signature(text),
            Value::Flag(flag) => self.number(flag.into()),
            Value::Numbers(numbers) => self.array(4, |it| numbers.iter().for_each(|number| it.number(*number))),
            Value::Number(number) => self.number(number),
            Value::Wide(number) => self.wide(number.to_le_bytes()),
            Value::Signed(number) => self.number(number.cast_unsigned()),
            Value::SignedWide(number) => self.wide(number.to_le_bytes()),
            Value::Real(number) => self.wide(number.to_le_bytes()),
            Value::Bytes(bytes) => self.array(1, |it| it.bytes.extend_from_slice(bytes)),
            Value::Texts(texts) => self.array(4, |it| texts.iter().for_each(|text| it.text(text))),
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A call of a method.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    /// Of its arguments.
    pub(super) signature: &'a str,
}

impl Call<'_> {
    /// The whole message.
    pub(super) fn message(&self, serial: u32, body: Vec<u8>) -> Vec<u8> {
        self.bytes(CALL, serial, None, body)
    }

    /// What the other side says, for trials.
    #[cfg(test)]
    pub(super) fn of_kind(&self, kind: u8, answers: Option<u32>, body: Vec<u8>) -> Vec<u8> {
        self.bytes(kind, 1, answers, body)
    }

    fn bytes(&self, kind: u8, serial: u32, answers: Option<u32>, body: Vec<u8>) -> Vec<u8> {
        let mut head = Writer::default();
        // Little endian, no flags, version 1.
        head.bytes.extend_from_slice(&[b'l', kind, 0, 1]);
        head.number(u32::try_from(body.len()).unwrap_or(u32::MAX));
        head.number(serial);
        let answers = answers.map(|serial| (5, Value::Number(serial)));
        let fields = [
            (1, Value::Path(self.path)),
            (2, Value::Text(self.interface)),
            (3, Value::Text(self.member)),
            (6, Value::Text(self.destination)),
            (8, Value::Signature(self.signature)),
        ];
        head.array(8, |it| {
            for (code, value) in fields.into_iter().chain(answers) {
                if matches!(value, Value::Signature("")) {
                    continue;
                }
                it.align(8);
                it.bytes.push(code);
                it.variant(value);
            }
        });
        head.align(8);
        head.bytes.extend_from_slice(&body);
        head.into_bytes()
    }
}

pub(super) const CALL: u8 = 1;
pub(super) const RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// What came, as far as anybody here asks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// Of the call that it answers.
    pub(super) answers: Option<u32>,
    pub(super) member: String,
    pub(super) error: String,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

/// The fixed part of a header, the length of its fields included.
pub(super) const HEAD: usize = 16;
/// Nothing that is asked for here comes near.
const MOST: usize = 1 << 20;

/// How long the whole message is, by its first [`HEAD`] bytes; `None`: it is none, or too long.
pub(super) fn length(head: &[u8]) -> Option<usize> {
    let mut reader = Reader { bytes: head, at: 0 };
    (reader.byte()? == b'l').then_some(())?;
    reader.at = 4;
    let body = reader.number()?;
    reader.at = 12;
    let fields = reader.number()?;
    let whole = (HEAD + fields as usize).next_multiple_of(8) + body as usize;
    ((fields as usize) < MOST && (body as usize) < MOST && whole < MOST).then_some(whole)
}

/// Read a whole message.
pub(super) fn parse(bytes: &[u8]) -> Option<Message> {
    let mut reader = Reader { bytes, at: 4 };
    let mut message = Message { kind: *bytes.get(1)?, ..Message::default() };
    let body = reader.number()? as usize;
    reader.at = 12;
    let end = HEAD + reader.number()? as usize;
    while reader.at < end {
        reader.align(8);
        let code = reader.byte()?;
        let signature = reader.signature()?;
        match (code, signature.as_str()) {
            (3, "s") => message.member = reader.text()?,
            (4, "s") => message.error = reader.text()?,
            (5, "u") => message.answers = Some(reader.number()?),
            (8, "g") => message.signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.number()?),
            _ => return None,
        }
    }
    message.body = bytes.get(bytes.len().checked_sub(body)?..)?.to_vec();
    Some(message)
}

/// Takes values from bytes.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Of a body.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.align(4);
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = self.number()? as usize;
        self.ended(length)
    }

    pub(super) fn signature(&mut self) -> Option<String> {
        let length = self.byte()?.into();
        self.ended(length)
    }

    fn ended(&mut self, length: usize) -> Option<String> {
        let text = String::from_utf8(self.take(length)?.to_vec()).ok()?;
        (self.byte()? == 0).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the specification has it, by hand.
    #[test]
    fn a_call_is_these_bytes() {
        let call = Call { destination: "d", path: "/", interface: "i", member: "M", signature: "" };
        let expected = [
            b"l\x01\x00\x01\x00\x00\x00\x00\x07\x00\x00\x00\x3a\x00\x00\x00".as_slice(),
            b"\x01\x01o\x00\x01\x00\x00\x00/\x00\x00\x00\x00\x00\x00\x00",
            b"\x02\x01s\x00\x01\x00\x00\x00i\x00\x00\x00\x00\x00\x00\x00",
            b"\x03\x01s\x00\x01\x00\x00\x00M\x00\x00\x00\x00\x00\x00\x00",
            b"\x06\x01s\x00\x01\x00\x00\x00d\x00\x00\x00\x00\x00\x00\x00",
        ]
        .concat();
        assert_eq!(call.message(7, Vec::new()), expected);
        assert_eq!(length(&expected[..HEAD]), Some(expected.len()));
    }

    #[test]
    fn properties_are_aligned_and_counted() {
        let mut writer = Writer::default();
        writer.array(8, |it| {
            it.property("PIDs", Value::Numbers(&[5]));
            it.property("Delegate", Value::Flag(true));
        });
        let expected = [
            b"\x2c\x00\x00\x00\x00\x00\x00\x00".as_slice(),
            b"\x04\x00\x00\x00PIDs\x00\x02au\x00\x00\x00\x00\x04\x00\x00\x00\x05\x00\x00\x00",
            b"\x08\x00\x00\x00Delegate\x00\x01b\x00\x01\x00\x00\x00",
        ]
        .concat();
        let bytes = writer.into_bytes();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn wide_values_are_aligned_within_their_variant() {
        let mut writer = Writer::default();
        writer.array(8, |it| {
            it.property("A", Value::Wide(7));
            it.property("B", Value::Bytes(&[1, 2]));
            it.property("C", Value::Texts(&["x".into()]));
        });
        let expected = [
            b"\x46\x00\x00\x00\x00\x00\x00\x00".as_slice(),
            b"\x01\x00\x00\x00A\x00\x01t\x00\x00\x00\x00\x00\x00\x00\x00\x07\x00\x00\x00\x00\x00\x00\x00",
            b"\x01\x00\x00\x00B\x00\x02ay\x00\x00\x00\x02\x00\x00\x00\x01\x02\x00\x00\x00\x00\x00\x00",
            b"\x01\x00\x00\x00C\x00\x02as\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00\x00x\x00",
        ]
        .concat();
        assert_eq!(writer.into_bytes(), expected);
    }

    #[test]
    fn what_was_written_is_read() {
        let mut body = Writer::default();
        body.number(3);
        body.text("/job/1");
        let call = Call { destination: "a.b", path: "/x", interface: "i.j", member: "JobRemoved", signature: "uo" };
        let bytes = call.message(1, body.into_bytes());
        let message = parse(&bytes).unwrap();
        assert_eq!((message.kind, message.member.as_str(), message.signature.as_str()), (CALL, "JobRemoved", "uo"));
        let mut reader = Reader::new(&message.body);
        assert_eq!((reader.number(), reader.text().as_deref(), reader.number()), (Some(3), Some("/job/1"), None));
    }

    #[test]
    fn no_bytes_are_too_wrong_to_be_read() {
        let mut body = Writer::default();
        body.array(8, |it| it.property("PIDs", Value::Numbers(&[1, 2])));
        let call = Call { destination: "a.b", path: "/x", interface: "i.j", member: "M", signature: "a(sv)" };
        let whole = call.message(1, body.into_bytes());
        for cut in 0..whole.len() {
            let _ = (length(&whole[..cut]), parse(&whole[..cut]));
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut wrong = whole.clone();
                wrong[at] = value;
                let _ = (length(&wrong), parse(&wrong));
            }
        }
        assert_eq!(length(&[b'l', 1, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
