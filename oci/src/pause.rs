//! `pause` and `resume`: all processes of a container stand still, or go on.

use crate::container::{Container, Status, reason};
use crate::failure::Failure;
use crate::place::Place;

/// `pause`, whole: they stand when it comes back.
///
/// # Errors
/// It does not run; there is no freezer.
pub(crate) fn pause(place: &Place, id: &str) -> Result<(), Failure> {
    let container = Container::hold(place, id)?;
    match container.status()? {
        Status::Running | Status::Created => set(&container, true),
        other => Err(Failure::new(format!("container not running or created: {}", other.name()))),
    }
}

/// `resume`, whole.
///
/// # Errors
/// It is not paused.
pub(crate) fn resume(place: &Place, id: &str) -> Result<(), Failure> {
    let container = Container::hold(place, id)?;
    match container.is_frozen()? {
        true => set(&container, false),
        false => Err(Failure::new("container not paused")),
    }
}

fn set(container: &Container, frozen: bool) -> Result<(), Failure> {
    let group = container.group()?.ok_or_else(|| Container::no_group("a pause"))?;
    let failed = |error| Failure::system("cannot freeze or thaw the container", reason(&error));
    let asked = if frozen { group.freeze() } else { group.thaw() };
    asked.and_then(|()| group.await_frozen(frozen)).map_err(|error| {
        if frozen {
            // Half of a pause is none.
            let _ = group.thaw();
        }
        failed(error)
    })
}
