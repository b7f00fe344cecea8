//! What is written down of a container, for the commands that come after the one that has made it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::failure::Failure;
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
    /// Which directories that was, one in each hierarchy: another container may have the path by now.
    #[serde(default)]
    pub(crate) groups: Vec<GroupIdentity>,
    /// Its first process; `None` before there is one.
    pub(crate) init: Option<Identity>,
    /// It is being made, or whoever made it was killed.
    #[serde(default)]
    pub(crate) unfinished: bool,
    /// What it was made of.
    pub(crate) spec: ContainerSpec,
    /// Its command, of which a further process inherits what it does not say.
    pub(crate) process: ProcessSpec,
    /// Its user namespace, as it was made.
    pub(crate) ids: Option<Maps>,
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

/// What a further process inherits of the container's own command.
pub(crate) fn command(own: &ProcessSpec) -> ProcessSpec {
    let mut process = own.clone();
    process.tty = None;
    process
}

impl Record {
    /// Changed whenever a record means something else than before: an unknown one is not read.
    pub(crate) const VERSION: u32 = 1;

    /// Its ids, where it has its own.
    ///
    /// # Errors
    /// What is written down is no map.
    pub(crate) fn ids(&self) -> Result<Option<IdMap>, Failure> {
        let Some(Maps { uid, gid, deny_setgroups }) = &self.ids else { return Ok(None) };
        match Ids::parse(uid).zip(Ids::parse(gid)) {
            Some((uid, gid)) => Ok(Some(IdMap { uid, gid, deny_setgroups: *deny_setgroups })),
            None => Err(Failure::new("the id maps that are written down of it are none")),
        }
    }
}
