//! The middle process: what the keeper must not do to itself, because it could not come back. It does the steps of the plan that need the
//! host, enters the namespaces that a child is to be born in, clones the child as its own sibling (CLONE_PARENT, so that the keeper is
//! the parent), and ends. The keeper stays where it is, whatever fails.
//!
//! Who is in the pid namespace that it enters sees the child from its first moment, and with CAP_SYS_PTRACE has what /proc shows of it:
//! its root, its working directory, its descriptors. So before that both are the container's, and of the keeper's descriptors nothing
//! is left: the middle process has a table of its own, with what came for the request (docs/decisions/0075).

use crate::arch::nr;
use crate::serve::{CLONE_NEWPID, Keeper};
use crate::spawn::{self, Birth, CLONE_PARENT, CLONE_PARENT_SETTID, load, shared, store};
use crate::steps::Slots;
use crate::sys::{self, Errno, HIGH, P_PID, P_PIDFD, Res, WNOHANG, WNOWAIT};
use crate::wire::{self, JOIN_CGROUP, JOINABLE, Op, Stage, Step};
use crate::{birth, child};

/// How long a middle process may take, in waits of 10 ms; then it is killed. It takes less than one, unless the machine stands still.
const PATIENCE: u32 = 500;
/// The same of one that waits for the turn of a container's cgroup, as does the keeper meanwhile.
const SHORT_PATIENCE: u32 = 50;

/// No answer of the middle process yet.
const NOT_YET: u32 = u32::MAX;
/// It has ended without one.
const ENDED: u32 = u32::MAX - 1;

/// In an answer, above the errno: where it failed. 0 is the clone, from [`JOINING`] on come the places of
/// [`JOINABLE`], and behind them [`APART`].
const SHIFT: u32 = 16;
const JOINING: u32 = 1;
const APART: u32 = JOINING + JOINABLE.len() as u32;

/// Parent of the middle process and, in the end, of the child.
pub(crate) fn through(keeper: &mut Keeper, birth: &Birth) -> Result<(i32, i32), (Stage, Errno)> {
    store(keeper.page, shared::MIDDLE_PID, 0);
    store(keeper.page, shared::MIDDLE_ERRNO, NOT_YET);
    let cradle = cradle(birth);
    let middle = Middle { birth, alive: keeper.alive, cradled: cradle.is_some() };
    let made = match cradle {
        None if shares_memory(birth) => spawn::beside(keeper.stack, run, &middle),
        cradle => spawn::helper(0, cradle),
    };
    let (pid, middle_pidfd) = made.map_err(|errno| (Stage::Clone, errno))?;
    if pid == 0 {
        run(&middle);
    }
    // It does a few system calls and ends, in our own cgroup or a new one: nothing but a signal of our own user, or the
    // end of the memory, can hold it up.
    let patience = if middle.cradled { SHORT_PATIENCE } else { PATIENCE };
    let answer = wait(keeper.page, middle_pidfd, patience);
    let _ = sys::pidfd_kill(middle_pidfd);
    let _ = sys::waitid(P_PIDFD, middle_pidfd, 0);
    // Our child, which nobody but us reaps: the number is its own.
    let pid = load(keeper.page, shared::MIDDLE_PID) as i32;
    let pid = Some(pid).filter(|pid| *pid > 0 && sys::waitid(P_PID, *pid, WNOHANG | WNOWAIT).is_ok());
    let pidfd = pid.map_or(Err(sys::ECANCELED), |pid| sys::call(nr::PIDFD_OPEN, [pid as usize, 0, 0, 0, 0, 0]));
    match (answer, pidfd) {
        (0, Ok(pidfd)) => Ok((pid.unwrap_or(0), pidfd as i32)),
        (NOT_YET | ENDED, Ok(pidfd)) => {
            birth::give_up(keeper, pidfd as i32);
            Err((Stage::Birth, unanswered(answer)))
        }
        (0 | NOT_YET | ENDED, Err(errno)) => {
            // No descriptor is left, or there is no child.
            if let Some(pid) = pid {
                let _ = sys::call(nr::KILL, [pid as usize, 9, 0, 0, 0, 0]);
                keeper.unwatched += 1;
            }
            Err((Stage::Birth, if answer == 0 { errno } else { unanswered(answer) }))
        }
        (failed, _) => Err((stage(failed >> SHIFT), (failed & ((1 << SHIFT) - 1)) as Errno)),
    }
}

/// Where a cgroup namespace is joined, the middle process is born in the cgroup, and the child inherits it: a cgroup file
/// system that is mounted with `nsdelegate` lets nobody be born outside of the root of the namespace that he is in.
fn cradle(birth: &Birth) -> Option<i32> {
    birth.joined(usize::from(JOIN_CGROUP)).and_then(|_| birth.cgroup())
}

fn unanswered(answer: u32) -> Errno {
    if answer == ENDED { sys::ECANCELED } else { sys::ETIMEDOUT }
}

fn stage(place: u32) -> Stage {
    match place {
        0 => Stage::Clone,
        place => Stage::JOIN.get((place - JOINING) as usize).copied().unwrap_or(Stage::Birth),
    }
}

/// Bounded by the middle process's end or by `patience`.
fn wait(page: *mut u32, middle_pidfd: i32, patience: u32) -> u32 {
    let mut waited = 0;
    loop {
        let answer = load(page, shared::MIDDLE_ERRNO);
        if answer != NOT_YET || waited >= patience {
            return answer;
        }
        // SAFETY: the word lies in the page.
        let word = unsafe { page.add(shared::MIDDLE_ERRNO) };
        let _ = sys::futex_wait(word, NOT_YET, 10_000_000);
        // However it ended: who wakes us and has no answer does not keep us.
        waited += 1;
        let ended = || sys::waitid(P_PIDFD, middle_pidfd, WNOHANG | WNOWAIT).is_ok_and(|ended| ended.is_some());
        if load(page, shared::MIDDLE_ERRNO) == NOT_YET && ended() {
            let last = load(page, shared::MIDDLE_ERRNO);
            return if last == NOT_YET { ENDED } else { last };
        }
    }
}

