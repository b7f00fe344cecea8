//! Children that an earlier program of this process has started, which this one knows nothing of: a keeper is one, and when it
//! ends somebody has to wait for it.

use std::fs;
use std::os::fd::AsFd as _;

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

/// Each that there is by now is waited for, by a thread of its own: there are one or two.
pub(super) fn wait_for_all() {
    let pid = std::process::id();
    let children = fs::read_to_string(format!("/proc/self/task/{pid}/children")).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    for child in children.filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
        let wait = move || {
            let once = || waitid(WaitId::PidFd(child.as_fd()), WaitIdOptions::EXITED);
            while matches!(once(), Err(rustix::io::Errno::INTR)) {}
        };
        // Without a thread it stays a zombie until this process ends.
        let _ = std::thread::Builder::new().name("orangery-reaper".into()).spawn(wait);
    }
}
