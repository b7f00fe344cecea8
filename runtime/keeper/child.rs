//! The child: from `clone3` to `execve`, or to being the stub init. Walks the plan and decides nothing.

use crate::spawn::{Birth, load, shared, store};
use crate::steps::{self, Slots};
use crate::sys::{self, HIGH};
use crate::trace::Line;
use crate::wire::{self, OPTIONAL, PRESENT, Step};

/// CLOSE_RANGE_UNSHARE
pub(crate) const UNSHARE: usize = 2;

/// In the newborn child: still with the keeper's rights and sharing its descriptor table, or the only one in it where
/// the keeper did not wait.
pub(crate) fn main(birth: &Birth, slots: Option<&Slots>) -> ! {
    // Nobody else could write our maps. Undone when we are on our own feet; one that the supervisor knows already is, unless it never is.
    if !come(birth, shared::TOLD) || steps::is_tied(birth) {
        die_with(birth.keeper);
    }
    if sys::close_range(HIGH as usize, usize::MAX >> 32, UNSHARE).is_err() {
        sys::exit_group(121);
    }
    // Of one that comes too late nobody wants to know, and it must not hide a later one.
    if birth.seq.wrapping_sub(load(birth.page, shared::LEFT)) < 1 << 31 {
        store(birth.page, shared::LEFT, birth.seq);
    }
    let birth = &traced_apart(birth);
    let mut slots = slots.copied().unwrap_or_else(|| Slots::new(birth));
    let mut index = birth.first;
    if let Some(errno) = birth.failed {
        give_up(&slots, birth, index, errno);
    }
    while index < birth.header.steps {
        let Some(step) = wire::step(birth.plan, index) else { break };
        if let Err(errno) = run(&mut slots, birth, index, &step) {
            give_up(&slots, birth, index, errno);
        }
        index += 1;
    }
    give_up(&slots, birth, index, sys::ECANCELED)
}

/// In the child: the trace goes above every number that the process may be given something under.
fn traced_apart(birth: &Birth) -> Birth {
    let moved = if birth.trace < 0 { Ok(-1) } else { sys::dup_high(birth.trace) };
    Birth { trace: moved.unwrap_or(-1), ..*birth }
}

/// In a child: a keeper that dies from now on takes us along, and so does one that has died before, of which `keeper` tells.
pub(crate) fn die_with(keeper: i32) {
    let _ = sys::prctl(sys::PDEATHSIG, 9);
    if sys::readable(keeper) {
        sys::exit_group(120);
    }
}

/// In the child, or in the middle process before it.
pub(crate) fn run(slots: &mut Slots, birth: &Birth, index: u16, step: &Step) -> sys::Res<()> {
    if step.flags & (OPTIONAL | PRESENT) != 0 && (slots.is_empty(step.a) || slots.is_empty(step.b)) {
        return Ok(());
    }
    trace(birth, index, step, None);
    let mut result = steps::run(slots, birth, step);
    if step.flags & OPTIONAL != 0 && matches!(result, Err(sys::ENOENT | sys::ENOTDIR)) {
        result = Ok(());
    }
    if step.flags & wire::EXIST_OK != 0 && result == Err(sys::EEXIST) {
        result = Ok(());
    }
    if let Err(errno) = result {
        trace(birth, index, step, Some(errno));
    }
    result
}

/// In the child: say which step failed and end. The pipe is the caller's own, so this cannot block.
fn give_up(slots: &Slots, birth: &Birth, index: u16, errno: i32) -> ! {
    let _ = sys::write(slots.get(birth.header.report), &wire::report(index, errno));
    sys::exit_group(120)
}

/// In the child. Lines are written before a step, so that a step that never returns is the last one.
fn trace(birth: &Birth, index: u16, step: &Step, errno: Option<i32>) {
    if birth.trace < 0 {
        return;
    }
    let mut line = Line::new();
    line.text(b"ns=")
        .number(sys::now_ns())
        .text(b" child id=")
        .number(birth.id)
        .text(b" step=")
        .number(u64::from(index))
        .text(b" ");
    line.text(step.op.name().as_bytes());
    if let Some(errno) = errno {
        line.text(b" errno=").number(errno as u64);
    }
    line.end(birth.trace);
}

/// In the child: block until the keeper has written this child's maps. It writes them or kills the child.
pub(crate) fn wait_maps(birth: &Birth) {
    wait_for(birth, shared::MAPPED, 50);
}

/// In the child: block until the supervisor has been told of this child. Only then may it outlive the keeper: somebody
/// holds its pidfd. Told long before as a rule, so that nothing waits; five minutes are for a supervisor that does not
/// read, such as one that is being debugged.
pub(crate) fn wait_told(birth: &Birth) {
    wait_for(birth, shared::TOLD, 3000);
}

/// In the child: `word` of the shared page has come to this child's number. Numbers wrap; what a later child waits for
/// comes after ours.
fn come(birth: &Birth, word: usize) -> bool {
    load(birth.page, word).wrapping_sub(birth.seq) < 1 << 31
}

/// In the child: block until `word` of the shared page has come to this child's number, for `left` tenths of a second at
/// the most.
fn wait_for(birth: &Birth, word: usize, mut left: u32) {
    while left > 0 {
        let seen = load(birth.page, word);
        if come(birth, word) {
            return;
        }
        // SAFETY: the word lies in the shared page.
        if sys::futex_wait(unsafe { birth.page.add(word) }, seen, 100_000_000) == Err(sys::ETIMEDOUT) {
            left -= 1;
        }
    }
    // The keeper died between our birth, or a change of our ids, and our request to die with it.
    sys::exit_group(120)
}