/// What a middle process is told.
struct Middle<'a> {
    birth: &'a Birth,
    alive: i32,
    /// It is in the cgroup already.
    cradled: bool,
}

/// Whether the middle process works in the keeper's own memory, on a stack of its own, which spares copying it. The keeper waits for
/// its end. Where that could do harm it gets a copy: an `oom_score_adj` is that of all who share a memory (`__set_oom_adj`); who becomes
/// another user changes for all of them whether they may be looked into (`fs.suid_dumpable`); a time namespace lets nobody in who
/// shares any (`timens_install`). For one in the container's cgroup, whose memory may end, the kernel would kill the keeper as well:
/// `cradle`.
fn shares_memory(birth: &Birth) -> bool {
    for step in (0..birth.header.steps).filter_map(|index| wire::step(birth.plan, index)) {
        match step.op {
            Op::Enter => return birth.init().is_some() && step.x & (wire::NEWUSER | wire::NEWTIME) == 0,
            // What concerns its own descriptors alone.
            Op::OpenTree | Op::CloneTree | Op::MountAttr | Op::CheckDevice | Op::Open | Op::Close => {}
            _ => return false,
        }
    }
    false
}

/// In the middle process: same user as the keeper, and sharing its descriptor table up to here.
extern "C" fn run(middle: &Middle) -> ! {
    let Middle { birth, alive, cradled } = *middle;
    // The page is there when the kernel writes the child's number, whatever becomes of the memory.
    store(birth.page, shared::MIDDLE_PID, 0);
    let namespaces = if birth.init().is_some() { 0 } else { birth.header.clone };
    let cgroup = if cradled { None } else { birth.cgroup() };
    let made = apart(alive).map_err(|errno| APART << SHIFT | errno as u32).and_then(|keeper| {
        let mut birth = Birth { keeper, ..*birth };
        let mut slots = Slots::new(&birth);
        match enter(&mut birth, &mut slots) {
            // It has nothing to do but to tell.
            Ok(()) if birth.failed.is_some() => clone(&birth, &slots, 0, None),
            Ok(()) => clone(&birth, &slots, namespaces, cgroup),
            Err(failed) => Err(failed),
        }
    });
    store(birth.page, shared::MIDDLE_ERRNO, made.err().unwrap_or(0));
    sys::exit_group(0)
}

/// In the middle process: nothing of the keeper's table is left but what tells of its end, below what a child leaves.
fn apart(alive: i32) -> Res<i32> {
    // F_DUPFD_CLOEXEC
    let alive = sys::call(nr::FCNTL, [alive as usize, 1030, 0, 0, 0, 0])?;
    sys::close_range(HIGH as usize, usize::MAX >> 32, child::UNSHARE)?;
    Ok(alive as i32)
}

/// In the middle process. The number of the child is where the keeper sees it, so that there can never be one that it does not know of.
fn clone(birth: &Birth, slots: &Slots, namespaces: u64, cgroup: Option<i32>) -> Result<(), u32> {
    // SAFETY: the word lies in the page.
    let place = unsafe { birth.page.add(shared::MIDDLE_PID) };
    let extra = CLONE_PARENT | CLONE_PARENT_SETTID;
    let cloned = spawn::clone(birth, Some(slots), extra, namespaces, cgroup, (0, place as u64));
    cloned.map(drop).map_err(|errno| errno as u32)
}

/// In the middle process: the steps that are its own and the namespaces of a process that is there already, those in one call; or the
/// namespaces that came along, one by one.
fn enter(birth: &mut Birth, slots: &mut Slots) -> Result<(), u32> {
    let failed = |place: u32| move |errno: Errno| place << SHIFT | errno as u32;
    if birth.init().is_some() {
        let Some(step) = before(birth, slots) else { return Ok(()) };
        if step.x & wire::NEWUSER != 0 {
            no_groups();
        }
        match sys::setns(slots.get(step.a), step.x as usize | CLONE_NEWPID) {
            Ok(()) => birth.first += 1,
            Err(errno) => birth.failed = Some(errno),
        }
        return Ok(());
    }
    no_groups();
    for (place, kind) in JOINABLE.iter().enumerate() {
        if let Some(fd) = birth.joined(place) {
            sys::setns(fd, *kind as usize).map_err(failed(JOINING + place as u32))?;
        }
    }
    Ok(())
}

/// In the middle process: where it goes it may be denied, and the groups of the supervisor's user must not come along. Refused to a
/// keeper that has a user namespace with a single id.
fn no_groups() {
    let _ = sys::call(nr::SETGROUPS, [0; 6]);
}

/// In the middle process: the steps up to that of entering, which is next. `None`: one has failed, and `birth` says which.
fn before(birth: &mut Birth, slots: &mut Slots) -> Option<Step> {
    while birth.first < birth.header.steps {
        let step = wire::step(birth.plan, birth.first)?;
        if step.op == Op::Enter {
            return Some(step);
        }
        if let Err(errno) = child::run(slots, birth, birth.first, &step) {
            birth.failed = Some(errno);
            return None;
        }
        birth.first += 1;
    }
    birth.failed = Some(sys::ECANCELED);
    None
}
