//! The limits of a container as they are: those that hold, and those that were asked for and do not.

use std::sync::PoisonError;
use std::time::Duration;

use orangery_runtime::Container;
use orangery_runtime::cgroup::{IoMax, IoWeight, Limits, Other, Source};
use orangery_runtime::spec::{Resource, Rlimit, UnmetLimit};

use super::life::Policy;
use super::slot::ContainerSlot;
use crate::events::Kind;

const APART: &str = "of the main process and what it starts, each apart";
const WATCHED: &str = "of the main process and what it starts, each apart; of all together what its living processes and the children that they have \
                        waited for have used is looked up in /proc";

impl ContainerSlot {
    /// Those that were asked for and do not hold.
    pub(crate) fn unmet(&self) -> Vec<UnmetLimit> {
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What its making has come to; nobody has heard of it yet. May read files of the kernel's.
    pub(super) fn settle_limits(&self, container: &dyn Container, policy: &Policy) {
        let mut unmet = container.unmet();
        self.limited.send_modify(|limits| without(limits, &unmet));
        unmet.extend(policy.watched.cpu_time.and_then(|limit| cpu_time(container, limit, policy.backstopped)));
        self.keep_unmet(unmet, &Limits::default());
    }

    /// Told when it is there.
    pub(super) fn tell_unmet(&self) {
        self.unmet().into_iter().for_each(|unmet| self.tell_one(unmet));
    }

    fn tell_one(&self, unmet: UnmetLimit) {
        tracing::warn!("{unmet}");
        self.voice().tell(None, Kind::LimitUnmet(unmet), None);
    }

    fn keep_unmet(&self, unmet: Vec<UnmetLimit>, asked: &Limits) {
        let asked = asked.names();
        let mut all = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|old| !asked.contains(&old.limit) && unmet.iter().all(|new| new.limit != old.limit));
        all.extend(unmet);
    }

    /// These limits were asked for, and hold from now on but for those that are `unmet`; what was not asked for stays.
    pub(crate) fn updated(&self, mut to: Limits, unmet: Vec<UnmetLimit>) {
        self.keep_unmet(unmet.clone(), &to);
        without(&mut to, &unmet);
        let Limits { memory, memory_swap, cpu_quota, cpu_weight, cpuset_cpus, cpuset_mems, pids, .. } = to;
        let Limits { cpu_shares, io_weight, io_device_weight, io_max, other, .. } = to;
        self.limited.send_modify(|now| {
            let old = std::mem::take(now);
            *now = Limits {
                memory: memory.or(old.memory),
                memory_swap: memory_swap.or(old.memory_swap),
                cpu_quota: cpu_quota.or(old.cpu_quota),
                cpu_weight: cpu_weight.or(old.cpu_weight),
                cpu_shares: if cpu_weight.is_some() { cpu_shares } else { old.cpu_shares },
                cpuset_cpus: cpuset_cpus.or(old.cpuset_cpus),
                cpuset_mems: cpuset_mems.or(old.cpuset_mems),
                pids: pids.or(old.pids),
                io_weight: io_weight.or(old.io_weight),
                io_device_weight: IoWeight::merged(old.io_device_weight, io_device_weight),
                io_max: IoMax::merged(old.io_max, io_max),
                other: Other::merged(old.other, other),
            };
        });
        unmet.into_iter().for_each(|unmet| self.tell_one(unmet));
    }
}

fn without(limits: &mut Limits, unmet: &[UnmetLimit]) {
    for unmet in unmet {
        limits.clear(&unmet.limit);
    }
}

/// Processor time that no cgroup counts. Reads files of the kernel's.
pub(super) fn cpu_time(container: &dyn Container, limit: Duration, backstopped: bool) -> Option<UnmetLimit> {
    // One that is always counted need not be asked.
    if matches!(container.cgroup_mode().as_str(), "v2" | "hybrid") {
        return None;
    }
    let stats = container.stats();
    if stats.cpu_usage_ns.is_some() && stats.source != Some(Source::Proc) {
        return None;
    }
    let weakness = if stats.source.is_some() { WATCHED } else { APART };
    let unmet = UnmetLimit::new("cpu_time", "no cgroup of this container counts processor time");
    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    Some(match Rlimit::new(Resource::Cpu, seconds, seconds) {
        Ok(rlimit) if backstopped => unmet.with(rlimit, weakness),
        _ => unmet,
    })
}
