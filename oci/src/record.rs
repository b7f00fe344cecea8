//! What is written down of a container, for the commands that come after the one that has made it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use orangery_runtime::durable::Identity;
use orangery_runtime::{ContainerSpec, ProcessSpec};
use serde::{Deserialize, Serialize};

/// One container.
#[derive(Debug, Serialize, Deserialize)]
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
    /// Its first process; `None` while it is made.
    pub(crate) init: Option<Identity>,
    /// What it was made of.
    pub(crate) spec: ContainerSpec,
    /// Its command, of which a further process inherits what it does not say.
    pub(crate) process: ProcessSpec,
    /// Its user namespace, as it was made: `uid_map`, `gid_map`.
    pub(crate) ids: Option<(String, String)>,
}

impl Record {
    /// Changed whenever a record means something else than before: an unknown one is not read.
    pub(crate) const VERSION: u32 = 1;
}
