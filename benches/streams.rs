//! `streams`: one pipe to many readers through io-stream alone, with no container.

mod log_rates;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use orangery_benches::figures::{median, table};
use orangery_benches::progress::Progress;
use orangery_io_stream::{Event, Hub, HubOptions, Overflow, PipeReader, Source, SubscribeOptions, pump};
use serde_json::json;

/// One writer, one pump, one hub, and 1, 10 and 100 readers that read everything (they hold the writer up rather than
/// lose a byte). Counted are the bytes that came in, not those that went out.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  streams\n  streams --readers 1,1000 --write 4096 --mebibytes 256")]
struct Args {
    /// How many readers, each in turn.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100])]
    readers: Vec<usize>,
    /// Bytes a write.
    #[arg(long, default_value_t = 100)]
    write: usize,
    /// MiB a run.
    #[arg(long, default_value_t = 16)]
    mebibytes: usize,
    /// Runs; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// In place of all that: one pipe into a file of each of these directories, by a log, by splice, and by read and write.
    #[arg(long, value_delimiter = ',')]
    log: Vec<PathBuf>,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if !args.log.is_empty() {
        return logs(&args);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let progress = Progress::new();
    let mut rates = vec![Vec::new(); args.readers.len()];
    for run in 0..args.runs {
        for (readers, rates) in args.readers.iter().zip(&mut rates) {
            progress.at("runs", run, args.runs);
            rates.push(runtime.block_on(once(*readers, args.write.max(1), args.mebibytes << 20))?);
        }
    }
    drop(progress);
    let mut rows = vec![vec!["readers".to_owned(), "MiB/s in".into(), "MiB/s out".into()]];
    let mut values = Vec::new();
    for (readers, rates) in args.readers.iter().zip(&rates) {
        let rate = median(rates);
        rows.push(vec![readers.to_string(), format!("{rate:.0}"), format!("{:.0}", rate * *readers as f64)]);
        values.push(json!({"readers": readers, "mib_per_s": rate}));
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", json!({"write": args.write, "streams": values}))?;
    } else {
        write!(out, "writes of {} bytes\n{}", args.write, table(&rows))?;
    }
    Ok(())
}

fn logs(args: &Args) -> anyhow::Result<()> {
    let progress = Progress::new();
    let mut rates = vec![[const { Vec::new() }; 3]; args.log.len()];
    for run in 0..args.runs {
        for (dir, rates) in args.log.iter().zip(&mut rates) {
            progress.at("runs", run, args.runs);
            let once = log_rates::once(dir, args.write.max(1), args.mebibytes << 20)?;
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
        true => writeln!(out, "{:#}", json!({"write": args.write, "logs": values}))?,
        false => write!(out, "writes of {} bytes\n{}", args.write, table(&rows))?,
    }
    Ok(())
}

/// MiB a second from the first write until the last reader has the end.
async fn once(readers: usize, write: usize, total: usize) -> anyhow::Result<f64> {
    let (ours, mut theirs) = std::io::pipe()?;
    let hub = Hub::new(HubOptions::default());
    let options =
        SubscribeOptions { overflow: Overflow::block(Duration::from_secs(60)), ..SubscribeOptions::default() };
    let began = Instant::now();
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..readers {
        let mut subscriber = hub.subscribe(options);
        all.spawn(async move {
            let mut bytes = 0;
            while let Some(event) = subscriber.recv().await {
                match event {
                    Event::Chunk(chunk) => bytes += chunk.data.len(),
                    Event::End(_) => break,
                    _ => {}
                }
            }
            bytes
        });
    }
    let chunk = vec![b'x'; write];
    let writer = std::thread::spawn(move || {
        let mut left = total;
        while left > 0 {
            let part = chunk.get(..left.min(chunk.len())).unwrap_or_default();
            theirs.write_all(part)?;
            left -= part.len();
        }
        std::io::Result::Ok(())
    });
    let end = pump(PipeReader::from_fd(ours.into())?, Source::Stdout, hub.clone()).await;
    anyhow::ensure!(matches!(end, orangery_io_stream::PumpEnd::Eof), "the pump ended with {end:?}");
    hub.close(orangery_io_stream::EndInfo::default());
    while let Some(bytes) = all.join_next().await {
        anyhow::ensure!(bytes? == total, "a reader has missed bytes");
    }
    let took = began.elapsed();
    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    Ok(total as f64 / f64::from(1 << 20) / took.as_secs_f64())
}
