//! A pool: sandboxes that are made before anybody asks for one, so that a request takes one that is ready.
//!
//! ```text
//!   make ---> idle ---take---> leased ---drop---> removed
//!     |        |  ^               |                  ^
//!     |        |  +-- untouched --+                  |
//!     |        +--- died, too old, pool closed ------+
//!     +-- failed: the next attempt after a delay
//! ```
//!
//! A ready sandbox is a running container whose main process is its stub init (or a command that was started in advance);
//! a request execs in it. What comes back is destroyed (docs/decisions/0025 says why), unless its holder has never
//! looked at it.
//!
//! [`state`] is the table: pure, total, and it counts only. [`shared`] knows which sandbox and which caller, takes the steps
//! under one lock, so that a take from a pool that has one passes no mailbox, and carries them out after it; [`asking`] and
//! [`lease`] are the steps of who wants one and who has one. [`member`] sees
//! one sandbox through, from its creation to its removal, in a task of its own; a panic of it is followed by another that goes
//! on where it stood. Nothing polls: a death is told by the exit, and delays and ages are timers.

mod asking;
mod builder;
mod handle;
mod lease;
mod member;
mod reason;
mod shared;
pub(crate) mod state;

pub use builder::{PoolBuilder, Reset};
pub use handle::{Pool, PoolInspect};
pub use lease::Lease;
pub use reason::DiscardReason;
pub(crate) use shared::Shared;
