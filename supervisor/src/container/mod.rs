//! One container: its actor, its life, its pure table.
//!
//! ```text
//!   Creating --Started--> Running <--Resumed/Paused--> Paused
//!      | Failed              |  MainExited                | MainExited
//!      v                     v                            v
//!    Gone  <--Removed---   Ending  <----------------------+
//!      ^                     | Kept
//!      +------Removed----  Kept: only its files are left
//!                            ^
//!   Ending --Unkillable--> Unkillable --Kept, or Removed--> as from Ending
//! ```
//!
//! [`life`] is the straight line from creation to the report, a plain task: neither a flood of messages nor a panic of
//! an actor holds it up; a wall limit is carried out by it and by the keeper. The actor answers what is asked meanwhile.
//! [`probes`] ask whether it does what it is for, and [`vitals`] is what they have found.
//! [`report`] puts together what is known at the end.

pub(crate) mod actor;
pub(crate) mod again;
mod attend;
pub(crate) mod cpu;
mod ending;
mod exec;
mod hits;
mod hooks;
pub(crate) mod idle;
mod last_word;
pub(crate) mod life;
mod limits;
pub(crate) mod msg;
mod network;
mod oom;
pub(crate) mod probes;
pub(crate) mod processes;
pub(crate) mod properties;
pub(crate) mod report;
mod root;
pub(crate) mod slot;
pub(crate) mod state;
pub(crate) mod stats;
mod tell;
mod unkillable;
mod unmet;
mod update;
mod vitals;
