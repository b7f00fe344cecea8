//! The binary as its users meet it: exit codes, streams, signals, errors, and nothing left behind. As root and as an
//! ordinary user; what the machine or the user lacks is skipped, counted and said.
//!
//! `ORANGERY_TEST_BIN_DIR` names a directory with the binary `orangery`, for runs by a user who cannot see the build
//! directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says why by panicking")]
mod bundle;
#[path = "../shared/family.rs"]
mod family;
mod kit;
mod logs;
mod output;
mod powerless;
mod refusals;
mod remote;
mod restart;
mod rootfs;
mod runtime;
mod setup;
mod signals;
mod stock;
mod streams;
mod terminal;
#[path = "../shared/trials.rs"]
mod trials;
mod tty;
mod up;

use trials::{Test, always, needs};

fn main() -> std::process::ExitCode {
    if std::env::var_os(terminal::PANICS).is_some() {
        terminal::panic_at_the_terminal();
    }
    let tests = [
        output::tests(),
        streams::tests(),
        signals::tests(),
        refusals::tests(),
        restart::tests(),
        rootfs::tests(),
        runtime::tests(),
        powerless::tests(),
        setup::tests(),
        bundle::tests(),
        logs::tests(),
        stock::tests(),
        terminal::tests(),
        up::tests(),
        remote::tests(),
    ];
    trials::run(tests)
}
