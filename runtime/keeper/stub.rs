//! The stub init: pid 1 of a container. Reaps what is orphaned to it, and sleeps. One that is tied ends when the other end of its
//! line is closed, which the kernel does for who is killed, unless it was let go before: what nobody has written down
//! must not outlive the last who knows of it (docs/decisions/0050).
//!
//! And its brother, the guard: pid 1 of the namespace that a network's helper lives in, which ends with the container's pid 1
//! and takes the helper along (docs/decisions/0051).

use crate::arch::nr;
use crate::sys::{self, P_ALL, WNOHANG};

/// Where the line is, once everything else is closed.
const LINE: i32 = 0;
/// SIGCHLD, and SIGIO: something has become of the line. Both are blocked since the keeper's start, so what comes right before
/// the wait is pending, not missed.
const WAKES: u64 = 1 << 16 | 1 << 28;

/// In the container's pid 1, after its last step: no descriptors but its line, no capabilities, undumpable. `line`: negative
/// for one that is not tied.
pub(crate) fn run(page: *mut u32, line: i32) -> ! {
    // What comes with a request never has its number.
    let mut tied = line >= 0 && sys::dup3(line, LINE, true).is_ok();
    let _ = sys::close_range(if tied { LINE as usize + 1 } else { 0 }, usize::MAX >> 32, 0);
    sys::munmap(page.cast(), 4096);
    if tied {
        watch();
    }
    let wakes = WAKES;
    loop {
        while sys::waitid(P_ALL, 0, WNOHANG).is_ok_and(|ended| ended.is_some()) {}
        // Each time: a signal is for any number of reasons.
        tied = tied && is_tied();
        let _ = sys::call(nr::RT_SIGTIMEDWAIT, [&raw const wakes as usize, 0, 0, 8, 0, 0]);
    }
}

/// In the container's pid 1: a SIGIO for each change of the line.
fn watch() {
    // F_SETOWN; F_SETFL to O_ASYNC | O_NONBLOCK.
    let own = sys::call(nr::GETPID, [0; 6]).unwrap_or(1);
    let _ = sys::call(nr::FCNTL, [LINE as usize, 8, own, 0, 0, 0]);
    let _ = sys::call(nr::FCNTL, [LINE as usize, 4, 0o24_000, 0, 0, 0]);
}

/// In the container's pid 1: a byte lets it go, also where its sender has gone since; without one it goes along.
fn is_tied() -> bool {
    let mut byte = [0u8; 1];
    match sys::read(LINE, &mut byte) {
        Err(sys::EAGAIN) => true,
        Ok(1) => {
            sys::close(LINE);
            false
        }
        _ => sys::exit_group(120),
    }
}

/// In pid 1 of a helper's namespace, after its last step: no descriptor but the pidfd of `whom` it ends with, no capabilities,
/// undumpable. All signals are blocked since the keeper's start, so nothing but that end wakes it.
pub(crate) fn guard(page: *mut u32, whom: i32) -> ! {
    // Without it there would be nobody to end with.
    if sys::dup3(whom, LINE, true).is_err() {
        sys::exit_group(120);
    }
    let _ = sys::close_range(LINE as usize + 1, usize::MAX >> 32, 0);
    sys::munmap(page.cast(), 4096);
    // SIGCHLD to SIG_IGN: what is orphaned to it is reaped by the kernel. struct sigaction: the handler first.
    let ignore = [1usize, 0, 0, 0];
    let _ = sys::call(nr::RT_SIGACTION, [17, ignore.as_ptr() as usize, 0, 8, 0, 0]);
    while !sys::wait_readable(LINE) {}
    sys::exit_group(0)
}
