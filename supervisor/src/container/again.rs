//! The straight line of a container that another supervisor has begun: it goes on where that one was, at its main process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use orangery_io_stream::log::Recording;
use orangery_runtime::durable::{Beside, ClaimedLease};
use orangery_runtime::{Container, Started};
use tokio::sync::mpsc;

use super::exec::{self, Further};
use super::hooks;
use super::life::{self, Living, Policy, When, employ, give_birth, watch_process};
use super::probes;
use super::slot::ContainerSlot;
use super::state::Input;
use crate::command::Stdin;
use crate::faults::{Faults, Step};
use crate::ids::ProcessId;
use crate::probe::Care;
use crate::process::slot::{Slot, Terms};
use crate::recovery::{ContainerRecord, ProcessRecord, logs};
use crate::shard::Shards;

/// A container that was claimed.
pub(crate) struct Again {
    pub(crate) slot: Arc<ContainerSlot>,
    pub(crate) record: ContainerRecord,
    pub(crate) policy: Policy,
    pub(crate) container: Arc<dyn Container>,
    pub(crate) main: Box<Started>,
    pub(crate) further: Vec<(Box<Started>, ProcessRecord, Terms)>,
    /// What the keeper goes on with where a stop of them was begun.
    pub(crate) leases: HashMap<ProcessId, ClaimedLease>,
    /// Where it says that it is ready, and what the keeper has of that.
    pub(crate) ears: probes::Ears,
    pub(crate) beside: Vec<Beside>,
    /// The log of the main process.
    pub(crate) log: Option<logs::Opened>,
    /// Dropped when it is as if it had been started here.
    pub(crate) begun: mpsc::Sender<Infallible>,
}

/// See it through from here on; `ended` is told when nothing of it is left.
pub(crate) async fn live(again: Again, shards: Shards, faults: Faults, ended: impl FnOnce(&Arc<ContainerSlot>)) {
    let slot = Arc::clone(&again.slot);
    life::see_through(slot, go_on(again, shards, faults), ended).await;
}

async fn go_on(again: Again, shards: Shards, faults: Faults) -> Option<Living> {
    let Again { slot, record, mut policy, container, mut main, further, mut leases, ears, beside, log, begun: _begun } =
        again;
    beside.into_iter().for_each(|beside| slot.main.is_beside(beside));
    let parts = record.template.parts();
    let _ = slot.container.set(Arc::clone(&container));
    let _ = slot.create_us.set(record.create_us);
    // What its stub had used by then is next to nothing.
    let _ = slot.cpu_begin_ns.set(0);
    slot.detached.store(true, Ordering::Release);
    if let Some(name) = &record.notify {
        let _ = slot.notify.set(name.clone());
    }
    slot.settle_limits(&*container, &policy);
    slot.step(Input::Created);
    open_log_again(&slot.main, &record.main, log).await;
    let mut asked = None;
    if let Some(care) = policy.care.as_mut() {
        let known = (record.ready, record.notify.clone());
        match probes::prepare_again(&slot.main, Care::clone(care), &parts.process, known, ears) {
            Ok(mut prepared) => {
                if let Err(error) = prepared.open(&*container).await {
                    tracing::warn!(container = %slot.id, %error, "nobody hears what it says of itself");
                }
                if prepared.is_ready() {
                    care.readiness = None;
                }
                asked = Some(Box::new(prepared));
            }
            Err(error) => {
                // Where nobody reads, what holds it open would let it wait.
                slot.main.discard_beside();
                tracing::warn!(container = %slot.id, %error, "nobody asks any more how it is");
            }
        }
    }
    let when = then(&record.main, Some(record.create_us));
    go_on_ending(&slot, &slot.main, &record.main, &mut leases);
    let process = give_birth(&slot.main, &container, &mut main, when, &faults);
    feed_again(&slot.main, &parts.stdin);
    let actor = employ(&slot, &faults, &shards);
    slot.vitals_begin(policy.care.as_deref());
    if let Some(hook) = policy.hooks.pre_stop.clone() {
        hooks::before_stop(&slot, hook, faults.clone(), shards.clone());
    }
    slot.step(Input::Started);
    if record.paused {
        slot.step(Input::Paused);
    }
    for one in further {
        run_further(&slot, &container, one, &mut leases, (&faults, &shards)).await;
    }
    if let Some(kept) = &slot.lasting {
        kept.pass(Step::GoesOn);
    }
    if !record.main.started
        && let Some(kept) = &slot.lasting
        && let Err(error) = kept.write(&slot).await
    {
        // Its keeper knows of the start, which is why it is here; once that is gone as well, the record alone says so.
        tracing::error!(container = %slot.id, %error, "its start is not written down");
    }
    Some(Living { slot, container, started: *main, policy, asked, faults, shards, actor, main: process })
}

