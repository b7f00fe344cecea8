//! `spawn`: the time of a whole container life and of an exec, beside the bare stub and the peers.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use futures_util::StreamExt as _;
use orangery::Supervisor;
use orangery_benches::bare::{Bare, Groups};
use orangery_benches::case::{Case, Fixture, Root};
use orangery_benches::figures::{Times, median, ratio, table};
use orangery_benches::memory;
use orangery_benches::peers::{self, Peer};
use orangery_benches::progress::Progress;
use serde_json::{Value, json};

/// Whole container lives, side by side in one run.
///
/// Each round runs one container by every contestant: the library (`Supervisor`, from the call until the exit report is
/// in hand and the cgroup is gone), the bare stub (a small program that executes the same plans and nothing else: what
/// the kernel charges), bwrap, crun and runc where they are installed, and our own command line with --cli. What counts
/// is the ratio: absolute figures depend on the machine and on its other load.
///
/// The stub executes what the library would, so its own preparation counts too: cgroup directories, the user
/// namespace of an id-mapped root, pipes. It reads no counters and writes no report.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    spawn                            # 200 lives each, with and without a network namespace\n  \
    spawn --root host --no-peers     # the default root file system\n  \
    spawn --runs 3 --json            # ratios are medians of three runs\n  \
    spawn --in-flight 16             # lives a second, 16 at a time\n  \
    spawn --growth 4000              # creation time with so many alive\n  \
    spawn --steps --root host        # what each step of a plan costs in the kernel\n\n\
    Other load on the machine makes thread hops wait and says little about anybody: `chrt -f 10 spawn` keeps it out\n    \
    (not with crun and runc: a v1 cpu cgroup of theirs takes no real-time process; `nice -n -20` is next best).\n    \
    Needs root. Peers: apt-get install bubblewrap crun runc")]
struct Args {
    /// Lives by each contestant.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Repeat everything so often; ratios are medians over the runs.
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Only this root file system.
    #[arg(long, value_enum)]
    root: Option<Root>,
    /// Only with (none) or without (host) a network namespace.
    #[arg(long, value_parser = ["none", "host"])]
    network: Option<String>,
    /// MiB that this process has touched.
    #[arg(long, default_value_t = 1024)]
    resident: usize,
    /// Our own command line, to be measured like a peer.
    #[arg(long)]
    cli: Option<PathBuf>,
    /// Only the library and the stub.
    #[arg(long)]
    no_peers: bool,
    /// Only these peers, such as bwrap,crun.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Lives a second with so many at a time, instead of the time of one.
    #[arg(long, value_name = "N")]
    in_flight: Option<usize>,
    /// Creation time while up to N containers are alive, instead of the time of one life.
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1000")]
    growth: Option<usize>,
    /// The time of each step of the container's plan, in the stub.
    #[arg(long)]
    steps: bool,
    /// One JSON document instead of tables.
    #[arg(long)]
    json: bool,
}

struct Bench {
    args: Args,
    fixture: Fixture,
    runtime: tokio::runtime::Runtime,
    progress: Progress,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(rustix::process::geteuid().is_root(), "needs root: the stub writes id maps of its own");
    memory::raise_descriptors();
    let ballast = memory::resident(args.resident);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bench = Bench { args, fixture: Fixture::new()?, runtime, progress: Progress::new() };
    let done = bench.run();
    drop(ballast);
    let mut out = std::io::stdout().lock();
    match done? {
        (_, value) if bench.args.json => writeln!(out, "{value:#}")?,
        (text, _) => write!(out, "{text}")?,
    }
    Ok(())
}

/// A table and the same as a value.
type Answer = (String, Value);

impl Bench {
    fn cases(&self) -> Vec<Case> {
        let roots = self.args.root.map_or_else(|| vec![Root::Dir, Root::Host], |root| vec![root]);
        let networks: &[bool] = match self.args.network.as_deref() {
            Some("none") => &[true],
            Some(_) => &[false],
            None => &[false, true],
        };
        roots.iter().flat_map(|root| networks.iter().map(|network| Case { root: *root, network: *network })).collect()
    }

