//! Fault points: one mechanism for every way in which a test makes us fail.
//!
//! A site is asked each time it is passed; the answer comes from the supervisor's own [`FaultPolicy`], so that two
//! supervisors of one test process do not see each other. Without the feature `faults` nobody can set a policy and the
//! question costs one branch.

use std::sync::Arc;

/// The places that can be made to fail. The list is closed and only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Site {
    /// The manager handles a message of this name.
    ManagerMessage(&'static str),
    /// A container actor handles a message of this name.
    ContainerMessage(&'static str),
    /// A process actor handles a message of this name.
    ProcessMessage(&'static str),
    /// The main process is about to be started.
    StartGate,
    /// A further process is about to be started.
    Exec,
    /// The report is about to be published.
    ReportDelivery,
}

/// What happens at a site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing.
    #[default]
    Continue,
    /// The actor panics.
    Panic,
    /// The operation fails with this error number.
    Errno(i32),
}

/// Decides at each site.
pub trait FaultPolicy: Send + Sync + 'static {
    /// Asked with the site, the container's id and how often this supervisor has asked before.
    fn decide(&self, site: Site, container: &str, count: u64) -> Fault;
}

/// The supervisor's policy, shared by its actors.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    policy: Option<Arc<dyn FaultPolicy>>,
    count: Arc<std::sync::atomic::AtomicU64>,
}

impl Faults {
    #[cfg(any(test, feature = "faults"))]
    pub(crate) fn new(policy: Arc<dyn FaultPolicy>) -> Self {
        Self { policy: Some(policy), count: Arc::default() }
    }

    /// Pass a site: panic, or come back with what to do.
    pub(crate) fn pass(&self, site: Site, container: &str) -> Result<(), i32> {
        let Some(policy) = &self.policy else { return Ok(()) };
        let count = self.count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        match policy.decide(site, container, count) {
            Fault::Continue => Ok(()),
            Fault::Errno(errno) => Err(errno),
            #[expect(clippy::panic, reason = "that is what the policy asked for")]
            Fault::Panic => panic!("injected at {site:?}"),
        }
    }
}

impl std::fmt::Debug for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faults").field("armed", &self.policy.is_some()).finish()
    }
}
