//! Tests as libtest's command line knows them; what cannot be one here is counted as skipped and said.

use libtest_mimic::{Arguments, Trial};

/// A test, or the reason why it cannot be one here.
pub(crate) struct Test {
    name: &'static str,
    skip: Option<String>,
    run: fn(),
}

/// A test that runs everywhere.
pub(crate) fn always(name: &'static str, run: fn()) -> Test {
    Test { name, skip: None, run }
}

/// A test for machines and users that can do something.
pub(crate) fn needs(name: &'static str, skip: Option<String>, run: fn()) -> Test {
    Test { name, skip, run }
}

/// Run those that are asked for.
pub(crate) fn run(tests: impl IntoIterator<Item = Vec<Test>>) -> std::process::ExitCode {
    let trials = tests.into_iter().flatten().map(trial).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
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
