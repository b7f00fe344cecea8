//! The middle process: what the keeper must not do to itself, because it could not come back. It enters the namespaces
//! that a child is to be born in, clones the child as its own sibling (CLONE_PARENT, so that the keeper is the parent)
//! into the descriptor table that all three share, and ends. The keeper stays where it is, whatever fails.

use crate::arch::nr;
use crate::birth;
use crate::serve::{CLONE_NEWPID, Keeper};
use crate::spawn::{self, Birth, CLONE_PARENT, load, shared, store};
use crate::sys::{self, Errno, P_PIDFD, WNOHANG, WNOWAIT};
use crate::wire::{JOIN_CGROUP, JOINABLE, Stage};

/// How long a middle process may take: 50 waits of 10 ms, then it is killed.
const PATIENCE: u32 = 50;

/// No answer of the middle process yet.
const NOT_YET: u32 = u32::MAX;

/// In an answer, above the errno: where it failed. 0 is the clone, and from [`JOINING`] on the places of
/// [`JOINABLE`].
const SHIFT: u32 = 16;
const ENTERING: u32 = 1;
const JOINING: u32 = 2;

/// Parent of the middle process and, in the end, of the child.
pub(crate) fn through(keeper: &mut Keeper, birth: &Birth) -> Result<(i32, i32), (Stage, Errno)> {
    store(keeper.page, shared::MIDDLE_PIDFD, -1i32 as u32);
    store(keeper.page, shared::MIDDLE_ERRNO, NOT_YET);
    let (pid, middle_pidfd) = spawn::helper(0, cradle(birth)).map_err(|errno| (Stage::Clone, errno))?;
    if pid == 0 {
        run(birth);
    }
    // It does a few system calls and ends, in our own cgroup or a new one: nothing but a signal of our own user, or the
    // end of the memory, can hold it up.
    let answer = wait(keeper.page, middle_pidfd);
    let _ = sys::pidfd_kill(middle_pidfd);
    let _ = sys::waitid(P_PIDFD, middle_pidfd, 0);
    let pidfd = load(keeper.page, shared::MIDDLE_PIDFD) as i32;
    match answer {
        0 => match spawn::pid_of(keeper.proc, pidfd) {
            Ok(pid) => Ok((pid, pidfd)),
            Err(errno) => {
                birth::give_up(keeper, pidfd);
                Err((Stage::Birth, errno))
            }
        },
        NOT_YET => {
            if pidfd >= 0 {
                birth::give_up(keeper, pidfd);
            }
            Err((Stage::Birth, sys::ETIMEDOUT))
        }
        failed => Err((stage(failed >> SHIFT), (failed & ((1 << SHIFT) - 1)) as Errno)),
    }
}

/// Where a cgroup namespace is joined, the middle process is born in the cgroup, and the child inherits it: a cgroup file
/// system that is mounted with `nsdelegate` lets nobody be born outside of the root of the namespace that he is in.
fn cradle(birth: &Birth) -> Option<i32> {
    birth.joined(usize::from(JOIN_CGROUP)).and_then(|_| birth.cgroup())
}

fn stage(place: u32) -> Stage {
    match place {
        0 => Stage::Clone,
        ENTERING => Stage::PidNamespace,
        place => Stage::JOIN.get((place - JOINING) as usize).copied().unwrap_or(Stage::Birth),
    }
}

/// Bounded by the middle process's end or by [`PATIENCE`].
fn wait(page: *mut u32, middle_pidfd: i32) -> u32 {
    let mut waited = 0;
    loop {
        let answer = load(page, shared::MIDDLE_ERRNO);
        if answer != NOT_YET || waited >= PATIENCE {
            return answer;
        }
        // SAFETY: the word lies in the page.
        let word = unsafe { page.add(shared::MIDDLE_ERRNO) };
        if sys::futex_wait(word, NOT_YET, 10_000_000) == Err(sys::ETIMEDOUT) {
            waited += 1;
            if sys::waitid(P_PIDFD, middle_pidfd, WNOHANG | WNOWAIT).is_ok_and(|ended| ended.is_some()) {
                return load(page, shared::MIDDLE_ERRNO);
            }
        }
    }
}

/// In the middle process: same user as the keeper, sharing its descriptor table.
fn run(birth: &Birth) -> ! {
    if let Err(failed) = enter(birth) {
        store(birth.page, shared::MIDDLE_ERRNO, failed);
        sys::exit_group(1);
    }
    // What a middle process enters beside another process is not made anew.
    let namespaces = if birth.init().is_some() { 0 } else { birth.header.clone };
    let cgroup = if cradle(birth).is_some() { None } else { birth.cgroup() };
    // SAFETY: the word lies in the page. In there, so that a child can never be without a pidfd that the keeper knows.
    let place = unsafe { birth.page.add(shared::MIDDLE_PIDFD) };
    let cloned = spawn::clone(birth, CLONE_PARENT, namespaces, cgroup, place.cast());
    store(birth.page, shared::MIDDLE_ERRNO, cloned.map_or_else(|errno| errno as u32, |_| 0));
    sys::exit_group(0)
}

/// In the middle process: those of a process that is there already, all in one call, or those that came along, one by
/// one.
fn enter(birth: &Birth) -> Result<(), u32> {
    let failed = |place: u32| move |errno: Errno| place << SHIFT | errno as u32;
    // In there it may be denied, and the groups of the supervisor's user must not come along. Refused to a keeper that has a
    // user namespace with a single id.
    let _ = sys::call(nr::SETGROUPS, [0; 6]);
    if let Some(init) = birth.init() {
        return sys::setns(init, birth.header.clone as usize | CLONE_NEWPID).map_err(failed(ENTERING));
    }
    for (place, kind) in JOINABLE.iter().enumerate() {
        if let Some(fd) = birth.joined(place) {
            sys::setns(fd, *kind as usize).map_err(failed(JOINING + place as u32))?;
        }
    }
    Ok(())
}
