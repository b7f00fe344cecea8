//! What a supervisor stores for the one that comes after it: the ends of pipes and terminals, with labels that mean
//! something to supervisors only. A pipe that comes with the file of a log is emptied into it while there is no
//! supervisor (`alone`), so that nobody who writes into it is held up.
//!
//! A table of fixed size, mapped at the first use; its free places are a list.

use crate::arch::nr;
use crate::serve::{self, Keeper};
use crate::steps;
use crate::sys::{self, Errno, Received, Res};
use crate::wire::{ASIDE, Drained, LABEL, MAX_STORED, Message, Moment, Purpose, REPLACE, Stage, Tell};

/// Marks the event of a stored pipe in the epoll set; its slot is in the low bits.
pub(crate) const EVENT: u64 = 1 << 32;

/// The most that one turn takes from a pipe: what the largest unprivileged one holds (pipe(7)).
const STEP: usize = 1 << 20;
/// The most that one turn reads away.
const DISCARD: usize = 1 << 16;

/// One descriptor, or two. All zeros but the first is a free place.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    /// What this is for; 0 for a free place.
    purpose: u8,
    pub(crate) len: u8,
    pub(crate) label: [u8; LABEL],
    pub(crate) id: u64,
    pub(crate) source: i32,
    /// -1: nothing is emptied.
    log: i32,
    /// Largest size of the log.
    most: u64,
    pub(crate) drained: Drained,
    /// No reason to stay.
    aside: bool,
    /// The next free place, plus one.
    next: u32,
}

impl Stored {
    pub(crate) fn purpose(&self) -> Option<Purpose> {
        Purpose::from_u8(self.purpose)
    }
}

pub(crate) struct Store {
    table: *mut Stored,
    /// Places that have ever been used.
    pub(crate) high: u32,
    /// First free one below `high`, plus one.
    free: u32,
    /// How many are in use, but those that are no reason to stay.
    pub(crate) count: u32,
    /// Where bytes are read away into.
    waste: *mut u8,
}

impl Store {
    pub(crate) const NONE: Store =
        Store { table: core::ptr::null_mut(), high: 0, free: 0, count: 0, waste: core::ptr::null_mut() };

    fn open(&mut self) -> Res<()> {
        if !self.table.is_null() {
            return Ok(());
        }
        let waste = sys::mmap(DISCARD, false)?;
        self.table = sys::mmap(MAX_STORED as usize * size_of::<Stored>(), false)?.cast();
        self.waste = waste;
        Ok(())
    }

    fn place(&mut self, slot: u32) -> Option<&mut Stored> {
        if slot >= self.high {
            return None;
        }
        // SAFETY: the table has MAX_STORED places, `high` is never above that, and only `self` points to it.
        unsafe { self.table.add(slot as usize).as_mut() }
    }

    /// What is in this slot.
    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Stored> {
        self.place(slot).filter(|stored| stored.purpose != 0)
    }

    /// What request `id` has put into this slot.
    fn of(&mut self, slot: u64, id: u64) -> Option<&mut Stored> {
        let slot = u32::try_from(slot).ok()?;
        self.at(slot).filter(|stored| stored.id == id)
    }

    fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.checked_sub(1) {
            self.free = self.place(slot)?.next;
            return Some(slot);
        }
        if self.high >= MAX_STORED {
            return None;
        }
        self.high += 1;
        Some(self.high - 1)
    }

    fn release(&mut self, slot: u32) {
        let next = self.free;
        if let Some(stored) = self.place(slot) {
            stored.purpose = 0;
            stored.next = next;
            self.free = slot + 1;
        }
    }
}

/// Store what the message brings; the answer says where.
pub(crate) fn store(keeper: &mut Keeper, message: &Message, got: &Received) {
    match put(keeper, message, got) {
        Ok(slot) => {
            keeper.pass(if message.flags & REPLACE == 0 { Moment::Stored } else { Moment::Replaced });
            let done = Message { kind: Tell::Done as u16, id: message.id, x: u64::from(slot), ..Message::default() };
            keeper.answer(done, None);
        }
        Err((stage, errno)) => keeper.refuse(message.id, stage, errno),
    }
}

