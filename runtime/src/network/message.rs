//! The messages between a supervisor and an administrator's network plugin, read and written; pure. `docs/network-plugin.md` is
//! the protocol. Both ends read bytes of somebody they need not trust.

use std::collections::BTreeMap;

/// What each message begins with.
const NAME: &str = "orangery-network/";
/// Of the protocol.
const VERSION: u32 = 1;

/// One message: a word, and lines of `key=value`.
///
/// ```
/// use orangery_runtime::network::PluginMessage;
/// let message = PluginMessage::new("attach").with("container", "web");
/// assert_eq!(message.encode(), Ok(b"orangery-network/1 attach\ncontainer=web\n".to_vec()));
/// assert_eq!(PluginMessage::decode(b"orangery-network/1 attach\ncontainer=web\n"), Ok(message));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginMessage {
    /// `attach`, `change`, `detach`; of an answer `ok` or `no`.
    pub verb: String,
    /// What belongs to it.
    pub entries: BTreeMap<String, String>,
}

impl PluginMessage {
    /// Largest message in bytes.
    pub const MOST: usize = 4096;
    /// Most entries of one.
    pub const ENTRIES: usize = 32;
    /// Longest key.
    pub const KEY: usize = 64;

    /// Without entries.
    #[must_use]
    pub fn new(verb: impl Into<String>) -> Self {
        Self { verb: verb.into(), entries: BTreeMap::new() }
    }

    /// With one more.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.entries.insert(key.into(), value.into());
        self
    }

    /// As it is sent.
    ///
    /// # Errors
    /// What of it no message can carry, in words.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        if !word(&self.verb) {
            return Err(format!("{:?} is no word of the protocol", self.verb));
        }
        if self.entries.len() > Self::ENTRIES {
            return Err(format!("{} entries; {} are possible", self.entries.len(), Self::ENTRIES));
        }
        let mut text = format!("{NAME}{VERSION} {}\n", self.verb);
        for (key, value) in &self.entries {
            entry(key, value)?;
            text.push_str(&format!("{key}={value}\n"));
        }
        if text.len() > Self::MOST {
            return Err(format!("{} bytes; {} are possible", text.len(), Self::MOST));
        }
        Ok(text.into_bytes())
    }

    /// What was received, all of it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > Self::MOST {
            return Err(format!("a message has at most {} bytes", Self::MOST));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| "a message is text".to_owned())?;
        let text = text.strip_suffix('\n').ok_or("a message ends with the end of a line")?;
        let mut lines = text.split('\n');
        let first = lines.next().and_then(|line| line.strip_prefix(NAME)).and_then(|rest| rest.split_once(' '));
        let (version, verb) = first.ok_or("a message begins with orangery-network/1 and a word")?;
        if version != VERSION.to_string() {
            return Err(format!("version {version:?} of the protocol; this is {VERSION}"));
        }
        if !word(verb) {
            return Err("a message begins with orangery-network/1 and a word".into());
        }
        let mut message = Self::new(verb);
        for line in lines {
            let (key, value) = line.split_once('=').ok_or("each further line is key=value")?;
            entry(key, value)?;
            if message.entries.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(format!("{key} is there twice"));
            }
            if message.entries.len() > Self::ENTRIES {
                return Err(format!("more than {} entries", Self::ENTRIES));
            }
        }
        Ok(message)
    }
}

fn word(verb: &str) -> bool {
    !verb.is_empty() && verb.len() <= PluginMessage::KEY && verb.bytes().all(|byte| byte.is_ascii_lowercase())
}

fn entry(key: &str, value: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if key.is_empty() || key.len() > PluginMessage::KEY || !key.bytes().all(good) {
        return Err(format!("{key:?} is no key: 1 to {} of a-z 0-9 . _ -", PluginMessage::KEY));
    }
    if value.chars().any(char::is_control) {
        return Err(format!("the value of {key} has a control character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_message_is_refused_in_words() {
        for (bytes, part) in [
            (&b""[..], "ends"),
            (b"orangery-network/1 attach", "ends"),
            (b"orangery-network/2 attach\n", "version"),
            (b"orangery-network/1 \n", "begins"),
            (b"orangery-network/1 At\n", "begins"),
            (b"hello\n", "begins"),
            (b"orangery-network/1 attach\ncontainer\n", "key=value"),
            (b"orangery-network/1 attach\na=1\na=2\n", "twice"),
            (b"orangery-network/1 attach\nA=1\n", "no key"),
            (b"orangery-network/1 attach\na=\x1b\n", "control"),
            (b"orangery-network/1 attach\na=\xff\n", "text"),
        ] {
            let why = PluginMessage::decode(bytes).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        assert!(PluginMessage::decode(&vec![b'a'; 4097]).unwrap_err().contains("at most"));
        assert!(PluginMessage::new("attach").with("a", "b\nc").encode().is_err());
        assert!(PluginMessage::new("attach").with("a", "b".repeat(5000)).encode().is_err());
        let many = (0..33).fold(PluginMessage::new("ok"), |message, n| message.with(format!("k{n}"), "v"));
        assert!(many.encode().is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(bytes in "orangery-network/1 [a-z]{1,4}\n([a-c]=[a-z=]{0,3}\n){0,3}") {
            if let Ok(message) = PluginMessage::decode(bytes.as_bytes()) {
                prop_assert_eq!(PluginMessage::decode(&message.encode().unwrap()), Ok(message));
            }
        }

        #[test]
        fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PluginMessage::decode(&bytes);
        }
    }
}
