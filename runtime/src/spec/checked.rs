//! What a check has made of a spec: known to be possible here. Only `check.rs` makes them.

use super::filters::Compiled;
use super::landlock::Ruleset;
use super::mount::Seen;
use super::namespaces::Joined;
use super::{Caps, ContainerSpec, Ground, Limits, Network, ProcessSpec, UnmetLimit, UserNamespace, give};
use crate::plan::idmap::IdMap;
use crate::plan::wire::{NEWCGROUP, NEWIPC, NEWNET, NEWTIME, NEWUTS};

/// A container spec that is known to be possible here.
#[derive(Clone, Debug)]
pub struct CheckedSpec {
    pub(super) container: ContainerSpec,
    pub(super) main: CheckedProcess,
    pub(super) mounts: Vec<Seen>,
    pub(super) joined: Vec<Joined>,
    pub(super) joined_ids: Option<IdMap>,
    pub(super) resolv_conf: Option<String>,
    pub(super) limited: Limited,
}

/// What has become of the limits that were asked for.
#[derive(Clone, Debug)]
pub(crate) struct Limited {
    /// All of them.
    pub(super) asked: Limits,
    pub(super) ground: Ground,
    /// Those that do not hold.
    pub(super) unmet: Vec<UnmetLimit>,
}

/// A process spec that is known to be possible in its container.
#[derive(Clone, Debug)]
pub struct CheckedProcess {
    pub(super) spec: ProcessSpec,
    pub(super) ids: (u32, u32),
    pub(super) groups: Vec<u32>,
    pub(super) caps: Caps,
    pub(super) filter: Option<Compiled>,
    pub(super) labels: Vec<super::labels::Label>,
    pub(super) landlock: Option<Ruleset>,
    pub(super) mounts: Vec<Seen>,
}

impl CheckedSpec {
    /// What was asked for.
    #[must_use]
    pub fn container(&self) -> &ContainerSpec {
        &self.container
    }

    /// The main process.
    #[must_use]
    pub fn main(&self) -> &CheckedProcess {
        &self.main
    }

    /// The limits that do not hold, with what stands in their place.
    #[must_use]
    pub fn unmet(&self) -> &[UnmetLimit] {
        &self.limited.unmet
    }

    pub(crate) fn ground(&self) -> Ground {
        self.limited.ground
    }

    /// One more of its limits cannot be had; whether it was one of its.
    pub(crate) fn do_without(&mut self, field: &str, why: String) -> bool {
        let was = self.container.limits.clear(field);
        if was {
            let mut unmet = [self.limited.ground.unmet(field, why, &self.limited.asked)];
            give(&mut self.main.spec, &mut unmet);
            self.limited.unmet.extend(unmet);
        }
        was
    }

    /// The host name, given or derived from the id.
    #[must_use]
    pub fn hostname(&self) -> &str {
        self.container.hostname.as_deref().unwrap_or_else(|| truncated(&self.container.id))
    }

    /// The mounts that were given have been taken over.
    pub(crate) fn forget_mounts(&mut self) {
        self.container.root_mounts.clear();
    }

    /// What is left when the container has been made: what it is, without the content of files and the descriptors that
    /// went into it, and its main process.
    #[must_use]
    pub fn into_parts(self) -> (ContainerSpec, CheckedProcess) {
        let Self { mut container, main, .. } = self;
        container.files.clear();
        container.join.clear();
        (container, main)
    }

    /// Namespaces to join, at most one of each kind.
    #[must_use]
    pub fn joined(&self) -> &[Joined] {
        &self.joined
    }

    /// The one of this CLONE_NEW* kind that is joined.
    #[must_use]
    pub fn joined_of(&self, kind: u64) -> Option<&Joined> {
        self.joined.iter().find(|joined| joined.kind() == kind)
    }

    /// A namespace of this CLONE_NEW* kind is joined or shared: it is not new.
    #[must_use]
    pub fn joins(&self, kind: u64) -> bool {
        self.joined_of(kind).is_some() || self.shares(kind)
    }

    /// A namespace of this kind is that of whoever makes the container.
    #[must_use]
    pub fn shares(&self, kind: u64) -> bool {
        super::namespaces::shares(&self.container, kind)
    }

    /// Whoever sets the container up has rights over its namespace of this kind: it is new, or belongs to the container's
    /// user namespace or one below it.
    #[must_use]
    pub fn governs(&self, kind: u64) -> bool {
        let shared = !self.shares(kind) || self.container.user_namespace == UserNamespace::Host && kind != NEWCGROUP;
        shared && self.joined_of(kind).is_none_or(|joined| joined.governed)
    }

    /// The ids of the user namespace that is joined.
    #[must_use]
    pub fn joined_ids(&self) -> Option<&IdMap> {
        self.joined_ids.as_ref()
    }

    /// What /etc/resolv.conf says, where that is not left to the root file system.
    #[must_use]
    pub fn resolv_conf(&self) -> Option<&str> {
        self.resolv_conf.as_deref()
    }

    /// The network namespace is made for this container.
    #[must_use]
    pub fn own_network(&self) -> bool {
        self.container.network == Network::None && !self.joins(NEWNET)
    }

    /// Its time namespace is not the keeper's.
    #[must_use]
    pub fn own_time(&self) -> bool {
        self.container.time.is_some() || self.joined_of(NEWTIME).is_some()
    }

    /// Those of ipc, uts and cgroup that are the keeper's as well (CLONE_NEW*).
    #[must_use]
    pub fn common(&self) -> u64 {
        [NEWIPC, NEWUTS, NEWCGROUP].into_iter().filter(|kind| self.shares(*kind)).sum()
    }

    /// What was seen of the source of mount `index`.
    #[must_use]
    pub fn mount(&self, index: usize) -> Seen {
        self.mounts.get(index).copied().unwrap_or_default()
    }
}

impl CheckedProcess {
    /// What was asked for.
    #[must_use]
    pub fn spec(&self) -> &ProcessSpec {
        &self.spec
    }

    /// User and group id inside.
    #[must_use]
    pub fn ids(&self) -> (u32, u32) {
        self.ids
    }

    /// Supplementary groups inside.
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// What security modules are told of it.
    pub(crate) fn labels(&self) -> &[super::labels::Label] {
        &self.labels
    }

    /// What was seen of the source of its own mount `index`.
    #[must_use]
    pub fn mount(&self, index: usize) -> Seen {
        self.mounts.get(index).copied().unwrap_or_default()
    }

    /// All five sets.
    #[must_use]
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// The system call filter; `None`: unconfined.
    #[must_use]
    pub fn filter(&self) -> Option<&Compiled> {
        self.filter.as_ref()
    }

    /// What landlock is handed; `None`: nothing.
    pub(crate) fn landlock(&self) -> Option<&Ruleset> {
        self.landlock.as_ref().filter(|rules| !rules.is_empty())
    }

    /// Its filter is loaded while it still has the rights to: nothing forbids it new privileges, and so the kernel wants
    /// CAP_SYS_ADMIN. All that is done behind it must be allowed by it.
    #[must_use]
    pub fn filtered_early(&self) -> bool {
        const SYS_ADMIN: u64 = 1 << 21;
        self.filter.is_some() && self.spec.new_privileges && self.caps.effective.0 & SYS_ADMIN == 0
    }

    /// Its filter asks a listener.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.listens)
    }
}

fn truncated(id: &str) -> &str {
    id.get(..id.len().min(63)).unwrap_or("container")
}
