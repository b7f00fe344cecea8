//! Deadlines: what a supervisor wants done at a time, whether it is still able to or not. The keeper knows no reason; it
//! has a time, a pidfd and a signal, a file and some bytes.
//!
//! A binary heap of slot numbers over a table of fixed size, both mapped at the first use: arming, cancelling and firing
//! cost the logarithm of the number of deadlines, nothing for each container, and nothing at all where nobody asks. One
//! timer of the kernel stands for the earliest. What has fired keeps its slot until the supervisor has been told.

use crate::arch::nr;
use crate::serve::{self, Keeper};
use crate::steps;
use crate::sys::{self, Errno, Received, Res};
use crate::wire::{self, LEASE_BYTES, MAX_LEASES, Message, Purpose, Stage, Tell};

/// What the timer's event carries in the keeper's epoll.
pub(crate) const EVENT: u64 = u64::MAX - 2;

const FREE: u8 = 0;
const ARMED: u8 = 1;
const FIRED: u8 = 2;

/// One deadline. All zeros is a free one.
#[derive(Clone, Copy)]
struct Lease {
    id: u64,
    at: u64,
    /// Its place in the heap; once it has fired, the next one that has; once it is free, the next free one (plus one).
    place: u32,
    pidfd: i32,
    control: i32,
    signal: i32,
    errno: Errno,
    len: u8,
    at_end: bool,
    state: u8,
    bytes: [u8; LEASE_BYTES],
}

/// All deadlines. Empty until the first is armed.
pub(crate) struct Deadlines {
    timer: i32,
    table: *mut Lease,
    heap: *mut u32,
    /// Deadlines in the heap.
    len: u32,
    /// Slots that have ever been used.
    high: u32,
    /// First free slot below `high`, plus one.
    free: u32,
    /// First and last that have fired and are not yet told, plus one.
    fired: (u32, u32),
}

impl Deadlines {
    pub(crate) const NONE: Deadlines = Deadlines {
        timer: -1,
        table: core::ptr::null_mut(),
        heap: core::ptr::null_mut(),
        len: 0,
        high: 0,
        free: 0,
        fired: (0, 0),
    };

    /// Slots that have ever been used.
    pub(crate) fn slots(&self) -> u32 {
        self.high
    }

    /// Who has armed what waits in this slot, and for when.
    pub(crate) fn armed(&mut self, slot: u32) -> Option<(u64, u64)> {
        self.lease(slot).filter(|lease| lease.state == ARMED).map(|lease| (lease.id, lease.at))
    }

    fn open(&mut self, epoll: i32) -> Res<()> {
        if self.timer >= 0 {
            return Ok(());
        }
        let table = sys::mmap(MAX_LEASES as usize * size_of::<Lease>(), false)?;
        let heap = sys::mmap(MAX_LEASES as usize * size_of::<u32>(), false)?;
        // CLOCK_MONOTONIC; TFD_CLOEXEC | TFD_NONBLOCK
        let low = sys::call(nr::TIMERFD_CREATE, [1, 0o2_004_000, 0, 0, 0, 0])? as i32;
        let timer = sys::dup_high(low);
        sys::close(low);
        let timer = timer?;
        if let Err(errno) = sys::epoll_add(epoll, timer, serve::IN, EVENT) {
            sys::close(timer);
            return Err(errno);
        }
        (self.table, self.heap, self.timer) = (table.cast(), heap.cast(), timer);
        Ok(())
    }

    fn lease(&mut self, slot: u32) -> Option<&mut Lease> {
        if slot >= self.high {
            return None;
        }
        // SAFETY: the table has MAX_LEASES entries, `high` is never above that, and only `self` points to it.
        unsafe { self.table.add(slot as usize).as_mut() }
    }

    /// The slot at a place of the heap.
    fn slot(&self, place: u32) -> Option<u32> {
        if place >= self.len {
            return None;
        }
        // SAFETY: the heap has MAX_LEASES words and `len` is never above `high`.
        Some(unsafe { *self.heap.add(place as usize) })
    }

    fn at(&mut self, place: u32) -> Option<u64> {
        let slot = self.slot(place)?;
        Some(self.lease(slot)?.at)
    }

    fn put(&mut self, place: u32, slot: u32) {
        if place < self.len {
            // SAFETY: as in `slot`.
            unsafe { *self.heap.add(place as usize) = slot };
        }
        if let Some(lease) = self.lease(slot) {
            lease.place = place;
        }
    }

