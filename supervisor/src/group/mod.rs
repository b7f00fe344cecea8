//! A group: services, and groups of them, that start in order, stop in reverse order and are restarted together as its
//! [`Strategy`] says.
//!
//! [`order`] says who comes after whom, and refuses circles. [`state`] is the table: from what its members are to what is
//! to be done. [`run`] carries it out for the [`actor`], a message at a time; what must not be lost when that fails lies in the
//! [`slot`], and the members say themselves what has happened to them. What the group is as a whole is the table of a service (`service/state.rs`): a member that has failed is its death, and its own
//! [`Restart`](crate::Restart) says what follows; a group that gives up is a failed member of the group above.
//!
//! Where it outlives us it is written down before its members hear of anything ([`again`] is how the next supervisor goes on).
//!
//! A member's delay is held: when it is over the group starts it, when it is its turn. Whether a member is ready, so that
//! the next may start, is one question, `Status::is_ready` (`service/inspect.rs`).

mod actor;
mod again;
mod builder;
mod handle;
mod member;
mod order;
mod run;
mod slot;
pub(crate) mod state;

pub(crate) use again::{go_on, members};
pub use builder::GroupBuilder;
pub use handle::{Group, GroupInspect, MemberInspect};
pub(crate) use slot::GroupSlot;
pub use state::Strategy;
