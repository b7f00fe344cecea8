//! What a follower gets, and about whom. Plain values.

use std::collections::BTreeMap;
use std::sync::Arc;

use orangery_io_stream::{Chunk, Cursor, End, Gap};

use crate::events::Event;
use crate::ids::ProcessId;
use crate::report::Report;

/// A process of one incarnation of a container, as the source of output.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The container's id.
    pub container: Arc<str>,
    /// The container's labels; none of a member that only a cursor knows ([`Item::Gone`]).
    pub labels: Arc<BTreeMap<String, String>>,
    /// Which incarnation of the container, from 1.
    pub generation: u32,
    /// Which process of it; 0 is the main one.
    pub process: ProcessId,
}

/// What comes next. See the [module](super) for the order.
///
/// The list grows: skip what you do not know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// Something has happened.
    Event(Arc<Event>),
    /// The follower was so slow that events have made way for newer ones. Outputs are read on, and each container of which
    /// this follower has handed out anything has its [`Item::End`] all the same. Missed is that of one of which nothing was,
    /// or only before it was resumed, while nothing of it was followed: a cursor does not name such.
    Lagged {
        /// So many, of all containers.
        missed: u64,
    },
    /// Bytes.
    Chunk {
        /// Whose.
        member: Arc<Member>,
        /// Which, and where they stand.
        chunk: Chunk,
    },
    /// Bytes that this follower will not get.
    Gap {
        /// Whose.
        member: Arc<Member>,
        /// Which, and why.
        gap: Gap,
    },
    /// This source was read too slowly and the policy is [`Overflow::Disconnect`](crate::Overflow::Disconnect): no more of
    /// it, until the follower is resumed.
    Disconnected {
        /// Whose.
        member: Arc<Member>,
        /// The place before the first byte that was not handed out.
        at: Cursor,
    },
    /// The output of a member is not to be had.
    Gone {
        /// Whose.
        member: Arc<Member>,
        /// Why.
        why: GoneWhy,
    },
    /// The output of a member has ended, and all of it was handed out.
    Closed {
        /// Whose.
        member: Arc<Member>,
        /// How, with its counts.
        end: End,
    },
    /// Nothing more comes of this incarnation of a container.
    End {
        /// Its id.
        container: Arc<str>,
        /// Which incarnation.
        generation: u32,
        /// How its main process ended. `None`: it was never started, or it ended before this follower began.
        report: Option<Arc<Report>>,
    },
}

/// Why a member's output is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GoneWhy {
    /// It has ended, and nobody keeps its output any more. What it wrote behind the cursor is lost, however much that was.
    Ended,
    /// As many sources were followed as [`FollowOptions::max_sources`](super::FollowOptions::max_sources) allows.
    TooMany,
    /// A test had it lost, see [`faults`](crate::faults).
    Injected,
}
