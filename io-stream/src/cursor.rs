//! Cursors: a place in one stream as text that can leave the program and come back.
//!
//! Made by chunks, subscribers and log readers; checked by whoever is asked to resume. Pure but for the
//! random identity. It names a stream by that identity, never by a name that may be used again.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::base64;
use crate::chunk::{Generation, Source};

/// The random name of one stream, for ever its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId([u8; 16]);

impl StreamId {
    /// A new identity: 128 random bits of the kernel (getrandom(2)).
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        let mut filled = 0;
        while filled < bytes.len() {
            match getrandom(&mut bytes[filled..], GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                // Only where the call itself is forbidden (a seccomp filter around us).
                Err(_) => return Self(unlikely_to_repeat()),
            }
        }
        Self(bytes)
    }

    /// The identity that was kept elsewhere, as [`StreamId::to_bytes`] gave it.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The identity as bytes, to be kept in a record.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

/// 128 bits from the hash keys that std keeps, the clock and a counter.
fn unlikely_to_repeat() -> [u8; 16] {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let seed = (SystemTime::now(), std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let halves = [RandomState::new().hash_one(seed), RandomState::new().hash_one(seed)];
    (u128::from(halves[0]) << 64 | u128::from(halves[1])).to_be_bytes()
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place between two bytes of a stream, in both sources at once; or, made by [`Cursor::of_event`], between two events of
/// a feed.
///
/// Its text ([`Display`](fmt::Display), [`FromStr`]) has always [`Cursor::TEXT_LEN`] characters, all of
/// them safe in URLs and HTTP headers. It is opaque: a version and a check guard it, and only the
/// stream that it came from accepts it. Cursors of one stream are ordered only by the stream itself.
///
/// ```
/// use orangery_io_stream::{Cursor, Event, Hub, HubOptions, Source, SubscribeOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hub = Hub::new(HubOptions::default());
/// hub.publish(Source::Stdout, "first".into()).await;
/// let mut reader = hub.subscribe(SubscribeOptions::default());
/// reader.recv().await;
/// let text = reader.cursor().to_string(); // an HTTP `Last-Event-ID`, say
/// drop(reader);
///
/// hub.publish(Source::Stdout, "second".into()).await;
/// let cursor: Cursor = text.parse()?;
/// let mut again = hub.resume(cursor, SubscribeOptions::default())?;
/// let Some(Event::Chunk(chunk)) = again.recv().await else { panic!() };
/// assert_eq!(chunk.data, "second");
///
/// let other = Hub::new(HubOptions::default());
/// let gone = other.resume(cursor, SubscribeOptions::default()).unwrap_err();
/// assert!(other.resume(gone.oldest, SubscribeOptions::default()).is_ok());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    stream: StreamId,
    generation: Generation,
    stdout: u64,
    stderr: u64,
}

/// Version, a zero byte, identity, generation, two offsets, check.
const BYTES: usize = 2 + 16 + 4 + 8 + 8 + 4;
const CHECKED: usize = BYTES - 4;
const VERSION: u8 = 1;

impl Cursor {
    /// How many characters the text of every cursor has.
    pub const TEXT_LEN: usize = BYTES / 3 * 4;

    /// The place where `source` stands at `offset` and the other source at `other`.
    pub(crate) const fn new(stream: StreamId, generation: Generation, source: Source, offset: u64, other: u64) -> Self {
        let (stdout, stderr) = match source {
            Source::Stdout => (offset, other),
            Source::Stderr => (other, offset),
        };
        Self { stream, generation, stdout, stderr }
    }

    /// The place that was kept elsewhere in its parts: the first bytes behind it are those at these offsets.
    pub const fn of_parts(stream: StreamId, generation: Generation, stdout: u64, stderr: u64) -> Self {
        Self { stream, generation, stdout, stderr }
    }

    /// The place before the event number `seq` of the feed `stream`. Bytes are never resumed from it, as no stream of bytes
    /// has that identity.
    pub const fn of_event(stream: StreamId, seq: u64) -> Self {
        Self { stream, generation: Generation(0), stdout: seq, stderr: 0 }
    }

    /// Of a place in a feed: the number of the event behind it.
    pub const fn event(&self) -> u64 {
        self.stdout
    }

    /// The stream that it is a place in.
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// The incarnation whose offsets these are.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// The offset of the first byte of `source` behind it.
    pub const fn offset(&self, source: Source) -> u64 {
        match source {
            Source::Stdout => self.stdout,
            Source::Stderr => self.stderr,
        }
    }

    /// The same place but for `source`, of which everything before `offset` is there: for whoever holds a part
    /// of a chunk back. A place that the stream has not been at is refused when it comes back.
    pub const fn with(mut self, source: Source, offset: u64) -> Self {
        match source {
            Source::Stdout => self.stdout = offset,
            Source::Stderr => self.stderr = offset,
        }
        self
    }

    fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[0] = VERSION;
        bytes[2..18].copy_from_slice(&self.stream.0);
        bytes[18..22].copy_from_slice(&self.generation.0.to_be_bytes());
        bytes[22..30].copy_from_slice(&self.stdout.to_be_bytes());
        bytes[30..38].copy_from_slice(&self.stderr.to_be_bytes());
        let check = check(&bytes[..CHECKED]);
        bytes[CHECKED..].copy_from_slice(&check.to_be_bytes());
        bytes
    }
}

