//! Other limits for a container that runs: refused as a whole before anything is written, and taken back as a whole.

use std::sync::Arc;

use orangery_runtime::{Container, Error as RuntimeError, ErrorKind as RuntimeErrorKind};

use super::slot::ContainerSlot;
use super::{cpu, idle};
use crate::error::Error;
use crate::limit_update::LimitUpdate;
use crate::output_limit::{OutputAction, OutputLimit};
use crate::process::wall::Wall;

/// One at a time: what one of them takes back must not be another's.
pub(super) async fn carry_out(
    owner: &Arc<ContainerSlot>,
    container: Arc<dyn Container>,
    to: LimitUpdate,
) -> Result<(), Error> {
    let _alone = owner.updating.lock().await;
    Error::all(refusals(owner, &to))?;
    let backstop = match to.watched.cpu_time {
        Some(limit) => cpu::lift_backstop(owner, limit)?,
        None => None,
    };
    // A lower limit of memory makes the kernel reclaim, and perhaps kill, before the write returns.
    let (limits, span) = (to.cgroup.clone(), owner.span.clone());
    let written = tokio::task::spawn_blocking(move || span.in_scope(|| container.update(limits))).await;
    if let Err(error) = written.map_err(|_| Error::lost_request()).and_then(|done| done.map_err(Error::from)) {
        cpu::put_back(owner, backstop);
        return Err(error);
    }
    apply(owner, to);
    Ok(())
}

/// What makes no sense for this one.
fn refusals(owner: &ContainerSlot, to: &LimitUpdate) -> Vec<RuntimeError> {
    let mut wrong = to.check();
    let main = &owner.main;
    if to.watched.idle.is_some() && !idle::is_heard(main) {
        wrong.push(RuntimeError::invalid("idle", idle::UNHEARD));
    }
    if to.watched.output.is_some() && main.output.log().is_some() {
        let why = "a log is opened with its limit, which stays";
        wrong.push(RuntimeError::new(RuntimeErrorKind::Unsupported, why).with_field("output"));
    }
    wrong
}

/// Nothing in here can fail.
fn apply(owner: &ContainerSlot, to: LimitUpdate) {
    let LimitUpdate { cgroup, watched } = to;
    let main = &owner.main;
    if let Some(limit) = watched.wall {
        main.wall.send_modify(|wall| {
            let ladder = wall.take().map_or_else(crate::StopLadder::new, |wall| wall.ladder);
            *wall = Some(Wall { limit, ladder });
        });
    }
    if let Some(bytes) = watched.output {
        main.output.hub.set_output_limit(bytes);
        main.may_write.send_modify(|limit| {
            let action = limit.map_or(OutputAction::Kill, |limit| limit.action);
            *limit = Some(OutputLimit { bytes, action });
        });
    }
    owner.updated(cgroup);
    owner.watched.send_modify(|now| now.changed(&watched));
}
