//! The feed: what happens to containers, to their processes and to ourselves, in one order.
//!
//! Each supervisor has one feed, read with [`Supervisor::events`](crate::Supervisor::events). An [`Event`] says when
//! (two clocks), about which container, process and incarnation, what (its [`Kind`]) and, where that is known, why. The
//! last 4,096 of them ([`SupervisorBuilder::event_history`](crate::SupervisorBuilder::event_history)) are kept for readers
//! that come later; a reader takes them at its own pace and disturbs neither the supervisor nor other readers. Too slow, it
//! is told how many it has missed ([`Item::Lagged`]).
//!
//! Its place is a [`Cursor`](crate::Cursor), as of an output stream: opaque text that only this feed accepts. When the
//! events behind it are no longer kept, or it is none of this feed, the answer is [`Gone`](crate::Gone) with the oldest
//! place there is.
//!
//! # The story of a container
//! `container_created`, `process_started` (process 0), `container_started`, then whatever happens, then
//! `process_exited`, `container_exited`, `process_ended` and `container_removed`; or, at any point before the start,
//! `container_failed`. What was refused before anything was made (a budget, a taken id) has no events.
//! `docs/states.md` has the tables of states with the event of each transition.
//!
//! An event is in the feed before whoever asked for the same news is answered: who has a report in hand finds
//! `container_removed` there.
//!
//! # Kinds to come
//! The names `network_attached`, `network_detached` and `image` are reserved.

mod event;
mod feed;
mod kind;
mod reader;
mod ring;
#[cfg(test)]
mod tests;

pub use event::{Event, SCHEMA};
pub use kind::{Failure, FaultNews, Kind};
pub use reader::{Events, Item, Since};

pub(crate) use feed::{Feed, HISTORY, Voice};
