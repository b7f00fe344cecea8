//! `recovery`: how long the next supervisor takes until it has everything again, and what the keeper weighs meanwhile.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use futures_util::StreamExt as _;
use orangery::{RecoveryReport, Supervisor};
use orangery_benches::case::{Case, Fixture, Root};
use orangery_benches::figures::{median, table};
use orangery_benches::memory::{self, weigh};
use orangery_benches::progress::Progress;
use serde_json::{Value, json};

/// A durable supervisor is killed beside many containers, each with a log; the next one starts.
///
/// Measured: from the call that builds the next supervisor until it has answered, which is when each container is found and
/// its output goes on; where that time goes; and the keeper, without a supervisor: private dirty memory and PSS of
/// smaps_rollup (no kernel memory, no page tables), descriptors.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    recovery                          # 100, 500 and 1,000 containers\n  \
    recovery --count 1000 --runs 5\n  \
    recovery --count 1000 --kills 20  # so often for the same containers: for a profiler\n  \
    recovery --json\n\n    \
    A supervisor needs nine descriptors a container: RLIMIT_NOFILE bounds --count.")]
struct Args {
    /// How many containers; several, with commas.
    #[arg(long, value_delimiter = ',', default_values_t = [100, 500, 1000])]
    count: Vec<usize>,
    /// Each so often, with containers of its own; medians.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Kill and start it so often for the same containers.
    #[arg(long, default_value_t = 1)]
    kills: usize,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// To be the supervisor that is killed, in this directory.
    #[arg(long, hide = true, num_args = 2, value_names = ["STATE", "ROOT"])]
    hold: Option<Vec<PathBuf>>,
}

const CASE: Case = Case { root: Root::Dir, network: false };

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.count.iter().all(|count| *count > 0) && args.kills > 0, "that measures nothing");
    memory::raise_descriptors();
    if let Some([state, root]) = args.hold.as_deref() {
        return hold(state, root, args.count.first().copied().unwrap_or(1));
    }
    let (fixture, progress) = (Fixture::new()?, Progress::new());
    let mut figures = Vec::new();
    for count in &args.count {
        let mut runs = Vec::new();
        for run in 0..args.runs.max(1) {
            progress.at(&format!("{count} containers, run"), run, args.runs);
            runs.extend(one_run(&fixture, *count, args.kills)?);
        }
        figures.push(Figures::of(*count, &runs));
    }
    drop(progress);
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{:#}", json!(figures.iter().map(Figures::value).collect::<Vec<_>>()))?,
        false => write!(out, "{}", table(&rows(&figures)))?,
    }
    Ok(())
}

fn build(state: &Path, count: usize) -> anyhow::Result<Supervisor> {
    let builder = Supervisor::builder().durable(state).max_containers(count + 8).max_buffer_bytes(u64::MAX);
    Ok(builder.build()?)
}

/// The supervisor that is killed: everything is made, then it says so and waits.
fn hold(state: &Path, root: &Path, count: usize) -> anyhow::Result<()> {
    let supervisor = build(state, count)?;
    let already = supervisor.recovery().is_some_and(|found| found.adopted.len() == count);
    let sandbox = CASE.sandbox_of(root.to_owned())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = |number: usize| {
        let command = supervisor.command(CASE.program()).arg("pause").id(format!("c{number}"));
        command.sandbox(&sandbox).spawn()
    };
    if !already {
        let mut all = futures_util::stream::iter((0..count).map(made)).buffer_unordered(8);
        while let Some(one) = runtime.block_on(all.next()) {
            one?;
        }
    }
    let keeper = supervisor.native().context("a native runtime")?.keeper_pid();
    writeln!(std::io::stdout(), "{keeper}")?;
    loop {
        std::thread::park();
    }
}

/// The one that holds, and its keeper.
#[expect(clippy::disallowed_methods, reason = "the supervisor that is killed is a process of its own")]
fn holder(state: &Path, fixture: &Fixture, count: usize) -> anyhow::Result<(Child, u32)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--count").arg(count.to_string()).arg("--hold").arg(state).arg(fixture.root());
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().context("its output")?).read_line(&mut said)?;
    let keeper = said.trim().parse().context("the supervisor that is to be killed did not come that far");
    if keeper.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    Ok((child, keeper?))
}

/// One recovery.
struct Run {
    took: Duration,
    found: RecoveryReport,
    keeper_kib: (u64, u64),
    keeper_descriptors: u64,
}

