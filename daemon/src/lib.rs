//! The daemon: supervised containers over HTTP, and the types that its clients speak.
//!
//! ```text
//!   wire ── bodies, events and frames: serde, no HTTP        place ── where the socket and the state are by default
//!   server ── HTTP/1.1 on a unix socket (feature `server`, on by default)
//! ```
//!
//! It transports: what a spec can say is said by whoever starts it (`server::Make`), and what happens to a container is
//! the library's.
#![forbid(unsafe_code)]

pub mod place;
#[cfg(feature = "server")]
pub mod server;
pub mod signal;
pub mod wire;
