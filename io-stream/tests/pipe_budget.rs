//! The pipe pages of an ordinary user, spent on purpose: small pipes are seen, and growing one is refused
//! with a reason. Root has no such budget: a child of another user is used then.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::MetadataExt;
use std::process::{ExitCode, Output};

use libtest_mimic::{Arguments, Trial};
use orangery_io_stream::{DEFAULT_PIPE_SIZE, PipeBudget, PipeRefusal, pipe_size, set_pipe_size};
use rustix::pipe::{PipeFlags, pipe_with};

const CHILD: &str = "ORANGERY_BUDGET_CHILD";

fn main() -> ExitCode {
    if std::env::var_os(CHILD).is_some() {
        spend();
        return ExitCode::SUCCESS;
    }
    let skip = skip();
    if let Some(why) = &skip {
        eprintln!("skipped: a_spent_budget_is_seen: {why}");
    }
    let trial = Trial::test("a_spent_budget_is_seen", || {
        let output = child(r#"exec "$@""#);
        assert!(output.status.success(), "{output:?}");
        Ok(())
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial.with_ignored_flag(skip.is_some())]).exit_code()
}

/// Why it cannot be tried here.
fn skip() -> Option<String> {
    match PipeBudget::read().map(|budget| budget.pipes_of(DEFAULT_PIPE_SIZE as u64)) {
        None => return Some("the budget is not to be seen".into()),
        Some(None) => return Some("there is no budget".into()),
        Some(Some(pipes)) if pipes > 4000 => return Some(format!("a budget of {pipes} pipes is too large to spend")),
        Some(Some(_)) => {}
    }
    let output = child(r#"[ "$(ulimit -n)" -gt 8100 ] && [ -x "$1" ]"#);
    (!output.status.success()).then(|| "no ordinary user with enough descriptors can run this test".into())
}

/// Runs `script` as an ordinary user, with this program as `"$@"`.
#[expect(clippy::disallowed_methods, reason = "another user needs a process of their own")]
fn child(script: &str) -> Output {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let user: &[&str] =
        if root { &["setpriv", "--reuid=64123", "--regid=64123", "--clear-groups", "sh"] } else { &["sh"] };
    std::process::Command::new(user[0])
        .args(&user[1..])
        .args(["-c", &format!(r#"ulimit -n "$(ulimit -Hn)"; {script}"#), "sh"])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD, "1")
        .output()
        .unwrap()
}

/// Makes pipes until one is small.
fn spend() {
    let pipes = PipeBudget::read().unwrap().pipes_of(DEFAULT_PIPE_SIZE as u64).unwrap();
    let mut held = Vec::new();
    let small = loop {
        let pipe = pipe_with(PipeFlags::CLOEXEC).unwrap();
        if pipe_size(&pipe.0).unwrap() < DEFAULT_PIPE_SIZE {
            break pipe;
        }
        held.push(pipe);
        assert!(held.len() as u64 <= pipes, "more than the budget says");
    };
    let size = set_pipe_size(&small.0, DEFAULT_PIPE_SIZE).unwrap();
    assert_eq!((size.refused, size.got), (Some(PipeRefusal::Budget), pipe_size(&small.0).unwrap()));
    // What is given back can be had again.
    drop(held);
    assert_eq!(set_pipe_size(&small.0, DEFAULT_PIPE_SIZE).unwrap().refused, None);
}