/// FNV-1a of the bytes: tells mistakes apart, keeps no secret.
pub(crate) fn check(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The big-endian bytes `at..at + N`, which the caller knows to be there.
fn part<const N: usize>(bytes: &[u8; BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|index| bytes[at + index])
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&base64::url(&self.to_bytes()))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    /// Reads a cursor's text. Whether the place still exists only its stream can tell.
    ///
    /// # Errors
    ///
    /// [`CursorError`], for anything that no [`Cursor`] was printed as.
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bytes: [u8; BYTES] = base64::from_url(text).ok_or(CursorError::NotACursor)?;
        if bytes[..2] != [VERSION, 0] {
            return Err(CursorError::Version);
        }
        if check(&bytes[..CHECKED]).to_be_bytes() != part(&bytes, CHECKED) {
            return Err(CursorError::Check);
        }
        Ok(Self {
            stream: StreamId(part(&bytes, 2)),
            generation: Generation(u32::from_be_bytes(part(&bytes, 18))),
            stdout: u64::from_be_bytes(part(&bytes, 22)),
            stderr: u64::from_be_bytes(part(&bytes, 30)),
        })
    }
}

/// Why a text is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// Its length or one of its characters is none of a cursor.
    #[error("the text is no cursor")]
    NotACursor,
    /// It was made by a version that this one does not know.
    #[error("the cursor is of an unknown version")]
    Version,
    /// It was changed on its way.
    #[error("the cursor is damaged")]
    Check,
}

/// The place that a cursor names cannot be read from.
///
/// Nothing was read in its stead. Resuming at `oldest` gives the oldest bytes there are; by then it may
/// have gone as well, if the stream is fast and its history small.
///
/// ```no_run
/// # fn f(hub: &orangery_io_stream::Hub, cursor: orangery_io_stream::Cursor) {
/// use orangery_io_stream::{Gone, SubscribeOptions};
/// match hub.resume(cursor, SubscribeOptions::default()) {
///     Ok(reader) => drop(reader),
///     Err(Gone { oldest, reason, .. }) => println!("{reason:?}; go on at {oldest}"),
/// }
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("cannot resume: {reason}")]
pub struct Gone {
    /// The oldest place that the asked stream can be read from.
    pub oldest: Cursor,
    /// Why.
    pub reason: GoneReason,
}

/// Why a cursor was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum GoneReason {
    /// It is a place in another stream.
    #[error("the cursor belongs to another stream")]
    Foreign,
    /// It is a place in another incarnation.
    #[error("the cursor belongs to another generation")]
    Generation,
    /// The bytes behind it are no longer retained.
    #[error("the bytes at the cursor are no longer kept")]
    Expired,
    /// The stream has never been there: its end was lost with a machine that crashed, say.
    #[error("the cursor lies behind the end of the stream")]
    Ahead,
}

