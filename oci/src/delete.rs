//! `delete`: nothing is left of a container. What a command that was killed has left is removed as well, and a removal that was
//! cut short is finished by the next.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use orangery_runtime::cgroup::Group;
use orangery_runtime::native::signal;
use orangery_runtime::native::single::Halt;
use orangery_runtime::resctrl;
use rustix::event::Timespec;

use crate::container::{self, Container, Status, has_ended, reason};
use crate::failure::Failure;
use crate::hooks;
use crate::place::{Lock, Place, Room};

/// How long what was killed may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How often a cgroup is tried again that still has somebody in it, each time a little later: some two seconds in all.
const TRIES: i64 = 60;

/// `delete`, whole.
///
/// # Errors
/// It runs and is not to be killed; there is none; something of it cannot be removed.
pub(crate) fn delete(place: &Place, id: &str, force: bool) -> Result<(), Failure> {
    let room = match place.find(id).and_then(|room| locked(room, force)) {
        Ok(room) => room,
        // What `force` asks for is that it is not there.
        Err(_) if force && !place.root().join(id).exists() => return Ok(()),
        Err(failure) => return Err(failure),
    };
    all_of(room, force)
}

/// The one of this directory, whatever has its name by now.
///
/// # Errors
/// It is gone already; something of it cannot be removed.
pub(crate) fn forced(room: Room) -> Result<(), Failure> {
    all_of(locked(room, true)?, true)
}

fn all_of(room: Room, force: bool) -> Result<(), Failure> {
    // Nobody makes it any more: it is ours. The keeper of a command that was killed may be removing it as well.
    let Some(record) = room.record()? else { return room.remove() };
    let container = Container::with(room, record);
    let status = container.status()?;
    if !force && matches!(status, Status::Running | Status::Paused) {
        let (id, status) = (container.room.id(), status.name());
        return Err(Failure::new(format!("cannot delete container {id} that is not stopped: {status}")));
    }
    if container.record.progress.init.is_none() && container.record.progress.groups.is_empty() {
        // Nobody was born, and whose processes are in its cgroup nobody has written down: they may be another's who wants the same one.
        let removed = container.group()?.map_or(Ok(()), |group| remove_group(&group, false));
        // What is forced is that nothing of ours is left, and what is in use is not ours.
        if !force {
            removed?;
        }
        remove_shares(&container)?;
        return container.room.remove();
    }
    remove(container, None)
}

/// All of a regular expression; one that cannot be deleted keeps no other from it.
///
/// # Errors
/// It is none; as [`delete`], of each.
pub(crate) fn all(place: &Place, pattern: &str, force: bool) -> Result<(), Failure> {
    let pattern = regex_lite::Regex::new(pattern)
        .map_err(|error| Failure::new(format!("{pattern:?} is no regular expression: {error}")))?;
    let rooms = place.all()?;
    let names: Vec<&str> = rooms.iter().map(Room::id).filter(|id| pattern.is_match(id)).collect();
    let failed: Vec<String> =
        names.iter().filter_map(|id| delete(place, id, force).err()).map(|f| f.to_string()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("; "))) }
}

/// Where somebody else begins or ends it, that ends first: with the container's first process, where that is to be.
fn locked(room: Room, force: bool) -> Result<Room, Failure> {
    let room = match room.try_lock()? {
        Lock::Ours(room) => return Ok(room),
        Lock::Others(room) => room,
    };
    if force {
        room.unwant()?;
    }
    // After that: whoever makes it writes down what there is, and looks then whether it is wanted.
    if let Some(record) = room.record()? {
        let container = Container::with(room, record);
        // Whoever has it waits for a program of its bundle, which may be us, or for systemd.
        if !force && (container.init.is_some() || container.record.progress.init.is_none()) {
            let (id, status) = (container.room.id(), container.status()?.name());
            let why = format!(
                "cannot delete container {id} that is not stopped: {status}, and another command begins or ends it"
            );
            return Err(Failure::new(why));
        }
        if let Some((_, pidfd)) = &container.init {
            kill(&container, pidfd)?;
        }
        return if force { container.room.lock_waking() } else { container.room.lock() };
    }
    if force { room.lock_waking() } else { room.lock() }
}

/// All of it, also where it is frozen.
fn kill(container: &Container, pidfd: &OwnedFd) -> Result<(), Failure> {
    // Gone meanwhile is as good.
    let killed = signal(pidfd, 9);
    if let Some(group) = container.group()? {
        if let Some((pid, _)) = container.init.as_ref().filter(|_| !has_ended(pidfd, None)) {
            // In another freezer than its own it may be frozen as well.
            let _ = group.bring_back(*pid);
        }
        // A frozen one on v1 feels no signal.
        let _ = group.kill();
    }
    if !has_ended(pidfd, Some(PATIENCE)) {
        killed?;
        return Err(Failure::new("the container's first process does not die"));
    }
    Ok(())
}

/// Kill what is left of it, and remove everything; `halt` may want that what comes then is not waited for.
///
/// # Errors
/// What does not die, or cannot be removed.
pub(crate) fn remove(container: Container, halt: Option<Rc<dyn Halt>>) -> Result<(), Failure> {
    // It is not frozen while it is killed. What is written down of it may be gone already.
    let _changes = container.room.lock_changes();
    let group = container.group()?;
    if let Some((_, pidfd)) = &container.init {
        kill(&container, pidfd)?;
    }
    if let Some(group) = group {
        stop_unit(&container, &group)?;
        remove_group(&group, true)?;
    }
    remove_shares(&container)?;
    container.room.remove()?;
    let Container { room, record, .. } = container;
    // There may be another one of this name while the programs of this one run.
    drop(room);
    if record.progress.init.is_some() {
        hooks::after_end(&record, halt);
    }
    Ok(())
}

/// The unit of a cgroup that systemd has made, as long as that is there: another's may have its name after.
fn stop_unit(container: &Container, group: &Group) -> Result<(), Failure> {
    let Some(owner) = container.record.systemd.as_ref().filter(|_| !group.paths().is_empty()) else { return Ok(()) };
    // systemd asks those who live in it to end, and waits for them for a minute and a half.
    group.kill().map_err(|error| Failure::system("cannot kill what is in the container's cgroup", reason(&error)))?;
    // With the last of them the unit may be gone by now, and what of the cgroup systemd knows nothing of is not.
    if container.group()?.is_some_and(|group| group.has_unit()) {
        owner.stop();
    }
    Ok(())
}

/// Groups of resctrl that were made for it.
fn remove_shares(container: &Container) -> Result<(), Failure> {
    Ok(resctrl::remove(&container.record.progress.shares)?)
}

/// The last process may just have been reaped, and one in a shared pid namespace is nobody's that we wait for.
fn remove_group(group: &Group, kill: bool) -> Result<(), Failure> {
    let failed = |error| Failure::system("cannot remove the container's cgroup", reason(&error));
    if group.paths().is_empty() {
        return Ok(());
    }
    let mut tries = 0;
    loop {
        match group.remove() {
            Err(error) if error.is_busy() && tries < TRIES => {
                tries += 1;
                if kill {
                    group.kill().map_err(failed)?;
                }
                container::pause(Timespec { tv_sec: 0, tv_nsec: tries * 1_000_000 });
            }
            removed => return removed.map_err(failed),
        }
    }
}