/// If its end is begun it goes on; before it is born.
fn go_on_ending(
    owner: &Arc<ContainerSlot>,
    slot: &Arc<Slot>,
    record: &ProcessRecord,
    leases: &mut HashMap<ProcessId, ClaimedLease>,
) {
    if let Some(kept) = &owner.lasting {
        kept.notes(owner, slot);
    }
    if let Some(begun) = record.begun.clone() {
        slot.begun_before(begun, leases.remove(&record.number));
    }
}

/// As it was, in the time of this supervisor.
fn then(record: &ProcessRecord, create_us: Option<u64>) -> When {
    let ran = Duration::from_nanos(orangery_runtime::native::now_ns().saturating_sub(record.at_ns));
    let now = tokio::time::Instant::now();
    When {
        at_ns: record.at_ns,
        began: now.checked_sub(ran).unwrap_or(now),
        wall_clock: SystemTime::UNIX_EPOCH + Duration::from_millis(record.started_ms),
        create_us,
        start_us: record.start_us,
        again: true,
    }
}

/// The log goes on where it stands. Without it the output goes into the hub: nobody waits for it, and it is said.
async fn open_log_again(slot: &Slot, record: &ProcessRecord, log: Option<logs::Opened>) {
    let opened = match log {
        Some(opened) => Ok(opened),
        None => {
            let record = record.clone();
            tokio::task::spawn_blocking(move || logs::open(&record)).await
        }
    };
    match (opened, record.began.parse()) {
        (Ok(Ok(log)), Ok(began)) => {
            let recording = Recording::again(log, began);
            let limit = *slot.may_write.borrow();
            slot.output.goes_into(match limit {
                Some(limit) => {
                    let taken: u64 =
                        orangery_io_stream::Source::ALL.map(|source| recording.totals(source).bytes).iter().sum();
                    recording.limited(limit.bytes.saturating_sub(taken))
                }
                None => recording,
            });
        }
        (Ok(Err(error)), _) => tracing::error!(container = %slot.id, %error, "its log cannot be gone on with"),
        _ => tracing::error!(container = %slot.id, "its log cannot be gone on with"),
    }
    if let Some(label) = &record.label {
        let _ = slot.label.set(label.clone());
    }
}

/// Its input, as it was asked for. Bytes that were known are in a file of its own (`recovery/input.rs`); what was to be typed
/// at a terminal by the supervisor before has gone with that.
fn feed_again(slot: &Arc<Slot>, stdin: &Stdin) {
    match stdin {
        Stdin::Kept => slot.keep_stdin.store(true, Ordering::Release),
        Stdin::Piped => {}
        Stdin::Null | Stdin::Bytes(_) => drop(slot.take_stdin()),
    }
}

/// A further process goes on as well.
async fn run_further(
    owner: &Arc<ContainerSlot>,
    container: &Arc<dyn Container>,
    (mut started, record, terms): (Box<Started>, ProcessRecord, Terms),
    leases: &mut HashMap<ProcessId, ClaimedLease>,
    (faults, shards): (&Faults, &Shards),
) {
    let slot = Slot::new(&owner.id, record.number, owner.ring_bytes, terms, owner.voice(), &owner.span);
    let slot = Arc::new(slot);
    open_log_again(&slot, &record, None).await;
    let group = started.group.take();
    go_on_ending(owner, &slot, &record, leases);
    let actor = give_birth(&slot, container, &mut started, then(&record, None), faults);
    // Whoever takes its input closes it.
    slot.keep_stdin.store(true, Ordering::Release);
    owner.processes.announce(&slot);
    let ended = watch_process((&slot, container), *started, owner.drain_grace, &actor, (faults, shards));
    let (owner, container, faults) = (Arc::clone(owner), Arc::clone(container), faults.clone());
    let kept = owner.lasting.clone();
    let further = Further { owner, slot, container, actor, group, permit: None, kept, faults };
    actix_rt::spawn(exec::see_through(further, ended));
}