    fn run(&self) -> anyhow::Result<Answer> {
        let (mut text, mut values) = (String::new(), Vec::new());
        for case in self.cases() {
            let (said, mut value) = match (self.args.in_flight, self.args.growth) {
                _ if self.args.steps => self.steps(case)?,
                (Some(at_a_time), _) => self.throughput(case, at_a_time)?,
                (_, Some(alive)) => self.growth(case, alive)?,
                _ => self.lives(case)?,
            };
            text.push_str(&format!("{}\n{said}\n", case.name()));
            value["case"] = case.name().into();
            values.push(value);
        }
        let (peers, hint) = peers::installed(self.args.cli.as_deref());
        let versions: Vec<_> = peers.iter().map(|peer| peer.version.as_str()).collect();
        text.push_str(&format!("{}; {} MiB resident in the caller\n", versions.join("; "), self.args.resident));
        text.extend(hint.iter().map(|hint| format!("{hint}\n")));
        Ok((text, json!({"peers": versions, "hint": hint, "resident_mib": self.args.resident, "cases": values})))
    }

    /// A supervisor, a stub beside it, and the groups of the stub's containers.
    fn start(&self, case: Case, most: usize) -> anyhow::Result<(Supervisor, Bare, Groups)> {
        let supervisor = Supervisor::builder().max_containers(most).build()?;
        let command = case.command(&supervisor, &self.fixture, true)?;
        let groups = self.runtime.block_on(async {
            let handle = command.spawn().await?;
            let groups = Groups::beside(handle.pid(), handle.id())?;
            handle.delete().await?;
            anyhow::Ok(groups)
        })?;
        let bare = Bare::start(&supervisor, &self.fixture, case, &groups)?;
        Ok((supervisor, bare, groups))
    }

    fn lives(&self, case: Case) -> anyhow::Result<Answer> {
        let mut runs = Vec::new();
        for _ in 0..self.args.runs.max(1) {
            runs.push(Lives::measure(self, case)?);
        }
        Ok(Lives::tell(&runs))
    }

    fn throughput(&self, case: Case, at_a_time: usize) -> anyhow::Result<Answer> {
        const BLOCKS: usize = 5;
        let (supervisor, first, groups) = self.start(case, at_a_time + 1)?;
        let mut stubs = vec![first];
        for _ in 1..at_a_time {
            stubs.push(Bare::start(&supervisor, &self.fixture, case, &groups)?);
        }
        let each = (self.args.count * 5).div_ceil(BLOCKS * at_a_time).max(1);
        let (mut library, mut bare) = (Vec::new(), Vec::new());
        // The first block warms up.
        for block in 0..=BLOCKS {
            self.progress.at("in flight", block, BLOCKS);
            let lives = (0..each * at_a_time).map(|_| async {
                case.command(&supervisor, &self.fixture, false)?.spawn().await?.wait().await?;
                anyhow::Ok(())
            });
            let began = Instant::now();
            let mut running = futures_util::stream::iter(lives).buffer_unordered(at_a_time);
            self.runtime.block_on(async {
                while let Some(done) = running.next().await {
                    done?;
                }
                anyhow::Ok(())
            })?;
            drop(running);
            let library_time = began.elapsed();
            let began = Instant::now();
            for stub in &mut stubs {
                stub.tell(&format!("rate {each}"))?;
            }
            for stub in &mut stubs {
                stub.hear()?;
            }
            let bare_time = began.elapsed();
            if block > 0 {
                let rate = |time: Duration| (each * at_a_time) as f64 / time.as_secs_f64();
                library.push(rate(library_time));
                bare.push(rate(bare_time));
            }
        }
        drop(stubs);
        supervisor.shutdown_blocking();
        let (library, bare) = (median(&library), median(&bare));
        let text = table(&[
            vec![format!("{at_a_time} in flight"), "lives/s".into(), "library/stub".into()],
            vec!["library".into(), format!("{library:.0}"), ratio(library, bare)],
            vec!["bare stub".into(), format!("{bare:.0}"), "1".into()],
        ]);
        let value =
            json!({"in_flight": at_a_time, "library_per_s": library, "stub_per_s": bare, "ratio": library / bare});
        Ok((text, value))
    }

