//! What two daemons say to each other, over a unix socket in the state directory: lines, of which one brings descriptors.
//!
//! ```text
//!   the new one                    the old one
//!   what it is able to (Able) ──►  judged
//!                            ◄──   Offer, with the sockets; or refused, in words
//!   take                     ──►  stops as for USR2, leaves
//!                            ◄──   left
//!   adopts; serving          ──►  ends.   Where the new one ends before that: it recovers what it has left, and goes on
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The longest line.
pub(super) const LINE: usize = 1 << 16;
pub(super) const TAKE: &str = "take";
pub(super) const LEFT: &str = "left";
pub(super) const SERVING: &str = "serving";

/// What the old one answers.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) schema: u32,
    /// Why not.
    #[serde(default)]
    pub(super) refused: Option<String>,
    /// What the descriptors are called that come along.
    #[serde(default)]
    pub(super) sockets: Vec<String>,
    /// Where the one is that is the daemon's own.
    #[serde(default)]
    pub(super) own: Option<PathBuf>,
}

impl Offer {
    pub(super) fn refusal(why: impl Into<String>) -> Self {
        Self { schema: 1, refused: Some(why.into()), ..Self::default() }
    }

    pub(super) fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// A line of ours.
pub(super) fn line(text: &str) -> String {
    format!("{text}\n")
}

/// The socket in a directory that is open, by a path that is short enough for one (unix(7)).
pub(super) fn place(dir: &impl std::os::fd::AsRawFd) -> PathBuf {
    Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(NAME)
}

const NAME: &str = "handover";
