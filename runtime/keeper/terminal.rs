//! A process's own terminal, by descriptors alone.

use crate::arch::nr;
use crate::sys::{Res, call};

const TIOCSCTTY: usize = 0x540e;
const TIOCSWINSZ: usize = 0x5414;
const TIOCSPTLCK: usize = 0x4004_5431;
const TIOCGPTPEER: usize = 0x5441;

/// In the child: the other end of a pseudoterminal, which is locked until its master says otherwise.
pub(crate) fn open_peer(master: i32, flags: usize) -> Res<usize> {
    let unlocked = 0i32;
    call(nr::IOCTL, [master as usize, TIOCSPTLCK, &raw const unlocked as usize, 0, 0, 0])?;
    call(nr::IOCTL, [master as usize, TIOCGPTPEER, flags, 0, 0, 0])
}

/// In the child.
pub(crate) fn window_size(terminal: i32, rows: u16, columns: u16) -> Res<()> {
    // struct winsize: rows, columns, and pixels, which nobody knows.
    let size = [rows, columns, 0, 0];
    call(nr::IOCTL, [terminal as usize, TIOCSWINSZ, size.as_ptr() as usize, 0, 0, 0]).map(drop)
}

/// In the child, the leader of a new session. Zero: a terminal of another session is not taken away from it.
pub(crate) fn control(terminal: i32) -> Res<()> {
    call(nr::IOCTL, [terminal as usize, TIOCSCTTY, 0, 0, 0, 0]).map(drop)
}
