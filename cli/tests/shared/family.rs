//! All that a process has started, and what those have.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// By descriptors, so that no number is confused.
pub(crate) fn descendants(of: i32) -> Vec<OwnedFd> {
    let parent = |pid: i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<i32>().ok()
    };
    let pids = || fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let (mut found, mut at) = (vec![of], 0);
    while let Some(next) = found.get(at).copied() {
        found.extend(pids().filter(|pid| parent(*pid) == Some(next)));
        at += 1;
    }
    let family = found.into_iter().skip(1).filter_map(Pid::from_raw);
    family.filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()).collect()
}