    /// Creations one after the other, all kept.
    fn growth(&self, case: Case, alive: usize) -> anyhow::Result<Answer> {
        ensure!(alive >= 300, "--growth needs at least 300, to compare the second hundred with the last");
        let (supervisor, mut bare, groups) = self.start(case, alive + 1)?;
        let mut library = Times::default();
        let mut handles = Vec::new();
        for number in 0..alive {
            self.progress.at("library", number, alive);
            let command = case.command(&supervisor, &self.fixture, true)?;
            let began = Instant::now();
            let handle = self.runtime.block_on(command.spawn())?;
            library.add(began.elapsed());
            handles.push(handle);
        }
        drop(handles);
        supervisor.shutdown_blocking();
        self.settle();
        let mut stub = Times::default();
        for number in 0..alive {
            self.progress.at("stub", number, alive);
            stub.push(bare.ask("hold")?);
        }
        bare.ask("drop")?;
        drop(bare);
        drop(groups);
        let mut rows = vec![vec![
            format!("creation, {alive} alive"),
            "p50 101-200 us".into(),
            format!("p50 {}-{alive} us", alive - 99),
            "growth".into(),
        ]];
        let mut value = json!({"alive": alive});
        for (name, times) in [("library", &library), ("bare stub", &stub)] {
            let (early, late) = (times.range(100, 200).p50(), times.range(alive - 100, alive).p50());
            rows.push(vec![name.into(), format!("{early:.0}"), format!("{late:.0}"), ratio(late, early)]);
            value[name] = json!({"early_us": early, "late_us": late, "growth": late / early});
        }
        Ok((table(&rows), value))
    }

    /// The kernel goes on freeing cgroups and mounts after all of them are removed, and tells nobody when it is done.
    #[expect(clippy::disallowed_methods, reason = "a benchmark keeps one contestant's leftovers from the next")]
    fn settle(&self) {
        self.progress.at("settling", 0, 1);
        std::thread::sleep(Duration::from_secs(10));
    }

    /// What each step costs in the stub's child.
    fn steps(&self, case: Case) -> anyhow::Result<Answer> {
        let (supervisor, mut bare, _groups) = self.start(case, 8)?;
        let (container, process) = case.specs(&self.fixture, false)?;
        let (plan, main) = supervisor.native().context("a native runtime")?.plan(container, process)?;
        let lines = orangery_runtime::plan::explain::lines(&plan);
        let of_process = orangery_runtime::plan::explain::lines(&main.context("a plan with a stub init")?);
        let mut process = vec![Times::default(); of_process.len() + 1];
        bare.ask("hold")?;
        let mut times = vec![Times::default(); lines.len()];
        let mut parts: Vec<(String, Times)> = Vec::new();
        for number in 0..self.args.count {
            self.progress.at("steps", number, self.args.count);
            bare.tell("steps")?;
            for (times, time) in times.iter_mut().zip(bare.hear()?) {
                times.push(time);
            }
            bare.tell("process")?;
            for (times, time) in process.iter_mut().zip(bare.hear()?) {
                times.push(time);
            }
            for (index, (part, time)) in bare.parts()?.into_iter().enumerate() {
                if parts.len() == index {
                    parts.push((part, Times::default()));
                }
                if let Some((_, times)) = parts.get_mut(index) {
                    times.push(time);
                }
            }
        }
        drop(bare);
        let costs = self.costs(case, &supervisor)?;
        supervisor.shutdown_blocking();
        let mut rows = vec![vec!["step".to_owned(), "p50 us".into()]];
        let mut steps = Vec::new();
        for ((index, line), times) in lines.iter().enumerate().zip(&times) {
            rows.push(vec![format!("{index:3} {}", line.words), format!("{:.1}", times.p50())]);
            steps.push(json!({"step": index, "words": line.words, "p50_us": times.p50()}));
        }
        let sum: f64 = times.iter().map(Times::p50).sum();
        rows.push(vec!["sum".into(), format!("{sum:.0}")]);
        rows.push(vec!["step of its process".into(), "p50 us".into()]);
        let words = std::iter::once("pipes, clone3").chain(of_process.iter().map(|line| line.words.as_str()));
        rows.extend(
            words.zip(&process).map(|(words, times)| vec![format!("    {words}"), format!("{:.1}", times.p50())]),
        );
        rows.push(vec!["part of a whole life".into(), "p50 us".into()]);
        rows.extend(parts.iter().map(|(part, times)| vec![part.clone(), format!("{:.0}", times.p50())]));
        rows.push(vec!["what the library pays beside it".into(), "p50 us".into()]);
        rows.extend(costs.iter().map(|(what, times)| vec![(*what).to_owned(), format!("{:.1}", times.p50())]));
        let costs: Vec<_> = costs.iter().map(|(what, times)| json!({"what": what, "p50_us": times.p50()})).collect();
        let parts: Vec<_> = parts.iter().map(|(part, times)| json!({"part": part, "p50_us": times.p50()})).collect();
        Ok((table(&rows), json!({"steps": steps, "sum_us": sum, "parts": parts, "library": costs})))
    }

