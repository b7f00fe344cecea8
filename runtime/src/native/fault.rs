//! Where a test can make a creation or an exec fail: every stage of ours, and every step of both plans. Each runtime has
//! its own hook, so that two of one process do not see each other; without one the question costs a branch.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::plan::Plan;

/// A place that can be made to fail. The list is closed and only grows. A stage fails **after** its work is done, so
/// that there is something to undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// A range of user ids has been taken.
    IdRange,
    /// The container's cgroup has been made.
    Cgroup,
    /// The content of staged file n lies in a memfd.
    StagedFile(u16),
    /// There is a user namespace for id-mapped mounts.
    UserNamespace,
    /// A provider has prepared the root file system.
    RootfsPrepared,
    /// Layer n of the root is a mount tree of ours, id-mapped where that is possible.
    Layer(u16),
    /// The source of mount n has been copied and id-mapped.
    Bind(u16),
    /// The descriptors of the container's plan have been opened.
    ContainerDescriptors,
    /// The keeper has made the container's first process; it has not reported yet.
    ContainerBorn,
    /// The container's network namespace has been opened for its provider.
    NetworkNamespace,
    /// A provider has attached the network.
    NetworkAttached,
    /// Step n of the container's plan, in the child.
    ContainerStep(u16),
    /// The descriptors of a process's plan have been opened.
    ProcessDescriptors,
    /// The keeper holds what is to be held of the process, if anything.
    ProcessStored,
    /// The keeper has made the process; it has not been exec'd yet.
    ProcessBorn,
    /// The process has been exec'd; nobody has been told.
    ProcessRunning,
    /// Step n of a process's plan, in the child.
    ProcessStep(u16),
}

/// Asked with the container's id and the point; an error number makes it fail.
type Hook = dyn Fn(&str, Point) -> Option<i32> + Send + Sync;

/// The hook of one runtime, asked at each point that is passed.
#[derive(Clone, Default)]
pub struct Faults(Option<Arc<Hook>>);

impl Faults {
    /// Fail, with EIO, where `hook` says so.
    #[must_use]
    pub fn new(hook: impl Fn(&str, Point) -> bool + Send + Sync + 'static) -> Self {
        Self::with_errno(move |id, point| hook(id, point).then_some(libc::EIO))
    }

    /// Fail with the error number that `hook` gives. A step of a plan fails in the child, with what the kernel says to
    /// it there (EINVAL), whatever the number.
    #[must_use]
    pub fn with_errno(hook: impl Fn(&str, Point) -> Option<i32> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    /// Pass a stage.
    pub(super) fn pass(&self, id: &str, point: Point) -> Result<(), Error> {
        match self.0.as_ref().and_then(|hook| hook(id, point)) {
            Some(errno) => Err(Error::new(ErrorKind::System, "a fault was injected")
                .with_stage(format!("{point:?}"))
                .with_errno(Some(errno))),
            None => Ok(()),
        }
    }

    /// The plan as it is, or with the first step that shall fail replaced.
    pub(super) fn plan(&self, id: &str, plan: Plan, point: fn(u16) -> Point) -> Plan {
        let Some(hook) = &self.0 else { return plan };
        let steps = plan.header().map_or(0, |header| header.steps);
        match (0..steps).find(|step| hook(id, point(*step)).is_some()) {
            Some(step) => plan.failing_at(step),
            None => plan,
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faults").field(&self.0.is_some()).finish()
    }
}
