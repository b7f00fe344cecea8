//! Reaps what falls to us, the subreaper, as pid 1 does elsewhere: a process that has lost its keeper is not over before, and one
//! that is dead in a pid namespace holds up the end of that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use orangery_tests::stock;

/// Until it is dropped.
pub(crate) struct Reaper {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reaper {
    pub(crate) fn start() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let for_thread = Arc::clone(&over);
        Self { over, thread: Some(thread::spawn(move || reap(&for_thread))) }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn reap(over: &AtomicBool) {
    let own = stock::process(std::process::id()).map(|process| process.name);
    // Looked for again and again: no event tells a thread of it that is also to end.
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    let name = |pid: Pid| stock::process(pid.as_raw().cast_unsigned()).map(|process| process.name);
    loop {
        match waitid(Id::All, look).ok().and_then(|dead| dead.pid()) {
            Some(pid) if name(pid) != own => drop(waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)),
            // Nobody, or a daemon: whoever has killed that waits for it.
            _ if over.load(Ordering::Acquire) => return,
            _ => thread::park_timeout(Duration::from_millis(2)),
        }
    }
}
