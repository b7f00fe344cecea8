//! `beside`: what an exec costs beside a container that restarts as fast as it can.

use std::io::Write as _;
use std::time::Instant;

use anyhow::ensure;
use clap::Parser;
use orangery::{Restart, Service, Supervisor};
use orangery_benches::case::{Case, Fixture, Root};
use orangery_benches::figures::{Times, ratio, table};
use orangery_benches::progress::Progress;
use serde_json::json;

/// Execs in one container, in turns quiet and beside services that end at once and are restarted without any delay.
///
/// An exec is the call, the command's life and its report. The blocks alternate in one run, so that the machine's other load is in
/// both. The loop is another caller's (`Supervisor::caller`) and takes whatever processors it gets: what is asked is how much
/// of that others feel.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  beside\n  beside --loops 4 --count 2000 --json\n\n\
    Goal: p99 at most doubled by one loop.")]
struct Args {
    /// Execs of each kind.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// Services that restart as fast as they can.
    #[arg(long, default_value_t = 1)]
    loops: usize,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// Execs before it changes.
const BLOCK: usize = 50;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.count >= BLOCK, "at least {BLOCK} of each");
    let (fixture, progress) = (Fixture::new()?, Progress::new());
    let case = Case { root: Root::Dir, network: false };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let supervisor = Supervisor::new()?;
    let noisy = supervisor.caller("loop");
    let container = runtime.block_on(case.command(&supervisor, &fixture, true)?.spawn())?;
    let exec = |times: &mut Times| {
        for _ in 0..BLOCK {
            let began = Instant::now();
            let output = runtime.block_on(container.command(case.program()).run())?;
            times.add(began.elapsed());
            ensure!(output.report.success(), "{:?}", output.report);
        }
        Ok(())
    };
    let restart = Restart::always().delays([std::time::Duration::ZERO]).jitter(0).without_window();
    let (mut quiet, mut beside, mut restarts, mut looped) = (Times::default(), Times::default(), 0, 0.0);
    // The first of each warms up.
    exec(&mut Times::default())?;
    while quiet.len() < args.count {
        progress.at("execs", quiet.len(), args.count);
        exec(&mut quiet)?;
        let began = Instant::now();
        let mut services = Vec::new();
        for _ in 0..args.loops {
            let command = case.command(&noisy, &fixture, false)?.restart(restart.clone());
            services.push(runtime.block_on(command.supervise())?);
        }
        exec(&mut beside)?;
        restarts += services.iter().map(|service| service.inspect().restarts).sum::<u64>();
        looped += began.elapsed().as_secs_f64();
        for service in services {
            end(&runtime, &service)?;
        }
    }
    drop(container);
    supervisor.shutdown_blocking();
    drop(progress);
    tell(&args, (&quiet, &beside), restarts as f64 / looped)
}

fn end(runtime: &tokio::runtime::Runtime, service: &Service) -> anyhow::Result<()> {
    service.kill();
    runtime.block_on(service.wait())?;
    Ok(())
}

fn tell(args: &Args, (quiet, beside): (&Times, &Times), rate: f64) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let parts = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];
    if args.json {
        let mut value = json!({"loops": args.loops, "restarts_per_s": rate});
        for (name, part) in parts {
            let (quiet, beside) = (quiet.percentile(part), beside.percentile(part));
            value[name] = json!({"quiet_us": quiet, "beside_us": beside, "ratio": beside / quiet});
        }
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    let beside_name = format!("beside {} ({rate:.0} restarts/s)", args.loops);
    let mut rows = vec![vec!["exec, us".into(), "quiet".into(), beside_name, "ratio".into()]];
    for (name, part) in parts {
        let (quiet, beside) = (quiet.percentile(part), beside.percentile(part));
        rows.push(vec![name.into(), format!("{quiet:.0}"), format!("{beside:.0}"), ratio(beside, quiet)]);
    }
    write!(out, "{}", table(&rows))?;
    Ok(())
}
