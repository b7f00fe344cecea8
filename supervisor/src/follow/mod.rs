//! One feed of many: the output and the events of all containers that match a filter, later ones included.
//!
//! [`Supervisor::follow`](crate::Supervisor::follow) gives a [`Follow`], a `Stream` of [`Item`]s. Each item is about one
//! [`Member`]: a process of an incarnation of a container. A service is followed through its restarts, each of which is a
//! member of its own with the next generation.
//!
//! # What comes when
//! Of one container, in this order: its events as they were told; no byte of a process before its `process_started`; for
//! each process that is followed its chunks and gaps and then its [`Item::Closed`]; after all that, and after its last event
//! (`container_removed` or `container_failed`), its [`Item::End`], once. Events overtake bytes: a `process_exited` may come
//! before the last bytes, so that a slow reader learns of an end when it happens. Between containers the order of events is
//! that of the feed, that of bytes is the order in which they are taken.
//!
//! # Who gets how much
//! Each source has a queue of its own, with a policy for when it is full ([`FollowOptions::output`]): a flood never evicts
//! another's line. The queues are emptied in turns of [`FollowOptions::turn_bytes`] (deficit round robin; what comes in
//! small pieces counts as if they were larger), and between two pieces of output an event may come. So a line of a quiet
//! container waits for at most one turn of each of the others.
//!
//! # Cut and resumed
//! [`Follow::cursor`] is the place behind the last item that was handed out, in all sources at once; as text it may leave
//! the program. [`Supervisor::resume_follow`](crate::Supervisor::resume_follow) goes on there: every item that was not
//! handed out comes, none comes twice. What cannot be had any more is said by name: bytes that have left the history are a
//! [`Item::Gap`], a source that nobody keeps any more is [`Item::Gone`], events are [`Item::Lagged`].
//!
//! # What it holds
//! No task and no thread: it is polled, and only sources that have something are looked at. At most
//! [`FollowOptions::max_sources`] are followed at one time, each with a queue of at most
//! [`queue_bytes`](crate::SubscribeOptions::queue_bytes) (and its history, when it begins); one more is
//! [`Gone`](Item::Gone) with [`GoneWhy::TooMany`]. The cursor names the sources that have not ended; whatever has ended has
//! left it once its `End` was handed out. It keeps nothing alive and nothing up: neither supervisor nor container.

mod begin;
mod crowd;
mod cursor;
pub(crate) mod directory;
mod item;
mod options;
mod reader;
mod ready;
#[cfg(test)]
mod tests;
mod turns;

pub use cursor::FollowCursor;
pub use item::{GoneWhy, Item, Member};
pub use options::FollowOptions;
pub use reader::Follow;
