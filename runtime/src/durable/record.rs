//! What has to be written down about a container and a process. Versioned values; what is in them is nobody else's business.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::identity::Identity;
use crate::cgroup::OomEvidence;
use crate::error::{Error, ErrorKind};
use crate::native::helper::HelperRecord;
use crate::network::pasta::WiredRecord;
use crate::plan::idmap::{IdMap, Ids};
use crate::plan::process::Joining;
use crate::rootfs::RootWay;
use crate::spec::{Disk, Enforcement, Ground, UnmetLimit};

/// All that is needed to own a container again. Taken from [`Container::record`](crate::Container::record), given to
/// [`Adopted::container`](super::Adopted::container).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub(crate) version: u32,
    pub(crate) id: String,
    /// Its pid 1.
    pub(crate) init: Identity,
    /// The request that has made it.
    pub(crate) request: u64,
    pub(crate) main_ids: (u32, u32),
    pub(crate) shares_pids: bool,
    pub(crate) own_network: bool,
    pub(crate) joining: JoiningRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) range: Option<RangeRecord>,
    /// The directories of its cgroup; none without one.
    #[serde(default)]
    pub(crate) cgroups: Vec<PathBuf>,
    /// The counters at its birth.
    pub(crate) before: OomEvidence,
    pub(crate) first: FirstRecord,
    pub(crate) paused: PausedRecord,
    /// What becomes of a limit that cannot be had.
    #[serde(default)]
    pub(crate) enforcement: Enforcement,
    /// The limits that do not hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unmet: Vec<UnmetLimit>,
    /// What could stand in the place of one.
    #[serde(default)]
    pub(crate) ground: Ground,
    /// What its providers want to find again; `None`: it has no such provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<Found>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rootfs: Option<Found>,
    /// How its root is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) root_way: Option<RootWay>,
    /// What serves its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) serving: Option<HelperRecord>,
}

/// What a provider said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) state: Option<String>,
    /// The provider is ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pasta: Option<WiredRecord>,
    /// What keeps the network going.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) helper: Option<HelperRecord>,
}

/// What its first process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FirstRecord {
    /// The stub, and the command is a further process.
    Stub,
    /// The stub, and there is no command.
    Idle,
    /// The command, behind the start gate or past it.
    Command,
}

/// How it is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PausedRecord {
    No,
    Frozen,
    /// These had been stopped before, by somebody else.
    Stopped(Vec<(i32, u64)>),
}

/// Its range of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RangeRecord {
    pub(crate) base: (u32, u32),
    pub(crate) shared: bool,
}

/// [`Joining`] as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JoiningRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<IdsRecord>,
    own_network: bool,
    #[serde(default)]
    own_time: bool,
    #[serde(default)]
    common: u64,
    cgroup: bool,
    governs_cgroups: bool,
    tasks: u16,
    disk: Disk,
    console: bool,
}

/// [`IdMap`] as it is written: the lines of the kernel's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdsRecord {
    uid: String,
    gid: String,
    deny_setgroups: bool,
}

impl ContainerRecord {
    /// The version of what is written now. One of another version is refused.
    pub const VERSION: u32 = 1;

    /// [`ContainerSpec::id`](crate::ContainerSpec::id).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// It was in this boot of the machine: otherwise nothing of it is left.
    #[must_use]
    pub fn is_of_this_boot(&self) -> bool {
        self.init.is_of_this_boot()
    }

    /// It can be understood.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for another version, [`ErrorKind::Invalid`] for what no container has; both name the field.
    pub fn check(&self) -> Result<(), Error> {
        if self.version != Self::VERSION {
            let what = format!("a record of version {}; this one reads {}", self.version, Self::VERSION);
            return Err(Error::new(ErrorKind::Unsupported, what).with_field("version"));
        }
        if let Some(ids) = &self.joining.ids
            && (Ids::parse(&ids.uid).is_none() || Ids::parse(&ids.gid).is_none())
        {
            return Err(Error::invalid("joining.ids", "no map of ids"));
        }
        Ok(())
    }
}

impl JoiningRecord {
    pub(crate) fn of(joining: &Joining) -> Self {
        let Joining { ids, own_network, own_time, common, cgroup, governs_cgroups, tasks, trees: _, disk, console } =
            joining;
        Self {
            ids: ids.as_ref().map(IdsRecord::of),
            own_network: *own_network,
            own_time: *own_time,
            common: *common,
            cgroup: *cgroup,
            governs_cgroups: *governs_cgroups,
            tasks: *tasks,
            disk: *disk,
            console: *console,
        }
    }

    /// Of a record that was [checked](ContainerRecord::check).
    pub(crate) fn joining(&self) -> Joining {
        Joining {
            ids: self.ids.as_ref().and_then(IdsRecord::map),
            own_network: self.own_network,
            own_time: self.own_time,
            common: self.common,
            cgroup: self.cgroup,
            governs_cgroups: self.governs_cgroups,
            tasks: self.tasks,
            trees: Vec::new(),
            disk: self.disk,
            console: self.console,
        }
    }
}

impl IdsRecord {
    fn of(map: &IdMap) -> Self {
        Self { uid: map.uid.text(), gid: map.gid.text(), deny_setgroups: map.deny_setgroups }
    }

    fn map(&self) -> Option<IdMap> {
        let (uid, gid) = (Ids::parse(&self.uid)?, Ids::parse(&self.gid)?);
        Some(IdMap { uid, gid, deny_setgroups: self.deny_setgroups })
    }
}

/// What is needed to own a process again where the keeper cannot tell. From [`Holds::record`](super::Holds::record), for
/// [`Adopted::process`](super::Adopted::process).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRecord {
    pub(crate) version: u32,
    pub(crate) process: Identity,
    /// The request that has started it.
    pub(crate) request: u64,
    /// The group that carries its own limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<GroupRecord>,
}

/// The group that carries the limits of one process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    pub(crate) name: String,
    pub(crate) before: OomEvidence,
}

impl ProcessRecord {
    /// The version of what is written now. One of another version is refused.
    pub const VERSION: u32 = 1;

    /// Which process it is.
    #[must_use]
    pub fn process(&self) -> &Identity {
        &self.process
    }

    /// It can be understood.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for another version.
    pub fn check(&self) -> Result<(), Error> {
        if self.version == Self::VERSION {
            return Ok(());
        }
        let what = format!("a record of version {}; this one reads {}", self.version, Self::VERSION);
        Err(Error::new(ErrorKind::Unsupported, what).with_field("version"))
    }
}
