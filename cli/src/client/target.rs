//! What is asked for: a path and its query, with everything in them that is no plain letter written as `%20`.

use std::fmt::{self, Write as _};

/// A path below the interface's root, with its query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    text: String,
    asked: bool,
}

impl Target {
    /// `root` is written as it is: such as `/v1/containers`.
    pub(crate) fn new(root: &str) -> Self {
        Self { text: root.to_owned(), asked: false }
    }

    /// One step down; a `/` in it is none.
    pub(crate) fn then(mut self, segment: &str) -> Self {
        self.text.push('/');
        escape(segment, &mut self.text);
        self
    }

    /// `key=value` in the query.
    pub(crate) fn query(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.text.push(if std::mem::replace(&mut self.asked, true) { '&' } else { '?' });
        escape(key, &mut self.text);
        self.text.push('=');
        escape(&value.to_string(), &mut self.text);
        self
    }

    /// The same, where there is a value.
    pub(crate) fn maybe(self, key: &str, value: Option<impl fmt::Display>) -> Self {
        match value {
            Some(value) => self.query(key, value),
            None => self,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

/// What RFC 3986 calls unreserved stays as it is.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            // A String takes everything.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_place() {
        let target = Target::new("/v1/containers").then("a/../b?c#d").query("label", "k=v&x").query("n", 7);
        assert_eq!(target.as_str(), "/v1/containers/a%2F..%2Fb%3Fc%23d?label=k%3Dv%26x&n=7");
        let plain = Target::new("/v1").then("web-1_a.b~").maybe("no", None::<u32>).maybe("yes", Some("\u{e9} \r\n"));
        assert_eq!(plain.as_str(), "/v1/web-1_a.b~?yes=%C3%A9%20%0D%0A");
    }
}
