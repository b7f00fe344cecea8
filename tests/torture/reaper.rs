//! Reaps what falls to us, the subreaper, as pid 1 does elsewhere: a process that has lost its keeper is not over before, and one
//! that is dead in a pid namespace holds up the end of that. Daemons that were started here are waited for here.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use orangery_tests::victim::Victim;

/// Numbers of those whose end somebody else waits for. What they start by themselves is none of them.
static DAEMONS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

fn daemons() -> MutexGuard<'static, BTreeSet<i32>> {
    DAEMONS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One that is started here: not reaped before [`reaped_here`].
pub(crate) fn started_here(start: impl FnOnce() -> Victim) -> Victim {
    let mut daemons = daemons();
    let daemon = start();
    daemons.insert(daemon.pid().cast_signed());
    daemon
}

/// Wait for its end, in this way.
pub(crate) fn reaped_here(daemon: &mut Victim, wait: impl FnOnce(&mut Victim)) {
    let pid = daemon.pid().cast_signed();
    wait(daemon);
    daemons().remove(&pid);
}

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
    // Looked for again and again: no event tells a thread of it that is also to end.
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    loop {
        let dead = waitid(Id::All, look).ok().and_then(|dead| dead.pid());
        // Who is just being started is in there before it is looked for.
        match dead.filter(|pid| !daemons().contains(&pid.as_raw())) {
            Some(pid) => drop(waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG)),
            _ if over.load(Ordering::Acquire) => return,
            _ => thread::park_timeout(Duration::from_millis(2)),
        }
    }
}
