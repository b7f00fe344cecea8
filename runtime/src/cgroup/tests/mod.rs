//! Against the real kernel, as root, in whatever mode the machine has (v2, hybrid, v1); on a hybrid once more as if it
//! were v1 only. Without the rights each test prints why and passes as skipped. Every test has an instance of its own
//! and takes stock at the end. This file is the kit.

mod delegated;
mod given;
mod handed;
mod io;
mod life;
mod limits;
mod pure_v2;

use crate::cgroup::*;
use rustix::event::{PollFd, poll};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NUMBER: AtomicU32 = AtomicU32::new(0);

fn instance() -> String {
    format!("cgtest-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// `legacy`: as if no cgroup2 were mounted, so that the pure v1 ways are run on a hybrid machine.
fn cgroups(legacy: bool) -> Option<Cgroups> {
    let mut found = detect::hierarchies().unwrap();
    let pure = found.iter().all(|h| h.kind == Kind::V2);
    if legacy {
        found.retain(|h| h.kind != Kind::V2);
    }
    let cgroups = Cgroups { parents: Arc::new(Parents::open(&found, None, &instance()).unwrap()) };
    let want = match (legacy, pure) {
        (true, _) => Mode::V1,
        (false, true) => Mode::V2,
        (false, false) => Mode::Hybrid,
    };
    if cgroups.mode() == want {
        return Some(cgroups);
    }
    println!("SKIPPED: needs mode {want}, this is {} ({:?})", cgroups.mode(), cgroups.why_none());
    None
}

fn both(mut test: impl FnMut(Cgroups)) {
    for legacy in [false, true] {
        let Some(cgroups) = cgroups(legacy) else {
            continue;
        };
        let paths: Vec<PathBuf> = cgroups.roots().into_iter().map(|r| r.path).collect();
        assert!(!paths.is_empty() && paths.iter().all(|p| p.is_dir()));
        test(cgroups);
        for path in paths {
            assert!(!path.exists(), "{} is left", path.display());
        }
    }
}

/// Also a test that fails leaves no process and no directory.
struct Guarded(Group);

impl std::ops::Deref for Guarded {
    type Target = Group;

    fn deref(&self) -> &Group {
        &self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        for _ in 0..500 {
            let _ = self.0.kill();
            if self.0.remove().is_ok() {
                return;
            }
            pause(2);
        }
    }
}

fn make(cgroups: &Cgroups, id: &str, limits: &Limits) -> Guarded {
    Guarded(cgroups.create(id, limits).unwrap())
}

/// `sh` that waits for a line, so that it is moved before it does anything.
#[expect(clippy::disallowed_methods, reason = "a test has no keeper")]
fn gated(script: &str) -> Child {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("read line; {script}")).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn enter(group: &Group, child: &mut Child) {
    let pid = child.id().to_string();
    if let Some(birth) = group.birth().unwrap() {
        let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
        let file = rustix::fs::openat(birth, "cgroup.procs", flags, rustix::fs::Mode::empty()).unwrap();
        rustix::io::write(file, pid.as_bytes()).unwrap();
    }
    for file in group.tasks().unwrap() {
        rustix::io::write(file, pid.as_bytes()).unwrap();
    }
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
}

fn born(group: &Group, script: &str) -> Child {
    let mut child = gated(script);
    enter(group, &mut child);
    child
}

fn exit_signal(mut child: Child) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    child.wait().unwrap().signal()
}

fn pause(milliseconds: u64) {
    let span = rustix::event::Timespec { tv_sec: 0, tv_nsec: (milliseconds * 1_000_000) as _ };
    let mut none: [PollFd<'_>; 0] = [];
    poll(&mut none, Some(&span)).unwrap();
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        pause(2);
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("timed out") })
}

fn some_limits() -> Limits {
    Limits {
        memory: Some(64 << 20),
        memory_swap: None,
        cpu_quota: Some(CpuQuota { quota_us: 50_000, period_us: 100_000 }),
        cpu_weight: Some(100),
        cpuset_cpus: Some("0".into()),
        cpuset_mems: None,
        pids: Some(32),
        ..Limits::default()
    }
}
