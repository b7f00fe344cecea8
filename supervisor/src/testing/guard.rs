//! What a supervisor leaves behind, and a supervisor that fails its test over it.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::look::Marks;
use super::within::{pause, within};
use crate::blocking::block_on;
use crate::error::Error;
use crate::supervisor::Supervisor;

/// How long what is on its way out may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// What was left behind, a line each. Printed by `unwrap` as it is displayed.
#[derive(Clone, PartialEq, Eq)]
pub struct Leftovers(Vec<String>);

impl Leftovers {
    /// The lines: `container job-7 (Running, process 4711)`, `process 4711 sleep (S)`, `cgroup /sys/fs/cgroup/...`,
    /// `mount ...`, `directory ...`, `file ...`, `descriptor 23 -> pipe:[1234]`, `2 threads called ...`.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left behind:\n    {}", self.0.join("\n    "))
    }
}

impl fmt::Debug for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Leftovers {}

/// Ends a supervisor and takes stock of what is left of it and of nobody else: any number of tests of one process may do
/// so at one time.
///
/// First it waits until no container and no service is there any more: what was dropped is on its way out. What stays is
/// left behind, because it was detached or because somebody still has a handle. Then the supervisor is shut down, and nothing
/// of it may be there: the keeper and its descendants, its cgroups, its directory with all files and sockets, mounts there,
/// its threads, and those descriptors of this process that led to its processes when it was ended (pidfds, pipes, the keeper's
/// socket) or lead into its directories. What is not known to be its own is not counted: a descriptor of a process that had
/// ended before, say. For twenty seconds each whatever is there is given the time to go.
///
/// Dropped without [`LeakGuard::finish`], it does the same and panics over what is left, unless the thread panics already.
/// That blocks the thread.
///
/// ```
/// # use orangery::{Supervisor, skip_unless, testing::LeakGuard};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # skip_unless!(Containers, Ok(()));
/// let supervisor = Supervisor::builder().shards(1).build()?;
/// let guard = LeakGuard::new(&supervisor);
/// supervisor.command("sleep").arg("1000").id("forgotten").spawn().await?.detach();
/// # let guard = guard.patience(std::time::Duration::from_millis(1));
/// let left = guard.finish().await.unwrap_err();
/// assert!(left.lines()[0].starts_with("container forgotten (Running"), "{left}");
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use]
pub struct LeakGuard {
    supervisor: Supervisor,
    marks: Marks,
    patience: Duration,
    finished: bool,
}

impl LeakGuard {
    /// Of this supervisor, which is to end with the test.
    pub fn new(supervisor: &Supervisor) -> Self {
        let native = supervisor.native();
        let (files, cgroups) = native.map(|native| native.places()).unwrap_or_default();
        let keeper = native.map(|native| native.keeper_pid());
        let marks = Marks { keeper, files, cgroups, thread_name: supervisor.thread_name() };
        Self { supervisor: supervisor.clone(), marks, patience: PATIENCE, finished: false }
    }

    /// How long what is on its way out may take, each time. Default: 20 s.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Shut the supervisor down and take stock.
    ///
    /// # Errors
    /// [`Leftovers`]: the list.
    ///
    /// # Cancel safety
    /// Dropped, it goes on as if the guard had been dropped.
    pub async fn finish(mut self) -> Result<(), Leftovers> {
        let stock = self.stock().await;
        self.finished = true;
        stock
    }

    async fn stock(&self) -> Result<(), Leftovers> {
        // Now, while its processes are there to be asked what they have.
        let look = self.marks.look();
        let emptied = async {
            while !self.there().await.is_empty() {
                pause(LOOK).await;
            }
        };
        let mut left = match within(self.patience, emptied).await {
            Some(()) => Vec::new(),
            None => self.there().await,
        };
        self.supervisor.shutdown().await;
        let gone = async {
            while !self.marks.left(&look).is_empty() {
                pause(LOOK).await;
            }
        };
        if within(self.patience, gone).await.is_none() {
            left.extend(self.marks.left(&look));
        }
        if left.is_empty() { Ok(()) } else { Err(Leftovers(left)) }
    }

    /// Containers and services that there are. None of one that is shut down.
    async fn there(&self) -> Vec<String> {
        let services = self.supervisor.services().await.unwrap_or_default();
        let containers = self.supervisor.list().await.unwrap_or_default();
        let services = services.into_iter().map(|service| format!("service {} ({:?})", service.id, service.state));
        let containers = containers.into_iter().map(|container| {
            format!("container {} ({:?}, process {})", container.id, container.state, container.pid.unwrap_or(0))
        });
        services.chain(containers).collect()
    }
}

impl Drop for LeakGuard {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        if std::thread::panicking() {
            // The test has failed; that it ends is enough.
            return self.supervisor.shutdown_blocking();
        }
        let left = block_on(self.stock());
        #[expect(clippy::panic, reason = "that is what it is for")]
        if let Err(left) = left {
            panic!("{left}");
        }
    }
}

/// A supervisor of one test's own, with a [`LeakGuard`]: [`supervisor`].
#[derive(Debug)]
#[must_use]
pub struct TestSupervisor(LeakGuard);

impl TestSupervisor {
    /// [`LeakGuard::finish`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn finish(self) -> Result<(), Leftovers> {
        self.0.finish().await
    }
}

impl Deref for TestSupervisor {
    type Target = Supervisor;

    fn deref(&self) -> &Supervisor {
        &self.0.supervisor
    }
}

/// A supervisor of this test's own: a keeper, an instance directory, cgroups and threads that no other one has. With one
/// shard. Dropped, or [finished](TestSupervisor::finish), it ends and takes stock.
///
/// # Errors
/// As for [`Supervisor::new`]. Ask [`skip_unless!`](crate::skip_unless) before.
pub fn supervisor() -> Result<TestSupervisor, Error> {
    let supervisor = Supervisor::builder().shards(1).build()?;
    Ok(TestSupervisor(LeakGuard::new(&supervisor)))
}