    /// Single costs of the library's own machinery, in this process.
    fn costs(&self, case: Case, supervisor: &Supervisor) -> anyhow::Result<Vec<(&'static str, Times)>> {
        let native = supervisor.native().context("a native runtime")?;
        let (mut plan, mut there_and_back, mut blocking) = (Times::default(), Times::default(), Times::default());
        let (sender, receiver) = std::sync::mpsc::channel::<tokio::sync::oneshot::Sender<()>>();
        let echo = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let mut served = 0;
            while let (Ok(reply), Ok(_)) = (receiver.recv(), &runtime) {
                let _ = reply.send(());
                served += 1;
            }
            served
        });
        for _ in 0..self.args.count {
            let (container, process) = case.specs(&self.fixture, false)?;
            let began = Instant::now();
            std::hint::black_box(native.plan(container, process)?);
            plan.add(began.elapsed());
            self.runtime.block_on(async {
                let (reply, answer) = tokio::sync::oneshot::channel();
                let began = Instant::now();
                let _ = sender.send(reply);
                let _ = answer.await;
                there_and_back.add(began.elapsed());
                let began = Instant::now();
                let _ = tokio::task::spawn_blocking(|| ()).await;
                blocking.add(began.elapsed());
            });
        }
        drop(sender);
        let _ = echo.join();
        Ok(vec![
            ("check and plan, container and process", plan),
            ("a message to another thread and back", there_and_back),
            ("spawn_blocking and back", blocking),
        ])
    }
}

/// One run of one case.
struct Lives {
    library: Times,
    /// Parts of the library's: until created, until exec'd (as the report tells them).
    create: Times,
    start: Times,
    bare: Times,
    bare_create: Times,
    bare_start: Times,
    exec: Times,
    bare_exec: Times,
    peers: Vec<(&'static str, Times)>,
}

impl Lives {
    fn measure(bench: &Bench, case: Case) -> anyhow::Result<Self> {
        let (supervisor, mut bare, _groups) = bench.start(case, 8)?;
        let peers = if bench.args.no_peers { Vec::new() } else { peers::installed(bench.args.cli.as_deref()).0 };
        let mut working: Vec<(Peer, Times)> = Vec::new();
        let wanted = |peer: &Peer| bench.args.peers.is_empty() || bench.args.peers.iter().any(|name| name == peer.name);
        for mut peer in peers.into_iter().filter(|peer| peer.can(case) && wanted(peer)) {
            peer.prepare(&bench.fixture, case)?;
            let first = peer.run(&bench.fixture, case, 0, false);
            let tried = first.or_else(|error| {
                peer.without_v2(&bench.fixture).map_err(|_| error)?;
                peer.run(&bench.fixture, case, 1, false)
            });
            match tried {
                Ok(_) => working.push((peer, Times::default())),
                Err(error) => eprintln!("left out: {error:#}"),
            }
        }
        let mut lives = Self {
            library: Times::default(),
            create: Times::default(),
            start: Times::default(),
            bare: Times::default(),
            bare_create: Times::default(),
            bare_start: Times::default(),
            exec: Times::default(),
            bare_exec: Times::default(),
            peers: Vec::new(),
        };
        // An exec has no further descriptors, so it needs the guest in the root.
        let host = match case.root {
            Root::Dir => Some(bench.runtime.block_on(case.command(&supervisor, &bench.fixture, true)?.spawn())?),
            Root::Host => None,
        };
        bare.ask("hold")?;
        for number in 0..bench.args.count + 5 {
            bench.progress.at(&case.name(), number, bench.args.count + 5);
            let warm = number >= 5;
            lives.library(bench, case, &supervisor, warm)?;
            bare.tell("life")?;
            if let ([created, started, .., all], true) = (bare.hear()?.as_slice(), warm) {
                lives.bare.push(*all);
                lives.bare_create.push(*created);
                lives.bare_start.push(started - created);
            }
            if let Some(host) = &host {
                let began = Instant::now();
                bench.runtime.block_on(async { host.command(case.program()).spawn().await?.wait().await })?;
                let took = began.elapsed();
                let stub = bare.ask("exec")?;
                if warm {
                    lives.exec.add(took);
                    lives.bare_exec.push(stub);
                }
            }
            for (peer, times) in &mut working {
                let took = peer.run(&bench.fixture, case, number + 2, true)?;
                if warm {
                    times.add(took);
                }
            }
        }
        if let Some(host) = host {
            bench.runtime.block_on(host.delete())?;
        }
        drop(bare);
        supervisor.shutdown_blocking();
        lives.peers = working.into_iter().map(|(peer, times)| (peer.name, times)).collect();
        Ok(lives)
    }

