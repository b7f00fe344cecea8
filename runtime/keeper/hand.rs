//! A hand: a child that touches files in the name of somebody whom the supervisor cannot become. By this step it is that
//! user for good, without a capability, and has nothing but its socket; what it touches comes with each errand. It does
//! one at a time and ends with its socket, or with the keeper.

use crate::arch::nr;
use crate::spawn::fill;
use crate::sys::{self, AT_FDCWD, CStr, Res, call};
use crate::wire::{self, Deed, ERRAND, Errand, Message, Purpose, Tell};

/// Where the socket is, once everything else is closed.
const SOCKET: i32 = 0;

/// In the child, after its last step.
pub(crate) fn run(socket: i32) -> ! {
    // What comes with a request never has its number.
    if sys::dup3(socket, SOCKET, true).is_err() || sys::close_range(SOCKET as usize + 1, usize::MAX >> 32, 0).is_err() {
        sys::exit_group(121);
    }
    // It is ready, and not on its own feet for that.
    let _ = sys::prctl(sys::PDEATHSIG, 9);
    let mut buffer = [0u8; ERRAND];
    loop {
        let _ = sys::wait_readable(SOCKET);
        match sys::recv(SOCKET, &mut buffer) {
            Err(sys::EAGAIN) => {}
            Ok(got) if got.len > 0 => serve(&got, buffer.get(..got.len).unwrap_or(&[])),
            _ => sys::exit_group(0),
        }
    }
}

/// In the child: one errand and its answer. Nothing of it is left open.
fn serve(got: &sys::Received, bytes: &[u8]) {
    let fds = || got.fds.iter().take(got.count);
    let errand = if got.truncated { None } else { wire::errand(bytes, got.count) };
    let done = match (errand, fds().next()) {
        (Some(errand), Some(place)) => carry_out(&errand, *place),
        _ => Err(sys::EPROTO),
    };
    fds().for_each(|fd| sys::close(*fd));
    let answered = match done {
        Ok(None) => answer(0),
        Err(errno) => answer(errno),
        Ok(Some(opened)) => {
            let message = Message { kind: Tell::Sent as u16, ..Message::default() };
            let sent = sys::send(SOCKET, &message.encode_with(Purpose::Opened), Some(opened));
            sys::close(opened);
            // Too many descriptors are on their way, or there is no memory: the asker hears of that.
            sent.or_else(answer)
        }
    };
    if answered.is_err() {
        sys::exit_group(0);
    }
}

/// In the child.
fn answer(errno: i32) -> Res<()> {
    let message = Message { kind: Tell::Sent as u16, errno, ..Message::default() };
    sys::send(SOCKET, &message.encode(), None)
}

/// In the child: the descriptor of what was opened, where that was asked for.
fn carry_out(errand: &Errand<'_>, place: i32) -> Res<Option<i32>> {
    let [first, second] = errand.names.map(|name| name.as_ptr() as usize);
    let (at, flags, mode) = (place as usize, errand.flags as usize, errand.mode as usize);
    let done = |number: usize, args: [usize; 6]| call(number, args).map(|_| None);
    match errand.deed {
        Deed::Open => {
            sys::openat2(place, CStr(first as *const u8), flags as u64, mode as u64, errand.resolve).map(Some)
        }
        Deed::Reopen => {
            let mut path = [0u8; 40];
            fill(&mut path, b"/proc/self/fd/", place as u64, b"");
            sys::openat(AT_FDCWD, CStr(path.as_ptr()), flags, 0).map(Some)
        }
        Deed::MakeDirectory => done(nr::MKDIRAT, [at, first, mode, 0, 0, 0]),
        Deed::Link => done(nr::SYMLINKAT, [second, at, first, 0, 0, 0]),
        Deed::Rename => done(nr::RENAMEAT2, [at, first, at, second, flags, 0]),
        Deed::Remove => done(nr::UNLINKAT, [at, first, flags, 0, 0, 0]),
        Deed::ChangeMode => done(nr::FCHMOD, [at, mode, 0, 0, 0, 0]),
    }
}
