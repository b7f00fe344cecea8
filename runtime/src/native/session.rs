//! The end of a further process with all that it has started: everything of the container that is in its session. Each
//! process of ours begins one; who leaves it (a daemon) lives on with its container. It blocks; it is called on a thread
//! for that. No number is trusted: what is read under it counts only if that process has not ended afterwards.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::lives;
use crate::error::Error;
use crate::sys::stat::Stat;

/// Forks may go on while others are being killed.
const ROUNDS: u32 = 100;
const A_DEATH: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Kill everybody in the session of `leader` that `listed`, the processes of the container, holds; until nobody is left.
pub(super) fn end(leader: i32, listed: impl Fn() -> Result<Vec<i32>, Error>) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        let killed: Vec<OwnedFd> = listed()?.into_iter().filter_map(|pid| kill(pid, leader)).collect();
        if killed.is_empty() {
            return Ok(());
        }
        let mut dying: Vec<_> = killed.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
        let _ = poll(&mut dying, Some(&A_DEATH));
    }
    let what = format!("processes that {leader} has started were left after {ROUNDS} rounds of kills");
    Err(Error::new(crate::ErrorKind::Exhausted, what))
}

fn kill(pid: i32, leader: i32) -> Option<OwnedFd> {
    is_in(pid, leader).then_some(())?;
    let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    (is_in(pid, leader) && lives(&pidfd)).then_some(())?;
    pidfd_send_signal(&pidfd, Signal::KILL).ok()?;
    Some(pidfd)
}

/// Alive and in that session.
fn is_in(pid: i32, leader: i32) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.session() == Some(leader) && stat.is_alive())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_is_killed() {
        let own = std::process::id().cast_signed();
        // By the same text: in a pid namespace the leader's number may be 0, which no call of rustix can say.
        let session = Stat::of(own).and_then(|stat| stat.session()).unwrap();
        assert!(is_in(own, session) && !is_in(own, session + 1));
        // Its own process is listed, of another session.
        end(i32::MAX, || Ok(vec![own, 0, -1])).unwrap();
    }
}
