//! What is written down of a service, at each change of its state, and how it is found.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dir::{StateDir, is_name};
use super::found::Found;
use crate::command::Template;
use crate::ladder::StopLadder;
use crate::restart::{Budget, GiveUp};
use crate::service::state::ServiceState;

/// All that is needed to go on with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServiceRecord {
    pub(crate) template: Template,
    pub(crate) state: ServiceState,
    pub(crate) generation: u32,
    pub(crate) restarts: u64,
    pub(crate) give_up: Option<GiveUp>,
    /// How it is to end, where it is being stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ladder: Option<StopLadder>,
    /// It is a member of a group, which starts it when its delay is over.
    #[serde(default)]
    pub(crate) held: bool,
    /// The delay under way, and its end in milliseconds since 1970.
    pub(crate) delay: Option<(Duration, u64)>,
    /// Back-off, window and deaths, in a time of its own.
    pub(crate) budget: Budget,
    /// That time, when it was written down, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) elapsed: Duration,
}

impl ServiceRecord {
    /// It was prepared, and nobody has started it.
    pub(super) fn is_unstarted(&self) -> bool {
        self.generation == 0 && self.state == ServiceState::Stopped
    }
}

impl StateDir {
    fn service(&self, id: &str) -> PathBuf {
        self.services().join(format!("{id}.json"))
    }

    /// Write down what it is now. Blocks for as long as a small file takes.
    pub(crate) fn write_service(&self, record: &ServiceRecord) -> io::Result<()> {
        self.write(&self.service(record.template.id()), record)
    }

    /// It is over for good.
    pub(crate) fn remove_service(&self, id: &str) -> io::Result<bool> {
        self.remove(&self.service(id))
    }

    /// All of them; what is no record is set aside.
    pub(super) fn find_services(&self, found: &mut Found) {
        found.services = found.records(self, &self.services(), |record: &ServiceRecord, name| {
            is_name(name) && record.template.id() == name
        });
    }
}
