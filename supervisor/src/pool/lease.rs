//! A sandbox in somebody's hands.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::member::Member;
use super::reason::DiscardReason;
use super::shared::{Shared, State};
use super::state::Input;
use crate::events::Kind;
use crate::handle::ContainerHandle;
use crate::report::{Cause, LimitKind};

/// A sandbox of a [`Pool`](super::Pool), for one holder: everything that its [`ContainerHandle`] can do.
///
/// Dropped, the sandbox is killed and removed without blocking, whoever still has a clone of its handle; another takes its
/// place. The one exception is a lease whose handle nobody has looked at, such as one that came when its taker had gone: it
/// goes back to the pool as it is. One that is held for longer than [`PoolBuilder::max_lease`](super::PoolBuilder::max_lease)
/// ends with the cause [`LimitKind::Wall`], and its place is the pool's again, whatever becomes of the lease.
///
/// ```no_run
/// # async fn f(pool: orangery::Pool) -> Result<(), orangery::Error> {
/// let sandbox: orangery::Lease = pool.take().await?;
/// sandbox.write_file("/tmp/main.sh", "echo $((6 * 7))", Default::default()).await?;
/// let output = sandbox.command("sh").arg("/tmp/main.sh").run().await?;
/// assert_eq!(output.stdout.to_vec(), b"42\n");
/// # Ok(()) }
/// ```
pub struct Lease {
    shared: Arc<Shared>,
    member: Arc<Member>,
    touched: AtomicBool,
    tainted: AtomicBool,
    /// Which one of its sandbox.
    number: u64,
}

impl Lease {
    fn new(shared: Arc<Shared>, member: Arc<Member>, number: u64) -> Self {
        Self { shared, member, touched: AtomicBool::new(false), tainted: AtomicBool::new(false), number }
    }

    /// Whatever its pool does with what comes back, nobody else gets this one: for a holder that knows more than the pool,
    /// such as that its id was used elsewhere. It is counted as [`DiscardReason::Tainted`].
    pub fn taint(&self) {
        self.tainted.store(true, Ordering::Release);
    }
}

impl Deref for Lease {
    type Target = ContainerHandle;

    /// From now on it is used.
    fn deref(&self) -> &ContainerHandle {
        self.touched.store(true, Ordering::Release);
        &self.member.handle
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("container", &self.member.handle.id()).finish_non_exhaustive()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let why = match (self.tainted.load(Ordering::Acquire), self.touched.load(Ordering::Acquire)) {
            (true, _) => DiscardReason::Tainted,
            (_, true) => DiscardReason::Used,
            _ => return self.shared.returned(&self.member, self.number),
        };
        if let Err(error) = self.member.handle.kill() {
            tracing::error!(container = self.member.handle.id(), %error, "cannot kill");
        }
        self.shared.released(&self.member, self.number, why);
    }
}

/// A lease comes back once: from its holder, or when its time is over.
impl Shared {
    /// It is somebody's from now on.
    pub(super) fn lease(self: &Arc<Self>, state: &mut State, member: Arc<Member>) -> Lease {
        state.counts.leased += 1;
        let number = state.counts.leased;
        member.leased.send_replace(Some(number));
        self.tell(&member, Kind::PoolLeased { pool: self.name.clone() });
        Lease::new(Arc::clone(self), member, number)
    }

    /// Nobody has touched it.
    pub(super) fn returned(self: &Arc<Self>, member: &Arc<Member>, number: u64) {
        let why = match member {
            _ if member.is_dead() => DiscardReason::Died,
            _ if member.is_old() => DiscardReason::Aged,
            _ => {
                return self.change(|shared, state, todo| {
                    if member.comes_back(number) {
                        shared.place(state, Input::Returned, member, todo);
                    }
                });
            }
        };
        self.released(member, number, why);
    }

    /// It is removed. `false`: it was, already.
    pub(super) fn released(self: &Arc<Self>, member: &Arc<Member>, number: u64, why: DiscardReason) -> bool {
        self.change(|shared, state, todo| {
            let comes = member.comes_back(number);
            if comes {
                shared.step(state, Input::Released, todo);
                shared.discard(state, member, why, todo);
            }
            comes
        })
    }

    /// Its time is over. By its own task, which removes it afterwards.
    pub(super) fn overdue(self: &Arc<Self>, member: &Arc<Member>, number: u64) {
        if self.released(member, number, DiscardReason::Overdue)
            && let Err(error) = member.handle.slot().main.kill(Cause::Limit(LimitKind::Wall))
        {
            tracing::error!(container = member.handle.id(), %error, "cannot kill");
        }
    }
}
