//! Ends of processes that are kept until the supervisor has written them down: one that is killed after it was told and
//! before it did hears of them in its successor. Kept here and not as a zombie, because a zombie of ours in a container's
//! pid namespace holds up the end of that container's init.
//!
//! A table of fixed size, mapped at the first use; its free places are a list.

use crate::sys;
use crate::wire::{ExitRecord, MAX_ENDS};

/// One end, or a free place.
#[derive(Clone, Copy)]
pub(crate) struct End {
    pub(crate) exit: ExitRecord,
    pub(crate) pid: i32,
    /// The next free place, plus one.
    next: u32,
}

pub(crate) struct Ends {
    table: *mut End,
    /// Places that have ever been used.
    high: u32,
    /// First free one below `high`, plus one.
    free: u32,
}

impl Ends {
    pub(crate) const NONE: Ends = Ends { table: core::ptr::null_mut(), high: 0, free: 0 };

    fn place(&mut self, slot: u32) -> Option<&mut End> {
        if slot >= self.high {
            return None;
        }
        // SAFETY: the table has MAX_ENDS places, `high` is never above that, and only `self` points to it.
        unsafe { self.table.add(slot as usize).as_mut() }
    }

    /// What is kept at this place, plus one.
    pub(crate) fn at(&mut self, place: u32) -> Option<End> {
        place.checked_sub(1).and_then(|slot| self.place(slot)).copied()
    }

    /// A place for one more, plus one; `None`: there is none.
    pub(crate) fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.checked_sub(1) {
            self.free = self.place(slot)?.next;
            return Some(slot + 1);
        }
        if self.table.is_null() {
            self.table = sys::mmap(MAX_ENDS as usize * size_of::<End>(), false).ok()?.cast();
        }
        if self.high >= MAX_ENDS {
            return None;
        }
        self.high += 1;
        Some(self.high)
    }

    pub(crate) fn put(&mut self, place: u32, pid: i32, exit: ExitRecord) {
        if let Some(end) = place.checked_sub(1).and_then(|slot| self.place(slot)) {
            *end = End { exit, pid, next: 0 };
        }
    }

    pub(crate) fn release(&mut self, place: u32) {
        let next = self.free;
        if let Some(end) = place.checked_sub(1).and_then(|slot| self.place(slot)) {
            end.next = next;
            self.free = place;
        }
    }
}
