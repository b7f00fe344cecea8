//! `streams`: the bytes of one process, without a container, to readers, into a log, through a terminal; beside `cat`,
//! `conmon` and tokio's copy. And what an idle stream weighs.

mod log_rates;

use std::future::pending;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use orangery_benches::figures::{median, ratio, table};
use orangery_benches::flow::{self, Load, Way};
use orangery_benches::memory;
use orangery_benches::progress::Progress;
use orangery_io_stream::{Hub, HubOptions, PipeReader, SubscribeOptions, pump_pair};
use serde_json::json;

/// Every way in turn, again and again; the median of each counts. Bytes that come in are counted, not those that go out.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  streams\n  streams --readers 1,1000 --write 4096 --mebibytes 256 --no-peers")]
struct Args {
    /// How many readers, each in turn
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    readers: Vec<usize>,
    /// Bytes a write
    #[arg(long, value_delimiter = ',', default_values_t = [65_536, 100])]
    write: Vec<usize>,
    /// MiB a run; a tenth of it in writes below 1 KiB, and through the terminal
    #[arg(long, default_value_t = 256)]
    mebibytes: usize,
    /// Runs
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Where files are written [default: the directory for temporary files]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Leave out `cat`, `conmon` and tokio's copy
    #[arg(long)]
    no_peers: bool,
    /// Idle streams that are weighed; 0: none
    #[arg(long, default_value_t = 2000)]
    idle: usize,
    /// In place of all that: one pipe into a file of each of these directories, by a log, by splice, and by read and write
    #[arg(long, value_delimiter = ',')]
    log: Vec<PathBuf>,
    /// One JSON document instead of tables
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    if let Some(load) = writer() {
        flow::write_out(load)?;
        return Ok(ExitCode::SUCCESS);
    }
    let args = Args::parse();
    if !args.log.is_empty() {
        args.write.iter().try_for_each(|write| logs(&args, *write))?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = std::io::stdout().lock();
    let mut values = Vec::new();
    // First: nothing is in the allocator's hands yet.
    let idle = (args.idle > 0).then(|| runtime.block_on(idle(args.idle))).transpose()?;
    for write in &args.write {
        let rates = measure(&args, *write, &runtime)?;
        if args.json {
            let rates: Vec<_> = rates.iter().map(|(name, rate)| json!({"way": name, "mib_per_s": rate})).collect();
            values.push(json!({"write": write, "ways": rates}));
        } else {
            let one = rates.first().map_or(0.0, |(_, rate)| *rate);
            let mut rows = vec![["way", "MiB/s", "to the first"].map(str::to_owned).to_vec()];
            rows.extend(rates.iter().map(|(name, rate)| vec![name.clone(), format!("{rate:.0}"), ratio(*rate, one)]));
            writeln!(out, "writes of {write} bytes\n{}", table(&rows))?;
        }
    }
    match (args.json, idle) {
        (true, idle) => writeln!(out, "{:#}", json!({"streams": values, "idle_bytes": idle}))?,
        (false, Some(bytes)) => writeln!(out, "an idle stream (pipe, hub, pump, one reader): {bytes} bytes")?,
        (false, None) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn logs(args: &Args, write: usize) -> anyhow::Result<()> {
    let progress = Progress::new();
    let mut rates = vec![[const { Vec::new() }; 3]; args.log.len()];
    for run in 0..args.runs {
        for (dir, rates) in args.log.iter().zip(&mut rates) {
            progress.at("runs", run, args.runs);
            let once = log_rates::once(dir, write.max(1), args.mebibytes << 20)?;
            rates.iter_mut().zip(once).for_each(|(rates, rate)| rates.push(rate));
        }
    }
    drop(progress);
    let head = ["MiB/s into".to_owned()].into_iter().chain(log_rates::WAYS.map(str::to_owned));
    let (mut rows, mut values) = (vec![head.collect::<Vec<_>>()], Vec::new());
    for (dir, rates) in args.log.iter().zip(&rates) {
        let rates = rates.each_ref().map(|rates| median(rates));
        let figures = rates.map(|rate| format!("{rate:.0}"));
        rows.push([dir.display().to_string()].into_iter().chain(figures).collect());
        values.push(json!({"dir": dir, "log": rates[0], "splice": rates[1], "read_write": rates[2]}));
    }
    let mut out = std::io::stdout().lock();
    match args.json {
        true => writeln!(out, "{:#}", json!({"write": write, "logs": values}))?,
        false => write!(out, "writes of {} bytes\n{}", write, table(&rows))?,
    }
    Ok(())
}

/// We are the writer of one of our own runs.
fn writer() -> Option<Load> {
    let args: Vec<String> = std::env::args().collect();
    let [_, name, total, write] = args.as_slice() else { return None };
    (name == flow::WRITER).then_some(Load { total: total.parse().ok()?, write: write.parse().ok()? })
}

fn measure(args: &Args, write: usize, runtime: &tokio::runtime::Runtime) -> anyhow::Result<Vec<(String, f64)>> {
    let dir = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut ways: Vec<_> = args.readers.iter().map(|count| Way::Readers(*count)).collect();
    ways.extend([Way::Terminal, Way::Log]);
    let conmon = flow::conmon_version();
    if !args.no_peers {
        ways.extend([Way::Cat, Way::Copy]);
        ways.extend(conmon.as_ref().map(|_| Way::Conmon));
    }
    let progress = Progress::new();
    let mut rates = vec![Vec::new(); ways.len()];
    for run in 0..args.runs {
        for (way, rates) in ways.iter().zip(&mut rates) {
            progress.at("runs", run, args.runs);
            let few = write < 1024 || *way == Way::Terminal;
            let total = (args.mebibytes << 20) / if few { 10 } else { 1 };
            rates.push(runtime.block_on(way.rate(Load { total, write: write.max(1) }, &dir)).context(way.name())?);
        }
    }
    Ok(ways.iter().map(|way| way.name()).zip(rates.iter().map(|rates| median(rates))).collect())
}

/// Bytes of memory of one stream that nothing happens on.
async fn idle(count: usize) -> anyhow::Result<u64> {
    let weigh = || memory::weigh(std::process::id()).map(|weight| weight.dirty_kib);
    let mut ends = Vec::with_capacity(count);
    let mut tasks = tokio::task::JoinSet::new();
    let add = |ends: &mut Vec<_>, tasks: &mut tokio::task::JoinSet<_>| -> anyhow::Result<()> {
        let (ours, theirs) = std::io::pipe()?;
        let hub = Hub::new(HubOptions::default());
        let mut reader = hub.subscribe(SubscribeOptions::default());
        tasks.spawn(async move { reader.recv().await.map(drop) });
        let stdout = PipeReader::from_fd(ours.into())?;
        tasks.spawn(async move {
            pump_pair(Some(stdout), None, hub, pending(), None).await;
            None
        });
        ends.push(theirs);
        Ok(())
    };
    // What is made once is made before.
    add(&mut ends, &mut tasks)?;
    tokio::task::yield_now().await;
    let before = weigh()?;
    for _ in 1..count {
        add(&mut ends, &mut tasks)?;
    }
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let grown = weigh()?.saturating_sub(before);
    tasks.abort_all();
    Ok(grown * 1024 / count as u64)
}