fn put(keeper: &mut Keeper, message: &Message, got: &Received) -> Result<u32, (Stage, Errno)> {
    let new = read(keeper, message, got).map_err(|errno| (Stage::Request, errno))?;
    let made = |errno| (Stage::Make, errno);
    let store = &mut keeper.store;
    store.open().map_err(made)?;
    if message.flags & REPLACE != 0 {
        let old = store.of(message.x, message.id).copied().ok_or((Stage::Request, sys::ENOENT))?;
        let new = hold(new).map_err(made)?;
        if let Some(place) = store.of(message.x, message.id) {
            *place = new;
        }
        close(&old);
        return Ok(message.x as u32);
    }
    let slot = store.take().ok_or((Stage::Make, sys::ENOSPC))?;
    match hold(new) {
        Ok(new) => {
            if let Some(place) = store.place(slot) {
                *place = new;
            }
            store.count += u32::from(!new.aside);
            Ok(slot)
        }
        Err(errno) => {
            store.release(slot);
            Err(made(errno))
        }
    }
}

/// What is asked for, with the message's own descriptors.
fn read(keeper: &Keeper, message: &Message, got: &Received) -> Res<Stored> {
    const KIND: u32 = 0o170_000;
    let body = keeper.body(message, got);
    let mut label = [0; LABEL];
    for (to, from) in label.iter_mut().zip(body) {
        *to = *from;
    }
    if body.len() > LABEL {
        return Err(sys::EINVAL);
    }
    let purpose = keeper.purposes(message, got).first().copied().unwrap_or(0);
    let source = got.fds.first().copied().unwrap_or(-1);
    let log = if got.count == 2 { got.fds.get(1).copied().unwrap_or(-1) } else { -1 };
    if log >= 0 {
        // splice(2) takes no file with O_APPEND; F_GETFL is 3.
        let flags = sys::call(nr::FCNTL, [log as usize, 3, 0, 0, 0, 0])?;
        let file = steps::stat(log)?.0 & KIND == 0o100_000 && flags & 0o2000 == 0 && flags & 3 != 0;
        // A pipe, or what a terminal's master is: a character device.
        let kind = if is_terminal(purpose) { 0o020_000 } else { 0o010_000 };
        if !file || steps::stat(source)?.0 & KIND != kind {
            return Err(sys::EINVAL);
        }
    }
    Ok(Stored {
        purpose,
        len: body.len() as u8,
        label,
        id: message.id,
        source,
        log,
        most: message.y,
        drained: Drained { since_ns: 0, logged: 0, lost: 0, errno: 0, ended: false },
        aside: message.flags & ASIDE != 0,
        next: 0,
    })
}

fn is_terminal(purpose: u8) -> bool {
    purpose == Purpose::PtyMaster as u8
}

/// With descriptors that outlive the message.
fn hold(new: Stored) -> Res<Stored> {
    let source = sys::dup_high(new.source)?;
    if new.log < 0 {
        return Ok(Stored { source, ..new });
    }
    match sys::dup_high(new.log) {
        Ok(log) => Ok(Stored { source, log, ..new }),
        Err(errno) => {
            sys::close(source);
            Err(errno)
        }
    }
}

fn close(stored: &Stored) {
    sys::close(stored.source);
    if stored.log >= 0 {
        sys::close(stored.log);
    }
}

/// No answer: it is gone, or it was nobody's.
pub(crate) fn discard(keeper: &mut Keeper, message: &Message) {
    let store = &mut keeper.store;
    let Some(old) = store.of(message.x, message.id).copied() else { return };
    close(&old);
    store.release(message.x as u32);
    store.count = store.count.saturating_sub(u32::from(!old.aside));
    keeper.pass(Moment::Discarded);
}

/// There is no supervisor any more: empty the pipes from now on.
pub(crate) fn take_over(keeper: &mut Keeper) {
    let (epoll, now) = (keeper.epoll, sys::now_ns());
    let mut slot = 0;
    while slot < keeper.store.high {
        if let Some(stored) = keeper.store.at(slot).filter(|stored| stored.log >= 0) {
            stored.drained = Drained { since_ns: now, logged: 0, lost: 0, errno: 0, ended: false };
            // The log's length is the truth about what was taken, whoever wrote it last: SEEK_END is 2.
            let seek = sys::call(nr::LSEEK, [stored.log as usize, 0, 2, 0, 0, 0]);
            stored.drained.errno = seek.err().unwrap_or(0);
            // One that cannot be watched holds up who writes into it, and nobody else.
            let _ = sys::epoll_add(epoll, stored.source, serve::IN, EVENT | u64::from(slot));
        }
        slot += 1;
    }
}

