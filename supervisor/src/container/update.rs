//! Other limits for a container that runs: refused as a whole before anything is written, and taken back as a whole.

use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::cgroup::Limits;
use orangery_runtime::spec::UnmetLimit;
use orangery_runtime::{Container, Error as RuntimeError};

use super::slot::ContainerSlot;
use super::{cpu, idle, unmet};
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
    // Files of cgroupfs; and a lower limit of memory makes the kernel reclaim, and perhaps kill, before the write returns.
    let (slot, limits, cpu_time) = (Arc::clone(owner), to.cgroup.clone(), to.watched.cpu_time);
    let write = move || slot.span.in_scope(|| written(&slot, &*container, limits, cpu_time));
    let unmet = tokio::task::spawn_blocking(write).await.map_err(|_| Error::lost_request())??;
    apply(owner, to, unmet);
    Ok(())
}

/// What the kernel holds it to; as before where one of it is refused.
fn written(
    owner: &ContainerSlot,
    container: &dyn Container,
    limits: Limits,
    cpu_time: Option<Duration>,
) -> Result<Vec<UnmetLimit>, Error> {
    let backstop = match cpu_time {
        Some(limit) => cpu::lift_backstop(owner, limit)?,
        None => None,
    };
    let unmet = container.update(limits).inspect_err(|_| cpu::put_back(owner, backstop))?;
    let cpu_time = cpu_time.and_then(|limit| unmet::cpu_time(container, limit, owner.backstopped));
    Ok(unmet.into_iter().chain(cpu_time).collect())
}

/// What makes no sense for this one.
fn refusals(owner: &ContainerSlot, to: &LimitUpdate) -> Vec<RuntimeError> {
    let mut wrong = to.check();
    let main = &owner.main;
    if to.watched.idle.is_some() && !idle::is_heard(main) {
        wrong.push(RuntimeError::invalid("idle", idle::UNHEARD));
    }
    wrong
}

/// Nothing in here can fail.
fn apply(owner: &ContainerSlot, to: LimitUpdate, unmet: Vec<UnmetLimit>) {
    let LimitUpdate { cgroup, watched } = to;
    let main = &owner.main;
    if let Some(limit) = watched.wall {
        main.wall.send_modify(|wall| {
            let ladder = wall.take().map_or_else(crate::StopLadder::new, |wall| wall.ladder);
            *wall = Some(Wall { limit, ladder });
        });
    }
    if let Some(bytes) = watched.output {
        main.output.set_limit(bytes);
        main.may_write.send_modify(|limit| {
            let action = limit.map_or(OutputAction::Kill, |limit| limit.action);
            *limit = Some(OutputLimit { bytes, action });
        });
    }
    owner.updated(cgroup, unmet);
    owner.watched.send_modify(|now| now.changed(&watched));
}
