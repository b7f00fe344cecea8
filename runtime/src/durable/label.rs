//! Under what the keeper holds the parts of a process: which part it is, which request has started the process, and the
//! label that the supervisor knows it by.

use crate::plan::wire::LABEL;
use crate::spec::Hold;

/// Bytes before the supervisor's label.
const HEAD: usize = 9;

const _: () = assert!(HEAD + Hold::LABEL <= LABEL);

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Our end of its standard input.
    Stdin = b'i',
    /// Our end of its standard output.
    Stdout = b'o',
    /// Our end of its standard error.
    Stderr = b'e',
    /// The master of its terminal.
    Terminal = b't',
    /// Where it says whether it has come to its exec.
    Report = b'r',
    /// Where it waits to be started.
    Gate = b'g',
    /// Where it sends what its plan makes.
    Channel = b'c',
    /// The listener of its filter.
    Listener = b'l',
    /// Its pidfd: it is not the keeper's own child.
    Process = b'p',
    /// Something that is held beside its streams.
    Beside = b'b',
    /// The lock of the instance.
    Instance = b'L',
    /// The locks of the ranges of ids.
    Ids = b'I',
}

impl Kind {
    const ALL: [Kind; 12] = [
        Kind::Stdin,
        Kind::Stdout,
        Kind::Stderr,
        Kind::Terminal,
        Kind::Report,
        Kind::Gate,
        Kind::Channel,
        Kind::Listener,
        Kind::Beside,
        Kind::Process,
        Kind::Instance,
        Kind::Ids,
    ];

    /// As the keeper holds it.
    pub(crate) fn label(self, request: u64, label: &[u8]) -> Vec<u8> {
        let mut bytes = vec![self as u8];
        bytes.extend_from_slice(&request.to_le_bytes());
        bytes.extend_from_slice(label);
        bytes
    }
}

/// What is held, the number of the request that started the process, and the supervisor's label. `None` for what is not
/// one of ours.
///
/// ```
/// use orangery_runtime::durable::{Kind, read_label};
/// assert_eq!(read_label(b"o\x07\0\0\0\0\0\0\0judge"), Some((Kind::Stdout, 7, &b"judge"[..])));
/// assert_eq!(read_label(b"judge"), None);
/// ```
#[must_use]
pub fn read_label(bytes: &[u8]) -> Option<(Kind, u64, &[u8])> {
    let (head, label) = bytes.split_at_checked(HEAD)?;
    let (kind, request) = head.split_first()?;
    let kind = Kind::ALL.into_iter().find(|known| *known as u8 == *kind)?;
    let request = u64::from_le_bytes(request.try_into().ok()?);
    (label.len() <= Hold::LABEL).then_some((kind, request, label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_written() {
        for kind in Kind::ALL {
            let bytes = kind.label(u64::MAX - 1, b"x");
            assert_eq!(read_label(&bytes), Some((kind, u64::MAX - 1, &b"x"[..])));
        }
        assert_eq!(read_label(&Kind::Stdin.label(1, &[0; Hold::LABEL + 1])), None, "too long");
        assert_eq!(read_label(b"?\0\0\0\0\0\0\0\0"), None);
    }
}
