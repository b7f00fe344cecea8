//! What every process of a sandbox gets, the main one and further ones, unless it has its own.

use orangery_runtime::seccomp::{Action, Arch, Filter, Rule, syscall_number};
use orangery_runtime::spec::{Caps, Landlock, Rlimit};
use orangery_runtime::{Error as RuntimeError, ProcessSpec};
use serde::{Deserialize, Serialize};

/// EPERM, on every architecture.
const EPERM: u16 = 1;

/// See the file's head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Each {
    pub(crate) caps: Option<Caps>,
    /// One of each resource.
    pub(crate) rlimits: Vec<Rlimit>,
    /// System calls that fail with EPERM.
    pub(crate) refused_calls: Vec<String>,
    pub(crate) landlock: Option<Landlock>,
}

impl Each {
    /// In place of another limit of the same resource.
    pub(crate) fn rlimit(&mut self, limit: Rlimit) {
        self.rlimits.retain(|have| have.resource != limit.resource);
        self.rlimits.push(limit);
    }

    /// What makes no sense.
    pub(crate) fn check(&self) -> Vec<RuntimeError> {
        let unknown = self.refused_calls.iter().filter(|name| syscall_number(name).is_none());
        unknown.map(|name| RuntimeError::invalid("refuse_calls", format!("{name:?} is no system call"))).collect()
    }

    /// Give `process` what it has none of its own of. Once is as good as twice.
    pub(crate) fn give(&self, process: &mut ProcessSpec) {
        process.caps = process.caps.or(self.caps);
        if process.landlock.is_none() {
            process.landlock.clone_from(&self.landlock);
        }
        for limit in &self.rlimits {
            if !process.rlimits.iter().any(|have| have.resource == limit.resource) {
                process.rlimits.push(*limit);
            }
        }
        if let Some(filter) = self.filter().filter(|filter| !process.filters.contains(filter)) {
            process.filters.push(filter);
        }
    }

    fn filter(&self) -> Option<Filter> {
        let refuse = |syscall| Rule { syscall, args: Vec::new(), action: Action::Errno(EPERM) };
        let rules: Vec<Rule> = self.refused_calls.iter().filter_map(|name| syscall_number(name)).map(refuse).collect();
        (!rules.is_empty()).then(|| Filter { default: Action::Allow, rules, arches: vec![Arch::native()] })
    }
}

#[cfg(test)]
mod tests {
    use orangery_runtime::spec::Resource;

    use super::*;

    #[test]
    fn what_a_process_has_stays() {
        let limit = |resource, soft| Rlimit { resource, soft, hard: soft };
        let mut each = Each { caps: Some(Caps::none()), refused_calls: vec!["ptrace".into()], ..Each::default() };
        each.rlimit(limit(Resource::Nofile, 1));
        each.rlimit(limit(Resource::Nofile, 2));
        each.rlimit(limit(Resource::Core, 0));
        let own = limit(Resource::Nofile, 9);
        let mut process = ProcessSpec::default();
        (process.caps, process.rlimits) = (Some(Caps::default_root()), vec![own]);
        each.give(&mut process);
        each.give(&mut process);
        assert_eq!(process.rlimits, [own, limit(Resource::Core, 0)]);
        assert_eq!((process.caps, process.filters.len()), (Some(Caps::default_root()), 1));
        let mut bare = ProcessSpec::default();
        each.give(&mut bare);
        assert_eq!((bare.caps, bare.rlimits[0].soft), (Some(Caps::none()), 2));
    }

    #[test]
    fn a_call_that_there_is_not_is_refused_by_name() {
        let each = Each { refused_calls: vec!["socket".into(), "sokcet".into()], ..Each::default() };
        let wrong = each.check();
        assert_eq!(wrong.iter().filter_map(RuntimeError::field).collect::<Vec<_>>(), ["refuse_calls"]);
        assert!(wrong[0].to_string().contains("sokcet"), "{}", wrong[0]);
    }
}
