//! Tests that this machine cannot run: told, counted, and never taken for passed by who looks.

use std::io::Write as _;
use std::panic::Location;
use std::sync::OnceLock;

use crate::sandbox::{Sandbox, SandboxBuilder};
use crate::supervisor::Supervisor;

/// What a test may need. Found out by trying, once for each process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// A default container runs here.
    Containers,
    /// Any cgroup.
    Cgroups,
    /// Memory limits.
    Memory,
    /// Limits of the number of processes.
    Pids,
    /// Quotas of processor time.
    Cpu,
    /// The host's root.
    Root,
}

/// Why this machine lacks `capability`; `None`: it has it. Blocks for as long as a container takes, the first time.
#[must_use]
pub fn lacks(capability: Capability) -> Option<String> {
    if capability == Capability::Root {
        return (!rustix::process::geteuid().is_root()).then(|| "it needs root".into());
    }
    static LACKS: OnceLock<Result<Vec<(Capability, String)>, String>> = OnceLock::new();
    match LACKS.get_or_init(probe) {
        Err(why) => Some(why.clone()),
        Ok(lacks) => lacks.iter().find(|(lacking, _)| *lacking == capability).map(|(_, why)| why.clone()),
    }
}

fn probe() -> Result<Vec<(Capability, String)>, String> {
    let supervisor = Supervisor::builder().shards(1).build().map_err(|error| format!("no containers here: {error}"))?;
    let run = |change: fn(SandboxBuilder) -> SandboxBuilder| {
        let sandbox = change(Sandbox::builder()).build()?;
        supervisor.command("true").sandbox(&sandbox).run_blocking().map(drop)
    };
    let lacks = run(|builder| builder).map_err(|error| format!("no containers here: {error}")).map(|()| {
        let mut lacks = Vec::new();
        let mut need = |capability, change| {
            if let Err(error) = run(change) {
                lacks.push((capability, format!("it needs a limit that is refused here: {error}")));
            }
        };
        need(Capability::Memory, |builder| builder.memory(64 << 20));
        need(Capability::Pids, |builder| builder.pids(64));
        need(Capability::Cpu, |builder| builder.cpus(0.5));
        if let Some(("none", why)) =
            supervisor.native().map(|native| native.cgroup_mode()).as_ref().map(|(mode, why)| (&**mode, why))
        {
            lacks.push((
                Capability::Cgroups,
                format!("it needs a cgroup: {}", why.as_deref().unwrap_or("there is none")),
            ));
        }
        lacks
    });
    supervisor.shutdown_blocking();
    lacks
}

/// Whether the test that calls this is to be skipped, because this machine lacks `capability`: then that is told. For
/// [`skip_unless!`](crate::skip_unless).
///
/// # Panics
/// Instead of skipping, where the environment has `ORANGERY_NO_SKIPS`.
#[track_caller]
#[must_use]
pub fn skips(capability: Capability) -> bool {
    let Some(why) = lacks(capability) else { return false };
    #[expect(clippy::panic, reason = "that is what was asked for")]
    if std::env::var_os("ORANGERY_NO_SKIPS").is_some() {
        panic!("nothing is to be skipped (ORANGERY_NO_SKIPS): {why}");
    }
    let line = line(&test(Location::caller()), &why);
    // Not by the macro: what that prints the harness keeps to itself when a test passes.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(file) = std::env::var_os("ORANGERY_SKIPS") {
        let file = std::fs::File::options().append(true).create(true).open(file);
        // One write: lines of tests in other processes do not come into it.
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        if let Err(error) = written {
            let _ = writeln!(std::io::stderr(), "ORANGERY_SKIPS cannot be written: {error}");
        }
    }
    true
}

/// The name of the test: nextest says it, libtest calls its thread so.
fn test(at: &Location<'_>) -> String {
    let thread = || std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    std::env::var("NEXTEST_TEST_NAME").ok().or_else(thread).unwrap_or_else(|| format!("{}:{}", at.file(), at.line()))
}

fn line(test: &str, why: &str) -> String {
    format!("orangery-skip: {test}: {}\n", why.replace('\n', " "))
}

/// Leaves a test that this machine cannot run: `skip_unless!(Memory)` in one that returns nothing, `skip_unless!(Memory, Ok(()))`
/// in one that returns a value. The names are those of [`Capability`](crate::testing::Capability). Feature `testing`.
///
/// The harness of Rust knows no skipping at run time: whatever returns counts as passed, in `cargo test` and in `cargo
/// nextest` alike. So it is told beside: each skip is a line on standard error, `orangery-skip: TEST: WHY`, past what the
/// harness captures (`cargo test` shows it; nextest with `--success-output final`), and the same line behind the end of the
/// file that `ORANGERY_SKIPS` names, by whatever harness and in how many processes the tests ran. That counts them:
///
/// ```console
/// $ rm -f /tmp/skips; ORANGERY_SKIPS=/tmp/skips cargo nextest run; sort -u /tmp/skips | tee /dev/stderr | wc -l
/// ```
///
/// Where nothing may be skipped, as in a CI that has everything, `ORANGERY_NO_SKIPS=1` makes each of them a failure.
///
/// ```
/// // #[tokio::test]
/// async fn a_test_that_needs_memory_limits() {
///     orangery::skip_unless!(Memory);
///     let supervisor = orangery::testing::supervisor().unwrap();
///     // ...
///     supervisor.finish().await.unwrap();
/// }
/// # orangery::block_on(a_test_that_needs_memory_limits());
/// ```
#[macro_export]
macro_rules! skip_unless {
    ($capability:ident) => {
        if $crate::testing::skips($crate::testing::Capability::$capability) {
            return;
        }
    };
    ($capability:ident, $value:expr) => {
        if $crate::testing::skips($crate::testing::Capability::$capability) {
            return $value;
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_one_line_with_the_name_of_its_test() {
        let name = test(Location::caller());
        assert!(name.ends_with("a_skip_is_one_line_with_the_name_of_its_test") || name.contains(".rs:"), "{name}");
        assert_eq!(line("a::b", "no\nmemory"), "orangery-skip: a::b: no memory\n");
    }

    #[test]
    fn root_is_asked_for_by_the_id() {
        assert_eq!(lacks(Capability::Root).is_none(), rustix::process::geteuid().is_root());
    }
}
