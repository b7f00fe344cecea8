//! The daemon, as its command line asks it: HTTP over a unix socket. Knows nothing of commands and of what they print.
//!
//! ```text
//!   place ── which socket, and who said so     target ── a path with its query      connection ── one request, one answer
//!   refusal ── an answer that is none          sse ── text/event-stream, pure       back_off ── when to try again, pure
//!   again ── waiting for a daemon that has gone             feed ── a stream of events that outlives its connections
//!   socket ── a WebSocket, for who is attached
//! ```
//!
//! Each request has a connection of its own: on a unix socket that costs microseconds, and an answer that is not read
//! holds up no other.

mod again;
mod back_off;
mod connection;
mod feed;
mod place;
mod refusal;
mod socket;
mod sse;
mod target;

pub(crate) use again::Again;
use back_off::BackOff;
pub(crate) use connection::{Client, Lost};
pub(crate) use feed::{Feed, First, GONE};
pub(crate) use place::Place;
pub(crate) use refusal::failure as refused;
pub(crate) use socket::{Frame, Socket, away, lost};
pub(crate) use sse::Message;
pub(crate) use target::Target;
