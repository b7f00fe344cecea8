//! Whoever attends a call of another program: it goes on in a child, and what that one leaves behind falls to its attendant, who
//! reaps none of it. So whose orphans are whose is known, and a number that the call has written down is nobody else's as long as the
//! attendant lives. Those that nobody wants are ended by it. When it ends they are the keeper's, who claims one and reaps the others
//! (`exits`, docs/decisions/0073).

use crate::arch::nr;
use crate::spawn::SIGCHLD;
use crate::sys::{self, HIGH, P_PID, P_PIDFD, Res, WNOHANG, WNOWAIT, call, lit};

/// PR_SET_CHILD_SUBREAPER
const SUBREAPER: usize = 36;

/// So often it is looked who is left: whom one of them has begun falls to us with its end.
const ROUNDS: u32 = 64;

/// In the child: the rest of its plan is a child's of its own, which ends with it. It says over `line`, a socket, how that one has
/// ended (`si_code`, `si_status`), and goes when the other end is closed. A byte from there means that what runs is to be killed; a number,
/// when it has ended, that all others are, which is answered when they are.
pub(crate) fn run(line: i32) -> Res<()> {
    sys::prctl(SUBREAPER, 1)?;
    let attendant = call(nr::GETPID, [0; 6])?;
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, ...
    let args = [0u64, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, 0];
    let pid = call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0])?;
    if pid == 0 {
        sys::prctl(sys::PDEATHSIG, 9)?;
        if call(nr::GETPPID, [0; 6]) != Ok(attendant) {
            sys::exit_group(120);
        }
        return Ok(());
    }
    attend(pid, line)
}

/// In the attendant, until its line is closed. Everything that it cannot do ends it, and with it what runs.
fn attend(pid: usize, line: i32) -> ! {
    let _ = sys::prctl(sys::PDEATHSIG, 9);
    let pidfd = call(nr::PIDFD_OPEN, [pid, 0, 0, 0, 0, 0]).and_then(|pidfd| sys::dup_high(pidfd as i32));
    let (Ok(pidfd), Ok(line)) = (pidfd, sys::dup_high(line)) else { sys::exit_group(121) };
    // The report among them, whose end says that the call has come to its exec.
    let _ = sys::close_range(0, HIGH as usize - 1, 0);
    let mut runs = true;
    loop {
        let (ended, told) = sys::either_readable(if runs { pidfd } else { -1 }, line);
        if ended && let Ok(Some(waited)) = sys::waitid(P_PIDFD, pidfd, 0) {
            runs = false;
            let mut said = [0u8; 8];
            let words = waited.code.to_le_bytes().into_iter().chain(waited.status.to_le_bytes());
            said.iter_mut().zip(words).for_each(|(to, from)| *to = from);
            let _ = sys::write(line, &said);
        }
        if told {
            let mut words = [0u8; 4];
            match sys::read(line, &mut words) {
                Ok(1) if runs => kill(pid, pidfd),
                Ok(4) if !runs => {
                    end_others(u32::from_le_bytes(words) as usize);
                    let _ = sys::write(line, &[0u8; 8]);
                }
                Ok(1 | 4) | Err(sys::EAGAIN) => {}
                _ => {
                    if runs {
                        kill(pid, pidfd);
                    }
                    end_others(0);
                    sys::exit_group(0);
                }
            }
        }
    }
}

/// In the attendant: the call and its group, whose number is its own as long as nobody has reaped it, which we alone do.
fn kill(pid: usize, pidfd: i32) {
    let _ = call(nr::KILL, [pid.wrapping_neg(), 9, 0, 0, 0, 0]);
    let _ = sys::pidfd_kill(pidfd);
}

/// In the attendant: whoever is left to it but `kept`, where the kernel lists them (CONFIG_PROC_CHILDREN). One that a kill does not end
/// soon is given up, and so are those that beget others faster than they are ended.
fn end_others(kept: usize) {
    for _ in 0..ROUNDS {
        let Ok(list) = sys::openat(sys::AT_FDCWD, lit(c"/proc/thread-self/children"), 0, 0) else { return };
        let ended = each_number(list, |pid| pid != kept && end(pid));
        sys::close(list);
        if !ended {
            return;
        }
    }
}

/// Whether `act` has done something with one of the numbers in this file, each of which has a space behind it.
fn each_number(list: i32, act: impl Fn(usize) -> bool) -> bool {
    let (mut number, mut acted, mut bytes) = (0usize, false, [0u8; 512]);
    while let Ok(read @ 1..) = sys::read(list, &mut bytes) {
        for byte in bytes.iter().take(read) {
            if byte.is_ascii_digit() {
                number = number.wrapping_mul(10).wrapping_add(usize::from(byte.wrapping_sub(b'0')));
            } else {
                acted |= act(number);
                number = 0;
            }
        }
    }
    acted
}

/// In the attendant: whether this child had to be ended, and has been. Nobody reaps it but us, who do not: its number is its own.
fn end(pid: usize) -> bool {
    if !matches!(sys::waitid(P_PID, pid as i32, WNOHANG | WNOWAIT), Ok(None)) {
        return false;
    }
    let Ok(pidfd) = call(nr::PIDFD_OPEN, [pid, 0, 0, 0, 0, 0]) else { return false };
    let killed = sys::pidfd_kill(pidfd as i32).is_ok() && sys::readable_soon(pidfd as i32);
    sys::close(pidfd as i32);
    killed
}
