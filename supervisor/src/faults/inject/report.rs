//! What has become of a plan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::decide::Whom;
use crate::events::{FaultNews, Kind, Voice};
use crate::faults::plan::{FaultKind, Plan, PlannedFault};
use crate::report::unix_ms;

/// What has become of a plan: everything in the order in which it was done.
///
/// ```
/// # async fn f(injection: orangery::faults::Injection) {
/// let report = injection.end().await;
/// println!("{}", serde_json::to_string_pretty(&report).unwrap());
/// assert!(report.left().is_empty());
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FaultReport {
    /// Version of this schema: 1.
    pub schema: u32,
    /// The plan, with its seed.
    pub plan: Plan,
    /// What was done.
    pub entries: Vec<FaultEntry>,
}

/// One line of a [`FaultReport`], and of the feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FaultEntry {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// When, by CLOCK_MONOTONIC in nanoseconds, as in events.
    pub mono_ns: u64,
    /// The fault's name.
    pub fault: String,
    /// What was done about it.
    pub step: FaultStep,
    /// The container that it has hit, or would have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The incarnation of that container; 0 where there is none.
    #[serde(default)]
    pub generation: u32,
    /// Why it was reverted or skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What is done about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultStep {
    /// It is part of a plan that is armed.
    Planned,
    /// It is so.
    Applied,
    /// It is no longer so.
    Reverted,
    /// It does not happen.
    Skipped,
    /// It could not be reverted.
    Left,
}

impl FaultReport {
    /// Of this fault, or of all, what was done in this way.
    pub fn of<'a>(&'a self, fault: &'a str, step: FaultStep) -> impl Iterator<Item = &'a FaultEntry> {
        self.entries.iter().filter(move |entry| entry.fault == fault && entry.step == step)
    }

    /// The audit: faults that last and were not reverted, with the containers that they have hit. Empty after a plan has
    /// ended as it should.
    #[must_use]
    pub fn left(&self) -> Vec<&FaultEntry> {
        let mut open: BTreeMap<(&str, Option<&str>, u32), Vec<&FaultEntry>> = BTreeMap::new();
        for entry in &self.entries {
            let of = (entry.fault.as_str(), entry.container.as_deref(), entry.generation);
            match entry.step {
                FaultStep::Applied if self.lasts(&entry.fault) => open.entry(of).or_default().push(entry),
                FaultStep::Reverted => drop(open.entry(of).or_default().pop()),
                _ => {}
            }
        }
        open.into_values().flatten().collect()
    }

    fn lasts(&self, fault: &str) -> bool {
        self.plan.faults.iter().any(|planned| planned.name == fault && planned.kind.lasts())
    }

    /// One line for whoever wants the same decisions again.
    #[must_use]
    pub fn again(&self) -> String {
        self.plan.again()
    }
}

/// Where it is written down: on one thread, so that the report and the feed have one order.
#[derive(Clone)]
pub(super) struct Ledger {
    plan: Arc<Plan>,
    voice: Voice,
    entries: Arc<watch::Sender<Vec<FaultEntry>>>,
}

impl Ledger {
    pub(super) fn new(plan: Arc<Plan>, voice: Voice) -> Self {
        Self { plan, voice, entries: Arc::default() }
    }

    pub(super) fn planned(&self, index: usize) -> &PlannedFault {
        &self.plan.faults[index]
    }

    pub(super) fn kind(&self, index: usize) -> &FaultKind {
        &self.planned(index).kind
    }

    /// This was done.
    pub(super) fn note(&self, index: usize, step: FaultStep, whom: Option<&Whom>, why: Option<String>) {
        let planned = self.planned(index);
        let news = FaultNews { fault: planned.name.clone(), what: planned.kind.name().to_owned(), why: why.clone() };
        let voice = whom.map(|whom| self.voice.of(&whom.key.0, &whom.labels, whom.key.1));
        let kind = match step {
            FaultStep::Planned => Kind::FaultPlanned(news),
            FaultStep::Applied => Kind::FaultApplied(news),
            FaultStep::Reverted => Kind::FaultReverted(news),
            FaultStep::Skipped => Kind::FaultSkipped(news),
            FaultStep::Left => Kind::FaultLeft(news),
        };
        voice.as_ref().unwrap_or(&self.voice).tell(None, kind, None);
        let entry = FaultEntry {
            at_ms: unix_ms(SystemTime::now()),
            mono_ns: orangery_runtime::native::now_ns(),
            fault: planned.name.clone(),
            step,
            container: whom.map(|whom| whom.key.0.to_string()),
            generation: whom.map_or(0, |whom| whom.key.1),
            why,
        };
        self.entries.send_modify(|entries| entries.push(entry));
    }

    pub(super) fn report(&self) -> FaultReport {
        FaultReport { schema: 1, plan: Plan::clone(&self.plan), entries: self.entries.borrow().clone() }
    }

    pub(super) fn entries(&self) -> watch::Receiver<Vec<FaultEntry>> {
        self.entries.subscribe()
    }
}
