//! What a program holds of a pool.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use serde::Serialize;

use super::asking::Asked;
use super::builder::PoolBuilder;
use super::lease::Lease;
use super::reason::DiscardReason;
use super::shared::Shared;
use super::state::{PoolState, Sizes};
use crate::command::Command;
use crate::error::{Error, ErrorKind};
use crate::sandbox::Sandbox;
use crate::service::BackOff;

/// Sandboxes that are made in advance, so that a request takes one that is ready.
///
/// A ready sandbox is a container that runs nothing but its stub init, and a request execs in it; or one in which a
/// command was started in advance: [`Pool::running`]. Each is for one holder and is destroyed afterwards ([`Reset`](super::Reset)).
/// What is missing is made in the background, after growing delays where that fails; one that ends while it is ready is
/// replaced at once.
///
/// Clones are the same pool. With the last of them it is closed, as by [`Pool::close`]; so it is at the end of its supervisor.
/// Leases outlive it.
///
/// What a sandbox's `wall` and `idle` limit is its main process; a pool refuses them, and the commands in it have a
/// [`timeout`](crate::ExecCommand::timeout) of their own. Limits of the cgroup hold for everything in it, an output limit for each
/// process.
///
/// ```no_run
/// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
/// use orangery::{Pool, Sandbox};
/// let sandbox = Sandbox::builder().memory(256 << 20).pids(64).build()?;
/// let pool = Pool::builder(&sandbox).idle(4).most(64).build(&supervisor)?;
/// let output = pool.take().await?.command("date").run().await?;
/// println!("{:?}; {} are ready", output.stdout.to_vec(), pool.inspect().idle);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pool {
    owner: Arc<Owner>,
}

struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close(closed());
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::State, "the pool is closed")
}

