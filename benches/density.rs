//! `density`: what containers that just live cost in one supervisor: processes, threads, descriptors, memory.

use std::alloc::System;
use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Parser;
use orangery::Supervisor;
use orangery_benches::case::{Case, Fixture, Root};
use orangery_benches::figures::table;
use orangery_benches::memory::{self, Weight, descendants, weigh};
use orangery_benches::progress::Progress;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

/// Counts, so that what is kept can be told from what the allocator has not given back.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn allocated() -> f64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated) as f64
}

/// Many containers alive in one supervisor, whose program only waits.
///
/// Counted before and after: this process (it is the supervisor), the keeper, and every process below them. A stub
/// init is the container's own and is told apart; its memory is weighed for one of them. Private dirty memory is that
/// of smaps_rollup; kernel memory and page tables are not part of it.
#[derive(Debug, Parser)]
#[command(
    after_help = "Examples:\n  density                    # 1,000 with a network namespace each\n  density --count 4000 --network host\n  density --count 1000000 --network host  # as many as descriptors allow\n  density --json"
)]
struct Args {
    /// How many containers; fewer where a budget of the supervisor refuses one more, which is said.
    #[arg(long, default_value_t = 1000)]
    count: usize,
    /// What `/` is.
    #[arg(long, value_enum, default_value = "dir")]
    root: Root,
    /// Each with (none) or without (host) a network namespace.
    #[arg(long, value_parser = ["none", "host"], default_value = "none")]
    network: String,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.count > 0, "--count 0 measures nothing");
    memory::raise_descriptors();
    let (fixture, progress) = (Fixture::new()?, Progress::new());
    let case = Case { root: args.root, network: args.network == "none" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let supervisor = Supervisor::builder().max_containers(args.count + 8).max_buffer_bytes(u64::MAX).build()?;
    let keeper = supervisor.native().context("a native runtime")?.keeper_pid();
    let start = || anyhow::Ok(runtime.block_on(case.command(&supervisor, &fixture, true)?.spawn())?);
    // A few first: pools, threads and tables that come with the first containers are not what one more costs.
    let mut handles = (0..8).map(|_| start()).collect::<Result<Vec<_>, _>>()?;
    let me = std::process::id();
    let (before, held) = ((weigh(me)?, weigh(keeper)?), allocated());
    let mut refused = None;
    let began = Instant::now();
    for number in 0..args.count {
        progress.at("alive", number, args.count);
        let made = runtime.block_on(case.command(&supervisor, &fixture, true)?.spawn());
        match made {
            Ok(handle) => handles.push(handle),
            Err(error) if error.spent().is_some() && number > 0 => {
                refused = Some(error);
                break;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (made_in, count) = (began.elapsed(), handles.len() - 8);
    let held = (allocated() - held) / count as f64 / 1024.0;
    let after = (weigh(me)?, weigh(keeper)?);
    let processes = descendants(me);
    let named = |name: &str| processes.iter().filter(|(_, have)| have == name).count();
    let (stubs, keepers) = (named("orangery-init"), named("orangery-keeper"));
    let own = handles.len();
    let others = processes.len().saturating_sub(stubs + keepers + own);
    let stub = processes.iter().find(|(_, name)| name == "orangery-init").and_then(|(pid, _)| weigh(*pid).ok());
    let began = Instant::now();
    let stopping = handles.iter().map(|handle| handle.delete());
    for gone in runtime.block_on(futures_util::future::join_all(stopping)) {
        gone?;
    }
    let stopped_in = began.elapsed();
    drop(handles);
    supervisor.shutdown_blocking();
    let left = descendants(me).len();
    drop(progress);

    let each = |of: fn(&Weight) -> u64, (before, after): (&Weight, &Weight)| {
        (of(after) as f64 - of(before) as f64) / count as f64
    };
    let (supervisor, keeper) = ((&before.0, &after.0), (&before.1, &after.1));
    let dirty = each(|weight| weight.dirty_kib, supervisor) + each(|weight| weight.dirty_kib, keeper);
    let descriptors = (each(|weight| weight.descriptors, supervisor), each(|weight| weight.descriptors, keeper));
    let threads = (before.0.threads, after.0.threads, after.1.threads);
    let stub_kib = stub.map_or(0, |stub| stub.dirty_kib);
    let mut out = std::io::stdout().lock();
    if args.json {
        let value = json!({
            "case": case.name(), "containers": count, "refused": refused.as_ref().map(ToString::to_string),
            "made_in_s": made_in.as_secs_f64(), "stopped_in_s": stopped_in.as_secs_f64(), "left": left, "keepers": keepers, "stub_inits": stubs, "other_processes": others,
            "supervisor_threads": threads.1, "threads_before": threads.0, "keeper_threads": threads.2,
            "supervisor_descriptors_each": descriptors.0, "keeper_descriptors_each": descriptors.1,
            "private_dirty_kib_each": dirty, "supervisor_allocated_kib_each": held, "stub_private_dirty_kib": stub_kib,
            "supervisor_private_dirty_kib": after.0.dirty_kib, "keeper_private_dirty_kib": after.1.dirty_kib,
        });
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    let row = |what: &str, value: String| vec![what.to_owned(), value];
    let rows = [
        row(&case.name(), format!("{count} more")),
        row("made one after the other in, s", format!("{:.1}", made_in.as_secs_f64())),
        row("killed and removed all at once in, s", format!("{:.1}", stopped_in.as_secs_f64())),
        row("processes left", left.to_string()),
        row("processes beside the containers' own, the stubs and the keeper", others.to_string()),
        row("keepers", keepers.to_string()),
        row("stub inits (one a container)", stubs.to_string()),
        row("threads of the supervisor, before and after", format!("{} {}", threads.0, threads.1)),
        row("threads of the keeper", threads.2.to_string()),
        row("descriptors a container, supervisor", format!("{:.2}", descriptors.0)),
        row("descriptors a container, keeper", format!("{:.2}", descriptors.1)),
        row("private dirty a container, supervisor + keeper, KiB", format!("{dirty:.1}")),
        row("allocated by the supervisor a container, KiB", format!("{held:.1}")),
        row("private dirty of one stub init, KiB", stub_kib.to_string()),
    ];
    write!(out, "{}", table(&rows))?;
    if let Some(refused) = refused {
        writeln!(out, "one more: {refused}")?;
    }
    Ok(())
}
