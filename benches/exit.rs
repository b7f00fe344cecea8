//! `exit`: from the kernel's exit to `process_exited` in a subscriber's hands, beside a bare loop with the same hops.

use std::io::Write as _;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, ensure};
use clap::Parser;
use orangery::events::{Item, Kind, Since};
use orangery::{EventFilter, Stdin, Supervisor};
use orangery_benches::case::{Case, Fixture, Root};
use orangery_benches::exit_loop::{Exit, Loop, stamp};
use orangery_benches::figures::{Times, table};
use orangery_benches::progress::Progress;
use orangery_runtime::native::now_ns;
use serde_json::json;

/// How long the news of an exit takes, side by side in one run.
///
/// Each round ends one guest in a container of the library and one that is started directly. The guest writes the time as its
/// last act, so what is measured begins right before the kernel's exit. For the library it ends when a reader of the feed, on a
/// thread of its own, has `process_exited`; for the bare loop (epoll, waitid) after as many changes of thread. The time of
/// the final report (counters read, container removed) is printed beside it.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  exit\n  exit --count 2000 --json\n\n\
    Other load on the machine makes thread hops wait: `chrt -f 10 exit` keeps it out. Needs root.")]
struct Args {
    /// Exits by each contestant.
    #[arg(long, default_value_t = 500)]
    count: usize,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(rustix::process::geteuid().is_root(), "needs root, as the other figures");
    let fixture = Fixture::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let supervisor = Supervisor::new()?;
    let (seen, bare) = (subscriber(&supervisor), Loop::start()?);
    let (mut library, mut report, mut direct) = (Times::default(), Times::default(), Times::default());
    let progress = Progress::new();
    // The first tenth warms up.
    let warm = args.count / 10;
    for number in 0..args.count + warm {
        progress.at("exits", number, args.count + warm);
        let (exit, reported_ns) = runtime.block_on(of_library(&supervisor, &fixture, &seen))?;
        let other = bare.exit(&fixture)?;
        if number >= warm {
            library.push(exit.took_ns());
            report.push(reported_ns.saturating_sub(exit.ended_ns));
            direct.push(other.took_ns());
        }
    }
    supervisor.shutdown_blocking();
    tell(&args, &library, &report, &direct)
}

/// A thread with a reader of the feed.
fn subscriber(supervisor: &Supervisor) -> Receiver<u64> {
    let (sender, seen) = channel();
    let mut events = supervisor.events(Since::Now).only(EventFilter::new().kind("process_exited"));
    std::thread::spawn(move || {
        orangery::block_on(async {
            while let Some(item) = events.recv().await {
                let now = now_ns();
                if matches!(item, Item::Event(event) if matches!(event.kind, Kind::ProcessExited { .. }))
                    && sender.send(now).is_err()
                {
                    return;
                }
            }
        });
    });
    seen
}

/// One container that ends, and when its report was there.
async fn of_library(supervisor: &Supervisor, fixture: &Fixture, seen: &Receiver<u64>) -> anyhow::Result<(Exit, u64)> {
    let case = Case { root: Root::Dir, network: false };
    let command = case.command(supervisor, fixture, true)?.arg("end").stdin(Stdin::Piped);
    let container = command.spawn().await?;
    let output = container.stdout();
    let mut stdin = container.stdin().context("its standard input")?;
    let report = container.wait();
    tokio::io::AsyncWriteExt::write_all(&mut stdin, b"x").await?;
    let report = report.await?;
    let reported_ns = now_ns();
    ensure!(report.success(), "{report:?}");
    let ended_ns = stamp(&output.collect(64).await.to_vec())?;
    Ok((Exit { ended_ns, seen_ns: seen.recv()? }, reported_ns))
}

fn tell(args: &Args, library: &Times, report: &Times, direct: &Times) -> anyhow::Result<()> {
    let rows = [("library, process_exited", library), ("bare loop", direct), ("library, final report", report)];
    let mut out = std::io::stdout().lock();
    if args.json {
        let value = |times: &Times| json!({"p50_us": times.p50(), "p99_us": times.percentile(0.99)});
        let all: serde_json::Map<_, _> = rows.iter().map(|(name, times)| ((*name).to_owned(), value(times))).collect();
        writeln!(out, "{:#}", serde_json::Value::from(all))?;
        return Ok(());
    }
    let mut lines =
        vec![vec![format!("{} exits", args.count), "p50 us".into(), "p99 us".into(), "p50 to the loop".into()]];
    for (name, times) in rows {
        let more = format!("{:+.0} us", times.p50() - direct.p50());
        lines.push(vec![name.into(), format!("{:.0}", times.p50()), format!("{:.0}", times.percentile(0.99)), more]);
    }
    write!(out, "{}", table(&lines))?;
    Ok(())
}
