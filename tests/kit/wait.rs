//! Waiting for states, never for time: a process by its pidfd, a pipe by its end. Every wait has a limit, so that a bug
//! is a failed trial and not a hanging one.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt as _;

/// Long enough for anything on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A descriptor becomes readable (a pidfd: its process has ended), or the time is over.
pub fn readable(fd: impl AsFd, limit: Duration) -> bool {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("cannot poll: {error}"),
        }
    }
}

/// A pidfd of a process that is known to be there.
pub fn pidfd(pid: u32) -> OwnedFd {
    try_pidfd(pid).unwrap_or_else(|| panic!("there is no process {pid}"))
}

/// A pidfd, if there is such a process.
#[must_use]
pub fn try_pidfd(pid: u32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()
}

/// SIGKILL by pidfd.
pub fn kill(pidfd: impl AsFd) {
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}

/// SIGSTOP to a child: when this returns none of its threads does anything any more.
pub fn stop(pidfd: impl AsFd) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    pidfd_send_signal(&pidfd, Signal::STOP).expect("it is there");
    let stopped = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::PidFd(pidfd.as_fd()), stopped).expect("it is ours");
}

/// The process behind a pidfd ends within [`PATIENCE`].
pub fn gone(pidfd: impl AsFd, what: &str) {
    assert!(readable(pidfd, PATIENCE), "{what} is still there");
}

/// What the kernel tells nobody of is looked at again until it is so, for [`PATIENCE`].
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within {} s", PATIENCE.as_secs());
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 5_000_000 }));
    }
}

/// A cgroup is removed, where the kernel may not be done yet with who was in it and has been reaped.
pub fn removed(group: &Path) {
    until(&format!("{} without processes", group.display()), || std::fs::remove_dir(group).is_ok());
}

/// A child process ends; one that does not within `limit` is killed, with all that it has started, and reaped.
///
/// # Errors
/// The operating system's.
pub fn child(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let pidfd = pidfd(child.id());
    if readable(&pidfd, limit) {
        return child.wait().map(Some);
    }
    // It starts nothing more meanwhile, and what has lost its parent falls to it, where it is a subreaper.
    let _ = pidfd_send_signal(&pidfd, Signal::STOP);
    crate::scene::end_descendants(child.id());
    kill(&pidfd);
    child.wait()?;
    Ok(None)
}

/// Everything that comes out of a pipe until its last writer is gone.
pub async fn all(pipe: OwnedFd) -> String {
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe).expect("a pipe");
    let mut bytes = Vec::new();
    pipe.read_to_end(&mut bytes).await.expect("readable");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A pipe that is read line by line.
pub struct Lines(tokio::io::Lines<tokio::io::BufReader<tokio::net::unix::pipe::Receiver>>);

impl Lines {
    /// Take over a pipe's read end.
    #[must_use]
    pub fn of(pipe: OwnedFd) -> Self {
        use tokio::io::AsyncBufReadExt as _;
        let pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(pipe).expect("a pipe");
        Self(tokio::io::BufReader::new(pipe).lines())
    }

    /// The next line; the end of the pipe is a failure.
    pub async fn next(&mut self) -> String {
        self.0.next_line().await.expect("readable").expect("a line, not the end")
    }
}

/// Limit a future to [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {} s", PATIENCE.as_secs()),
    }
}
