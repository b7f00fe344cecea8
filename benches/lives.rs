//! `lives`: very many container lives in one supervisor: what it weighs stays what it was.

use std::alloc::System;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use futures_util::StreamExt as _;
use orangery::Supervisor;
use orangery_benches::bare::supervisors_groups;
use orangery_benches::case::{Case, Fixture, Root};
use orangery_benches::figures::table;
use orangery_benches::memory::{Weight, weigh};
use orangery_benches::plot::{Curve, Panel, svg};
use orangery_benches::progress::Progress;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts, so that what is kept can be told from what the allocator has not given back.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Container lives one after the other, some at a time, in one supervisor; what it holds is looked at in between.
///
/// A life is a spawn and a wait for its report. Between two blocks nothing is alive but one container, so that what is
/// seen is what stays. Memory is what smaps_rollup calls Rss and Private_Dirty, of this process (which is the supervisor and
/// a loop that waits) and of the keeper; cgroups are directories beside that container's, in all hierarchies.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  lives                                   # 100,000\n  lives --count 20000 --every 500\n  \
    nice lives --svg docs/lives.svg         # with a drawing\n\nGrowth is what a straight line through the samples after the first \
    5,000 lives rises by."
)]
struct Args {
    /// How many lives.
    #[arg(long, default_value_t = 100_000)]
    count: usize,
    /// So many at a time.
    #[arg(long, default_value_t = 8)]
    width: usize,
    /// Look after so many.
    #[arg(long, default_value_t = 1000)]
    every: usize,
    /// What `/` is.
    #[arg(long, value_enum, default_value = "dir")]
    root: Root,
    /// Each with (none) or without (host) a network namespace.
    #[arg(long, value_parser = ["none", "host"], default_value = "host")]
    network: String,
    /// Draw the samples into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// One JSON document with all samples instead of a table.
    #[arg(long)]
    json: bool,
}

/// What there is after so many lives.
struct Sample {
    lives: usize,
    supervisor: Weight,
    keeper: Weight,
    /// Bytes that are allocated in the supervisor.
    allocated: usize,
    cgroups: u64,
}

/// Lives before which things may still grow: caches, pools, the history of events.
const WARM: usize = 5000;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.every > 0 && args.width > 0 && args.count >= args.every, "at least one block of one life");
    let (fixture, progress) = (Fixture::new()?, Progress::new());
    let case = Case { root: args.root, network: args.network == "none" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let supervisor = Supervisor::new()?;
    let keeper = supervisor.native().context("a native runtime")?.keeper_pid();
    // It shows where the others' cgroups are.
    let pinned = runtime.block_on(case.command(&supervisor, &fixture, true)?.spawn())?;
    let groups = supervisors_groups(pinned.pid(), pinned.id())?;
    let look = |lives| {
        let cgroups = groups.iter().map(|dir| directories(dir)).sum::<u64>();
        let stats = ALLOCATOR.stats();
        let allocated = stats.bytes_allocated.saturating_sub(stats.bytes_deallocated);
        let (supervisor, keeper) = (weigh(std::process::id())?, weigh(keeper)?);
        anyhow::Ok(Sample { lives, supervisor, keeper, allocated, cgroups })
    };
    let mut samples = vec![look(0)?];
    let (mut done, mut spent) = (0, Duration::ZERO);
    while done < args.count {
        progress.at("lives", done, args.count);
        let block = args.every.min(args.count - done);
        let began = Instant::now();
        runtime.block_on(live(&supervisor, &fixture, case, block, args.width))?;
        spent += began.elapsed();
        done += block;
        samples.push(look(done)?);
    }
    drop(pinned);
    supervisor.shutdown_blocking();
    drop(progress);
    if let Some(file) = &args.svg {
        fs::write(file, draw(&case, &samples)).with_context(|| file.display().to_string())?;
    }
    tell(&args, &case, &samples, done as f64 / spent.as_secs_f64())
}

async fn live(
    supervisor: &Supervisor,
    fixture: &Fixture,
    case: Case,
    count: usize,
    width: usize,
) -> anyhow::Result<()> {
    let lives = (0..count).map(|_| async {
        let report = case.command(supervisor, fixture, false)?.spawn().await?.wait().await?;
        ensure!(report.success(), "{report:?}");
        Ok(())
    });
    let mut running = futures_util::stream::iter(lives).buffer_unordered(width);
    while let Some(lived) = running.next().await {
        lived?;
    }
    Ok(())
}

fn directories(of: &std::path::Path) -> u64 {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).count() as u64
}

