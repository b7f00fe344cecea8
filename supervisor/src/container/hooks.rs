//! The commands that go with a stop: further processes of the container, each with a deadline. What becomes of them holds
//! up nothing for longer.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::exec::exec;
use super::life::later;
use super::msg::{Exec, Executed};
use super::slot::ContainerSlot;
use crate::admission::{Cost, admit};
use crate::error::Error;
use crate::events::Kind;
use crate::faults::Faults;
use crate::hook::{HookKind, HookOutcome, ReadyHook};
use crate::ids::ProcessRole;
use crate::process::prepare::Before;
use crate::process::slot::Terms;
use crate::report::ExitStatus;
use crate::shard::Shards;

/// Have it run before the first signal of a stop of the main process.
pub(super) fn before_stop(owner: &Arc<ContainerSlot>, hook: ReadyHook, faults: Faults, shards: Shards) {
    let (deadline, owner_of) = (hook.deadline, Arc::downgrade(owner));
    let begin = move |done: oneshot::Sender<HookOutcome>| {
        let Some(owner) = Weak::upgrade(&owner_of) else { return };
        let (hook, faults, shards, span) = (hook.clone(), faults.clone(), shards.clone(), owner.span.clone());
        // Not in the actor's context: a panic of another handler must not end it.
        let run = async move {
            let outcome = run(&owner, hook, HookKind::PreStop, (&faults, &shards)).await;
            let _ = done.send(outcome);
        };
        actix_rt::spawn(run.instrument(span));
    };
    let _ = owner.main.before.set(Before { deadline, begin: Box::new(begin) });
}

/// Run it after the end of the main process, where it can still be.
pub(super) async fn after_stop(
    owner: &Arc<ContainerSlot>,
    mut hook: ReadyHook,
    exit: ExitStatus,
    through: (&Faults, &Shards),
) -> HookOutcome {
    if *owner.main.killed.borrow() {
        owner.tell_hook(HookKind::PostStop, &HookOutcome::Skipped);
        return HookOutcome::Skipped;
    }
    match exit {
        ExitStatus::Code(code) => hook.spec.env.push(("ORANGERY_EXIT_CODE".into(), code.to_string().into())),
        ExitStatus::Signal { signal, .. } => {
            hook.spec.env.push(("ORANGERY_EXIT_SIGNAL".into(), signal.to_string().into()));
        }
        ExitStatus::Lost => {}
    }
    run(owner, hook, HookKind::PostStop, through).await
}

async fn run(owner: &Arc<ContainerSlot>, hook: ReadyHook, kind: HookKind, through: (&Faults, &Shards)) -> HookOutcome {
    let began = Instant::now();
    let outcome = match timeout(hook.deadline, to_its_end(owner, &hook, through)).await {
        Ok(Ok(exit)) => HookOutcome::Ended { exit, took_us: super::life::micros(began) },
        Ok(Err(error)) => HookOutcome::NotStarted { why: error.to_string() },
        Err(_) => HookOutcome::TimedOut { after_ms: milliseconds(hook.deadline) },
    };
    if !outcome.success() {
        tracing::warn!(container = %owner.id, ?kind, ?outcome, "a hook has not succeeded");
    }
    owner.tell_hook(kind, &outcome);
    outcome
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Dropped, it undoes the start or kills what was started.
async fn to_its_end(
    owner: &Arc<ContainerSlot>,
    hook: &ReadyHook,
    (faults, shards): (&Faults, &Shards),
) -> Result<ExitStatus, Error> {
    let container = owner.container.get().cloned().ok_or_else(Error::lost_request)?;
    let door = owner.door.get().ok_or_else(Error::lost_request)?;
    // Its room is its container's; it waits for its turn, until its deadline.
    let permit = admit(door, Cost::of_probe(), Some(hook.deadline), |task| {
        actix_rt::spawn(task);
        true
    })
    .await?;
    let (reply, answer) = oneshot::channel();
    let (spec, terms) = (hook.spec.clone(), Terms { role: ProcessRole::Hook, ..Terms::default() });
    let message = Exec { spec, terms, capture: false, log: None, lasting: false, permit, reply };
    actix_rt::spawn(exec(Arc::clone(owner), container, message, faults.clone(), shards.clone()));
    let Executed { slot, .. } = answer.await.map_err(|_| Error::lost_request())??;
    // Nobody answers what its filter asks.
    let exit = slot.get().map(|slot| {
        drop(slot.take_listener());
        slot.exit.subscribe()
    });
    let exit = later(exit.ok_or_else(Error::lost_request)?).await?;
    drop(slot.take());
    Ok(exit.status.into())
}

impl ContainerSlot {
    fn tell_hook(&self, hook: HookKind, outcome: &HookOutcome) {
        self.voice.tell(None, Kind::HookEnded { hook, outcome: outcome.clone() }, None);
    }
}