fn one_run(fixture: &Fixture, count: usize, kills: usize) -> anyhow::Result<Vec<Run>> {
    let dir = tempfile::Builder::new().prefix("orangery-bench").tempdir()?;
    let state = dir.path().join("state");
    let mut runs = Vec::new();
    for kill in 0..kills {
        let (mut child, keeper) = holder(&state, fixture, count)?;
        child.kill()?;
        child.wait()?;
        let weight = weigh(keeper)?;
        let pss = memory::pss(keeper)?;
        let began = Instant::now();
        let supervisor = build(&state, count)?;
        let took = began.elapsed();
        let found = supervisor.recovery().context("it is durable")?.clone();
        let whole = found.adopted.len() == count;
        match kill + 1 == kills || !whole {
            true => supervisor.shutdown_blocking(),
            false => leave(&supervisor)?,
        }
        ensure!(whole, "{} of {count} are there again: {found:?}", found.adopted.len());
        let keeper_kib = (weight.dirty_kib, pss);
        runs.push(Run { took, found, keeper_kib, keeper_descriptors: weight.descriptors });
    }
    Ok(runs)
}

fn leave(supervisor: &Supervisor) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervisor.leave());
    Ok(())
}

/// Microseconds of a step.
type Part = fn(&RecoveryReport) -> u64;

/// Medians of the runs with so many containers.
struct Figures {
    count: usize,
    took_ms: f64,
    parts: Vec<(&'static str, f64)>,
    keeper_dirty_kib: f64,
    keeper_pss_kib: f64,
    keeper_descriptors: f64,
}

impl Figures {
    fn of(count: usize, runs: &[Run]) -> Self {
        let of = |value: &dyn Fn(&Run) -> f64| median(&runs.iter().map(value).collect::<Vec<_>>());
        let ms = |us: u64| us as f64 / 1000.0;
        let parts: [(&'static str, Part); 5] = [
            ("the keeper tells", |found| found.took.keeper_us),
            ("records are read", |found| found.took.records_us),
            ("containers are claimed", |found| found.took.claims_us),
            ("what is left is removed", |found| found.took.leftovers_us),
            ("logs, streams and actors", |found| found.took.lines_us),
        ];
        Self {
            count,
            took_ms: of(&|run| run.took.as_secs_f64() * 1000.0),
            parts: parts.into_iter().map(|(name, part)| (name, of(&|run| ms(part(&run.found))))).collect(),
            keeper_dirty_kib: of(&|run| run.keeper_kib.0 as f64),
            keeper_pss_kib: of(&|run| run.keeper_kib.1 as f64),
            keeper_descriptors: of(&|run| run.keeper_descriptors as f64),
        }
    }

    fn value(&self) -> Value {
        let parts: serde_json::Map<_, _> =
            self.parts.iter().map(|(name, ms)| ((*name).to_owned(), json!(ms))).collect();
        json!({
            "containers": self.count, "took_ms": self.took_ms, "parts_ms": parts,
            "keeper_private_dirty_kib": self.keeper_dirty_kib, "keeper_pss_kib": self.keeper_pss_kib,
            "keeper_descriptors": self.keeper_descriptors,
        })
    }
}

fn rows(all: &[Figures]) -> Vec<Vec<String>> {
    let row = |name: &str, of: &dyn Fn(&Figures) -> String| {
        std::iter::once(name.to_owned()).chain(all.iter().map(of)).collect::<Vec<_>>()
    };
    let mut rows = vec![
        row("containers", &|it| it.count.to_string()),
        row("until all are there again, ms", &|it| format!("{:.1}", it.took_ms)),
        row("each, us", &|it| format!("{:.0}", it.took_ms * 1000.0 / it.count as f64)),
    ];
    for (index, (name, _)) in all.first().map(|first| first.parts.as_slice()).unwrap_or_default().iter().enumerate() {
        let part = |it: &Figures| it.parts.get(index).map_or(0.0, |(_, ms)| *ms);
        rows.push(row(&format!("  {name}, ms"), &|it| format!("{:.1}", part(it))));
    }
    rows.push(row("keeper, private dirty, KiB", &|it| format!("{:.0}", it.keeper_dirty_kib)));
    rows.push(row("keeper, PSS, KiB", &|it| format!("{:.0}", it.keeper_pss_kib)));
    rows.push(row("keeper, descriptors a container", &|it| format!("{:.2}", it.keeper_descriptors / it.count as f64)));
    if let [first, .., last] = all {
        let slope = |of: fn(&Figures) -> f64| (of(last) - of(first)) / (last.count as f64 - first.count as f64);
        let slopes = (slope(|it| it.keeper_dirty_kib), slope(|it| it.took_ms) * 1000.0);
        rows.push(vec!["one container more: the keeper's private dirty, KiB".into(), format!("{:.3}", slopes.0)]);
        rows.push(vec!["one container more: time, us".into(), format!("{:.0}", slopes.1)]);
    }
    rows
}
