//! What lives is claimed of the runtime, by what was written down of it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::durable::{Adopted, Beside, Claim, ClaimedProcess};
use orangery_runtime::{Container, Started};
use tokio::sync::mpsc;

use super::dir::StateDir;
use super::file;
use super::kept::Kept;
use super::record::{ContainerRecord, Ended, ProcessRecord};
use crate::admission::Door;
use crate::container::again::Again;
use crate::container::probes::{EARS, Ears};
use crate::container::slot::{ContainerSlot, Keeping};
use crate::events::Voice;
use crate::ladder::StopLadder;
use crate::process::slot::Terms;
use crate::process::wall::Wall;
use crate::supervisor::derived::derive;

/// What those that go on have in common.
pub(crate) struct Ground<'a> {
    pub(crate) state: &'a Arc<StateDir>,
    pub(crate) voice: &'a Voice,
    pub(crate) patience: Duration,
    /// Processor time is counted by the cgroup.
    pub(crate) counted: bool,
    /// Where their further processes are admitted.
    pub(crate) door: Door,
    /// Who waits until all of them are there.
    pub(crate) begun: mpsc::Sender<Infallible>,
}

/// One that cannot be gone on with.
pub(crate) struct Gone {
    pub(crate) record: ContainerRecord,
    /// What the keeper still knows of its main process: how it has ended.
    pub(crate) main: Option<Box<Started>>,
}

impl Gone {
    /// It never ran, and nobody was told that it does: `true` when there is nothing to be said of it, and nothing of it left.
    pub(crate) fn undo(&self, state: &StateDir) -> bool {
        let never = self.main.is_none() && !self.record.main.started;
        if never && let Err(error) = state.remove(&state.container(self.record.template.id())) {
            tracing::warn!(container = self.record.template.id(), %error, "the record of one that never ran stays");
        }
        never
    }
}

/// A container with its processes.
pub(crate) async fn claim(
    ground: &Ground<'_>,
    adopted: &mut Adopted,
    mut record: ContainerRecord,
) -> Result<Again, Gone> {
    let (container, main) = match main(adopted, &record).await {
        Ok(both) => both,
        Err(main) => return Err(Gone { record, main }),
    };
    let mut further = Vec::new();
    for (process, terms) in &record.further {
        if let Some(started) = one(ground, adopted, &record, process).await {
            further.push((started, process.clone(), terms.clone()));
        }
    }
    // Those that have ended by now are in no record any more.
    record.further.retain(|(known, _)| further.iter().any(|(_, process, _)| process.number == known.number));
    let parts = record.template.parts().clone();
    let description = &record.template.sandbox().inner;
    let (ways, care) = (parts.ways.clone(), parts.care.clone());
    let (mut spec, _) = parts.finish();
    let (terms, mut policy) = derive(description, &mut spec, ways, care, ground.counted);
    policy.watched = record.watched.clone();
    // As last updated.
    let ladder = terms.wall.map_or_else(StopLadder::new, |wall| wall.ladder);
    let wall = record.watched.wall.map(|limit| Wall { limit, ladder });
    let terms = Terms { wall, ..terms };
    let keeping = Keeping {
        terms,
        ring_bytes: description.ring_bytes,
        drain_grace: policy.drain_grace,
        each: policy.each.clone(),
        watched: record.watched.clone(),
        backstopped: policy.backstopped,
        patience: ground.patience,
        lasting: Some(Arc::new(Kept::found(ground.state, &record, false))),
    };
    let (labels, birth) = (description.labels.clone(), (record.generation, Arc::default()));
    let slot = ContainerSlot::new(record.template.id(), labels, record.limits.clone(), keeping, ground.voice, birth);
    slot.properties().restore(record.properties.clone());
    slot.processes.begin_after(record.last_process);
    match ground.door.enter(record.template.cost().0) {
        Ok(mut permit) => {
            permit.made();
            slot.hold(permit);
        }
        // It is there, whatever there is room for now.
        Err(error) => {
            tracing::warn!(container = %slot.id, %error, "it is more than there is room for");
            let _ = slot.door.set(ground.door.clone());
        }
    }
    let processes = [&record.main].into_iter().chain(further.iter().map(|(_, process, _)| process));
    let leases = processes.filter_map(|process| Some((process.number, process.begun.as_ref()?.lease()?)));
    let leases = leases.map(|(number, lease)| (number, adopted.lease(lease))).collect();
    let begun = ground.begun.clone();
    let (ears, beside) = ears(adopted, &record);
    Ok(Again { slot: Arc::new(slot), record, policy, container, main, further, leases, ears, beside, log: None, begun })
}

/// Where it says that it is ready, if nobody has heard that yet.
fn ears(adopted: &mut Adopted, record: &ContainerRecord) -> (Ears, Vec<Beside>) {
    let label = record.main.label.as_ref().filter(|_| !record.ready);
    let [socket, descriptor] = EARS.map(|name| adopted.beside(format!("{}{name}", label?).as_bytes()));
    let ((one, socket), (two, descriptor)) = (socket.unzip(), descriptor.unzip());
    (Ears { socket, descriptor }, one.into_iter().chain(two).collect())
}

/// The container and its main process; where only that is known, that.
async fn main(
    adopted: &mut Adopted,
    record: &ContainerRecord,
) -> Result<(Arc<dyn Container>, Box<Started>), Option<Box<Started>>> {
    let id = record.template.id();
    let Some(runtime) = record.runtime.clone() else { return Err(None) };
    let container = adopted.container(Claim::new(runtime)).await.unwrap_or_else(|error| {
        tracing::error!(container = id, %error, "it cannot be adopted");
        None
    });
    let label = record.main.label.as_deref().unwrap_or_default().as_bytes();
    let claimed = adopted.process(id, label, record.main.held.as_ref(), true).await;
    let why = match (claimed, &container) {
        (Ok(ClaimedProcess::Found(started)), Some(_)) => {
            return container.map(|container| (Arc::from(container), started)).ok_or(None);
        }
        // It was being removed: its end was told, and not yet written down.
        (Ok(ClaimedProcess::Found(started)), None) => return Err(Some(started)),
        (Ok(ClaimedProcess::Failed(error)) | Err(error), _) => error.to_string(),
        (Ok(ClaimedProcess::Never), _) => "the keeper does not know it".into(),
        (Ok(ClaimedProcess::Lost), _) => "it has ended while there was no keeper".into(),
    };
    if record.main.started {
        tracing::warn!(container = id, why, "its main process is lost");
    }
    if let Some(container) = container
        && let Err(error) = container.delete().await
    {
        tracing::error!(container = id, %error, "the container could not be removed");
    }
    Err(None)
}

/// A further process, unless it has ended before.
async fn one(
    ground: &Ground<'_>,
    adopted: &mut Adopted,
    record: &ContainerRecord,
    process: &ProcessRecord,
) -> Option<Box<Started>> {
    let path = ground.state.report_of(record.template.id(), record.generation, process.number);
    if file::read::<Ended>(&path).is_ok() {
        return None;
    }
    let label = process.label.as_deref().unwrap_or_default().as_bytes();
    match adopted.process(record.template.id(), label, process.held.as_ref(), false).await {
        Ok(ClaimedProcess::Found(started)) => Some(started),
        other => {
            tracing::warn!(container = record.template.id(), number = %process.number, ?other, "a process of it is lost");
            None
        }
    }
}