    fn library(&mut self, bench: &Bench, case: Case, supervisor: &Supervisor, warm: bool) -> anyhow::Result<()> {
        let command = case.command(supervisor, &bench.fixture, false)?;
        let began = Instant::now();
        let report = bench.runtime.block_on(async { command.spawn().await?.wait().await })?;
        let took = began.elapsed();
        ensure!(report.success(), "the guest failed in the library's container: {:?}", report.exit);
        if warm {
            self.library.add(took);
            self.create.push(report.create_us.known().copied().unwrap_or(0) * 1000);
            self.start.push(report.start_us * 1000);
        }
        Ok(())
    }

    /// Rows of the first run; ratios are medians over all runs.
    fn tell(runs: &[Lives]) -> Answer {
        let mut rows = vec![["", "n", "p50 us", "p90 us", "to stub", "library is"].map(str::to_owned).to_vec()];
        let mut value = json!({});
        let Some(first) = runs.first() else { return (String::new(), value) };
        let over = |of: &dyn Fn(&Lives) -> f64| median(&runs.iter().map(of).collect::<Vec<_>>());
        let mut row = |name: &str, times: &Times, to_stub: f64, library: Option<f64>| {
            if times.is_empty() {
                return;
            }
            let dash = || "".to_owned();
            rows.push(vec![
                name.to_owned(),
                times.len().to_string(),
                format!("{:.0}", times.p50()),
                format!("{:.0}", times.p90()),
                format!("{to_stub:.2}"),
                library.map_or_else(dash, |part| format!("1/{:.1}", 1.0 / part)),
            ]);
            value[name] = json!({"n": times.len(), "p50_us": times.p50(), "p90_us": times.p90(), "to_stub": to_stub, "library_to_it": library});
        };
        row("life: library", &first.library, over(&|run| run.library.p50() / run.bare.p50()), None);
        row("life: bare stub", &first.bare, 1.0, None);
        row("  create: library", &first.create, over(&|run| run.create.p50() / run.bare_create.p50()), None);
        row("  create: bare stub", &first.bare_create, 1.0, None);
        row("  start: library", &first.start, over(&|run| run.start.p50() / run.bare_start.p50()), None);
        row("  start: bare stub", &first.bare_start, 1.0, None);
        for (index, (name, times)) in first.peers.iter().enumerate() {
            let peer = |run: &Lives| run.peers.get(index).map_or(f64::NAN, |(_, times)| times.p50());
            let to_stub = over(&|run| peer(run) / run.bare.p50());
            row(&format!("life: {name}"), times, to_stub, Some(over(&|run| run.library.p50() / peer(run))));
        }
        row("exec: library", &first.exec, over(&|run| run.exec.p50() / run.bare_exec.p50()), None);
        row("exec: bare stub", &first.bare_exec, 1.0, None);
        (table(&rows), value)
    }
}
