//! The keeper: the forking place, parent and subreaper of every process that a supervisor runs.
//!
//! THE LAW OF THIS FOLDER. Everything here runs either in a process that must not fail (the keeper) or between
//! clone and exec (its children), so:
//! - no std, no allocator, no lock, no dependency; only `core`, the wire format and our own system calls;
//! - no panic: an index is a `get`, arithmetic that could overflow is checked; CI links this program with a panic
//!   handler that does not exist, so a reachable panic fails the build;
//! - no policy and no parsing beyond the bounded, checked plan: the keeper never decides;
//! - nothing here waits for what a container does: waiting is the loop's; the few bounded waits say what bounds them;
//! - the first line of each function that runs in a child says so.
//!
//! It is compiled by `runtime/build.rs` with one `rustc` call, embedded in `orangery-runtime` and run from a sealed
//! memfd. Reading order: `main` (start) -> `serve` (the loop) -> `spawn` (one request; `middle`, where
//! it enters what exists) -> `birth` -> `child` -> `steps`;
//! a plan that runs nothing may end in a `hand` (files, in somebody's name); one that calls another program has somebody to `attend` it;
//! `exits` (peek, record, reap), `deadline` (what is to be done at a time; `lease`, one of those), `store` (what is held for a further supervisor)
//! and, when the supervisor is gone, `sweep` or `alone`.
#![no_std]
#![no_main]
#![no_builtins]
#![allow(clippy::missing_safety_doc)]

mod alone;
#[cfg_attr(target_arch = "x86_64", path = "arch/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch/aarch64.rs")]
mod arch;
mod attend;
mod birth;
mod child;
mod copyup;
mod deadline;
mod ends;
mod exits;
mod hand;
mod landlock;
mod lease;
mod memory;
mod middle;
mod place;
mod serve;
mod spawn;
mod start;
mod steps;
mod store;
mod stub;
mod sweep;
mod sys;
mod terminal;
mod trace;
#[allow(dead_code)] // shared with the planner, which uses the rest
#[path = "../src/plan/wire.rs"]
mod wire;

/// Called by the architecture's `_start` with the initial stack pointer.
///
/// # Safety
/// `stack` is what the kernel left: argc, then argv.
#[unsafe(no_mangle)]
unsafe extern "C" fn keeper_main(stack: *const usize) -> ! {
    // SAFETY: the kernel puts argc at the initial stack pointer.
    let argc = unsafe { *stack };
    start::run(argc)
}

#[cfg(orangery_panic_check)]
unsafe extern "C" {
    /// Defined nowhere: linking fails when a panic is reachable.
    fn orangery_keeper_must_not_panic() -> !;
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    #[cfg(orangery_panic_check)]
    // SAFETY: never linked; see the declaration.
    unsafe {
        orangery_keeper_must_not_panic()
    }
    #[cfg(not(orangery_panic_check))]
    sys::exit_group(122)
}

/// `core` objects refer to it although nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
