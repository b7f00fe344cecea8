//! What is written down of a group, at each change of its state and before its members hear of it, and how it is found.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dir::{StateDir, is_name};
use super::found::Found;
use crate::group::state::{Members, News};
use crate::ladder::StopLadder;
use crate::restart::{Budget, GiveUp};
use crate::service::state::ServiceState;

/// All that is needed to go on with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupRecord {
    /// Its name below those of the groups that it is in.
    pub(crate) path: String,
    pub(crate) name: String,
    /// What they are, what is wanted of them and in which order.
    pub(crate) table: Members,
    pub(crate) members: Vec<MemberRecord>,
    /// How they are stopped, as it was described.
    pub(crate) ladder: Option<StopLadder>,
    /// And as was asked for in the stop under way.
    pub(crate) asked: Vec<StopLadder>,
    /// It is a member of another one.
    pub(crate) held: bool,
    pub(crate) state: ServiceState,
    pub(crate) generation: u32,
    pub(crate) restarts: u64,
    pub(crate) give_up: Option<GiveUp>,
    pub(crate) error: Option<String>,
    /// The delay under way, and its end in milliseconds since 1970.
    pub(crate) delay: Option<(Duration, u64)>,
    /// Back-off, window and deaths, in a time of its own.
    pub(crate) budget: Budget,
    /// That time, when it was written down, in milliseconds since 1970.
    pub(crate) at_ms: u64,
    pub(crate) elapsed: Duration,
    /// Since when its incarnation was ready or begun, then.
    pub(crate) since: Duration,
}

/// One of its members.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberRecord {
    pub(crate) name: String,
    /// The id of the service, or the path of the group.
    pub(crate) id: String,
    pub(crate) is_group: bool,
    /// Incarnations before this one are late news.
    pub(crate) from: u32,
    /// The last news, and of which incarnation.
    pub(crate) heard: Option<(u32, News)>,
    /// The generation of the group that it was started in last, and whether that was its first start in it.
    pub(crate) started_in: (u32, bool),
}

impl StateDir {
    pub(super) fn group(&self, path: &str) -> PathBuf {
        self.groups().join(format!("{path}.json"))
    }

    /// Write down what it is now. Blocks for as long as a small file takes.
    pub(crate) fn write_group(&self, record: &GroupRecord) -> io::Result<()> {
        self.write(&self.group(&record.path), record)
    }

    /// It is over for good.
    pub(crate) fn remove_group(&self, path: &str) -> io::Result<bool> {
        self.remove(&self.group(path))
    }

    pub(super) fn find_groups(&self, found: &mut Found) {
        found.groups = found.records(self, &self.groups(), |record: &GroupRecord, name| {
            is_name(name) && record.path == name && record.is_whole()
        });
    }
}

impl GroupRecord {
    /// It was prepared, and nobody has started it.
    pub(super) fn is_unstarted(&self) -> bool {
        self.generation == 0 && self.state == ServiceState::Stopped
    }

    /// Everything in it is about as many members.
    fn is_whole(&self) -> bool {
        self.table.is_of(self.members.len())
    }
}
