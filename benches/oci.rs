//! `oci`: a container's whole life by the commands of an OCI runtime, ours beside crun and runc: the time on the wall, which is
//! other work's as well on a busy machine, and the processor time of all processes that have to do with it, which is not.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use orangery_benches::case::Fixture;
use orangery_benches::figures::{Times, ratio, table};
use orangery_benches::progress::Progress;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use serde_json::json;
use std::os::fd::AsFd as _;

/// `create`, `start`, the end of the command as its subreaper hears it, `delete`: the runtimes in turns, the same bundle for all.
/// Processor time is that of the commands, of the processes that they start, and of the container.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  oci target/release/orangery-oci\n  \
    unshare -m sh -c 'umount /sys/fs/cgroup/unified; oci target/release/orangery-oci'\n      crun 1.8 refuses hybrids of cgroup v1 and v2\n\n\
    Needs root. Peers: apt-get install crun runc. Goal: at most half of crun's.")]
struct Args {
    /// Our program, or several builds of it.
    #[arg(required = true)]
    programs: Vec<PathBuf>,
    /// Lives of each.
    #[arg(long, default_value_t = 100)]
    count: usize,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

/// One runtime, and what it took.
struct Runtime {
    name: String,
    program: PathBuf,
    took: Took,
}

/// Times of the lives of one.
#[derive(Default)]
struct Took {
    whole: Times,
    processor: Times,
    /// `create`, `start`, `delete`.
    parts: [Times; 3],
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let (fixture, progress) = (Fixture::new()?, Progress::new());
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    std::fs::write(fixture.dir().join("config.json"), config(&fixture).to_string())?;
    let ours = args.programs.iter().map(|program| (program.display().to_string(), program.clone(), true));
    let peers = ["crun", "runc"].map(|name| (name.to_owned(), name.into(), false));
    let mut runtimes = Vec::new();
    for (name, program, ours) in ours.chain(peers) {
        let mut runtime = Runtime { name, program, took: Took::default() };
        // The first of each warms up, and says whether it can.
        match runtime.live(&fixture, "warm") {
            Ok(()) => runtimes.push(Runtime { took: Took::default(), ..runtime }),
            Err(error) if ours => return Err(error),
            Err(error) => eprintln!("{} is left out: {error:#}", runtime.name),
        }
    }
    for number in 0..args.count {
        progress.at("lives", number, args.count);
        for runtime in &mut runtimes {
            runtime.live(&fixture, &number.to_string())?;
        }
    }
    drop(progress);
    tell(&runtimes, args.json)
}

impl Runtime {
    fn live(&mut self, fixture: &Fixture, number: &str) -> anyhow::Result<()> {
        let id = format!("orangery-bench-{}-{number}", std::process::id());
        let (bundle, file) = (fixture.dir(), fixture.dir().join("pid"));
        let (began, before) = (Instant::now(), processor()?);
        self.part(0, &["create", "--bundle", utf8(bundle)?, "--pid-file", utf8(&file)?, &id])?;
        let pid = Pid::from_raw(std::fs::read_to_string(&file)?.trim().parse()?).context("a pid")?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        self.part(1, &["start", &id])?;
        let ended = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)?;
        ensure!(ended.and_then(|ended| ended.exit_status()) == Some(0), "{} {id}: {ended:?}", self.name);
        self.part(2, &["delete", &id])?;
        self.took.whole.add(began.elapsed());
        self.took.processor.add(processor()?.saturating_sub(before));
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "runtimes are started as their callers start them")]
    fn part(&mut self, part: usize, line: &[&str]) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut command = Command::new(&self.program);
        // Not a pipe: the container has it as well.
        let status = command.args(line).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "{} {}: {status}", self.name, line.join(" "));
        if let Some(times) = self.took.parts.get_mut(part) {
            times.add(began.elapsed());
        }
        Ok(())
    }
}

/// The processor time of everybody whose end we have heard of.
fn processor() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(microseconds.try_into()?))
}

fn utf8(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is no UTF-8")
}

/// What old builds know as well.
fn config(fixture: &Fixture) -> serde_json::Value {
    let namespaces: Vec<_> = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind })).into();
    let mount = |at: &str, kind: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
    let caps = ["CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": { "uid": 0, "gid": 0 }, "args": ["/bin/true"], "cwd": "/", "noNewPrivileges": true,
            "env": ["PATH=/usr/bin:/bin"],
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
        },
        "root": { "path": fixture.root(), "readonly": true },
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list"],
            "readonlyPaths": ["/proc/bus", "/proc/irq", "/proc/sys"],
        },
    })
}

fn tell(runtimes: &[Runtime], as_json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if as_json {
        let of = |Runtime { name, took, .. }: &Runtime| {
            let parts = took.parts.each_ref().map(Times::p50);
            let (p50, p90, processor) = (took.whole.p50(), took.whole.p90(), took.processor.p50());
            json!({ "name": name, "p50_us": p50, "p90_us": p90, "processor_us": processor, "parts_us": parts })
        };
        writeln!(out, "{:#}", json!(runtimes.iter().map(of).collect::<Vec<_>>()))?;
        return Ok(());
    }
    let crun = runtimes.iter().find(|runtime| runtime.name == "crun").map(|runtime| &runtime.took);
    let head = ["p50, us", "whole life", "p90", "create", "start", "delete", "to crun", "processor", "to crun"];
    let row = |Runtime { name, took, .. }: &Runtime| {
        let [create, start, delete] = took.parts.each_ref().map(|times| format!("{:.0}", times.p50()));
        let to_crun = |of: fn(&Took) -> &Times| ratio(of(took).p50(), crun.map_or(0.0, |crun| of(crun).p50()));
        let (whole, processor) = (to_crun(|took| &took.whole), to_crun(|took| &took.processor));
        let [p50, p90, cpu] = [took.whole.p50(), took.whole.p90(), took.processor.p50()].map(|us| format!("{us:.0}"));
        vec![name.clone(), p50, p90, create, start, delete, whole, cpu, processor]
    };
    let rows: Vec<_> = std::iter::once(head.map(str::to_owned).to_vec()).chain(runtimes.iter().map(row)).collect();
    write!(out, "{}", table(&rows))?;
    Ok(())
}
