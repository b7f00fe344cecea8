//! A sandbox in somebody's hands.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::member::Member;
use super::shared::{DiscardReason, Shared};
use crate::handle::ContainerHandle;

/// A sandbox of a [`Pool`](super::Pool), for one holder: everything that its [`ContainerHandle`] can do.
///
/// Dropped, the sandbox is killed and removed without blocking, whoever still has a clone of its handle; another takes its
/// place. The one exception is a lease whose handle nobody has looked at, such as one that came when its taker had gone: it
/// goes back to the pool as it is.
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
}

impl Lease {
    pub(super) fn new(shared: Arc<Shared>, member: Arc<Member>) -> Self {
        Self { shared, member, touched: AtomicBool::new(false), tainted: AtomicBool::new(false) }
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
            _ => return self.shared.returned(&self.member),
        };
        if let Err(error) = self.member.handle.kill() {
            tracing::error!(container = self.member.handle.id(), %error, "cannot kill");
        }
        self.shared.released(&self.member, why);
    }
}
