//! How bytes are written down that are text nearly always: as text where they are, else as numbers.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text<'a> {
    Text(Cow<'a, str>),
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Text<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Bytes(bytes.into()),
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.into_owned().into_bytes(),
            Self::Bytes(bytes) => bytes.into_owned(),
        }
    }
}

/// Words.
pub(super) mod words {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

    use super::{Deserialize, Deserializer, Serializer, Text};

    pub(in super::super) fn serialize<S: Serializer>(words: &[OsString], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(words.iter().map(|word| Text::of(word.as_bytes())))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<OsString>, D::Error> {
        let words = Vec::<Text<'_>>::deserialize(from)?;
        Ok(words.into_iter().map(|word| OsString::from_vec(word.into_bytes())).collect())
    }
}

/// Names with their values, in order.
pub(super) mod pairs {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

    use super::{Deserialize, Deserializer, Serializer, Text};

    type Pairs = Vec<(OsString, OsString)>;

    pub(in super::super) fn serialize<S: Serializer>(
        pairs: &[(OsString, OsString)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(pairs.iter().map(|(key, value)| (Text::of(key.as_bytes()), Text::of(value.as_bytes()))))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Pairs, D::Error> {
        let pairs = Vec::<(Text<'_>, Text<'_>)>::deserialize(from)?;
        let word = |text: Text<'_>| OsString::from_vec(text.into_bytes());
        Ok(pairs.into_iter().map(|(key, value)| (word(key), word(value))).collect())
    }
}

/// What is in a file.
pub(super) mod content {
    use std::sync::Arc;

    use super::{Deserialize, Deserializer, Serialize as _, Serializer, Text};

    pub(in super::super) fn serialize<S: Serializer>(content: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        Text::of(content).serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<[u8]>, D::Error> {
        Ok(Text::deserialize(from)?.into_bytes().into())
    }
}
