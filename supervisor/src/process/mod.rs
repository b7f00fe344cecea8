//! One process: its slot (what must not be lost), its actor (what is done to it), and its pure tables.
//!
//! ```text
//!            Signal: send                 Signal: send
//!            +-----+                      +-----+
//!            v     |        Stop          v     |     Due: the next signal, at last the kill
//!         +-----------+ ------------> +------------+ -------------> (kill is sent, state stays)
//!         |  Running  |               |  Stopping  | <----------+
//!         +-----------+               +------------+            | Prepared, or Due: the kill
//!               |  | Stop, with something to be done before     |
//!               |  +-----------------------------> Preparing ---+
//!               | Exited                    | Exited (of all three)
//!               v                           v
//!         +-------------------------------------------+  Signal: refused (gone)
//!         |                 Exited                    |  Stop: joins, answered at once
//!         +-------------------------------------------+
//! ```
//!
//! What a stop or a limit has still to do is in the keeper too ([`backstop`]), for when we are stopped or gone.
//! The exit and the bytes never pass through the actor's mailbox: plain tasks write them into the [`slot`] first and
//! tell the actor afterwards.

pub(crate) mod actor;
pub(crate) mod backstop;
pub(crate) mod begun;
mod descent;
pub(crate) mod held;
pub(crate) mod msg;
pub(crate) mod output;
pub(crate) mod prepare;
pub(crate) mod recording;
pub(crate) mod slot;
pub(crate) mod state;
mod tell;
pub(crate) mod tty;
pub(crate) mod wall;
