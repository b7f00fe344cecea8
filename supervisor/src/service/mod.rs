//! A service: one command that is kept running as its [`Restart`](crate::Restart) says, through as many incarnations as
//! that takes. Each is a container of its own with the service's name and the next generation
//! (docs/decisions/0016).
//!
//! ```text
//!            Start                 Started                 Stop
//!  Settled --------> Starting --------------> Running -------------> Stopping
//!     ^                ^  |  Stop: abort        |                      | Died
//!     |      DelayOver |  +-------------------> | Died                 v
//!     |                |        (Stopping)      v                   Stopped
//!     +--- Done -------|---------------------- judged by the Restart
//!     +--- Escalate ---|-----------------------+  |
//!                      +-------- BackOff <--------+ Restart{after}
//! ```
//!
//! Settled is `Ended` (done), `Stopped` (as asked) or `Failed` (told upwards). [`state`] is that table, pure and total.
//! [`actor`] carries it out; what must not be lost lies in the [`slot`]: the incarnation's task ([`incarnation`]) writes
//! what happened there first and tells the actor after, so that a panic of the actor loses nothing. The kill passes no
//! mailbox. Knows nothing of groups.

pub(crate) mod actor;
pub(crate) mod again;
pub(crate) mod handle;
pub(crate) mod incarnation;
mod inspect;
pub(crate) mod msg;
pub(crate) mod slot;
pub(crate) mod state;
mod told;

pub(crate) use handle::until;
pub use handle::{Service, ServiceChanges};
pub use inspect::{BackOff, Change, ServiceInspect};
pub(crate) use inspect::{Delay, Status};
pub(crate) use told::Told;
