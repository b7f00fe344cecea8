//! What is written down of a container.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use orangery_io_stream::log::Recording;
use orangery_runtime::cgroup::Limits;
use orangery_runtime::durable;
use serde::{Deserialize, Serialize};

use crate::command::Template;
use crate::ids::ProcessId;
use crate::limit_update::Watched;
use crate::process::begun::Begun;
use crate::process::recording::LogTo;
use crate::process::slot::{Slot, Terms};
use crate::report::{Report, unix_ms};

/// All that is needed to have a container again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContainerRecord {
    /// What was asked for.
    pub(crate) template: Template,
    pub(crate) generation: u32,
    /// An incarnation of the service with its name.
    pub(crate) of_service: bool,
    /// How long it took to make, in microseconds.
    pub(crate) create_us: u64,
    /// As last updated.
    pub(crate) limits: Limits,
    /// As last updated.
    pub(crate) watched: Watched,
    pub(crate) properties: BTreeMap<String, String>,
    /// What the runtime needs to have it again.
    pub(crate) runtime: Option<durable::ContainerRecord>,
    pub(crate) paused: bool,
    /// It was ready once.
    pub(crate) ready: bool,
    /// The name of the socket that it speaks to.
    pub(crate) notify: Option<String>,
    /// The main process.
    pub(crate) main: ProcessRecord,
    /// Further ones, with what cannot be told from the container's description.
    pub(crate) further: Vec<(ProcessRecord, Terms)>,
    /// No number up to this one is given again.
    pub(crate) last_process: u32,
}

/// What is left of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ended {
    pub(crate) report: Report,
    /// Where its log begins and ends, as texts of cursors; `None`: it had none.
    pub(crate) log: Option<(PathBuf, String, String)>,
}

impl Ended {
    pub(crate) fn of(slot: &Slot, report: &Report) -> Self {
        let place = |log: &Recording| (log.dir().to_owned(), log.began().to_string(), log.cursor().to_string());
        Self { report: report.clone(), log: slot.output.log().map(place) }
    }
}

/// All that is needed to have a process again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessRecord {
    pub(crate) number: ProcessId,
    /// What the keeper knows it by; `None`: the runtime has none.
    pub(crate) label: Option<String>,
    /// Its start was answered. Before that it is known by its label alone, and what stands below is as it was expected to be.
    pub(crate) started: bool,
    pub(crate) held: Option<durable::ProcessRecord>,
    /// For display: it is known by other things.
    pub(crate) pid: i32,
    /// CLOCK_MONOTONIC in nanoseconds, of this boot.
    pub(crate) at_ns: u64,
    /// Milliseconds since 1970.
    pub(crate) started_ms: u64,
    pub(crate) start_us: u64,
    pub(crate) log: LogTo,
    /// Where in its log it began, as the text of a cursor.
    pub(crate) began: String,
    /// What is begun of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) begun: Option<Begun>,
}

impl ProcessRecord {
    /// `None`: it has no log.
    pub(crate) fn of(slot: &Slot, log: &LogTo) -> Option<Self> {
        let born = slot.born.get();
        Some(Self {
            number: slot.number,
            label: slot.label.get().cloned(),
            started: born.is_some(),
            held: slot.held.get().map(|held| held.record.clone()),
            pid: born.map_or(0, |born| born.pid),
            at_ns: born.map_or_else(orangery_runtime::native::now_ns, |born| born.at_ns),
            started_ms: unix_ms(born.map_or_else(SystemTime::now, |born| born.wall_clock)),
            start_us: born.map_or(0, |born| born.start_us),
            log: log.clone(),
            began: slot.output.log()?.began().to_string(),
            begun: slot.begun(),
        })
    }
}
