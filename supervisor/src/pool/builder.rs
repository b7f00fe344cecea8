//! What a pool is to be.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orangery_runtime::{Error as RuntimeError, ErrorKind as RuntimeErrorKind};
use tokio::sync::watch;

use super::handle::Pool;
use super::shared::{Shared, State};
use super::state::{Sizes, Tally};
use crate::command::{Command, Template};
use crate::error::Error;
use crate::sandbox::Sandbox;
use crate::supervisor::Supervisor;

/// Of a lease.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// What is done with a sandbox that somebody has used.
///
/// ```
/// assert_eq!(orangery::Reset::default(), orangery::Reset::Destroy);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reset {
    /// It is killed and removed, and a new one is made.
    #[default]
    Destroy,
    /// What its holder wrote is removed, and the sandbox itself is used again. Refused
    /// ([`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)), for a writable layer is not all that a stranger leaves
    /// behind: System V memory, message queues, keys, network state and what was made in /dev stay with namespaces that
    /// live on, and nobody can prove that all of it is gone for less than a new sandbox costs, which is made while nobody
    /// waits. `docs/decisions/` has the figures.
    Wipe,
}

/// Configures a [`Pool`]; refusals are told by [`PoolBuilder::build`], all at once.
///
/// ```no_run
/// # fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
/// use orangery::{Pool, Sandbox};
/// use std::time::Duration;
/// let sandbox = Sandbox::builder().id("judges").build()?;
/// let pool = Pool::builder(&sandbox).idle(8).most(100).waiting(500).max_age(Duration::from_secs(3600)).build(&supervisor)?;
/// # drop(pool);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct PoolBuilder {
    template: Template,
    sizes: Sizes,
    max_age: Option<Duration>,
    max_lease: Option<Duration>,
    reset: Reset,
}

impl PoolBuilder {
    fn new(template: Template) -> Self {
        let sizes = Sizes { idle: 4, most: 64, waiting: 256 };
        Self { template, sizes, max_age: None, max_lease: None, reset: Reset::default() }
    }

    pub(super) fn idle_sandboxes(sandbox: &Sandbox) -> Self {
        Self::new(Template::idle(sandbox))
    }

    pub(super) fn of(command: Command) -> Self {
        Self::new(command.into_template())
    }

    /// Ready sandboxes that there shall be; what is taken is replaced. 0: one is made when somebody asks. Default: 4.
    pub fn idle(mut self, count: usize) -> Self {
        self.sizes.idle = count;
        self
    }

    /// Sandboxes at a time: those that are being made, ready, leased and being removed. Each also counts among the
    /// supervisor's containers. Default: 64.
    pub fn most(mut self, count: usize) -> Self {
        self.sizes.most = count;
        self
    }

    /// Callers that may wait for one; one more is refused at once. Default: 256.
    pub fn waiting(mut self, count: usize) -> Self {
        self.sizes.waiting = count;
        self
    }

    /// A ready one that is older is replaced: so that it does not show yesterday's files. Each lives between three quarters of
    /// this and all of it, so that not all go at once. Default: for ever.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// How long somebody may have one, at least a millisecond and at most a year. Then it ends, with everything in it, as at a
    /// wall limit ([`LimitKind::Wall`](crate::LimitKind::Wall)), and is replaced, also when its lease was forgotten somewhere.
    /// Default: for ever.
    pub fn max_lease(mut self, time: Duration) -> Self {
        self.max_lease = Some(time);
        self
    }

    /// What is done with one that was used. Default: [`Reset::Destroy`].
    pub fn reset(mut self, reset: Reset) -> Self {
        self.reset = reset;
        self
    }

    /// Begin to fill it. Comes back at once: [`Pool::filled`] waits. Its name is the sandbox's id, and its containers' ids are
    /// numbered after it.
    ///
    /// # Errors
    /// Everything that a pool cannot be, naming the field. [`ErrorKind::Exists`](crate::ErrorKind::Exists), with the field `id`,
    /// while there is a pool of that name of which something is left, leases included. What the machine refuses is told by the first [`Pool::take`].
    pub fn build(self, supervisor: &Supervisor) -> Result<Pool, Error> {
        Error::all(self.refusals())?;
        let Self { template, sizes, max_age, max_lease, .. } = self;
        let template = template.named(|| supervisor.name());
        let (voice, faults) = (supervisor.voice(), supervisor.faults_of_all());
        let shared = Shared {
            name: template.id().to_owned(),
            sizes,
            max_age,
            max_lease,
            supervisor: supervisor.weak(),
            system: supervisor.system(),
            template,
            voice,
            faults,
            tally: watch::Sender::new(Tally::default()),
            state: Mutex::new(State::new(supervisor.seed())),
        };
        let shared = Arc::new(shared);
        supervisor.enroll_pool(&shared)?;
        Ok(Pool::new(shared))
    }

    fn refusals(&self) -> Vec<RuntimeError> {
        let mut errors = Vec::new();
        let mut refuse = |field: &str, why: &str| errors.push(RuntimeError::invalid(field, why));
        let Sizes { idle, most, .. } = self.sizes;
        if most == 0 {
            refuse("pool.most", "a pool of no sandboxes gives none");
        }
        if idle > most {
            refuse("pool.idle", "more are to be ready than there may be");
        }
        if self.max_age == Some(Duration::ZERO) {
            refuse("pool.max_age", "nothing is that young");
        }
        if self.max_lease.is_some_and(|time| !(SHORTEST..=LONGEST).contains(&time)) {
            refuse("pool.max_lease", "a lease lasts from a millisecond to a year, or for ever");
        }
        let (description, parts) = (&self.template.sandbox().inner, self.template.parts());
        if description.wall.is_some() || parts.ways.wall.is_some() {
            refuse("wall", "it would begin before anybody takes the sandbox: use the timeout of a command in it");
        }
        if description.idle.is_some() {
            refuse("idle", "a ready sandbox is silent for as long as nobody takes it");
        }
        if description.unattended.is_some() {
            refuse("unattended", "a pool attends to its sandboxes, and a lease to one of them");
        }
        if parts.log.is_some() {
            refuse("log", "one process at a time writes a log, and a pool has many");
        }
        if self.reset == Reset::Wipe {
            let why =
                "a used sandbox cannot be made as good as new: not everything in it can be found, let alone removed";
            let error = RuntimeError::new(RuntimeErrorKind::Unsupported, why).with_field("pool.reset");
            errors.push(error.with_hint("Reset::Destroy: a new one is made in the background"));
        }
        errors
    }
}
