//! The binary as its users meet it: exit codes, streams, signals, errors, and nothing left behind. As root and as an
//! ordinary user; what the machine or the user lacks is skipped, counted and said.
//!
//! `ORANGERY_TEST_BIN_DIR` names a directory with the binary `orangery`, for runs by a user who cannot see the build
//! directory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says why by panicking")]
mod bundle;
mod kit;
mod logs;
mod output;
mod refusals;
mod remote;
mod restart;
mod signals;
mod stock;
mod streams;
mod terminal;
mod tty;
mod up;

use libtest_mimic::{Arguments, Trial};

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
        bundle::tests(),
        logs::tests(),
        stock::tests(),
        terminal::tests(),
        up::tests(),
        remote::tests(),
    ];
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
