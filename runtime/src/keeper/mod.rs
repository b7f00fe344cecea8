//! Our side of the keeper: start it, speak to it, exits from it, its death. The program itself is in
//! `runtime/keeper/`.

mod adopt;
mod brief;
mod client;
mod conversation;
mod door;
mod driver;
mod frame;
mod launch;
mod lease;
mod ledger;
pub mod maps;
mod orphans;
mod store;
mod succession;

pub use adopt::{Child, Found, adopt};
pub(crate) use adopt::{adopt_for, first_id, pid_of};
pub(crate) use brief::{Brief, Nature};
pub(crate) use client::expect;
pub use client::{Client, Spawned};
pub use conversation::Unclaimed;
pub use door::listen;
pub use driver::Driver;
pub(crate) use frame::{Heard, peek, receive};
pub use launch::{Launched, launch};
pub(crate) use launch::{has_rights, is_privileged, write_program};
pub use lease::{Deadline, Lease, Lever};
pub use store::{Holding, Kept, Stored};
pub(crate) use succession::{Heir, Present, Which};
pub use succession::{KeeperNews, Replaced};
