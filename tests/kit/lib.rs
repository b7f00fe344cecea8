//! The kit of the end-to-end tests: what a trial needs, what it leaves behind, how it waits.
//!
//! ```text
//!  cargo test ─► harness.rs   one child process a trial (this binary again), a time limit, what it printed
//!                  │ machine.rs   what this machine has, found out by trying; a trial that needs more is counted as skipped
//!                  ▼
//!                scene.rs     in the child: directory, cgroup parent and mount namespace of its own
//!                  │ stock.rs     processes, cgroups, mounts, descriptors, threads, files: before and after
//!                  ▼
//!                host.rs      a runtime and its driver; containers with the probe in them
//!                  raw.rs       a keeper without a runtime, to be spoken to by hand
//!                  noise.rs     what the probe writes without end, told at any offset
//!                  swap.rs      a name that is a directory and a link by turns
//!                  wait.rs      pidfds and pipes: level-triggered, no sleeps
//!                  image.rs     a root file system of busybox
//!                  block.rs     a loop device, and what a limit of one comes to
//!                  victim.rs    a supervisor in a process of its own, to be killed
//! ```
//!
//! Nothing here is part of the product, and no trial sees another one: threads of one process could not, because
//! descriptors, the working directory, subreaping and mount namespaces belong to the process.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "test code: a panic is a failed trial")]

pub mod block;
pub mod cold;
pub mod harness;
pub mod host;
pub mod image;
pub mod machine;
pub mod net;
pub mod noise;
pub mod raw;
pub mod scene;
pub mod stock;
pub mod swap;
pub mod victim;
pub mod wait;

pub use harness::{Trial, main};
pub use host::{Host, Outcome};
pub use machine::{Machine, Need};
pub use scene::Scene;

/// A trial by its function: the name is the function's.
#[macro_export]
macro_rules! trial {
    ($name:ident) => {
        $crate::Trial::new(stringify!($name), &[], $name)
    };
    ($name:ident, $($need:ident),+) => {
        $crate::Trial::new(stringify!($name), &[$($crate::Need::$need),+], $name)
    };
}
