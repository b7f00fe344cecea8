//! What is written down of a container, for the commands that come after the one that has made it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::failure::Failure;
use crate::systemd::Owner;
use orangery_runtime::cgroup::GroupIdentity;
use orangery_runtime::durable::Identity;
use orangery_runtime::plan::idmap::{IdMap, Ids};
use orangery_runtime::{ContainerSpec, ProcessSpec};
use serde::{Deserialize, Serialize};

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// [`Record::VERSION`] of whoever has written it.
    pub(crate) version: u32,
    /// What the bundle says.
    pub(crate) oci_version: String,
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) annotations: BTreeMap<String, String>,
    /// RFC 3339.
    pub(crate) created: String,
    /// The user who has made it.
    pub(crate) owner: u32,
    /// Its cgroup, from the top of each hierarchy; `None`: it has none of its own.
    pub(crate) cgroup: Option<PathBuf>,
    /// Whose unit that is, where systemd has made it.
    #[serde(default)]
    pub(crate) systemd: Option<Owner>,
    /// How far it has come.
    #[serde(skip)]
    pub(crate) progress: Progress,
    /// What it was made of.
    pub(crate) spec: ContainerSpec,
    /// Its command, of which a further process inherits what it does not say.
    pub(crate) process: ProcessSpec,
}

/// What of a container is known one after the other while it is made. Each time it stands as one more line behind the record, the
/// last of which counts: the record is long, and to replace it each time would be most of what it costs to write it down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Which directories its cgroup is, one in each hierarchy: another container may have the path by now.
    pub(crate) groups: Vec<GroupIdentity>,
    /// Its first process; `None` before there is one.
    pub(crate) init: Option<Identity>,
    /// Its user namespace, as it was made.
    pub(crate) ids: Option<Maps>,
    /// Groups of resctrl that were made for it, inner ones first.
    #[serde(default)]
    pub(crate) shares: Vec<PathBuf>,
    /// It is being made, or whoever made it was killed.
    pub(crate) unfinished: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self { groups: Vec::new(), init: None, ids: None, shares: Vec::new(), unfinished: true }
    }
}

/// A user namespace as its files in /proc say it: `uid_map`, `gid_map`, and whether `setgroups` is denied.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Maps {
    uid: String,
    gid: String,
    deny_setgroups: bool,
}

impl Maps {
    pub(crate) fn of(ids: &IdMap) -> Maps {
        Maps { uid: ids.uid.text(), gid: ids.gid.text(), deny_setgroups: ids.deny_setgroups }
    }
}

impl Progress {
    /// As it is written down: one line.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn line(&self) -> Result<Vec<u8>, Failure> {
        line(self)
    }
}

/// JSON has no newlines of its own.
fn line(what: &impl Serialize) -> Result<Vec<u8>, Failure> {
    let text = serde_json::to_vec(what).map_err(|error| Failure::new(format!("cannot write it down: {error}")));
    text.map(|mut text| {
        text.push(b'\n');
        text
    })
}

/// What a further process inherits of the container's own command.
pub(crate) fn command(own: &ProcessSpec) -> ProcessSpec {
    let mut process = own.clone();
    process.tty = None;
    process
}

impl Record {
    /// Changed whenever a record means something else than before: an unknown one is not read.
    pub(crate) const VERSION: u32 = 2;

    /// As it is written down: one line.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn line(&self) -> Result<Vec<u8>, Failure> {
        line(self)
    }

    /// What is written down: the record, and the lines behind it. One that was cut short, by who was killed while he wrote it or who
    /// has not come to its end yet, is not there.
    ///
    /// # Errors
    /// Why it is no record.
    pub(crate) fn parse(text: &[u8]) -> Result<Record, String> {
        let told = |error: serde_json::Error| error.to_string();
        let mut lines = text.split_inclusive(|byte| *byte == b'\n');
        let mut record: Record = serde_json::from_slice(lines.next().unwrap_or_default()).map_err(told)?;
        if record.version != Self::VERSION {
            return Err(format!("version {}", record.version));
        }
        if let Some(last) = lines.rfind(|line| line.ends_with(b"\n")) {
            record.progress = serde_json::from_slice(last).map_err(told)?;
        }
        Ok(record)
    }

    /// Its ids, where it has its own.
    ///
    /// # Errors
    /// What is written down is no map.
    pub(crate) fn ids(&self) -> Result<Option<IdMap>, Failure> {
        let Some(Maps { uid, gid, deny_setgroups }) = &self.progress.ids else { return Ok(None) };
        match Ids::parse(uid).zip(Ids::parse(gid)) {
            Some((uid, gid)) => Ok(Some(IdMap { uid, gid, deny_setgroups: *deny_setgroups })),
            None => Err(Failure::new("the id maps that are written down of it are none")),
        }
    }
}
