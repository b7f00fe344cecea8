//! Judge a submission: limits on wall clock, memory and output; the verdict comes from the report.
//!
//! `cargo run --release --example judge`

use std::time::Duration;

use orangery::{Cause, LimitKind, Report, Sandbox, Supervisor};

/// The submissions: what they are called, what they do, what the verdict must be.
const SUBMISSIONS: [(&str, &str, &str); 5] = [
    ("right", "echo 42", "accepted"),
    ("wrong", "echo 41", "wrong answer"),
    ("crash", "exit 7", "runtime error"),
    ("slow", "while :; do :; done", "time limit"),
    ("chatty", "yes 42", "output limit"),
];

fn verdict(report: &Report, output: &[u8]) -> &'static str {
    match &report.cause {
        Cause::Limit(LimitKind::Wall) => "time limit",
        Cause::Limit(LimitKind::Memory) => "memory limit",
        Cause::Limit(LimitKind::Output) => "output limit",
        Cause::Own if !report.exit.success() => "runtime error",
        Cause::Own if output == b"42\n" => "accepted",
        Cause::Own => "wrong answer",
        _ => "judge error",
    }
}

fn sandbox(source: &'static str, limited: bool) -> Result<Sandbox, orangery::Error> {
    let builder = Sandbox::builder().file("/in/main.sh", source).wall(Duration::from_secs(1)).output(1 << 20);
    // Without a cgroup (an ordinary user outside a delegated one) memory cannot be limited.
    if limited { builder.memory(64 << 20).pids(16).build() } else { builder.build() }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let supervisor = Supervisor::new()?;
    let limited = supervisor.native().is_some_and(|native| native.cgroup_mode().0 != "none");
    for (name, source, expected) in SUBMISSIONS {
        let output = supervisor.command("sh").arg("/in/main.sh").sandbox(&sandbox(source, limited)?).run().await?;
        let verdict = verdict(&output.report, &output.stdout.to_vec());
        println!("{name}: {verdict} after {} ms", output.report.wall().unwrap_or_default().as_millis());
        anyhow::ensure!(verdict == expected, "{name}: {expected} was expected: {:?}", output.report);
    }
    supervisor.shutdown().await;
    Ok(())
}
