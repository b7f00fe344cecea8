//! (2) in the way of the data: a [`CheckedSpec`](crate::spec::CheckedSpec) becomes a [`Plan`].
//!
//! A plan is a pure function of the checked spec and the [`Machine`]: the ordered kernel steps with nothing left to
//! decide, in the flat encoding of [`wire`]. The same bytes are printed by [`explain`], pinned by snapshot tests and
//! executed by the keeper's child. Undoing needs no steps: everything a plan makes lives in the child's own
//! namespaces and dies with it; what outlives it (cgroup, id range, state) is the runtime's and has owners there.

pub mod container;
pub mod driver;
pub mod encode;
pub mod explain;
pub mod helper;
mod hidden;
pub mod hook;
pub mod idmap;
mod kernel;
mod landlock;
pub mod layers;
mod listed;
pub mod machine;
mod mounts;
mod own_mounts;
pub mod owners;
pub mod process;
pub mod reach;
mod rootfs;
pub mod server;
pub mod stand_in;
#[cfg(test)]
mod tests;
mod tty;
pub mod wire;

pub use encode::{Builder, Need, Plan};
pub(crate) use kernel::SYS_MOUNTS;
pub use machine::Machine;