/// There is a supervisor again: it empties them.
pub(crate) fn hand_back(keeper: &mut Keeper) {
    let epoll = keeper.epoll;
    let mut slot = 0;
    while slot < keeper.store.high {
        if let Some(stored) = keeper.store.at(slot).filter(|stored| stored.log >= 0) {
            sys::epoll_del(epoll, stored.source);
        }
        slot += 1;
    }
}

/// The pipe in this slot has something, or has ended.
pub(crate) fn drain(keeper: &mut Keeper, slot: u32) {
    let (epoll, waste) = (keeper.epoll, keeper.store.waste);
    let Some(stored) = keeper.store.at(slot).filter(|stored| stored.log >= 0) else { return };
    // SAFETY: `waste` has DISCARD bytes, mapped before the first place of the table was used; nobody else refers to it.
    let buf = unsafe { core::slice::from_raw_parts_mut(waste, DISCARD) };
    if is_terminal(stored.purpose) {
        return copy(epoll, stored, buf);
    }
    let drained = &mut stored.drained;
    if drained.errno == 0 {
        match splice(stored.source, stored.log, stored.most) {
            Ok(0) => return end(epoll, stored),
            Ok(len) => {
                drained.logged = drained.logged.wrapping_add(len as u64);
                return keeper.pass(Moment::Emptied);
            }
            Err(sys::EAGAIN) => return,
            // Nothing after a hole may go into the same file: its offsets would lie.
            Err(errno) => drained.errno = errno,
        }
    }
    match sys::read(stored.source, buf) {
        Ok(0) => end(epoll, stored),
        Ok(len) => drained.lost = drained.lost.wrapping_add(len as u64),
        Err(sys::EAGAIN) => {}
        Err(_) => end(epoll, stored),
    }
}

/// What a terminal shows: splice(2) wants a pipe on one side. A master whose last slave is closed says EIO.
fn copy(epoll: i32, stored: &mut Stored, buf: &mut [u8]) {
    let len = match sys::read(stored.source, buf) {
        Ok(len) if len > 0 => len,
        Err(sys::EAGAIN) => return,
        _ => return end(epoll, stored),
    };
    let mut left = buf.get(..len).unwrap_or(&[]);
    let drained = &mut stored.drained;
    while drained.errno == 0 && !left.is_empty() {
        // SEEK_CUR is 1.
        let size = sys::call(nr::LSEEK, [stored.log as usize, 0, 1, 0, 0, 0]).unwrap_or(usize::MAX) as u64;
        let room = usize::try_from(stored.most.saturating_sub(size)).unwrap_or(usize::MAX);
        match sys::write(stored.log, left.get(..room.min(left.len())).unwrap_or(&[])) {
            Ok(0) => drained.errno = sys::ENOSPC,
            Ok(wrote) => {
                drained.logged = drained.logged.wrapping_add(wrote as u64);
                left = left.get(wrote..).unwrap_or(&[]);
            }
            Err(errno) => drained.errno = errno,
        }
    }
    drained.lost = drained.lost.wrapping_add(left.len() as u64);
}

fn end(epoll: i32, stored: &mut Stored) {
    sys::epoll_del(epoll, stored.source);
    stored.drained.ended = true;
}

/// Move what the pipe holds to the end of the log; ENOSPC where that has its largest size.
fn splice(pipe: i32, log: i32, most: u64) -> Res<usize> {
    // SEEK_CUR is 1.
    let size = sys::call(nr::LSEEK, [log as usize, 0, 1, 0, 0, 0])? as u64;
    let room = usize::try_from(most.saturating_sub(size)).unwrap_or(usize::MAX);
    if room == 0 {
        // The end of the pipe is no loss: FIONREAD says whether there is anything.
        let mut waiting = 0i32;
        sys::call(nr::IOCTL, [pipe as usize, 0x541b, &raw mut waiting as usize, 0, 0, 0])?;
        return if waiting == 0 { Ok(0) } else { Err(sys::ENOSPC) };
    }
    // SPLICE_F_MOVE | SPLICE_F_NONBLOCK
    sys::call(nr::SPLICE, [pipe as usize, 0, log as usize, 0, room.min(STEP), 3])
}
