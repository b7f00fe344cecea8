//! What is there: taken before and after a trial. Whatever is there afterwards and was not before is a leak.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One stock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// Descendants of this process, as `pid name`, those that are dead and not reaped with a `Z` behind it.
    pub processes: BTreeSet<String>,
    /// Directories below the trial's cgroup parents.
    pub cgroups: BTreeSet<PathBuf>,
    /// Lines of this process's mountinfo.
    pub mounts: BTreeSet<String>,
    /// Descriptors of this process, by number, with what they are.
    pub descriptors: BTreeMap<u32, String>,
    /// Files and directories below the state directory.
    pub files: BTreeSet<PathBuf>,
    /// Threads of this process.
    pub threads: usize,
}

impl Stock {
    /// Look around.
    #[must_use]
    pub fn take(cgroup_parents: &[PathBuf], state_dir: &Path) -> Self {
        // Where tokio is built with signals (another package may ask for that), its first runtime of a process makes a
        // socket pair that stays: it belongs to the stock from the beginning.
        static WARM: std::sync::Once = std::sync::Once::new();
        WARM.call_once(|| drop(tokio::runtime::Builder::new_current_thread().enable_all().build()));
        let mut stock = Self {
            processes: descendants(std::process::id()).into_iter().map(|process| process.to_string()).collect(),
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().map(str::to_owned).collect(),
            descriptors: descriptors(),
            threads: threads(),
            ..Self::default()
        };
        cgroup_parents.iter().for_each(|parent| below(parent, true, &mut stock.cgroups));
        below(state_dir, false, &mut stock.files);
        stock
    }

    /// What `after` has more than `self`, one line each; empty is good.
    #[must_use]
    pub fn left_over(&self, after: &Stock) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        left.extend(after.processes.difference(&self.processes).map(|process| format!("process {process}")));
        left.extend(after.cgroups.difference(&self.cgroups).map(|dir| format!("cgroup {}", dir.display())));
        left.extend(after.mounts.difference(&self.mounts).map(|mount| format!("mount {mount}")));
        left.extend(after.files.difference(&self.files).map(|file| format!("file {}", file.display())));
        if after.threads > self.threads && !soon(|| threads() <= self.threads) {
            left.push(format!("threads: {} before, {} after", self.threads, after.threads));
        }
        let mut more = after.descriptors.clone();
        more.retain(|fd, what| self.descriptors.get(fd) != Some(what));
        // Those alone: whoever took the stock may have left others out of it.
        soon(|| {
            let now = descriptors();
            more.retain(|fd, what| now.get(fd) == Some(what));
            more.is_empty()
        });
        left.extend(more.into_iter().map(|(fd, what)| format!("descriptor {fd} -> {what}")));
        left
    }
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// So often it is looked again, a millisecond apart: many seconds on a busy machine, for who leaves something behind alone.
const LOOKS: usize = 5000;

/// A thread that has been joined, or has said that it ends, is seen in /proc for a moment longer; and one that has just
/// woken a task of another runtime holds that runtime, with its descriptors, until it lets go of the waker. Neither can
/// be waited for: look again, bounded.
fn soon(mut settled: impl FnMut() -> bool) -> bool {
    (0..LOOKS).any(|_| {
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        settled() || rustix::event::poll(&mut [], Some(&pause)).is_err()
    })
}

/// A process of /proc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its name.
    pub name: String,
    /// R, S, D, Z, T...
    pub state: char,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whether it runs or sleeps just now tells nothing; that it is dead does.
        write!(f, "{} {}{}", self.pid, self.name, if self.state == 'Z' { " Z" } else { "" })
    }
}

/// One process, from its stat file. One that is being reaped this very moment (X) has no children any more and is gone.
#[must_use]
pub fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut words = tail.split_whitespace();
    let state = words.next()?.chars().next().filter(|state| *state != 'X')?;
    Some(Process { pid, parent: words.next()?.parse().ok()?, name, state })
}

/// Everything that this process has started, directly or not, dead but not reaped included. The trial is a subreaper,
/// so that nothing can slip away to pid 1.
#[must_use]
pub fn descendants(of: u32) -> Vec<Process> {
    let all: Vec<Process> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?))
        .collect();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for child in all.iter().filter(|process| process.parent == parent && process.pid != of) {
            parents.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}

/// Open descriptors but the one that lists them.
#[must_use]
pub fn descriptors() -> BTreeMap<u32, String> {
    let own = format!("/proc/{}/fd", std::process::id());
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse().ok()?, fs::read_link(entry.path()).ok()?.display().to_string()))
        })
        .filter(|(_, target)| *target != own)
        .collect()
}

/// Names below `top`, itself not included.
fn below(top: &Path, directories_only: bool, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_dir || !directories_only {
            found.insert(entry.path());
        }
        if is_dir {
            below(&entry.path(), directories_only, found);
        }
    }
}
