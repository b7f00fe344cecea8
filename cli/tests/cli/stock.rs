//! Nothing is left: processes, cgroups, state; however it ends.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::family::descendants;
use crate::kit::{Running, ran};
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("nothing_is_left_after_an_end", || nothing_is_left(End::Own)),
        always("nothing_is_left_after_a_term", || nothing_is_left(End::Signal(Signal::TERM))),
        always("nothing_is_left_after_a_kill_of_orangery_itself", || nothing_is_left(End::Signal(Signal::KILL))),
        always("nothing_is_left_after_a_refusal", refusal),
    ]
}

enum End {
    Own,
    Signal(Signal),
}

/// Everything that belongs to one `orangery run`, or `up`.
pub(crate) struct Stock {
    processes: Vec<OwnedFd>,
    cgroups: Vec<PathBuf>,
}

impl Stock {
    pub(crate) fn take(orangery: i32, state: &Path) -> Self {
        let stock = Self::of(orangery, state);
        assert!(stock.processes.len() >= 3, "keeper, stub, command: {}", stock.processes.len());
        stock
    }

    /// However much that is.
    pub(crate) fn of(orangery: i32, state: &Path) -> Self {
        let processes = descendants(orangery);
        let instances = fs::read_dir(state).unwrap().flatten().map(|entry| entry.path().join("record"));
        let records: String = instances.filter_map(|record| fs::read_to_string(record).ok()).collect();
        Self { processes, cgroups: records.lines().map(PathBuf::from).collect() }
    }

    /// Wait for each process to go; the rest must be gone by then.
    pub(crate) fn gone(self) {
        for pidfd in &self.processes {
            let patience = Timespec { tv_sec: 10, tv_nsec: 0 };
            let ready = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&patience)).unwrap();
            assert_eq!(ready, 1, "a process is left");
        }
        for cgroup in &self.cgroups {
            assert!(!cgroup.exists(), "{} is left", cgroup.display());
        }
    }
}

fn nothing_is_left(end: End) {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    // It ends with its input.
    let options = ["-i", "--state-dir", state.to_str().unwrap()];
    let running = Running::start(&options, "sleep 60 & echo ready; exec cat");
    let stock = Stock::take(running.pid(), &state);
    match end {
        End::Own => {}
        End::Signal(signal) => running.signal(signal),
    }
    let killed = matches!(end, End::Signal(Signal::KILL));
    let ran = running.end();
    assert_eq!(ran.code.is_none(), killed, "{ran:?}");
    stock.gone();
    assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "state is left");
}

fn refusal() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    for options in [
        &["--rootfs", "/no/such/root", "--", "true"][..],
        &["--", "no-such-command"],
        &["--user", "nobody-here", "--", "true"],
    ] {
        let ran = ran(&[&["run", "--state-dir", state.to_str().unwrap()], options].concat());
        assert!(matches!(ran.code, Some(125 | 127)), "{ran:?}");
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0, "{options:?}: state is left");
    }
}
