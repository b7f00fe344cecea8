//! A small service under faults, in a plain test: two workers that answer, a client that tries again, and a plan that kills,
//! pauses, stalls and starves them, lets a start fail and an exit come late.
//!
//! As a test: `cargo test --example chaos_first`; as a program, which prints what has happened:
//! `cargo run --example chaos_first`. `ORANGERY_FAULT_SEED=7` before it has the same decisions made again.

use std::time::Duration;

use anyhow::Context as _;
use orangery::faults::{FaultKind, FaultReport, FaultStep, Plan, PlanOf, PlannedFault, Trigger};
use orangery::{Restart, Sandbox, Service, ServiceState, Source, State, Supervisor};

/// Says that it is there, again and again; answers come from what is exec'd beside it.
const WORKER: &str = "while :; do echo tick; sleep 0.02; done";
/// The answer to a request, which needs some room: its square.
const ANSWER: &str = "head -c 8000000 /dev/zero | tail -c 8000000 > /dev/null || exit 1; echo $(($1 * $1))";
/// A client waits this long for an answer.
const IMPATIENT: Duration = Duration::from_secs(2);
/// All of it takes a few seconds; on a busy machine more.
const AT_MOST: Duration = Duration::from_secs(120);

/// What goes wrong. Counted in what the workers do, never in time, and each by a coin of its own.
fn plan(seed: u64) -> Plan {
    let ticks = |nth| Trigger::Line { source: Source::Stdout, containing: "tick".into(), nth };
    let worker = |name: &str, kind, trigger| PlannedFault::new(name, kind, trigger).label("role", "worker");
    let short = Duration::from_millis(100);
    Plan::seeded(seed)
        .fault(worker("dies", FaultKind::Kill, ticks(10)).times(2).probability(0.5))
        .fault(worker("stands still", FaultKind::Pause, ticks(3)).times(2).lasting(short))
        .fault(worker("is not heard", FaultKind::StallOutput { source: Source::Stdout }, ticks(6)).lasting(short))
        .fault(worker("may not fork", FaultKind::StarvePids { most: 1 }, ticks(14)).lasting(short))
        .fault(worker("has no room", FaultKind::StarveMemory { bytes: 6 << 20 }, ticks(18)).lasting(short))
        .fault(worker("crawls", FaultKind::StarveCpu { percent: 5 }, ticks(2)).lasting(short))
        .fault(worker("starts badly", FaultKind::FailStep { of: PlanOf::Main, step: 1 }, Trigger::Restart { nth: 1 }))
        .fault(worker("is mourned late", FaultKind::LateExit, Trigger::Exit { nth: 1 }).lasting(short))
}

/// A worker that is kept running. Limits need a cgroup, which an ordinary user may not have: what starves is skipped then.
async fn worker(supervisor: &Supervisor, name: &str) -> Result<Service, orangery::Error> {
    let limited = supervisor.native().is_some_and(|native| native.cgroup_mode().0 != "none");
    let sandbox = Sandbox::builder().label("role", "worker");
    let sandbox = if limited { sandbox.memory(64 << 20).pids(32).cpus(1.0) } else { sandbox };
    let restart = Restart::always().delays([Duration::from_millis(10)]).without_window();
    let command = supervisor.command("sh").arg("-c").arg(WORKER).sandbox(&sandbox.build()?).id(name);
    command.restart(restart).supervise().await
}

/// One request to one worker; an error is a reason to try again.
async fn request(worker: &Service, n: u64) -> anyhow::Result<u64> {
    let container = worker.current().context("between two lives")?;
    let command = container.command("sh").arg("-c").arg(ANSWER).arg("sh").arg(n.to_string());
    let output = tokio::time::timeout(IMPATIENT, command.run()).await??;
    anyhow::ensure!(output.report.success(), "{:?}", output.report.exit);
    Ok(String::from_utf8(output.stdout.to_vec())?.trim().parse()?)
}

/// One request, until somebody answers.
async fn ask(workers: &[Service], n: u64) -> u64 {
    for worker in workers.iter().cycle() {
        match request(worker, n).await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    unreachable!("there are workers")
}

/// Whether each fault has happened, or was skipped for a reason, and is over.
fn is_over(report: &FaultReport) -> bool {
    let settled = |fault: &PlannedFault| {
        let took = |step| report.of(&fault.name, step).count();
        took(FaultStep::Applied) + took(FaultStep::Skipped) > 0
    };
    report.plan.faults.iter().all(settled) && report.left().is_empty()
}

/// Steady, inject, observe, heal, converge.
async fn survive(seed: u64) -> anyhow::Result<FaultReport> {
    let supervisor = Supervisor::builder().fault_points().build()?;
    let workers = [worker(&supervisor, "left").await?, worker(&supervisor, "right").await?];
    anyhow::ensure!(ask(&workers, 12).await == 144);

    let injection = supervisor.inject(plan(seed)).await?;
    let mut n = 0;
    while !is_over(&injection.report()) {
        n += 1;
        // Always: an answer may be late, it is never wrong.
        anyhow::ensure!(ask(&workers, n).await == n * n, "a wrong answer to {n}");
    }
    let report = injection.end().await;

    // Eventually: both answer again, nothing is held any more.
    for worker in &workers {
        worker.wait_state(ServiceState::Running).await?;
        while request(worker, 9).await.ok() != Some(81) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    anyhow::ensure!(report.left().is_empty(), "left: {:?}", report.left());
    let containers = supervisor.list().await?;
    anyhow::ensure!(containers.iter().all(|one| one.state == State::Running), "{containers:?}");
    supervisor.shutdown().await;
    Ok(report)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seed = Plan::seeded_by_env()?.seed;
    println!("{}={seed}", orangery::faults::SEED_VARIABLE);
    let report = tokio::time::timeout(AT_MOST, survive(seed)).await??;
    for entry in &report.entries {
        let (container, why) = (entry.container.as_deref().unwrap_or("-"), entry.why.as_deref().unwrap_or(""));
        println!("{:?} {:?} {container} {} {why}", entry.step, entry.fault, entry.generation);
    }
    Ok(())
}

#[cfg(test)]
#[tokio::test]
async fn a_service_survives_its_faults() -> anyhow::Result<()> {
    let seed = Plan::seeded_by_env()?.seed;
    println!("{}={seed}", orangery::faults::SEED_VARIABLE);
    let report = tokio::time::timeout(AT_MOST, survive(seed)).await??;
    // Each kind was there at least once, or says why not.
    for fault in &report.plan.faults {
        let applied = report.of(&fault.name, FaultStep::Applied).count();
        let skipped = report.of(&fault.name, FaultStep::Skipped).all(|entry| entry.why.is_some());
        assert!(applied > 0 || skipped, "{}: {:?}", fault.name, report.entries);
    }
    Ok(())
}