/// What is looked at: its name and its unit.
type Look = (&'static str, fn(&Sample) -> f64);

const LOOKS: [Look; 9] = [
    ("supervisor, allocated, KiB", |sample| sample.allocated as f64 / 1024.0),
    ("supervisor, resident, KiB", |sample| sample.supervisor.resident_kib as f64),
    ("supervisor, private dirty, KiB", |sample| sample.supervisor.dirty_kib as f64),
    ("keeper, private dirty, KiB", |sample| sample.keeper.dirty_kib as f64),
    ("supervisor, descriptors", |sample| sample.supervisor.descriptors as f64),
    ("keeper, descriptors", |sample| sample.keeper.descriptors as f64),
    ("supervisor, threads", |sample| sample.supervisor.threads as f64),
    ("keeper, threads", |sample| sample.keeper.threads as f64),
    ("cgroups", |sample| sample.cgroups as f64),
];

/// How much a straight line through the samples after the warm-up rises from their first to their last.
fn growth(samples: &[Sample], of: fn(&Sample) -> f64) -> f64 {
    let late: Vec<(f64, f64)> =
        samples.iter().filter(|sample| sample.lives >= WARM).map(|sample| (sample.lives as f64, of(sample))).collect();
    let count = late.len() as f64;
    let mean = |part: fn(&(f64, f64)) -> f64| late.iter().map(part).sum::<f64>() / count;
    let (x, y) = (mean(|pair| pair.0), mean(|pair| pair.1));
    let above = late.iter().map(|pair| (pair.0 - x) * (pair.1 - y)).sum::<f64>();
    let below = late.iter().map(|pair| (pair.0 - x).powi(2)).sum::<f64>();
    let span = late.last().zip(late.first()).map_or(0.0, |(last, first)| last.0 - first.0);
    if below > 0.0 { above / below * span } else { 0.0 }
}

fn draw(case: &Case, samples: &[Sample]) -> String {
    let along: Vec<f64> = samples.iter().map(|sample| sample.lives as f64).collect();
    let curve = |name, of: &dyn Fn(&Sample) -> f64| Curve { name, values: samples.iter().map(of).collect() };
    let panels = [
        Panel {
            axis: "memory, MiB",
            curves: vec![
                curve("resident", &|it| it.supervisor.resident_kib as f64 / 1024.0),
                curve("private dirty", &|it| it.supervisor.dirty_kib as f64 / 1024.0),
                curve("allocated", &|it| it.allocated as f64 / f64::from(1 << 20)),
                curve("keeper", &|it| it.keeper.dirty_kib as f64 / 1024.0),
            ],
        },
        Panel {
            axis: "open descriptors",
            curves: vec![
                curve("supervisor", &|it| it.supervisor.descriptors as f64),
                curve("keeper", &|it| it.keeper.descriptors as f64),
            ],
        },
        Panel {
            axis: "threads",
            curves: vec![
                curve("supervisor", &|it| it.supervisor.threads as f64),
                curve("keeper", &|it| it.keeper.threads as f64),
            ],
        },
        Panel { axis: "cgroup directories", curves: vec![curve("all hierarchies", &|it| it.cgroups as f64)] },
    ];
    let title =
        format!("One supervisor through {} container lives ({})", samples.last().map_or(0, |it| it.lives), case.name());
    svg(&title, ("container lives", &along), &panels)
}

fn tell(args: &Args, case: &Case, samples: &[Sample], rate: f64) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if args.json {
        let samples: Vec<_> = samples
            .iter()
            .map(|sample| {
                let mut value = json!({"lives": sample.lives});
                for (name, of) in LOOKS {
                    value[name] = json!(of(sample));
                }
                value
            })
            .collect();
        writeln!(out, "{:#}", json!({"case": case.name(), "lives_per_s": rate, "samples": samples}))?;
        return Ok(());
    }
    let at = |lives: usize| samples.iter().rev().find(|sample| sample.lives <= lives);
    let places = [0, WARM, args.count / 4, args.count / 2, args.count];
    let mut rows = vec![vec![case.name()]];
    rows[0].extend(places.iter().filter_map(|lives| Some(format!("after {}", at(*lives)?.lives))));
    rows[0].push(format!("growth after {WARM}"));
    for (name, of) in LOOKS {
        let mut row = vec![name.to_owned()];
        row.extend(places.iter().filter_map(|lives| Some(format!("{:.0}", of(at(*lives)?)))));
        row.push(format!("{:+.1}", growth(samples, of)));
        rows.push(row);
    }
    write!(out, "{}", table(&rows))?;
    writeln!(out, "{rate:.0} lives a second, {} at a time", args.width)?;
    Ok(())
}