    fn swap(&mut self, one: u32, two: u32) {
        if let (Some(first), Some(second)) = (self.slot(one), self.slot(two)) {
            self.put(one, second);
            self.put(two, first);
        }
    }

    fn up(&mut self, mut place: u32) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.at(parent) <= self.at(place) {
                return;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn down(&mut self, mut place: u32) {
        loop {
            let left = place * 2 + 1;
            let right = left + 1;
            let Some(mut least) = self.at(left) else { return };
            let mut child = left;
            if let Some(other) = self.at(right).filter(|other| *other < least) {
                (least, child) = (other, right);
            }
            if self.at(place).is_none_or(|here| here <= least) {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }

    /// A free slot.
    fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.checked_sub(1) {
            self.free = self.lease(slot)?.place;
            return Some(slot);
        }
        if self.high >= MAX_LEASES {
            return None;
        }
        self.high += 1;
        Some(self.high - 1)
    }

    fn release(&mut self, slot: u32) {
        let next = self.free;
        if let Some(lease) = self.lease(slot) {
            lease.state = FREE;
            lease.place = next;
            self.free = slot + 1;
        }
    }

    fn push(&mut self, slot: u32) {
        let place = self.len;
        self.len += 1;
        self.put(place, slot);
        self.up(place);
    }

    /// Take an armed one out of the heap.
    fn remove(&mut self, slot: u32) {
        let Some(place) = self.lease(slot).map(|lease| lease.place) else { return };
        let last = self.len.saturating_sub(1);
        self.swap(place, last);
        self.len = last;
        self.up(place);
        self.down(place);
    }

    /// Let the timer stand for the earliest. After a cancel it may go off for nobody, which costs one turn of the loop.
    fn set_timer(&mut self) {
        let Some(at) = self.at(0) else { return };
        // struct itimerspec: interval, value; a value of zero would switch it off.
        let at = at.max(1);
        let spec = [0u64, 0, at / 1_000_000_000, at % 1_000_000_000];
        // TFD_TIMER_ABSTIME
        let _ = sys::call(nr::TIMERFD_SETTIME, [self.timer as usize, 1, spec.as_ptr() as usize, 0, 0, 0]);
    }

    /// Carry out an armed one, which has been taken out of the heap, and note what came of it.
    fn carry_out(&mut self, slot: u32) {
        let Some(lease) = self.lease(slot) else { return };
        lease.errno = act(lease);
        lease.state = FIRED;
        lease.place = 0;
        let (first, last) = self.fired;
        match last.checked_sub(1).and_then(|last| self.lease(last)) {
            Some(last) => last.place = slot + 1,
            None => {}
        }
        self.fired = (if first == 0 { slot + 1 } else { first }, slot + 1);
    }
}

/// The signal, then the bytes: a frozen process of cgroup v1 dies once it is thawed. The first error is told.
fn act(lease: &mut Lease) -> Errno {
    let mut errno = 0;
    if lease.pidfd >= 0 {
        let args = [lease.pidfd as usize, lease.signal as usize, 0, 0, 0, 0];
        errno = sys::call(nr::PIDFD_SEND_SIGNAL, args).err().unwrap_or(0);
    }
    if lease.control >= 0 {
        let bytes = lease.bytes.get(..usize::from(lease.len)).unwrap_or(&[]);
        let wrote = sys::write(lease.control, bytes).err().unwrap_or(0);
        errno = if errno == 0 { wrote } else { errno };
    }
    close(lease);
    errno
}

fn close(lease: &mut Lease) {
    for fd in [&mut lease.pidfd, &mut lease.control] {
        if *fd >= 0 {
            sys::close(*fd);
        }
        *fd = -1;
    }
}

/// Arm one; the answer says in which slot.
pub(crate) fn arm(keeper: &mut Keeper, message: &Message, got: &Received) {
    let lease = match read(keeper, message, got) {
        Ok(lease) => lease,
        Err(errno) => return keeper.refuse(message.id, Stage::Request, errno),
    };
    let deadlines = &mut keeper.deadlines;
    if let Err(errno) = deadlines.open(keeper.epoll) {
        return keeper.refuse(message.id, Stage::Make, errno);
    }
    let Some(slot) = deadlines.take() else { return keeper.refuse(message.id, Stage::Make, sys::ENOSPC) };
    match hold(lease) {
        Ok(lease) => {
            if let Some(place) = deadlines.lease(slot) {
                *place = lease;
            }
        }
        Err(errno) => {
            deadlines.release(slot);
            return keeper.refuse(message.id, Stage::Make, errno);
        }
    }
    deadlines.push(slot);
    if deadlines.slot(0) == Some(slot) {
        deadlines.set_timer();
    }
    let done = Message { kind: Tell::Done as u16, id: message.id, x: u64::from(slot), ..Message::default() };
    keeper.answer(done, None);
}

/// What is asked for, with the message's own descriptors.
fn read(keeper: &Keeper, message: &Message, got: &Received) -> Res<Lease> {
    let find = |purpose: Purpose| {
        let at = keeper.purposes(message, got).iter().position(|number| *number == purpose as u8);
        at.and_then(|at| got.fds.get(at)).copied().unwrap_or(-1)
    };
    let (pidfd, control) = (find(Purpose::Pidfd), find(Purpose::Control));
    let body = keeper.body(message, got);
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
    Ok(Lease {
        id: message.id,
        at: message.x,
        place: 0,
        pidfd,
        control,
        signal: message.y as i32,
        errno: 0,
        len: body.len() as u8,
        at_end: message.flags & wire::AT_END != 0,
        state: ARMED,
        bytes,
    })
}

/// With descriptors that outlive the message.
fn hold(lease: Lease) -> Res<Lease> {
    let keep = |fd: i32| if fd < 0 { Ok(-1) } else { sys::dup_high(fd) };
    let pidfd = keep(lease.pidfd)?;
    let control = match keep(lease.control) {
        Ok(control) => control,
        Err(errno) => {
            if pidfd >= 0 {
                sys::close(pidfd);
            }
            return Err(errno);
        }
    };
    Ok(Lease { pidfd, control, ..lease })
}

/// No answer: it is cancelled now, or it has fired and that is told.
pub(crate) fn cancel(keeper: &mut Keeper, message: &Message) {
    let deadlines = &mut keeper.deadlines;
    let Ok(slot) = u32::try_from(message.x) else { return };
    match deadlines.lease(slot) {
        Some(lease) if lease.state == ARMED && lease.id == message.id => close(lease),
        _ => return,
    }
    deadlines.remove(slot);
    deadlines.release(slot);
}

/// The timer has gone off.
pub(crate) fn expired(keeper: &mut Keeper) {
    let deadlines = &mut keeper.deadlines;
    let mut count = [0u8; 8];
    let _ = sys::read(deadlines.timer, &mut count);
    let now = sys::now_ns();
    while let Some(slot) = deadlines.slot(0) {
        if deadlines.at(0).is_some_and(|at| at > now) {
            break;
        }
        deadlines.remove(slot);
        deadlines.carry_out(slot);
    }
    deadlines.set_timer();
    if !keeper.blocked {
        tell(keeper);
    }
}

/// Tell of those that have fired, until the socket is full.
pub(crate) fn tell(keeper: &mut Keeper) {
    while let Some(slot) = keeper.deadlines.fired.0.checked_sub(1) {
        let Some(lease) = keeper.deadlines.lease(slot).copied() else { return };
        let message = Message { kind: Tell::Fired as u16, id: lease.id, errno: lease.errno, ..Message::default() };
        if !keeper.say(message) {
            return;
        }
        let last = keeper.deadlines.fired.1;
        keeper.deadlines.fired = if lease.place == 0 { (0, 0) } else { (lease.place, last) };
        keeper.deadlines.release(slot);
    }
}

/// The supervisor has gone: carry out what was to be done then, whatever its time. The others keep theirs.
pub(crate) fn holder_gone(keeper: &mut Keeper) {
    let deadlines = &mut keeper.deadlines;
    let mut slot = 0;
    while slot < deadlines.high {
        if deadlines.lease(slot).is_some_and(|lease| lease.state == ARMED && lease.at_end) {
            deadlines.remove(slot);
            deadlines.carry_out(slot);
        }
        slot += 1;
    }
}

/// The others as well are of no use any more: the end waits for pidfds only, and what stays readable would not let it wait.
pub(crate) fn none_left(keeper: &mut Keeper) {
    sys::epoll_del(keeper.epoll, keeper.deadlines.timer);
}