/// A pool as it is now.
///
/// ```no_run
/// # fn f(pool: orangery::Pool) {
/// let now: orangery::PoolInspect = pool.inspect();
/// println!("{}: {} ready, {} leased, {} callers wait", now.name, now.idle, now.leased, now.waiting);
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolInspect {
    /// Its name: the sandbox's id, or a random one. Its containers' ids begin with it.
    pub name: String,
    /// Where it is.
    pub state: PoolState,
    /// Ready ones.
    pub idle: usize,
    /// Those that are being made.
    pub making: usize,
    /// Those that somebody has.
    pub leased: usize,
    /// Those that are being removed.
    pub leaving: usize,
    /// Callers that wait.
    pub waiting: usize,
    /// Sandboxes made since the beginning.
    pub made: u64,
    /// Leases given since the beginning.
    pub leases: u64,
    /// Sandboxes that were thrown away since the beginning, and why.
    pub discarded: BTreeMap<DiscardReason, u64>,
    /// The delay that is under way.
    pub back_off: Option<BackOff>,
    /// Why the last attempt to make one failed; of a closed pool why it gives nothing.
    pub error: Option<String>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.owner.shared.name).finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.open();
        Self { owner: Arc::new(Owner { shared }) }
    }

    /// Describe a pool of sandboxes in which nothing runs yet.
    pub fn builder(sandbox: &Sandbox) -> PoolBuilder {
        PoolBuilder::idle_sandboxes(sandbox)
    }

    /// Describe a pool of containers in which this command runs already: an interpreter that has loaded its library, a server
    /// that listens. Whoever takes one finds it as it is by then, its output from the first byte on as far as it is
    /// retained. When the command ends while it is ready, the container is replaced.
    ///
    /// The supervisor is the one that the pool is built on, whichever made the command.
    ///
    /// ```no_run
    /// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
    /// use orangery::{Pool, Stdin};
    /// let shell = supervisor.command("sh").stdin(Stdin::Piped);
    /// let pool = Pool::running(shell).idle(2).build(&supervisor)?;
    /// let lease = pool.take().await?;
    /// if let Some(mut stdin) = lease.stdin() {
    ///     // That the shell has gone meanwhile is a normal end.
    ///     let _ = stdin.write_all_bytes("echo $((6 * 7)); exit\n".into()).await;
    /// }
    /// # Ok(()) }
    /// ```
    pub fn running(command: Command) -> PoolBuilder {
        PoolBuilder::of(command)
    }

    /// Take one that is ready, or wait for one, in turn with others: the first come first.
    ///
    /// Bounded are those who wait ([`PoolBuilder::waiting`]), not how long: that is for the caller, who may drop the future at
    /// any time.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] with the field `pool.waiting` when too many wait already. What went wrong when a sandbox
    /// could not be made: told to whoever has waited longest, and to everybody when no attempt can succeed, such as for a
    /// command that does not exist. [`ErrorKind::State`] when the pool, [`ErrorKind::ShutDown`] when its supervisor is closed.
    ///
    /// # Cancel safety
    /// Begun when first polled. Dropped while it waits, the next in turn moves up; a lease that was on its way goes back to
    /// the pool untouched.
    pub fn take(&self) -> impl Future<Output = Result<Lease, Error>> + Send + 'static + use<> {
        let shared = Arc::clone(&self.owner.shared);
        async move {
            match shared.ask(true)? {
                Asked::Now(lease) => Ok(lease),
                Asked::Wait(waiting) => waiting.answer().await,
            }
        }
    }

    /// Take one that is ready, or none.
    ///
    /// # Errors
    /// [`ErrorKind::Exhausted`] when none is ready: with the field `pool.most` when as many exist as may, `pool.idle`
    /// otherwise, which is over soon. Else as for [`Pool::take`].
    pub fn try_take(&self) -> Result<Lease, Error> {
        match self.owner.shared.ask(false)? {
            Asked::Now(lease) => Ok(lease),
            Asked::Wait(_) => Err(Error::lost_request()),
        }
    }

    /// [`Pool::take`] for programs without a runtime.
    ///
    /// # Errors
    /// As for [`Pool::take`].
    pub fn take_blocking(&self) -> Result<Lease, Error> {
        crate::blocking::block_on(self.take())
    }

    /// As it is now.
    #[must_use]
    pub fn inspect(&self) -> PoolInspect {
        let shared = &self.owner.shared;
        shared.look(|now, counts, back_off, error| PoolInspect {
            name: shared.name.clone(),
            state: now.state,
            idle: now.idle,
            making: now.making,
            leased: now.leased,
            leaving: now.leaving,
            waiting: now.waiting,
            made: counts.made,
            leases: counts.leased,
            discarded: counts.discarded.clone(),
            back_off,
            error: error.map(ToString::to_string),
        })
    }

    /// Wait until as many are ready as shall be, or as fit beside those that are leased.
    ///
    /// # Errors
    /// The pool is closed, or none can be made.
    ///
    /// # Cancel safety
    /// Nothing is changed; may be dropped and called again.
    pub fn filled(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let shared = Arc::clone(&self.owner.shared);
        let mut tally = shared.tally.subscribe();
        async move {
            let Sizes { idle, most, .. } = shared.sizes;
            let full = tally.wait_for(|now| {
                let enough = idle.min(most.saturating_sub(now.leased));
                now.state == PoolState::Closed || now.hopeless || now.idle >= enough
            });
            let failed = full.await.is_ok_and(|now| now.state == PoolState::Closed || now.hopeless);
            if !failed {
                return Ok(());
            }
            Err(shared.look(|_, _, _, error| error.cloned()).unwrap_or_else(closed))
        }
    }

    /// Give nothing any more: what is ready, and what is being made, is removed, and who waits is refused. Resolves when
    /// nothing of the pool is left: leases that are out are waited for.
    ///
    /// # Cancel safety
    /// Begun when called; it goes on when the future is dropped.
    pub fn close(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let shared = Arc::clone(&self.owner.shared);
        shared.close(closed());
        let mut tally = shared.tally.subscribe();
        async move {
            let _ = tally.wait_for(|now| now.all() == 0).await;
        }
    }
}
