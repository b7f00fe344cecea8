//! Bounded capture: the first and the last bytes of an output; pure.
//!
//! Used by one-shot runs, which keep both ends of an output of any length and count the middle.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// How much of one stream is captured unless told otherwise: 1 MiB.
pub const DEFAULT_CAPTURE: usize = 1024 * 1024;

/// Keeps at most `limit` bytes of what is pushed: the first half and, of the rest, the last ones.
///
/// `head`, then `omitted` bytes, then `tail`, then `over_limit` bytes are the whole output, exactly.
///
/// ```
/// use orangery_io_stream::Capture;
///
/// let mut capture = Capture::new(6);
/// capture.push(b"hello, world");
/// let captured = capture.finish();
/// assert_eq!((&captured.head[..], &captured.tail[..]), (&b"hel"[..], &b"rld"[..]));
/// assert_eq!(captured.omitted, 6);
/// ```
#[derive(Debug, Clone)]
pub struct Capture {
    head: BytesMut,
    head_room: usize,
    tail: VecDeque<u8>,
    tail_limit: usize,
    omitted: u64,
    over_limit: u64,
}

impl Capture {
    /// An empty capture of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            head: BytesMut::new(),
            head_room: limit / 2,
            tail: VecDeque::new(),
            tail_limit: limit - limit / 2,
            omitted: 0,
            over_limit: 0,
        }
    }

    /// Appends output.
    pub fn push(&mut self, data: &[u8]) {
        let (head, rest) = data.split_at(data.len().min(self.head_room));
        self.head.extend_from_slice(head);
        self.head_room -= head.len();
        self.push_tail(rest);
    }

    /// Appends output that nobody has: a gap. What stands on both sides of it is never joined.
    pub fn skip(&mut self, bytes: u64) {
        if bytes > 0 {
            self.head_room = 0;
            self.omitted += bytes + self.tail.len() as u64;
            self.tail.clear();
        }
    }

    /// Counts output behind a limit on all of it: nothing comes after it, and what was kept before it stays.
    pub const fn cut(&mut self, bytes: u64) {
        self.over_limit += bytes;
    }

    /// What was kept.
    pub fn finish(self) -> Captured {
        Captured {
            head: self.head.freeze(),
            tail: Vec::from(self.tail).into(),
            omitted: self.omitted,
            over_limit: self.over_limit,
        }
    }

    fn push_tail(&mut self, data: &[u8]) {
        let skip = data.len().saturating_sub(self.tail_limit);
        let keep = &data[skip..];
        let excess = (self.tail.len() + keep.len()).saturating_sub(self.tail_limit);
        self.tail.drain(..excess);
        self.tail.extend(keep);
        self.omitted += (skip + excess) as u64;
    }
}

impl Default for Capture {
    fn default() -> Self {
        Self::new(DEFAULT_CAPTURE)
    }
}

/// Both ends of an output, and how much was between them.
///
/// ```
/// use orangery_io_stream::Capture;
/// let mut capture = Capture::new(4);
/// capture.push(b"abcdefgh");
/// let captured = capture.finish();
/// assert_eq!((&captured.head[..], &captured.tail[..], captured.omitted), (&b"ab"[..], &b"gh"[..], 4));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captured {
    /// The first bytes.
    pub head: Bytes,
    /// The last bytes, as far as they are not in `head`.
    pub tail: Bytes,
    /// How many bytes are missing between `head` and `tail`.
    pub omitted: u64,
    /// How many came after `tail`, behind the [`output_limit`](crate::HubOptions::output_limit).
    pub over_limit: u64,
}

impl Captured {
    /// Whether bytes are missing.
    pub const fn is_truncated(&self) -> bool {
        self.omitted > 0 || self.over_limit > 0
    }

    /// Head and tail in one piece, without a mark where bytes are missing.
    pub fn to_vec(&self) -> Vec<u8> {
        [&self.head[..], &self.tail[..]].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_output_is_kept_whole() {
        let mut capture = Capture::new(10);
        capture.push(b"0123");
        capture.push(b"456789");
        let captured = capture.finish();
        assert!(!captured.is_truncated());
        assert_eq!(captured.to_vec(), b"0123456789");
    }

    #[test]
    fn long_output_keeps_both_ends() {
        let mut capture = Capture::new(5);
        capture.push(b"0123456789");
        let captured = capture.finish();
        assert_eq!((&captured.head[..], &captured.tail[..]), (&b"01"[..], &b"789"[..]));
        assert_eq!(captured.omitted, 5);
    }

    #[test]
    fn a_gap_is_never_joined_over() {
        let mut capture = Capture::new(10);
        capture.push(b"ab");
        capture.skip(100);
        capture.push(b"cd");
        let captured = capture.finish();
        assert_eq!((&captured.head[..], &captured.tail[..]), (&b"ab"[..], &b"cd"[..]));
        assert_eq!(captured.omitted, 100);
    }

    #[test]
    fn what_is_cut_off_leaves_the_tail() {
        let mut capture = Capture::new(4);
        capture.push(b"abcdef");
        capture.cut(100);
        let captured = capture.finish();
        assert_eq!((&captured.head[..], &captured.tail[..]), (&b"ab"[..], &b"ef"[..]));
        assert_eq!((captured.omitted, captured.over_limit, captured.is_truncated()), (2, 100, true));
    }

    proptest! {
        #[test]
        fn both_ends_are_exact(
            limit in 0usize..40,
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..10),
        ) {
            let whole = parts.concat();
            let mut capture = Capture::new(limit);
            parts.iter().for_each(|part| capture.push(part));
            let captured = capture.finish();
            let kept = captured.head.len() + captured.tail.len();
            prop_assert_eq!(kept, whole.len().min(limit));
            prop_assert_eq!(captured.omitted as usize, whole.len() - kept);
            prop_assert!(whole.starts_with(&captured.head));
            prop_assert!(whole.ends_with(&captured.tail));
        }
    }
}
