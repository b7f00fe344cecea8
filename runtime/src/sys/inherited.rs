//! Descriptors that whoever has started this program hands to it.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first of them, where nobody says another.
const FIRST: RawFd = 3;

/// One of them.
#[derive(Debug)]
pub struct Inherited {
    /// What it was called; `unknown` where nobody said.
    pub name: String,
    /// Itself, which no program gets that we start.
    pub fd: OwnedFd,
}

/// Take them, as sd_listen_fds(3) does: `LISTEN_FDS` says how many, `LISTEN_PID` for whom, `LISTEN_FDNAMES` their names; beside
/// that, `LISTEN_FDS_FIRST_FD` where they begin. The first call takes them; each other one gives none. To be called before
/// anything else of this process has opened a descriptor: what these variables name is taken for theirs.
#[must_use]
pub fn inherited() -> Vec<Inherited> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<RawFd>().ok());
    // Without the pid they may be meant for whoever has started us, and the numbers be ours.
    if number("LISTEN_PID") != Some(std::process::id().cast_signed()) || TAKEN.swap(true, Ordering::AcqRel) {
        return Vec::new();
    }
    let first = number("LISTEN_FDS_FIRST_FD").unwrap_or(FIRST).max(FIRST);
    let count = number("LISTEN_FDS").unwrap_or(0).max(0);
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat("unknown".to_owned()));
    (first..first.saturating_add(count)).zip(names).filter_map(|(number, name)| take(number, name)).collect()
}

/// Take the descriptors of these numbers above 2, which whoever has started this program has left open for it, but for those that are not
/// open. To be called before anything else of this process has opened a descriptor, and once.
#[must_use]
pub fn taken(numbers: &[u16]) -> Vec<(u16, OwnedFd)> {
    let numbers = numbers.iter().filter(|number| RawFd::from(**number) >= FIRST);
    numbers.filter_map(|number| Some((*number, take((*number).into(), String::new())?.fd))).collect()
}

/// `None`: there is no such descriptor.
fn take(number: RawFd, name: String) -> Option<Inherited> {
    // SAFETY: a system call without memory; a number that is not open is EBADF.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return None;
    }
    // SAFETY: it is open, its number was given to this very process to own, and each number is taken once.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    Some(Inherited { name, fd })
}
