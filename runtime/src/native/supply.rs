//! The descriptors that a plan needs, from whoever opened them, in the order in which the plan names them.

use std::os::fd::OwnedFd;

use super::cgroup_error;
use crate::cgroup::Group;
use crate::error::{Error, ErrorKind};
use crate::plan::idmap::IdMap;
use crate::plan::{Machine, Need, Plan};

/// Hands out the descriptors of a plan's needs, in order.
pub(super) struct Supply {
    pub(super) report: Option<OwnedFd>,
    pub(super) gate: Option<OwnedFd>,
    pub(super) init: Option<OwnedFd>,
    /// Where it is born, if not in the group itself.
    pub(super) birth: Option<OwnedFd>,
    pub(super) seen_by: Seer,
    pub(super) trees: Vec<(Need, Option<OwnedFd>)>,
    pub(super) files: Vec<Option<OwnedFd>>,
    pub(super) stdio: Vec<Option<OwnedFd>>,
    pub(super) tasks: Vec<Option<OwnedFd>>,
    pub(super) namespaces: Vec<(u16, Option<OwnedFd>)>,
    pub(super) channel: Option<OwnedFd>,
    pub(super) served: Option<OwnedFd>,
}

impl Supply {
    pub(super) fn new(report: OwnedFd) -> Self {
        let none = || Vec::new();
        Self {
            report: Some(report),
            gate: None,
            init: None,
            birth: None,
            seen_by: Seer::Nobody,
            trees: Vec::new(),
            files: none(),
            stdio: none(),
            tasks: none(),
            namespaces: Vec::new(),
            channel: None,
            served: None,
        }
    }

    pub(super) fn all(mut self, plan: &Plan, group: Option<&Group>) -> Result<Vec<OwnedFd>, Error> {
        plan.needs().iter().map(|need| self.one(*need, group)).collect()
    }

    fn one(&mut self, need: Need, group: Option<&Group>) -> Result<OwnedFd, Error> {
        let at = |list: &mut Vec<Option<OwnedFd>>, index: u16| list.get_mut(usize::from(index)).and_then(Option::take);
        let found = match need {
            Need::Report => self.report.take(),
            Need::Gate => self.gate.take(),
            Need::Init => self.init.take(),
            Need::Cgroup => {
                let birth = match (self.birth.take(), group) {
                    (None, Some(group)) => group.birth().map_err(|error| cgroup_error(&error))?,
                    (birth, _) => birth,
                };
                match birth {
                    Some(birth) => Some(self.seen_by.apart(birth)?),
                    None => None,
                }
            }
            Need::Namespace(index) => {
                let place = self.namespaces.iter_mut().find(|(have, _)| *have == index);
                place.and_then(|(_, fd)| fd.take())
            }
            Need::Tasks(index) => at(&mut self.tasks, index),
            Need::Layer(_) | Need::Bind(_) => {
                let place = self.trees.iter_mut().find(|(tree, _)| *tree == need);
                place.and_then(|(_, fd)| fd.take())
            }
            Need::File(index) => at(&mut self.files, index),
            Need::Stdio(index) => at(&mut self.stdio, index),
            Need::Preserved(index) => at(&mut self.stdio, index + 3),
            Need::Channel => self.channel.take(),
            Need::Served => self.served.take(),
        };
        found.ok_or_else(|| {
            Error::new(ErrorKind::System, format!("the plan needs a descriptor that was not prepared: {need}"))
        })
    }
}

/// Who sees, with rights over it, what a process has that is born beside him: nothing of the host is to be reached from the directory of
/// the group (docs/decisions/0075).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seer {
    Nobody,
    /// Root of all ids of the host.
    Root,
    /// Root of a part of the host's ids, in whose mount namespace we may have no rights.
    RootOfSome,
}

impl Seer {
    /// From inside a container of these ids: one that `shares_pids` has others' processes in it.
    pub(super) fn of(ids: Option<&IdMap>, shares_pids: impl FnOnce() -> bool, machine: &Machine) -> Self {
        match machine.privileged && (ids.is_none() || shares_pids()) {
            false => Self::Nobody,
            true if machine.whole => Self::Root,
            true => Self::RootOfSome,
        }
    }

    fn apart(self, birth: OwnedFd) -> Result<OwnedFd, Error> {
        if self == Self::Nobody {
            return Ok(birth);
        }
        match crate::sys::apart_read_only(&birth) {
            Err(error) if self == Self::RootOfSome && error.raw_os_error() == Some(libc::EPERM) => Ok(birth),
            apart => apart.map_err(|error| {
                let what =
                    "cannot take the cgroup's directory out of the host's tree, which the container would see through the process";
                Error::system(what, error)
            }),
        }
    }
}

pub(super) fn some<T>(list: Vec<T>) -> Vec<Option<T>> {
    list.into_iter().map(Some).collect()
}
