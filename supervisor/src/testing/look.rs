//! A look at what one supervisor has on this machine, told apart from what others of the same process have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};

/// By what its things are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    pub(super) keeper: Option<u32>,
    pub(super) files: Option<PathBuf>,
    pub(super) cgroups: Vec<PathBuf>,
    pub(super) thread_name: String,
}

/// What was there at one moment and must not be at a later one.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// With when each began: another process may get its number.
    processes: BTreeMap<(u32, u64), String>,
    descriptors: BTreeMap<u32, Descriptor>,
}

/// A descriptor of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Descriptor {
    link: String,
    inode: u64,
    /// Of a pidfd: whose, or -1 of one that has ended.
    pid: Option<i64>,
}

impl Marks {
    /// The keeper and all its descendants, and the descriptors of this process that lead to them: their pidfds, the other
    /// ends of their pipes, the socket of the keeper, and what lies in the supervisor's own directories.
    pub(super) fn look(&self) -> Look {
        let Some(keeper) = self.keeper else { return Look::default() };
        let family = family(keeper);
        let pids: BTreeSet<i64> = family.iter().map(|process| i64::from(process.pid)).collect();
        let pipes: BTreeSet<String> = family.iter().flat_map(|process| pipes(process.pid)).collect();
        let ours = |(number, descriptor): &(u32, Descriptor)| {
            descriptor.pid.is_some_and(|pid| pids.contains(&pid))
                || pipes.contains(&descriptor.link)
                || self.holds(Path::new(&descriptor.link))
                || descriptor.link.starts_with("socket:") && peer(*number) == Some(keeper)
        };
        Look {
            processes: family.into_iter().map(|process| ((process.pid, process.began), process.name)).collect(),
            descriptors: descriptors().into_iter().filter(ours).collect(),
        }
    }

    fn holds(&self, path: &Path) -> bool {
        self.files.iter().chain(&self.cgroups).any(|ours| path.starts_with(ours))
    }

    /// What is left of `before`, and of the supervisor's directories, mounts and threads: a line each.
    pub(super) fn left(&self, before: &Look) -> Vec<String> {
        let mut left = Vec::new();
        for ((pid, began), name) in &before.processes {
            if let Some(process) = process(*pid).filter(|process| process.began == *began) {
                left.push(format!("process {pid} {name} ({})", process.state));
            }
        }
        let groups = self.cgroups.iter().filter(|group| group.exists());
        left.extend(groups.map(|group| format!("cgroup {}", group.display())));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let at = |line: &&str| line.split(' ').nth(4).is_some_and(|at| self.holds(Path::new(at)));
        left.extend(mounts.lines().filter(at).map(|line| format!("mount {line}")));
        if let Some(files) = &self.files {
            below(files, &mut left);
        }
        let now = descriptors();
        for (number, descriptor) in &before.descriptors {
            if now.get(number).is_some_and(|now| descriptor.is_still(now)) {
                left.push(format!("descriptor {number} -> {}{}", descriptor.link, descriptor.whose()));
            }
        }
        let threads = threads(&self.thread_name);
        if threads > 0 {
            left.push(format!("{threads} threads called {}", self.thread_name));
        }
        left
    }
}

impl Descriptor {
    fn of(number: u32) -> Option<Self> {
        let path = format!("/proc/self/fd/{number}");
        let link = fs::read_link(&path).ok()?.display().to_string();
        let inode = fs::metadata(&path).map_or(0, |metadata| metadata.ino());
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
        let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok());
        Some(Self { link, inode, pid })
    }

    /// Whether what has its number now is itself. Before Linux 6.9 all pidfds have one inode: one of a process that has ended
    /// may then be somebody else's.
    fn is_still(&self, now: &Self) -> bool {
        let same_process = now.pid == self.pid || self.pid.is_some() && now.pid == Some(-1);
        now.link == self.link && now.inode == self.inode && same_process
    }

    fn whose(&self) -> String {
        self.pid.map_or_else(String::new, |pid| format!(" of process {pid}"))
    }
}

/// All of this process.
fn descriptors() -> BTreeMap<u32, Descriptor> {
    numbers("/proc/self/fd").filter_map(|number| Some((number, Descriptor::of(number)?))).collect()
}

/// Entries of a directory of /proc that are numbers.
fn numbers(dir: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Names of the pipes that a process has, where that may be seen.
fn pipes(pid: u32) -> Vec<String> {
    let dir = format!("/proc/{pid}/fd");
    let links = numbers(&dir).filter_map(|number| fs::read_link(format!("{dir}/{number}")).ok());
    links.map(|link| link.display().to_string()).filter(|link| link.starts_with("pipe:")).collect()
}

/// The process at the other end of a socket that this process has under that number.
fn peer(number: u32) -> Option<u32> {
    let ourselves = pidfd_open(getpid(), PidfdFlags::empty()).ok()?;
    // Whatever has that number by now: a descriptor of its own, which is closed here.
    let socket = pidfd_getfd(&ourselves, i32::try_from(number).ok()?, PidfdGetfdFlags::empty()).ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&socket).ok()?;
    u32::try_from(Pid::as_raw(Some(peer.pid))).ok()
}

/// How many threads of this process have that name.
fn threads(name: &str) -> usize {
    let named = |number: &u32| {
        fs::read_to_string(format!("/proc/self/task/{number}/comm")).is_ok_and(|comm| comm.trim_end() == name)
    };
    numbers("/proc/self/task").filter(named).count()
}

/// A path and everything below it, if it is there.
fn below(path: &Path, found: &mut Vec<String>) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    found.push(format!("{} {}", if metadata.is_dir() { "directory" } else { "file" }, path.display()));
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        below(&entry.path(), found);
    }
}

struct Process {
    pid: u32,
    parent: u32,
    name: String,
    state: String,
    began: u64,
}

/// One process, from its stat file: proc_pid_stat(5).
fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let words: Vec<&str> = tail.split_whitespace().collect();
    let (state, parent, began) = (words.first()?, words.get(1)?.parse().ok()?, words.get(19)?.parse().ok()?);
    Some(Process { pid, parent, name, state: (*state).to_owned(), began })
}

/// A process and all its descendants.
fn family(eldest: u32) -> Vec<Process> {
    let mut others: Vec<Process> = numbers("/proc").filter_map(process).collect();
    let mut family: Vec<Process> = others.extract_if(.., |process| process.pid == eldest).collect();
    let mut at = 0;
    while let Some(parent) = family.get(at).map(|process| process.pid) {
        family.extend(others.extract_if(.., |process| process.parent == parent));
        at += 1;
    }
    family
}
