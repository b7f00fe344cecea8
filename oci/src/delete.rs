//! `delete`: nothing is left of a container. What a command that was killed has left is removed as well, and a removal that was
//! cut short is finished by the next.

use orangery_runtime::cgroup::Group;
use orangery_runtime::native::signal;
use orangery_runtime::resctrl;
use rustix::event::Timespec;

use crate::container::{self, Container, Status, has_ended, reason};
use crate::failure::Failure;
use crate::hooks;
use crate::place::{Place, Room};

/// How long what was killed may take to end.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// How often a cgroup is tried again that still has somebody in it, each time a little later: some two seconds in all.
const TRIES: i64 = 60;

/// `delete`, whole.
///
/// # Errors
/// It runs and is not to be killed; there is none; something of it cannot be removed.
pub(crate) fn delete(place: &Place, id: &str, force: bool) -> Result<(), Failure> {
    let room = match place.find(id).and_then(Room::lock) {
        Ok(room) => room,
        // What `force` asks for is that it is not there.
        Err(_) if force && !place.root().join(id).exists() => return Ok(()),
        Err(failure) => return Err(failure),
    };
    // Nobody makes it any more: it is ours. The keeper of a command that was killed may be removing it as well.
    let Some(record) = room.record()? else { return room.remove() };
    let container = Container::with(room, record);
    let status = container.status()?;
    if !force && matches!(status, Status::Running | Status::Paused) {
        return Err(Failure::new(format!("cannot delete container {id} that is not stopped: {}", status.name())));
    }
    if container.record.init.is_none() && container.record.groups.is_empty() {
        // Nobody was born, and whose processes are in its cgroup nobody has written down: they may be another's who wants the same one.
        let removed = container.group()?.map_or(Ok(()), |group| remove_group(&group, false));
        // What is forced is that nothing of ours is left, and what is in use is not ours.
        if !force {
            removed?;
        }
        remove_shares(&container)?;
        return container.room.remove();
    }
    remove(&container)
}

/// Kill what is left of it, and remove everything.
///
/// # Errors
/// What does not die, or cannot be removed.
pub(crate) fn remove(container: &Container) -> Result<(), Failure> {
    let group = container.group()?;
    if let Some((_, pidfd)) = &container.init {
        // Gone meanwhile is as good.
        let killed = signal(pidfd, 9);
        if let Some(group) = &group {
            // A frozen one on v1 feels no signal.
            let _ = group.kill();
        }
        if !has_ended(pidfd, Some(PATIENCE)) {
            killed?;
            return Err(Failure::new("the container's first process does not die"));
        }
    }
    if let Some(group) = group {
        remove_group(&group, true)?;
    }
    remove_shares(container)?;
    container.room.remove()?;
    if container.record.init.is_some() {
        hooks::after_end(&container.record);
    }
    Ok(())
}

/// Its group of resctrl, where it has one of its own.
fn remove_shares(container: &Container) -> Result<(), Failure> {
    let spec = &container.record.spec;
    Ok(spec.intel_rdt.as_ref().map_or(Ok(()), |rdt| resctrl::remove(&spec.id, rdt))?)
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
