//! One deadline: what is asked for, checked, and doing it. A ladder is a deadline with rungs: signals that are sent before,
//! each at its time and followed by CONT, to somebody who may answer by ending.

use crate::arch::nr;
use crate::serve::Keeper;
use crate::steps;
use crate::sys::{self, Errno, Received, Res};
use crate::wire::{self, LADDER, LEASE_BYTES, MAX_RUNGS, Message, Purpose, Rung};

pub(crate) const FREE: u8 = 0;
pub(crate) const ARMED: u8 = 1;
pub(crate) const FIRED: u8 = 2;
/// Cancelled while something was to be told of it.
pub(crate) const FORGOTTEN: u8 = 3;

const CONT: i32 = 18;
const KILL: i32 = 9;

/// One deadline. All zeros is a free one.
#[derive(Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) id: u64,
    /// When what is next is due.
    pub(crate) at: u64,
    /// Its place in the heap; once it is free, the next free one (plus one).
    pub(crate) place: u32,
    /// The next of whom something is to be told (plus one), where that is so of this one.
    pub(crate) next: u32,
    pub(crate) queued: bool,
    pub(crate) state: u8,
    pub(crate) errno: Errno,
    pub(crate) at_end: bool,
    /// Rungs that have been carried out.
    pub(crate) sent: u8,
    count: u8,
    rungs: [Rung; MAX_RUNGS],
    /// Whom they are for; -1: whoever gets the last signal.
    told: i32,
    /// What comes in the end, and when.
    last: u64,
    pidfd: i32,
    control: i32,
    signal: i32,
    len: u8,
    bytes: [u8; LEASE_BYTES],
}

impl Lease {
    fn rung(&self) -> Option<Rung> {
        self.rungs.get(..usize::from(self.count))?.get(usize::from(self.sent)).copied()
    }

    /// Do what is next.
    pub(crate) fn step(&mut self) {
        let Some(rung) = self.rung() else { return self.finish() };
        let told = if self.told >= 0 { self.told } else { self.pidfd };
        let sent = signal(told, rung.signal);
        // So that a stopped one feels it.
        self.note(if sent == 0 { signal(told, CONT) } else { sent });
        self.sent = self.sent.saturating_add(1);
        self.at = self.rung().map_or(self.last, |rung| rung.at_ns);
    }

    /// Do what comes in the end. The signal, then the bytes: a frozen process of cgroup v1 dies once it is thawed, and who was
    /// told the rungs of it does not first answer them.
    pub(crate) fn finish(&mut self) {
        if self.told >= 0 {
            let _ = signal(self.told, KILL);
        }
        if self.pidfd >= 0 {
            self.note(signal(self.pidfd, self.signal));
        }
        if self.control >= 0 {
            let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or(&[]);
            let wrote = sys::write(self.control, bytes).err().unwrap_or(0);
            self.note(wrote);
        }
        self.close();
        self.state = FIRED;
    }

    /// The first error is told.
    fn note(&mut self, errno: Errno) {
        if self.errno == 0 {
            self.errno = errno;
        }
    }

    pub(crate) fn close(&mut self) {
        for fd in [&mut self.pidfd, &mut self.control, &mut self.told] {
            if *fd >= 0 {
                sys::close(*fd);
            }
            *fd = -1;
        }
    }

    /// With descriptors that outlive the message.
    pub(crate) fn hold(self) -> Res<Lease> {
        let mut held = Lease { pidfd: -1, control: -1, told: -1, ..self };
        let kept = held.keep(&self);
        if kept.is_err() {
            held.close();
        }
        kept.map(|()| held)
    }

    fn keep(&mut self, of: &Lease) -> Res<()> {
        let fds = [(of.pidfd, &mut self.pidfd), (of.control, &mut self.control), (of.told, &mut self.told)];
        for (from, to) in fds {
            if from >= 0 {
                *to = sys::dup_high(from)?;
            }
        }
        Ok(())
    }
}

fn signal(pidfd: i32, signal: i32) -> Errno {
    sys::call(nr::PIDFD_SEND_SIGNAL, [pidfd as usize, signal as usize, 0, 0, 0, 0]).err().unwrap_or(0)
}

/// What is asked for, with the message's own descriptors.
pub(crate) fn read(keeper: &Keeper, message: &Message, got: &Received) -> Res<Lease> {
    let find = |purpose: Purpose| {
        let at = keeper.purposes(message, got).iter().position(|number| *number == purpose as u8);
        at.and_then(|at| got.fds.get(at)).copied().unwrap_or(-1)
    };
    let (pidfd, control, told) = (find(Purpose::Pidfd), find(Purpose::Control), find(Purpose::Told));
    let body = keeper.body(message, got);
    let (count, rungs, body) = ladder(message, body).ok_or(sys::EINVAL)?;
    let mut bytes = [0; LEASE_BYTES];
    for (to, from) in bytes.iter_mut().zip(body) {
        *to = *from;
    }
    let signal_fits = if pidfd >= 0 { (1..=64).contains(&message.y) } else { message.y == 0 };
    let bytes_fit = if control >= 0 { (1..=LEASE_BYTES).contains(&body.len()) } else { body.is_empty() };
    if !signal_fits || !bytes_fit {
        return Err(sys::EINVAL);
    }
    // Files only: a write to a pipe or a socket could hold the keeper up.
    if control >= 0 && steps::stat(control)?.0 & 0o170_000 != 0o100_000 {
        return Err(sys::EINVAL);
    }
    let first = if count > 0 { rungs.first() } else { None };
    Ok(Lease {
        id: message.id,
        at: first.map_or(message.x, |rung| rung.at_ns),
        place: 0,
        next: 0,
        queued: false,
        state: ARMED,
        errno: 0,
        at_end: message.flags & wire::AT_END != 0,
        sent: 0,
        count,
        rungs,
        told,
        last: message.x,
        pidfd,
        control,
        signal: message.y as i32,
        len: body.len() as u8,
        bytes,
    })
}

/// The rungs that stand before what is to be written, in the order of their times; and that.
fn ladder<'a>(message: &Message, body: &'a [u8]) -> Option<(u8, [Rung; MAX_RUNGS], &'a [u8])> {
    let mut rungs = [Rung { at_ns: 0, signal: 0 }; MAX_RUNGS];
    if message.flags & LADDER == 0 {
        return Some((0, rungs, body));
    }
    let (count, end) = wire::rungs(body)?;
    let mut before = 0;
    for (number, place) in rungs.iter_mut().take(count).enumerate() {
        let rung = Rung::of(body, number)?;
        if !(1..=64).contains(&rung.signal) || rung.at_ns < before || rung.at_ns > message.x {
            return None;
        }
        before = rung.at_ns;
        *place = rung;
    }
    Some((count as u8, rungs, body.get(end..)?))
}
