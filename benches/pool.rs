//! `pool`: from asking to the first byte of output, with a sandbox that is ready and with one that is made.

use std::io::Write as _;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Parser;
use orangery::{Pool, Supervisor};
use orangery_benches::case::{Case, Fixture, Root};
use orangery_benches::figures::{Times, ratio, table};
use orangery_benches::progress::Progress;
use orangery_runtime::{Container, ContainerSpec, ProcessSpec, Runtime as _, Started};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

/// How long until a request's first byte, by each way there is to have something ready, side by side in one run.
///
/// Each round runs one guest by every way, which writes a few bytes at once. By the library: a plain spawn, and an exec in a
/// sandbox of a full pool, which is given back and replaced before the next round. By the runtime alone, without actors and
/// streams: an exec in an idle container, the start of a container whose stub init waits, and the start gate of a container
/// whose command was given when it was made and is its pid 1. Beside them what a request never waits for: the making of an
/// idle container and its removal.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  pool\n  pool --count 500 --json\n  pool --network\n\n\
    Other load on the machine makes thread hops wait: `chrt -f 10 pool` keeps it out. Needs root.")]
struct Args {
    /// Requests by each way.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// With a network namespace each.
    #[arg(long)]
    network: bool,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

const WAYS: [&str; 7] = [
    "library: spawn",
    "library: take, exec",
    "library: take alone",
    "runtime: exec in an idle one",
    "runtime: start behind a stub init",
    "runtime: start gate of a known command",
    "runtime: make and remove an idle one",
];

struct Bench {
    args: Args,
    case: Case,
    fixture: Fixture,
    supervisor: Supervisor,
    times: [Times; WAYS.len()],
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(rustix::process::geteuid().is_root(), "needs root, as the other figures");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let case = Case { root: Root::Dir, network: args.network };
    let (fixture, supervisor) = (Fixture::new()?, Supervisor::new()?);
    let mut bench = Bench { args, case, fixture, supervisor, times: Default::default() };
    runtime.block_on(bench.run())?;
    bench.supervisor.shutdown_blocking();
    bench.tell()
}

impl Bench {
    async fn run(&mut self) -> anyhow::Result<()> {
        let pool = Pool::builder(&self.case.sandbox(&self.fixture)?).idle(4).most(16).build(&self.supervisor)?;
        let progress = Progress::new();
        // The first tenth warms up.
        let warm = self.args.count / 10;
        for number in 0..self.args.count + warm {
            progress.at("requests", number, self.args.count + warm);
            let round = self.round(&pool).await?;
            if number >= warm {
                self.times.iter_mut().zip(round).for_each(|(times, took)| times.push(took));
            }
        }
        pool.close().await;
        Ok(())
    }

    async fn round(&self, pool: &Pool) -> anyhow::Result<[u64; WAYS.len()]> {
        let spawn = self.spawn().await?;
        pool.filled().await?;
        let began = Instant::now();
        let lease = pool.take().await?;
        let take = nanos(began);
        let output = lease.command(self.case.program()).args(["say", "it"]).spawn().await?.stdout().recv().await;
        let pooled = nanos(began);
        ensure!(output.is_some(), "the guest has said something");
        drop(lease);
        pool.filled().await?;
        let (container, main) = self.case.specs(&self.fixture, false)?;
        let idle = self.idle(&container, &main).await?;
        let stub = self.started(container.clone(), &main).await?;
        let mut gated = container;
        gated.without_init = true;
        let gate = self.started(gated, &main).await?;
        Ok([spawn, pooled, take, idle.0, stub, gate, idle.1])
    }

    async fn spawn(&self) -> anyhow::Result<u64> {
        let command = self.case.command(&self.supervisor, &self.fixture, false)?.args(["say", "it"]);
        let began = Instant::now();
        let handle = command.spawn().await?;
        let output = handle.stdout().recv().await;
        let took = nanos(began);
        ensure!(output.is_some(), "the guest has said something");
        handle.delete().await?;
        Ok(took)
    }

    /// An exec in one, and what its making and removal took together.
    async fn idle(&self, container: &ContainerSpec, main: &ProcessSpec) -> anyhow::Result<(u64, u64)> {
        let mut spec = container.clone();
        spec.idle = true;
        let began = Instant::now();
        let made = self.create(spec, ProcessSpec::default()).await?;
        made.start().await?;
        let making = nanos(began);
        let began = Instant::now();
        first_byte(made.exec(saying(main)).await?).await?;
        let exec = nanos(began);
        let began = Instant::now();
        made.delete().await?;
        Ok((exec, making + nanos(began)))
    }

    async fn started(&self, container: ContainerSpec, main: &ProcessSpec) -> anyhow::Result<u64> {
        let made = self.create(container, saying(main)).await?;
        let began = Instant::now();
        first_byte(made.start().await?).await?;
        let took = nanos(began);
        made.delete().await?;
        Ok(took)
    }

    async fn create(&self, container: ContainerSpec, main: ProcessSpec) -> anyhow::Result<Box<dyn Container>> {
        Ok(self.supervisor.native().context("a native runtime")?.create(container, main).await?)
    }

    fn tell(&self) -> anyhow::Result<()> {
        let spawn = self.times[0].p50();
        let mut rows = vec![["", "n", "p50 us", "p90 us", "to spawn"].map(str::to_owned).to_vec()];
        let mut values = Vec::new();
        for (name, times) in WAYS.into_iter().zip(&self.times) {
            let (p50, p90) = (times.p50(), times.p90());
            let (n, p50_text, p90_text) = (times.len().to_string(), format!("{p50:.0}"), format!("{p90:.0}"));
            rows.push(vec![name.to_owned(), n, p50_text, p90_text, ratio(p50, spawn)]);
            values.push(json!({"way": name, "n": times.len(), "p50_us": p50, "p90_us": p90, "to_spawn": p50 / spawn}));
        }
        let mut out = std::io::stdout().lock();
        if self.args.json {
            writeln!(out, "{:#}", json!({"case": self.case.name(), "ways": values}))?;
        } else {
            write!(out, "{}\n{}", self.case.name(), table(&rows))?;
        }
        Ok(())
    }
}

fn saying(main: &ProcessSpec) -> ProcessSpec {
    let mut main = main.clone();
    main.argv.extend(["say".into(), "it".into()]);
    main
}

async fn first_byte(started: Started) -> anyhow::Result<()> {
    let mut output = Receiver::from_owned_fd(started.stdout.context("its output")?)?;
    output.read_u8().await?;
    Ok(())
}

fn nanos(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
