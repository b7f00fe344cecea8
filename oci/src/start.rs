//! `start`: the command of a container that was made runs.

use std::rc::Rc;

use orangery_runtime::native::single::{Halt, open_gate};
use rustix::fs::{Mode, OFlags};

use crate::container::{Container, Status};
use crate::failure::Failure;
use crate::hooks;
use crate::notify::Inbox;
use crate::place::{Lock, Place};
use crate::run::Waiting;

/// `start`, whole.
///
/// # Errors
/// It does not wait to be started; it did not come to its exec.
pub(crate) fn start(place: &Place, id: &str) -> Result<(), Failure> {
    // Not waited for any longer: it may be a program of its bundle that asks, and whoever makes or starts it waits for that.
    match place.find(id)?.lock_soon()? {
        Lock::Ours(room) => begin(&Container::of(room)?, None).map(drop),
        Lock::Others(room) => Err(why_not(&Container::of(room)?)),
    }
}

/// One that is locked by us, which it is not any more once its command runs; in the foreground of `run` there is somebody who passes
/// signals on, and hears what the container says of itself.
///
/// # Errors
/// As [`start`].
pub(crate) fn begin(container: &Container, waiting: Option<&Rc<Waiting>>) -> Result<Option<Inbox>, Failure> {
    // It would not come through its gate, and we would keep whoever resumes it out meanwhile.
    if container.init.is_some() && container.is_frozen()? {
        return Err(Failure::new("cannot start a container that is paused"));
    }
    let waits = container.init.is_some() && !container.record.progress.unfinished;
    let gate = container.gate()?.filter(|_| waits);
    let Some(gate) = gate else { return Err(why_not(container)) };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let report = rustix::fs::openat(container.room.dir(), "report", flags, Mode::empty())
        .map_err(|error| Failure::system("cannot open the report of the container", error))?;
    let halt = waiting.map(|waiting| Rc::clone(waiting) as Rc<dyn Halt>);
    let mut maker = hooks::maker(container, halt.clone())?;
    if let Some(maker) = &mut maker {
        hooks::before_start(container, maker)?;
    }
    let inbox = Inbox::open(&container.room)?;
    let opened = open_gate(gate, &report, halt.as_deref());
    let program = container.record.process.argv.first();
    opened.map_err(|error| match (error.errno(), program.filter(|_| error.stage().is_some())) {
        // It has told so itself: its interpreter is not there, or it is no program.
        (Some(errno), Some(program)) => {
            Failure::system(format!("exec {}", program.display()), std::io::Error::from_raw_os_error(errno))
        }
        _ => error.into(),
    })?;
    // Nobody needs them any more; a container that is removed meanwhile has none.
    for name in ["gate", "report"] {
        let _ = rustix::fs::unlinkat(container.room.dir(), name, rustix::fs::AtFlags::empty());
    }
    // It runs: what its hooks do with it, or somebody else meanwhile, waits for nobody.
    container.room.unlock();
    if let Some(mut maker) = maker {
        maker.halted_by(
            waiting.zip(container.init.as_ref()).map(|(waiting, (_, init))| waiting.passing_on(init)).transpose()?,
        );
        hooks::after_start(container, &mut maker)?;
        maker.leave()?;
    }
    match (&inbox, &container.init) {
        (Some(inbox), Some((pid, init))) if waiting.is_none() => inbox.until_ready((*pid, init)).map(|()| None),
        _ => Ok(inbox),
    }
}

/// Why it is not to be started.
fn why_not(container: &Container) -> Failure {
    match container.status() {
        Ok(Status::Stopped) => Failure::new("cannot start a container that has stopped"),
        Ok(Status::Creating) => Failure::new("cannot start a container that is being created"),
        Ok(Status::Created) => Failure::new("cannot start a container that another command starts or deletes"),
        Ok(_) => Failure::new("cannot start an already running container"),
        Err(failure) => failure,
    }
}
