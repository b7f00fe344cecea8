//! `start`: the command of a container that was made runs.

use orangery_runtime::native::single::open_gate;
use rustix::fs::{Mode, OFlags};

use crate::container::{Container, Status};
use crate::failure::Failure;
use crate::hooks;
use crate::place::Place;

/// `start`, whole.
///
/// # Errors
/// It does not wait to be started; it did not come to its exec.
pub(crate) fn start(place: &Place, id: &str) -> Result<(), Failure> {
    let container = Container::hold(place, id)?;
    // It would not come through its gate, and we would keep whoever resumes it out meanwhile.
    if container.init.is_some() && container.is_frozen()? {
        return Err(Failure::new("cannot start a container that is paused"));
    }
    let waits = container.init.is_some() && !container.record.unfinished;
    let gate = container.gate()?.filter(|_| waits);
    let Some(gate) = gate else {
        return Err(match container.status()? {
            Status::Stopped => Failure::new("cannot start a container that has stopped"),
            Status::Creating => Failure::new("cannot start a container that is being created"),
            _ => Failure::new("cannot start an already running container"),
        });
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let report = rustix::fs::openat(container.room.dir(), "report", flags, Mode::empty())
        .map_err(|error| Failure::system("cannot open the report of the container", error))?;
    let mut maker = hooks::maker(&container)?;
    if let Some(maker) = &mut maker {
        hooks::before_start(&container, maker)?;
    }
    let opened = open_gate(gate, &report);
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
    if let Some(mut maker) = maker {
        hooks::after_start(&container, &mut maker)?;
        maker.leave()?;
    }
    Ok(())
}