/// The places that a stream can be resumed at, as a resume is judged by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) oldest: Cursor,
    pub(crate) newest: Cursor,
}

impl Extent {
    /// Whether the `sources` can be read from `cursor` on.
    pub(crate) fn check(&self, cursor: &Cursor, sources: impl Fn(Source) -> bool) -> Result<(), Gone> {
        let any = |wrong: fn(u64, u64) -> bool, bound: &Cursor| {
            Source::ALL.into_iter().any(|s| sources(s) && wrong(cursor.offset(s), bound.offset(s)))
        };
        let reason = if cursor.stream != self.oldest.stream {
            GoneReason::Foreign
        } else if cursor.generation != self.oldest.generation {
            GoneReason::Generation
        } else if any(|at, newest| at > newest, &self.newest) {
            GoneReason::Ahead
        } else if any(|at, oldest| at < oldest, &self.oldest) {
            GoneReason::Expired
        } else {
            return Ok(());
        };
        Err(Gone { oldest: self.oldest, reason })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cursor(stream: u8, generation: u32, stdout: u64, stderr: u64) -> Cursor {
        Cursor { stream: StreamId([stream; 16]), generation: Generation(generation), stdout, stderr }
    }

    #[test]
    fn identities_differ() {
        assert_ne!(StreamId::random(), StreamId::random());
        assert_ne!(unlikely_to_repeat(), unlikely_to_repeat());
        assert_eq!(StreamId([0xab; 16]).to_string(), "ab".repeat(16));
    }

    #[test]
    fn a_version_that_is_not_ours_says_so() {
        let mut bytes = cursor(1, 2, 3, 4).to_bytes();
        bytes[0] = 2;
        assert_eq!(base64::url(&bytes).parse::<Cursor>(), Err(CursorError::Version));
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let extent = Extent { oldest: cursor(1, 2, 10, 0), newest: cursor(1, 2, 20, 5) };
        let refusal = |cursor: Cursor, only: Option<Source>| {
            let refused = extent.check(&cursor, |source| only.is_none_or(|only| only == source));
            refused.map_err(|gone| (gone.oldest == extent.oldest, gone.reason)).err()
        };
        assert_eq!(refusal(cursor(1, 2, 10, 0), None), None);
        assert_eq!(refusal(cursor(1, 2, 20, 5), None), None);
        assert_eq!(refusal(cursor(2, 2, 10, 0), None), Some((true, GoneReason::Foreign)));
        assert_eq!(refusal(cursor(1, 3, 10, 0), None), Some((true, GoneReason::Generation)));
        assert_eq!(refusal(cursor(1, 2, 9, 0), None), Some((true, GoneReason::Expired)));
        assert_eq!(refusal(cursor(1, 2, 10, 6), None), Some((true, GoneReason::Ahead)));
        // What is not wanted need not be there.
        assert_eq!(refusal(cursor(1, 2, 0, 5), Some(Source::Stderr)), None);
    }

    proptest! {
        #[test]
        fn text_and_back(id in any::<[u8; 16]>(), generation in any::<u32>(), at in any::<(u64, u64)>()) {
            let cursor = Cursor {
                stream: StreamId(id),
                generation: Generation(generation),
                stdout: at.0,
                stderr: at.1,
            };
            let text = cursor.to_string();
            prop_assert_eq!(text.len(), Cursor::TEXT_LEN);
            prop_assert_eq!(text.parse(), Ok(cursor));
        }

        #[test]
        fn a_changed_text_is_refused(at in 0..Cursor::TEXT_LEN, with in "[A-Za-z0-9_-]") {
            let mut text = cursor(7, 1, 1000, 2000).to_string();
            prop_assume!(text[at..=at] != with);
            text.replace_range(at..=at, &with);
            prop_assert!(text.parse::<Cursor>().is_err());
        }

        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            prop_assert!(text.parse::<Cursor>().is_err());
        }
    }
}
