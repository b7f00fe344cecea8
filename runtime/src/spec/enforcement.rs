//! What becomes of a limit that this machine, or this user, cannot have: refused, or done without and said so, with a
//! resource limit in its place where there is one that means something. Pure.

use serde::{Deserialize, Serialize};

use super::namespaces::joins;
use super::{ContainerSpec, Limits, ProcessSpec, Resource, Rlimit, UserNamespace};
use crate::plan::wire::NEWUSER;

/// What becomes of a limit of a container that cannot be had.
///
/// ```
/// use orangery_runtime::spec::Enforcement;
/// assert_eq!(Enforcement::default(), Enforcement::Required);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Enforcement {
    /// It is refused, with its field and the reason.
    #[default]
    Required,
    /// The container does without it, and says so: an [`UnmetLimit`] each.
    BestEffort,
}

/// A limit that was asked for and does not hold, or not as it was meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UnmetLimit {
    /// Its field, as `memory`, `cpu_quota` or `pids`.
    pub limit: String,
    /// Why it cannot be had.
    pub why: String,
    /// What holds in its place; `None`: nothing.
    pub instead: Option<Fallback>,
}

/// A resource limit in the place of a limit of the whole container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Fallback {
    /// It.
    pub rlimit: Rlimit,
    /// In what it is weaker than what was asked for.
    pub weakness: String,
}

impl UnmetLimit {
    /// With nothing in its place.
    #[must_use]
    pub fn new(limit: impl Into<String>, why: impl Into<String>) -> Self {
        Self { limit: limit.into(), why: why.into(), instead: None }
    }

    /// With this in its place.
    #[must_use]
    pub fn with(mut self, rlimit: Rlimit, weakness: impl Into<String>) -> Self {
        self.instead = Some(Fallback { rlimit, weakness: weakness.into() });
        self
    }
}

impl std::fmt::Display for UnmetLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { limit, why, instead } = self;
        match instead {
            None => write!(f, "{limit} does not hold, and nothing in its place ({why})"),
            Some(Fallback { rlimit, weakness }) => {
                let name = rlimit.resource.name().to_ascii_uppercase();
                write!(f, "{limit} does not hold ({why}); in its place RLIMIT_{name} of {}: {weakness}", rlimit.soft)
            }
        }
    }
}

/// How the processes of a container are counted, for what can stand in a limit's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ground {
    /// RLIMIT_NPROC counts the processes of a user in this container alone.
    pub(crate) nproc: bool,
}

impl Ground {
    /// `since_5_14`: the kernel counts for each user namespace apart. Before, it counted all of a user's on the machine:
    /// where that user is the supervisor's own, a limit would hold for everything else that they have running.
    pub(crate) fn of(container: &ContainerSpec, since_5_14: bool) -> Self {
        let own = container.user_namespace != UserNamespace::Host && !joins(container, NEWUSER);
        Self { nproc: own && since_5_14 }
    }

    /// This limit of those that were asked for, with what stands in its place.
    pub(crate) fn unmet(self, limit: &str, why: impl Into<String>, asked: &Limits) -> UnmetLimit {
        let unmet = UnmetLimit::new(limit, why);
        let at_most = |resource: Resource, value: u64| {
            // Nobody here could raise it.
            let value = value.min(resource.current().1);
            Rlimit { resource, soft: value, hard: value }
        };
        match (limit, asked.memory, asked.pids) {
            ("memory", Some(memory), _) => {
                let both = memory.saturating_add(asked.memory_swap.unwrap_or(0));
                unmet.with(at_most(Resource::As, both), AS)
            }
            ("pids", _, Some(pids)) if self.nproc => unmet.with(at_most(Resource::Nproc, pids), NPROC),
            _ => unmet,
        }
    }
}

const AS: &str = "of each process apart, not of all together, and of the addresses that it has, used or not; \
                  files in memory (tmpfs) and what the kernel holds for it do not count";
const NPROC: &str = "of each user id in the container apart, not of all together";

/// Give `process` what stands in the place of these, but for what it has a limit of its own of: that stays.
pub(crate) fn give(process: &mut ProcessSpec, unmet: &mut [UnmetLimit]) {
    for unmet in unmet {
        let Some(fallback) = &unmet.instead else { continue };
        let resource = fallback.rlimit.resource;
        if process.rlimits.iter().any(|limit| limit.resource == resource) {
            unmet.why.push_str("; the process has a limit of its own on ");
            unmet.why.push_str(resource.name());
            unmet.instead = None;
        } else {
            process.rlimits.push(fallback.rlimit);
        }
    }
}

