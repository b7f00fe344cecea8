//! A group: services, and groups of them, that start in order, stop in reverse order and are restarted together as its
//! [`Strategy`] says.
//!
//! [`order`] says who comes after whom, and refuses circles. [`state`] is the table: from what its members are to what is
//! to be done. [`run`] carries it out, a plain task that holds the members: when it fails, they are killed. What the group
//! is as a whole is the table of a service (`service/state.rs`): a member that has failed is its death, and its own
//! [`Restart`](crate::Restart) says what follows; a group that gives up is a failed member of the group above.
//!
//! A member's delay is held: when it is over the group starts it, when it is its turn. Whether a member is ready, so that
//! the next may start, is one question, `Status::is_ready` (`service/inspect.rs`).

mod builder;
mod handle;
mod member;
mod order;
mod run;
mod state;

pub use builder::GroupBuilder;
pub use handle::{Group, GroupInspect, MemberInspect};
pub use state::Strategy;
