//! The mutable properties of a container: the embedder's own notes, bounded. Pure.

use std::collections::BTreeMap;

use orangery_runtime as runtime;

use crate::error::Error;

/// Most properties of a container.
pub(crate) const COUNT: usize = 64;
/// Longest name, in bytes.
pub(crate) const NAME: usize = 128;
/// Longest value, in bytes.
pub(crate) const VALUE: usize = 4096;

/// Names and values.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    entries: BTreeMap<String, String>,
}

impl Properties {
    /// Those that were written down.
    pub(crate) fn restore(&mut self, entries: BTreeMap<String, String>) {
        self.entries = entries;
    }

    /// Set one; on a refusal everything stays as it is.
    pub(crate) fn set(&mut self, name: &str, value: String) -> Result<Option<String>, Error> {
        if name.is_empty() || name.len() > NAME {
            return Err(Error::invalid("property", format!("a name has 1 to {NAME} bytes; this has {}", name.len())));
        }
        if value.len() > VALUE {
            let why = format!("the value of {name:?} has {} bytes; {VALUE} are allowed", value.len());
            return Err(Error::invalid("property", why));
        }
        if self.entries.len() >= COUNT && !self.entries.contains_key(name) {
            let what = format!("a container has at most {COUNT} properties");
            let error = runtime::Error::new(runtime::ErrorKind::Exhausted, what).with_field("property");
            return Err(error.with_hint("remove one first").into());
        }
        Ok(self.entries.insert(name.to_owned(), value))
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<String> {
        self.entries.remove(name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&String> {
        self.entries.get(name)
    }

    pub(crate) fn all(&self) -> &BTreeMap<String, String> {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_too_much_is_refused_by_kind_and_changes_nothing() {
        let mut properties = Properties::default();
        for number in 0..COUNT {
            assert_eq!(properties.set(&number.to_string(), "v".repeat(VALUE)).unwrap(), None);
        }
        let refused = properties.set("one more", String::new()).unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some("property")));
        assert_eq!(properties.set("0", "new".into()).unwrap(), Some("v".repeat(VALUE)), "replacing needs no room");
        for (name, value) in [(String::new(), 1), ("n".repeat(NAME + 1), 1), ("1".into(), VALUE + 1)] {
            let refused = properties.set(&name, "v".repeat(value)).unwrap_err();
            assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("property")));
        }
        assert_eq!(properties.get("1").map(String::len), Some(VALUE));
        assert!(properties.remove("2").is_some() && properties.remove("2").is_none());
        assert!(properties.set(&"n".repeat(NAME), String::new()).is_ok());
        assert_eq!(properties.all().len(), COUNT);
    }
}
