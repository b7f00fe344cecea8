//! What became of whoever wrote a stream, as its driver was told: plain values. This crate asks nobody.

/// How the process that wrote a stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fate {
    /// Nobody has said so: there is no process, it was lost, or it had not ended when the stream was closed.
    #[default]
    Unknown,
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal {
        /// Its number.
        signal: i32,
        /// A core was written.
        core_dumped: bool,
    },
}

impl Fate {
    /// Two bytes for it, for a file; what does not fit is not known.
    pub(crate) fn encode(self) -> [u8; 2] {
        let known = match self {
            Self::Unknown => None,
            Self::Code(code) => u8::try_from(code).ok().map(|code| [1, code]),
            Self::Signal { signal, core_dumped } => {
                u8::try_from(signal).ok().map(|signal| [if core_dumped { 3 } else { 2 }, signal])
            }
        };
        known.unwrap_or_default()
    }

    /// The fate of these bytes.
    pub(crate) fn decode([kind, value]: [u8; 2]) -> Option<Self> {
        let value = i32::from(value);
        match kind {
            0 => Some(Self::Unknown),
            1 => Some(Self::Code(value)),
            2 | 3 => Some(Self::Signal { signal: value, core_dumped: kind == 3 }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_kept_in_two_bytes() {
        let signal = |signal, core_dumped| Fate::Signal { signal, core_dumped };
        for fate in [Fate::Unknown, Fate::Code(0), Fate::Code(255), signal(9, false), signal(11, true)] {
            assert_eq!(Fate::decode(fate.encode()), Some(fate));
        }
        assert_eq!(Fate::decode(Fate::Code(256).encode()), Some(Fate::Unknown));
        assert_eq!(Fate::decode([9, 9]), None);
    }
}
