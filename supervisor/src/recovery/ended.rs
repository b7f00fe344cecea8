//! A container of which only its report and its log are left, as everybody sees it.

use std::sync::Arc;

use orangery_io_stream::log::{Log, Recording};
use orangery_io_stream::{Cursor, End, EndReason, Fate, Totals};
use orangery_runtime::{Evidence, Exit, ExitStatus as Status};

use super::dir::StateDir;
use super::file;
use super::record::{ContainerRecord, Ended};
use super::{Kept, REPORT};
use crate::container::report;
use crate::container::slot::{ContainerSlot, Keeping};
use crate::events::Voice;
use crate::process::slot::Terms;
use crate::report::{ExitStatus, Report, StreamTotals};

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

/// It was there, and nothing is left of it: how it has ended is known, or not, and that is its report from now on.
pub(crate) fn gone(
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
    let lost = Exit::new(Status::Lost, None, 0);
    // Its output was read to the end before anything of it was removed.
    let reason = if exit.is_some() { EndReason::Eof } else { EndReason::Abandoned };
    let report = report::of_main(&slot, exit.unwrap_or(&lost), &Evidence::default(), reason);
    let (pid, started_at_ms) = (record.main.pid, record.main.started_ms);
    let ran = exit.map_or(0, |exit| exit.at_ns.saturating_sub(record.main.at_ns) / 1_000_000);
    let report = Report { pid, started_at_ms, ended_at_ms: started_at_ms + ran, ..report };
    let ended = Ended::of(&slot.main, &report);
    file::write(&state.container(&slot.id).join(REPORT), &ended, state.sync())?;
    slot.over(report);
    Ok(ended)
}

fn bare(state: &Arc<StateDir>, record: &ContainerRecord, voice: &Voice, ended: bool) -> Arc<ContainerSlot> {
    let description = &record.template.sandbox().inner;
    let keeping = Keeping {
        terms: Terms::default(),
        ring_bytes: description.ring_bytes,
        drain_grace: description.drain_grace,
        watched: record.watched.clone(),
        backstopped: false,
        patience: std::time::Duration::ZERO,
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
