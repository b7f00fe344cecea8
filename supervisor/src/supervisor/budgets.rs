//! What a supervisor has room for: its limits, how much of them is taken, and for whom.

use std::time::Duration;

use super::{Supervisor, SupervisorBuilder};
use crate::admission::{Budget, Budgets, Cost, Permit, admit};
use crate::error::Error;

impl SupervisorBuilder {
    /// Most further processes ([`ContainerHandle::command`](crate::ContainerHandle::command)) in all containers at a time. One
    /// more is refused, as one more container is. Default: 16,384.
    pub fn max_processes(mut self, count: usize) -> Self {
        self.budgets = self.budgets.with(Budget::Processes, count as u64);
        self
    }

    /// How many containers are made at a time, at least one. Who is admitted and comes when so many are being made waits for
    /// its turn, in which callers come one after the other: see [`Supervisor::caller`]. Default: 32.
    pub fn max_creations(mut self, count: usize) -> Self {
        self.budgets = self.budgets.with(Budget::Creations, count as u64);
        self
    }

    /// How many may wait, for a turn or for room ([`Command::wait_for_room`](crate::Command::wait_for_room)). One more is
    /// refused. Restarts of services are not counted. Default: 16,384.
    pub fn max_waiting(mut self, count: usize) -> Self {
        self.budgets = self.budgets.with(Budget::Waiting, count as u64);
        self
    }

    /// So many descriptors are left to the rest of the process, beside [`DESCRIPTORS_RESERVED`](crate::DESCRIPTORS_RESERVED): a
    /// service's connections, so that no number of containers keeps clients out. What is open of them does not count
    /// twice. Default: 0.
    pub fn leave_descriptors(mut self, count: u64) -> Self {
        self.descriptors_free = count;
        self
    }

    /// How many bytes of output may be kept in memory, all processes together: each counts with its whole
    /// [`ring`](crate::SandboxBuilder::ring) from its start to its report, and one whose output is captured
    /// ([`Command::run`](crate::Command::run)) with 2 MiB more, which its readers may be behind. What further readers are behind is
    /// bounded for each by its own options and is not counted. Default: half of the machine's memory.
    pub fn max_buffer_bytes(mut self, bytes: u64) -> Self {
        self.budgets = self.budgets.with(Budget::BufferBytes, bytes);
        self
    }
}

impl Supervisor {
    /// The same supervisor, asked on behalf of this caller: a tenant, a queue, whatever shares it with others. What is asked of
    /// the clone, and of handles of what it has made, waits in that caller's line: callers are served one after the other,
    /// and none has more than three quarters of [`max_creations`](SupervisorBuilder::max_creations) where that is four or more,
    /// however many requests it has. Every supervisor begins as the caller `""`. A name costs nothing while nothing of it waits or is being made.
    ///
    /// ```no_run
    /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
    /// let (alice, bob) = (supervisor.caller("alice"), supervisor.caller("bob"));
    /// let patience = std::time::Duration::from_secs(60);
    /// let many = (0..10_000).map(|_| alice.command("true").wait_for_room(patience).run());
    /// let all = futures_util::future::join_all(many);
    /// let one = bob.command("true").run(); // does not wait for them
    /// # let _ = (all, one);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn caller(&self, key: &str) -> Self {
        Self { inner: self.inner.clone(), caller: key.into() }
    }

    /// What there is of each budget and how much of it is taken, at this moment.
    #[must_use]
    pub fn budgets(&self) -> Budgets {
        self.inner.admission.budgets()
    }

    /// Room and a turn for a container; `patience`: how long it waits for room. A refusal is counted.
    pub(crate) async fn admitted(&self, cost: Cost, patience: Option<Duration>) -> Result<Permit, Error> {
        let door = self.inner.admission.door(&self.caller);
        let permit = admit(&door, cost, patience, |task| self.inner.system.spawn(task)).await;
        permit.inspect_err(|error| self.inner.feed.meters().refused(error))
    }

    /// [`Supervisor::admitted`], of a restart: on a thread of the supervisor's, for as long as it takes.
    pub(crate) async fn admitted_to_restart(&self, cost: Cost) -> Result<Permit, Error> {
        let permit = self.inner.admission.door(&self.caller).wait_to_restart(cost).await;
        permit.inspect_err(|error| self.inner.feed.meters().refused(error))
    }
}
