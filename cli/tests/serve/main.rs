//! `orangery serve` over real sockets: what clients can do, and what hostile ones cannot. Each test has a daemon of its own, with
//! its own state, and takes stock at its end.
//!
//! `ORANGERY_TEST_BIN_DIR` names a directory with the binary `orangery`, as for the tests of `cli`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says why by panicking")]
mod attach;
mod client;
mod daemon;
mod hostile;
mod lives;
mod strangers;
mod streams;
mod systemd;

use libtest_mimic::{Arguments, Trial};

fn main() -> std::process::ExitCode {
    let tests =
        [lives::tests(), streams::tests(), attach::tests(), hostile::tests(), strangers::tests(), systemd::tests()];
    let trials = tests.into_iter().flatten().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test, or the reason why it cannot be one here.
struct Test {
    name: &'static str,
    skip: Option<String>,
    run: fn(),
}

/// A test that runs everywhere.
fn always(name: &'static str, run: fn()) -> Test {
    Test { name, skip: None, run }
}

/// A test for machines and users that can do something.
fn needs(name: &'static str, skip: Option<String>, run: fn()) -> Test {
    Test { name, skip, run }
}

fn trial(test: Test) -> Trial {
    let Test { name, skip, run } = test;
    if let Some(why) = &skip {
        eprintln!("skipped: {name}: {why}");
    }
    let trial = Trial::test(name, move || {
        run();
        Ok(())
    });
    trial.with_ignored_flag(skip.is_some())
}
