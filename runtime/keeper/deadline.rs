//! Deadlines: what a supervisor wants done at a time, whether it is still able to or not. The keeper knows no reason; it
//! has times, pidfds and signals, a file and some bytes (`lease`).
//!
//! A binary heap of slot numbers over a table of fixed size, both mapped at the first use: arming, cancelling and firing
//! cost the logarithm of the number of deadlines, nothing for each container, and nothing at all where nobody asks. One
//! timer of the kernel stands for the earliest. What has fired keeps its slot until the supervisor has been told; a list
//! of those that have something to be told goes through the table.

use crate::arch::nr;
use crate::lease::{self, ARMED, FIRED, FORGOTTEN, FREE, Lease};
use crate::serve::{self, Keeper};
use crate::sys::{self, Received, Res};
use crate::wire::{MAX_LEASES, Message, Moment, Stage, Tell};

/// What the timer's event carries in the keeper's epoll.
pub(crate) const EVENT: u64 = u64::MAX - 2;

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
    /// First and last of whom something is to be told, plus one.
    untold: (u32, u32),
}

impl Deadlines {
    pub(crate) const NONE: Deadlines = Deadlines {
        timer: -1,
        table: core::ptr::null_mut(),
        heap: core::ptr::null_mut(),
        len: 0,
        high: 0,
        free: 0,
        untold: (0, 0),
    };

    /// Slots that have ever been used.
    pub(crate) fn slots(&self) -> u32 {
        self.high
    }

    /// Who has armed what is in this slot, and for when.
    pub(crate) fn armed(&mut self, slot: u32) -> Option<(u64, u64)> {
        self.lease(slot).filter(|lease| matches!(lease.state, ARMED | FIRED)).map(|lease| (lease.id, lease.at))
    }

    /// What has been done of it is told to the further supervisor, whatever the one before has heard.
    pub(crate) fn tell_again(&mut self, slot: u32) {
        if self.lease(slot).is_some_and(|lease| lease.sent > 0) {
            self.queue(slot);
        }
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

    /// Carry out what is next of an armed one, which has been taken out of the heap.
    fn carry_out(&mut self, slot: u32) {
        let Some(lease) = self.lease(slot) else { return };
        lease.step();
        if lease.state == ARMED {
            self.push(slot);
        }
        self.queue(slot);
    }

    /// Carry out what comes in the end of one that has been taken out of the heap.
    fn finish(&mut self, slot: u32) {
        let Some(lease) = self.lease(slot) else { return };
        lease.finish();
        self.queue(slot);
    }

    /// Something is to be told of it.
    fn queue(&mut self, slot: u32) {
        match self.lease(slot) {
            Some(lease) if !lease.queued => (lease.queued, lease.next) = (true, 0),
            _ => return,
        }
        let (first, last) = self.untold;
        if let Some(last) = last.checked_sub(1).and_then(|last| self.lease(last)) {
            last.next = slot + 1;
        }
        self.untold = (if first == 0 { slot + 1 } else { first }, slot + 1);
    }

    /// It was told of the first.
    fn unqueue(&mut self, slot: u32) {
        let Some(lease) = self.lease(slot) else { return };
        lease.queued = false;
        let (next, over) = (lease.next, lease.state != ARMED);
        self.untold = if next == 0 { (0, 0) } else { (next, self.untold.1) };
        if over {
            self.release(slot);
        }
    }
}

/// Arm one; the answer says in which slot.
pub(crate) fn arm(keeper: &mut Keeper, message: &Message, got: &Received) {
    let lease = match lease::read(keeper, message, got) {
        Ok(lease) => lease,
        Err(errno) => return keeper.refuse(message.id, Stage::Request, errno),
    };
    let deadlines = &mut keeper.deadlines;
    if let Err(errno) = deadlines.open(keeper.epoll) {
        return keeper.refuse(message.id, Stage::Make, errno);
    }
    let Some(slot) = deadlines.take() else { return keeper.refuse(message.id, Stage::Make, sys::ENOSPC) };
    match lease.hold() {
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
    keeper.pass(Moment::Armed);
    let done = Message { kind: Tell::Done as u16, id: message.id, x: u64::from(slot), ..Message::default() };
    keeper.answer(done, None);
}

/// No answer: it is cancelled now, or it has fired and that is told.
pub(crate) fn cancel(keeper: &mut Keeper, message: &Message) {
    let deadlines = &mut keeper.deadlines;
    let Ok(slot) = u32::try_from(message.x) else { return };
    let queued = match deadlines.lease(slot) {
        Some(lease) if lease.state == ARMED && lease.id == message.id => {
            lease.close();
            lease.queued
        }
        _ => return,
    };
    deadlines.remove(slot);
    if !queued {
        deadlines.release(slot);
    } else if let Some(lease) = deadlines.lease(slot) {
        // Its place in the list is its own until it comes to it.
        lease.state = FORGOTTEN;
    }
    keeper.pass(Moment::Cancelled);
}

/// The timer has gone off.
pub(crate) fn expired(keeper: &mut Keeper) {
    let mut count = [0u8; 8];
    let _ = sys::read(keeper.deadlines.timer, &mut count);
    let now = sys::now_ns();
    while let Some(slot) = keeper.deadlines.slot(0) {
        if keeper.deadlines.at(0).is_some_and(|at| at > now) {
            break;
        }
        keeper.deadlines.remove(slot);
        keeper.deadlines.carry_out(slot);
        keeper.pass(Moment::Fired);
    }
    keeper.deadlines.set_timer();
    if !keeper.blocked {
        tell(keeper);
    }
}

/// Tell what has been done, until the socket is full.
pub(crate) fn tell(keeper: &mut Keeper) {
    while let Some(slot) = keeper.deadlines.untold.0.checked_sub(1) {
        let Some(lease) = keeper.deadlines.lease(slot) else { return };
        let message = Message {
            kind: Tell::Fired as u16,
            id: lease.id,
            errno: lease.errno,
            x: u64::from(lease.sent),
            y: u64::from(lease.state == FIRED),
            ..Message::default()
        };
        if lease.state != FORGOTTEN && !keeper.say(message) {
            return;
        }
        keeper.deadlines.unqueue(slot);
    }
}

/// The supervisor has gone: carry out what was to be done then, whatever its time. The others keep theirs.
pub(crate) fn holder_gone(keeper: &mut Keeper) {
    let deadlines = &mut keeper.deadlines;
    let mut slot = 0;
    while slot < deadlines.high {
        if deadlines.lease(slot).is_some_and(|lease| lease.state == ARMED && lease.at_end) {
            deadlines.remove(slot);
            deadlines.finish(slot);
        }
        slot += 1;
    }
}

/// The others as well are of no use any more: the end waits for pidfds only, and what stays readable would not let it wait.
pub(crate) fn none_left(keeper: &mut Keeper) {
    sys::epoll_del(keeper.epoll, keeper.deadlines.timer);
}