impl Limits {
    /// The names of those that are set.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        crate::cgroup::names(self)
    }

    /// Take a limit away by the name of its field, of one device as `io_max[/dev/sda]`; whether it was there.
    pub fn clear(&mut self, field: &str) -> bool {
        match field {
            "memory" => self.memory.take().is_some(),
            "memory_swap" => self.memory_swap.take().is_some(),
            "cpu_quota" => self.cpu_quota.take().is_some(),
            "cpu_weight" => {
                self.cpu_shares = None;
                self.cpu_weight.take().is_some()
            }
            "cpuset_cpus" => self.cpuset_cpus.take().is_some(),
            "cpuset_mems" => self.cpuset_mems.take().is_some(),
            "pids" => self.pids.take().is_some(),
            "io_weight" => self.io_weight.take().is_some(),
            _ => self.clear_device(field),
        }
    }

    fn clear_device(&mut self, field: &str) -> bool {
        let all = |of: &Self| (of.io_max.len(), of.io_device_weight.len(), of.other.len());
        let before = all(self);
        self.other.retain(|of| of.name != field);
        self.io_max.retain(|of| of.name() != field);
        self.io_device_weight.retain(|of| of.name() != field);
        before != all(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{BlockDevice, IoMax, IoWeight};

    fn asked() -> Limits {
        Limits { memory: Some(64 << 20), memory_swap: Some(1 << 20), pids: Some(9), ..Limits::default() }
    }

    #[test]
    fn what_stands_in_the_place_of_what() {
        let ground = Ground::of(&ContainerSpec::default(), true);
        let instead =
            |limit| ground.unmet(limit, "no", &asked()).instead.map(|it| (it.rlimit.resource, it.rlimit.hard));
        assert_eq!(instead("memory"), Some((Resource::As, 65 << 20)));
        assert_eq!(instead("pids"), Some((Resource::Nproc, 9)));
        assert_eq!([instead("memory_swap"), instead("cpu_quota"), instead("cpuset_cpus")], [None, None, None]);
    }

    #[test]
    fn processes_are_not_counted_where_others_would_be() {
        let host = ContainerSpec { user_namespace: UserNamespace::Host, ..ContainerSpec::default() };
        for ground in [Ground::of(&host, true), Ground::of(&ContainerSpec::default(), false)] {
            assert_eq!(ground.unmet("pids", "no", &asked()).instead, None);
        }
    }

    #[test]
    fn a_limit_of_its_own_stays() {
        let ground = Ground::of(&ContainerSpec::default(), true);
        let mut unmet = [ground.unmet("memory", "no", &asked()), ground.unmet("pids", "no", &asked())];
        let own = Rlimit { resource: Resource::As, soft: 1, hard: 2 };
        let mut process = ProcessSpec { rlimits: vec![own], ..ProcessSpec::default() };
        give(&mut process, &mut unmet);
        assert_eq!(process.rlimits, [own, Rlimit { resource: Resource::Nproc, soft: 9, hard: 9 }]);
        assert!(unmet[0].instead.is_none() && unmet[0].why.ends_with("its own on as"), "{}", unmet[0]);
        assert!(unmet[1].to_string().contains("RLIMIT_NPROC of 9"), "{}", unmet[1]);
    }

    #[test]
    fn every_limit_can_be_taken_away() {
        let quota = crate::cgroup::CpuQuota { quota_us: 1000, period_us: 1000 };
        let list = || Some("0".to_owned());
        let mut all =
            Limits { cpu_quota: Some(quota), cpu_weight: Some(1), cpuset_cpus: list(), cpuset_mems: list(), ..asked() };
        all.io_weight = Some(1);
        let value = serde_json::to_value(&all).unwrap();
        for field in value.as_object().unwrap().keys() {
            assert!(all.names().contains(field) && all.clear(field) && !all.clear(field), "{field}");
        }
        let device = || BlockDevice::Path("/dev/a".into());
        all.io_max = vec![IoMax::new(device()), IoMax::new(BlockDevice::Number { major: 8, minor: 0 })];
        all.io_device_weight = vec![IoWeight { device: device(), weight: 1 }];
        let names = all.names();
        assert_eq!(names, ["io_device_weight[/dev/a]", "io_max[/dev/a]", "io_max[8:0]"]);
        for field in names {
            assert!(all.clear(&field) && !all.clear(&field), "{field}");
        }
        assert!(all.is_empty() && !all.clear("disk"));
    }
}
