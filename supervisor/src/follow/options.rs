//! What a follower is asked for: plain values with their defaults.

use orangery_io_stream::SubscribeOptions;

use crate::events::Since;

/// How to follow.
///
/// ```
/// use orangery::follow::FollowOptions;
/// use orangery::stream::From;
/// use orangery::{Overflow, SubscribeOptions};
/// let output = SubscribeOptions { from: From::TailLines(10), overflow: Overflow::DropNewest, ..Default::default() };
/// let options = FollowOptions { output, max_sources: 100, ..FollowOptions::default() };
/// # drop(options);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowOptions {
    /// From which event on. Default: the next one. What has no event there any more is followed all the same.
    pub since: Since,
    /// How each source is read. Its `from` holds for those that are there when the follower begins; later ones are read from
    /// their first byte. Default: everything that is kept, at most 256 KiB waiting, the oldest make way.
    pub output: SubscribeOptions,
    /// Further processes of the containers too, not only the main ones: what was exec'd belongs to its caller, and probes
    /// would be among them. Default: no.
    pub further: bool,
    /// Most sources at one time; at least one. Bounds the cursor: its text has at most 244 characters for each of them and 48
    /// more, for short ids about 60 each. Default: 1,024.
    pub max_sources: usize,
    /// How much of one source comes before the next one that has something has its turn; at least one. Each piece counts as
    /// at least 256 bytes. Default: 16 KiB.
    pub turn_bytes: usize,
}

impl Default for FollowOptions {
    fn default() -> Self {
        Self {
            since: Since::Now,
            output: SubscribeOptions { queue_bytes: 256 * 1024, ..SubscribeOptions::default() },
            further: false,
            max_sources: 1024,
            turn_bytes: 16 * 1024,
        }
    }
}
