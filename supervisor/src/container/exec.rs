//! The straight line of a further process: start, watch, drain, report. The container is there before and after it.

use std::sync::Arc;
use std::time::Instant;

use actix::Addr;
use orangery_io_stream::EndReason;
use orangery_runtime::native::OwnGroup;
use orangery_runtime::{Container, Exit};
use tracing::Instrument as _;

use super::ending;
use super::last_word::LastWord;
use super::life::{Never, When, give_birth, micros, open_log, watch_process};
use super::msg::{Exec, Executed};
use super::report;
use super::slot::ContainerSlot;
use super::unkillable;
use crate::admission::Permit;
use crate::faults::{Faults, Site};
use crate::process::actor::ProcessActor;
use crate::process::held;
use crate::process::slot::{CAPTURE_BUDGET, Slot, Terms, Untaken};
use crate::process::wall;
use crate::recovery::Kept;
use crate::report::Report;
use crate::shard::Shards;

/// Start another process in a running container and see it through.
pub(super) async fn exec(
    owner: Arc<ContainerSlot>,
    container: Arc<dyn Container>,
    message: Exec,
    faults: Faults,
    shards: Shards,
) {
    let Exec { mut spec, terms, capture, log, lasting, mut permit, mut reply } = message;
    owner.each.give(&mut spec);
    let terms = Terms { may_write: terms.may_write.or(*owner.main.may_write.borrow()), ..terms };
    let slot = Slot::new(&owner.id, owner.processes.number(), owner.ring_bytes, terms, owner.voice(), &owner.span);
    let slot = Arc::new(slot);
    let kept = owner.lasting.as_ref().filter(|_| lasting).map(Arc::clone);
    let log = log.or_else(|| kept.as_ref().map(|kept| kept.log_of(slot.number)));
    let for_record = kept.as_ref().zip(log.clone()).map(|(kept, log)| (Arc::clone(kept), log));
    let began = Instant::now();
    let start = async {
        open_log(&slot, log).await?;
        let captures = capture.then(|| slot.capture(CAPTURE_BUDGET));
        faults.pass_start(Site::Exec).await?;
        let spec = if kept.is_some() { held::hold(&slot, spec).await? } else { spec };
        Ok((container.exec(spec).await?, captures))
    };
    // In a box: what a start needs is not kept for as long as the process lives.
    let start = Box::pin(start.instrument(slot.span.clone()));
    let started = tokio::select! {
        started = start => started,
        () = reply.closed() => return,
    };
    let (mut started, captures) = match started {
        Ok(started) => started,
        Err(error) => {
            slot.output.take_log_back().await;
            slot.stillborn(&error);
            // Before the answer: who has it may try again at once.
            drop(permit);
            let _ = reply.send(Err(error));
            return;
        }
    };
    permit.made();
    let group = started.group.take();
    if let Some(kept) = &kept {
        kept.notes(&owner, &slot);
    }
    let actor = give_birth(&slot, &container, &mut started, When::now(None, micros(began)), &faults);
    let _told = LastWord::new(&owner, &slot);
    let ended = watch_process((&slot, &container), started, owner.drain_grace, &actor, (&faults, &shards));
    let untaken = Untaken::new(&slot);
    owner.processes.announce(&slot);
    let written = match for_record {
        Some((kept, log)) => kept.add(&owner, &slot, log).await,
        None => Ok(()),
    };
    // Where that failed nobody takes it: it is killed.
    let _ = reply.send(written.map(|()| Executed { slot: untaken, actor: actor.clone(), captures }));
    see_through(Further { owner, slot, container, actor, group, permit: Some(permit), kept, faults }, ended).await;
}

/// One that runs.
pub(super) struct Further {
    pub(super) owner: Arc<ContainerSlot>,
    pub(super) slot: Arc<Slot>,
    pub(super) container: Arc<dyn Container>,
    pub(super) actor: Addr<ProcessActor>,
    pub(super) group: Option<OwnGroup>,
    pub(super) permit: Option<Permit>,
    /// Where it outlives us.
    pub(super) kept: Option<Arc<Kept>>,
    pub(super) faults: Faults,
}

/// What it has begun to write when it is killed waits for no limit of its own. A few files of the kernel's, where it has such a limit.
async fn lift(slot: &Slot, group: Option<&OwnGroup>) {
    let Some(group) = group else { return };
    if slot.killed.subscribe().wait_for(|killed| *killed).await.is_ok() {
        group.lift_io();
    }
}

/// To its report.
pub(super) async fn see_through(further: Further, ended: impl Future<Output = (Exit, EndReason)>) {
    let Further { owner, slot, container, actor, group, permit, kept, faults } = further;
    let _listed = owner.processes.list(&slot);
    let limits = async {
        tokio::join!(wall::enforce(&slot), slot.enforce_output(), lift(&slot, group.as_ref()));
        std::future::pending::<Never>().await
    };
    let (exit, reason) = tokio::select! {
        ended = ended => ended,
        never = limits => match never {},
        () = unkillable::overdue(&owner, &slot) => ending::give_up(&slot, &actor),
    };
    // Counted by its own group, which is removed then: files of cgroupfs.
    let own = match group {
        Some(group) => {
            let (span, of, overdue) = (slot.span.clone(), Arc::clone(&owner), slot.is_overdue());
            let look = move || {
                // Who does not die, or dies with the container, may still be waiting for the device.
                let all_die = || overdue || of.main.ended() || *of.main.killed.borrow();
                if !all_die() {
                    group.limit_io_again();
                    if all_die() {
                        group.lift_io();
                    }
                }
                group.evidence()
            };
            tokio::task::spawn_blocking(move || span.in_scope(look)).await.ok()
        }
        None => None,
    };
    let instead = faults.pass_report(false).await;
    let unkillable = match slot.is_overdue() {
        true => Some(unkillable::look(&container, owner.patience).await),
        false => None,
    };
    let report = report::of_further(&owner, &slot, &exit, reason, own).instead(instead);
    let report = slot.conclude(Report { unkillable, ..report });
    if let Some(kept) = kept
        && kept.process_ended(&slot, &report).await
    {
        slot.settle().await;
    }
    drop(permit);
    slot.report.send_replace(Some(report));
}
