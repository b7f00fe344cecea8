//! Signals before a deadline, as they travel in [`Ask::Arm`](super::Ask::Arm) with [`LADDER`].
//!
//! ```text
//! 0         8                 8 + 16 n
//! | count n | rung 0 | rung 1 ... | what is written in the end |
//! ```

use super::{u32_at, u64_at};

/// Flag of [`Ask::Arm`](super::Ask::Arm): rungs stand before what is to be written.
pub const LADDER: u16 = 8;
/// Rungs that a ladder has at the most.
pub const MAX_RUNGS: usize = 16;
/// Size of what stands before the rungs.
pub const LADDER_HEAD: usize = 8;
/// Size of a rung.
pub const RUNG: usize = 16;

/// A signal and its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rung {
    /// CLOCK_MONOTONIC in nanoseconds; a time that has passed is now.
    pub at_ns: u64,
    /// Its number. It is followed by CONT, so that a stopped process feels it.
    pub signal: i32,
}

impl Rung {
    /// As it travels.
    #[must_use]
    pub fn encode(self) -> [u8; RUNG] {
        let (at, signal) = (self.at_ns.to_le_bytes(), self.signal.to_le_bytes());
        let mut out = [0; RUNG];
        for (to, from) in out.iter_mut().zip(at.iter().chain(signal.iter())) {
            *to = *from;
        }
        out
    }

    /// The rung with this number of the body of a request; `None` when it is shorter.
    #[must_use]
    pub fn of(body: &[u8], number: usize) -> Option<Rung> {
        let bytes = body.get(LADDER_HEAD + number.checked_mul(RUNG)?..)?;
        Some(Rung { at_ns: u64_at(bytes, 0)?, signal: u32_at(bytes, 8)? as i32 })
    }
}

/// How many rungs the body of a request has, and where they end; `None` for too many, or when it is shorter.
#[must_use]
pub fn rungs(body: &[u8]) -> Option<(usize, usize)> {
    let count = usize::try_from(u64_at(body, 0)?).ok().filter(|count| *count <= MAX_RUNGS)?;
    let end = LADDER_HEAD + count * RUNG;
    if body.len() < end { None } else { Some((count, end)) }
}
