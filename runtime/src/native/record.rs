//! What a container tells the next supervisor about itself.

use super::container::{Core, Paused};
use super::stop::Stopped;
use crate::cgroup::Group;
use crate::durable::{ContainerRecord, Identity, JoiningRecord, PausedRecord, RangeRecord};

impl Core {
    /// `None` when its first process is gone, and known to be.
    pub(super) fn record(&self) -> Option<ContainerRecord> {
        let init = self.rests.init().ok()?;
        let paused = match &*self.paused() {
            Paused::No => PausedRecord::No,
            Paused::Frozen => PausedRecord::Frozen,
            Paused::Stopped(before) => PausedRecord::Stopped(before.keys()),
        };
        let range = self.rests.range().map(|base| RangeRecord { base, shared: self.shared_range });
        Some(ContainerRecord {
            version: ContainerRecord::VERSION,
            id: self.id().to_owned(),
            init: Identity::of(&init, self.init_pid(), self.inner.without.pidfs),
            request: self.request,
            main_ids: self.main_ids(),
            shares_pids: self.shares_pids,
            own_network: self.own_network,
            joining: JoiningRecord::of(self.joining()),
            range,
            cgroups: self.group().map(Group::paths).unwrap_or_default(),
            before: self.before.clone(),
            first: self.first,
            paused,
            enforcement: self.enforcement(),
            unmet: self.unmet(),
            ground: self.ground,
            network: self.rests.network.as_ref().map(|network| network.record()),
            rootfs: self.rests.root.as_ref().map(|root| root.record()),
            root_way: self.root_way.clone(),
            serving: self.rests.serving.as_ref().and_then(|serving| serving.record()),
        })
    }
}

/// How it was held, and how its group is now: a lease may have let it go meanwhile.
pub(super) fn paused(record: &PausedRecord, group: Option<&Group>) -> Paused {
    match record {
        _ if group.is_some_and(Group::is_frozen) => Paused::Frozen,
        PausedRecord::Stopped(before) => Paused::Stopped(Stopped::of(before)),
        PausedRecord::No | PausedRecord::Frozen => Paused::No,
    }
}
