//! `orangery serve` over real sockets: what clients can do, and what hostile ones cannot. Each test has a daemon of its own, with
//! its own state, and takes stock at its end.
//!
//! `ORANGERY_TEST_BIN_DIR` names a directory with the binary `orangery`, as for the tests of `cli`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says why by panicking")]
mod abuse;
mod attach;
mod client;
mod daemon;
#[path = "../shared/family.rs"]
mod family;
mod hostile;
mod lives;
mod strangers;
mod streams;
mod systemd;
#[path = "../shared/trials.rs"]
mod trials;
mod upgrade;

use trials::{Test, always, needs};

fn main() -> std::process::ExitCode {
    let tests = [
        lives::tests(),
        streams::tests(),
        attach::tests(),
        hostile::tests(),
        abuse::tests(),
        strangers::tests(),
        systemd::tests(),
        upgrade::tests(),
    ];
    trials::run(tests)
}
