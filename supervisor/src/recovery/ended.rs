//! A container of which only its report and its log are left, as everybody sees it.

use std::sync::Arc;
use std::time::Duration;

use orangery_io_stream::log::{Log, Recording};
use orangery_io_stream::{Cursor, End, EndReason, Fate, Totals};
use orangery_runtime::{Evidence, Exit, ExitStatus as Status};

use super::adopt::Gone;
use super::dir::StateDir;
use super::record::{ContainerRecord, Ended};
use super::{Kept, REPORT};
use crate::container::report;
use crate::container::slot::{ContainerSlot, Keeping};
use crate::error::Error;
use crate::events::Voice;
use crate::ladder::KILL;
use crate::process::slot::Terms;
use crate::report::{ExitStatus, Report, StreamTotals};

/// An end that the keeper knows is told within this time.
const TELLS: Duration = Duration::from_secs(10);

/// What everybody shares of it.
pub(crate) fn slot(state: &Arc<StateDir>, record: &ContainerRecord, ended: Ended, voice: &Voice) -> Arc<ContainerSlot> {
    let slot = bare(state, record, voice, true);
    let Ended { report, log } = ended;
    if let Some((dir, began, until)) = log
        && let (Ok(began), Ok(until)) = (began.parse(), until.parse())
    {
        slot.main.output.goes_into(Recording::ended(dir, began, until, end(&report)));
    }
    slot.over(report);
    slot
}

/// It was there, and nothing is left of it but what the keeper may know of its end: its report from now on, and whether that says
/// how it has ended.
///
/// # Errors
/// The report cannot be written.
pub(crate) async fn account(
    state: &Arc<StateDir>,
    gone: Gone,
    voice: &Voice,
) -> Result<(Arc<ContainerSlot>, bool), Error> {
    let Gone { mut record, main } = gone;
    let (mut exit, mut held) = (None, None);
    if let Some(main) = main {
        record.main.pid = main.pid;
        exit = tokio::time::timeout(TELLS, main.exit).await.ok().and_then(Result::ok);
        held = main.held;
    }
    let ended = write_down(state, &record, exit.as_ref(), voice).map_err(|error| {
        let what = format!("cannot write the report of {}", record.template.id());
        orangery_runtime::Error::system(what, error).with_field("durable")
    })?;
    if let Some(held) = held {
        held.settle();
    }
    Ok((slot(state, &record, ended, voice), exit.is_some()))
}

fn write_down(
    state: &Arc<StateDir>,
    record: &ContainerRecord,
    exit: Option<&Exit>,
    voice: &Voice,
) -> std::io::Result<Ended> {
    let slot = bare(state, record, voice, false);
    let log = &record.main.log;
    if let (Ok(began), Ok(opened)) = (record.main.began.parse::<Cursor>(), Log::open(&log.dir, log.options)) {
        slot.main.output.goes_into(Recording::again(opened, began));
    }
    if let Some((begun, exit)) = record.main.begun.clone().zip(exit) {
        slot.main.begun_before(begun, None);
        if matches!(exit.status, Status::Signal { signal: KILL, .. }) {
            slot.main.escalated();
        }
    }
    let lost = Exit::new(Status::Lost, None, 0);
    // Its output was read to the end before anything of it was removed.
    let reason = if exit.is_some() { EndReason::Eof } else { EndReason::Abandoned };
    let report = report::of_main(&slot, exit.unwrap_or(&lost), &Evidence::default(), reason);
    let (pid, started_at_ms) = (record.main.pid, record.main.started_ms);
    let ran = exit.map_or(0, |exit| exit.at_ns.saturating_sub(record.main.at_ns) / 1_000_000);
    let report = Report { pid, started_at_ms, ended_at_ms: started_at_ms + ran, ..report };
    let ended = Ended::of(&slot.main, &report);
    state.write(&state.container(&slot.id).join(REPORT), &ended)?;
    slot.over(report);
    Ok(ended)
}

fn bare(state: &Arc<StateDir>, record: &ContainerRecord, voice: &Voice, ended: bool) -> Arc<ContainerSlot> {
    let description = &record.template.sandbox().inner;
    let keeping = Keeping {
        terms: Terms::default(),
        ring_bytes: description.ring_bytes,
        drain_grace: description.drain_grace,
        each: description.each.clone(),
        watched: record.watched.clone(),
        backstopped: false,
        patience: Duration::ZERO,
        lasting: Some(Arc::new(Kept::found(state, record, ended))),
    };
    let birth = (record.generation, Arc::default());
    let (labels, limits) = (description.labels.clone(), record.limits.clone());
    let slot = ContainerSlot::new(record.template.id(), labels, limits, keeping, voice, birth);
    slot.properties().restore(record.properties.clone());
    Arc::new(slot)
}

/// What its readers are told last.
fn end(report: &Report) -> End {
    let totals = |of: &StreamTotals| Totals {
        bytes: of.bytes.known().copied().unwrap_or_default(),
        dropped: of.lost,
        over_limit: of.suppressed,
        ..Totals::default()
    };
    let fate = match report.exit {
        ExitStatus::Code(code) => Fate::Code(code),
        ExitStatus::Signal { signal, core_dumped } => Fate::Signal { signal, core_dumped },
        ExitStatus::Lost => Fate::Unknown,
    };
    let reason = match report.exit {
        _ if report.leaked_writers => EndReason::Leaked,
        ExitStatus::Lost => EndReason::Abandoned,
        _ => EndReason::Eof,
    };
    End { stdout: totals(&report.stdout), stderr: totals(&report.stderr), reason, fate }
}
