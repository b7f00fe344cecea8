//! A place in many sources at once, as text that can leave the program and come back.
//!
//! Self-contained: the feed's place, and by name each container that has not ended with the places in its outputs. So it is
//! as long as there are sources in it, and nothing has to be kept for it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use orangery_io_stream::{Cursor, CursorError, Generation, Source, StreamId, seal, unseal};

use crate::ids::ProcessId;

/// The kind of sealed text: a single cursor is version 1.
const VERSION: u8 = 2;

/// The place behind the last item that a [`Follow`](super::Follow) has handed out.
///
/// Its text ([`Display`](fmt::Display), [`FromStr`]) is opaque and checked, and its characters are safe in URLs and HTTP
/// headers. It has at most 48 characters and 244 more for each source that has not ended, of which there are at most
/// [`FollowOptions::max_sources`](super::FollowOptions::max_sources); with short ids and places it is about 60 each.
///
/// ```
/// # async fn f(supervisor: orangery::Supervisor) -> Result<(), Box<dyn std::error::Error>> {
/// use orangery::EventFilter;
/// use orangery::follow::{FollowCursor, FollowOptions};
/// let wanted = EventFilter::new().label("tenant", "a");
/// let mut feed = supervisor.follow(wanted.clone(), FollowOptions::default());
/// let first = feed.recv().await;
/// let text = feed.cursor().to_string();
/// drop(feed);
/// // Later, elsewhere:
/// let cursor: FollowCursor = text.parse()?;
/// let mut feed = supervisor.resume_follow(&cursor, wanted, FollowOptions::default())?;
/// let second = feed.recv().await;
/// # drop((first, second));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FollowCursor {
    pub(super) feed: StreamId,
    /// The next event.
    pub(super) event: u64,
    pub(super) containers: Vec<Stop>,
}

/// A container that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stop {
    pub(super) id: Arc<str>,
    pub(super) generation: u32,
    /// Its last event was handed out, its end was not.
    pub(super) over: bool,
    /// Its processes whose output has not ended, each with the place in it; without one, nothing of it was handed out.
    pub(super) sources: Vec<(ProcessId, Option<Cursor>)>,
}

impl FollowCursor {
    /// How many sources it names.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.containers.iter().map(|stop| stop.sources.len()).sum()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.feed.to_bytes().to_vec();
        put(&mut bytes, self.event);
        for stop in &self.containers {
            put(&mut bytes, stop.id.len() as u64);
            bytes.extend_from_slice(stop.id.as_bytes());
            put(&mut bytes, u64::from(stop.generation));
            put(&mut bytes, (stop.sources.len() as u64) << 1 | u64::from(stop.over));
            for (process, place) in &stop.sources {
                put(&mut bytes, u64::from(process.0) << 1 | u64::from(place.is_some()));
                if let Some(place) = place {
                    bytes.extend_from_slice(&place.stream().to_bytes());
                    // That of a log is its own.
                    put(&mut bytes, u64::from(place.generation().0));
                    put(&mut bytes, place.offset(Source::Stdout));
                    put(&mut bytes, place.offset(Source::Stderr));
                }
            }
        }
        bytes
    }
}

/// Seven bits a byte, the lowest first; the last one has its highest bit unset.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a text's bytes apart.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn short(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn stream(&mut self) -> Option<StreamId> {
        Some(StreamId::from_bytes(self.take(16)?.try_into().ok()?))
    }

    fn stop(&mut self) -> Option<Stop> {
        let length = usize::try_from(self.number()?).ok()?;
        let id = std::str::from_utf8(self.take(length)?).ok()?.into();
        let generation = self.short()?;
        let count = self.number()?;
        // Grows with what is there, not with what a number says.
        let mut sources = Vec::new();
        for _ in 0..count >> 1 {
            sources.push(self.source()?);
        }
        Some(Stop { id, generation, over: count & 1 == 1, sources })
    }

    fn source(&mut self) -> Option<(ProcessId, Option<Cursor>)> {
        let number = self.number()?;
        let place = match number & 1 {
            0 => None,
            _ => {
                let (stream, generation) = (self.stream()?, Generation(self.short()?));
                Some(Cursor::of_parts(stream, generation, self.number()?, self.number()?))
            }
        };
        Some((ProcessId(u32::try_from(number >> 1).ok()?), place))
    }
}

fn read(bytes: &[u8]) -> Option<FollowCursor> {
    let mut rest = Rest(bytes);
    let (feed, event) = (rest.stream()?, rest.number()?);
    let mut containers = Vec::new();
    while !rest.0.is_empty() {
        containers.push(rest.stop()?);
    }
    Some(FollowCursor { feed, event, containers })
}

impl fmt::Display for FollowCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&seal(VERSION, &self.bytes()))
    }
}

impl FromStr for FollowCursor {
    type Err = CursorError;

    /// Reads a cursor's text, with no more memory than a few times its length. Whether the places still exist only its
    /// supervisor can tell.
    ///
    /// # Errors
    /// [`CursorError`], for anything that no [`FollowCursor`] was printed as.
    fn from_str(text: &str) -> Result<Self, CursorError> {
        read(&unseal(VERSION, text)?).ok_or(CursorError::NotACursor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stops() -> impl Strategy<Value = Vec<Stop>> {
        let source = (any::<u32>(), any::<Option<([u8; 16], u32, u64, u64)>>());
        let stop = ("[a-z0-9.-]{1,128}", any::<u32>(), any::<bool>(), proptest::collection::vec(source, 0..4));
        proptest::collection::vec(stop, 0..5).prop_map(|stops| {
            let stop = |(id, generation, over, sources): (String, u32, bool, Vec<(u32, Option<_>)>)| Stop {
                id: id.into(),
                generation,
                over,
                sources: sources
                    .into_iter()
                    .map(|(process, place)| {
                        let place = place.map(|(stream, generation, out, err)| {
                            Cursor::of_parts(StreamId::from_bytes(stream), Generation(generation), out, err)
                        });
                        (ProcessId(process), place)
                    })
                    .collect(),
            };
            stops.into_iter().map(stop).collect()
        })
    }

    #[test]
    fn the_longest_text_is_as_long_as_it_says() {
        let longest = |containers: usize| {
            let place = Cursor::of_parts(StreamId::random(), Generation(u32::MAX), u64::MAX, u64::MAX);
            let sources = vec![(ProcessId(u32::MAX), Some(place))];
            let stop = Stop { id: "i".repeat(128).into(), generation: u32::MAX, over: true, sources };
            let cursor = FollowCursor { feed: StreamId::random(), event: u64::MAX, containers: vec![stop; containers] };
            cursor.to_string().len()
        };
        assert!(longest(0) <= 48, "{}", longest(0));
        assert!(longest(1000) <= 48 + 1000 * 244, "{}", longest(1000));
    }

    proptest! {
        #[test]
        fn text_and_back(feed in any::<[u8; 16]>(), event in any::<u64>(), containers in stops()) {
            let cursor = FollowCursor { feed: StreamId::from_bytes(feed), event, containers };
            prop_assert_eq!(cursor.to_string().parse::<FollowCursor>(), Ok(cursor));
        }

        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(cursor) = seal(VERSION, &bytes).parse::<FollowCursor>() {
                prop_assert!(cursor.containers.len() + cursor.sources() <= bytes.len());
            }
        }

        #[test]
        fn no_text_is_a_panic(text in any::<String>()) {
            prop_assert!(text.parse::<FollowCursor>().is_err());
        }
    }
}
