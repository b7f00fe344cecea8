//! Time that a test moves: stop ladders, limits and graces of hours in no time, and never by accident.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};

/// More than tokio lets pass between two looks at its sources of events.
const SETTLED: usize = 256;

/// The time of a supervisor that was built with
/// [`SupervisorBuilder::clock`](crate::SupervisorBuilder::clock). Stands still but for [`VirtualClock::advance`]; clones
/// are the same clock. Clocks of the kernel, which reports are dated by, go on as ever.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use orangery::{Cause, LimitKind, Sandbox, Supervisor, testing::{FakeRuntime, VirtualClock}};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), orangery::Error> {
/// let clock = VirtualClock::default();
/// let fake = FakeRuntime::default();
/// let supervisor = Supervisor::builder().shards(1).clock(&clock).build_on(Arc::new(fake.clone()))?;
/// let sandbox = Sandbox::builder().wall(Duration::from_secs(3600)).build()?;
/// let container = supervisor.command("prog").sandbox(&sandbox).spawn().await?;
/// let process = fake.actor().await;
/// clock.advance(Duration::from_secs(3600)).await;
/// drop(process);
/// assert_eq!(container.wait().await?.cause, Cause::Limit(LimitKind::Wall));
/// supervisor.shutdown().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default)]
pub struct VirtualClock {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    runtimes: Mutex<Vec<Handle>>,
    released: Mutex<bool>,
    changed: Condvar,
}

impl VirtualClock {
    /// Let everything that is ready happen, move the time on, let everything happen that this makes ready. A deadline
    /// that is set while this goes on counts from the new time: advance again for it. With more than one shard they are
    /// moved one after the other.
    pub async fn advance(&self, by: Duration) {
        let runtimes = self.runtimes().clone();
        for runtime in runtimes {
            let moved = runtime.spawn(async move {
                settle().await;
                tokio::time::advance(by).await;
                settle().await;
            });
            // It has ended: nothing waits for the time there.
            let _ = moved.await;
        }
    }

    fn runtimes(&self) -> MutexGuard<'_, Vec<Handle>> {
        self.inner.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A runtime in this time. tokio moves a paused clock by itself when it has nothing to do, which a thread that waits
    /// for other threads and for pipes often has; but not while something blocks on its behalf, so something does.
    pub(crate) fn runtime(&self, builder: &mut Builder) -> io::Result<Runtime> {
        let runtime = builder.start_paused(true).build()?;
        let inner = Arc::clone(&self.inner);
        let blocked = runtime.spawn_blocking(move || {
            let mut released = inner.released.lock().unwrap_or_else(PoisonError::into_inner);
            while !*released {
                released = inner.changed.wait(released).unwrap_or_else(PoisonError::into_inner);
            }
        });
        drop(blocked);
        self.runtimes().push(runtime.handle().clone());
        Ok(runtime)
    }

    /// Let the runtimes end.
    pub(crate) fn release(&self) {
        *self.inner.released.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.inner.changed.notify_all();
    }
}

/// Until everybody else of this thread waits for something.
async fn settle() {
    for _ in 0..SETTLED {
        tokio::task::yield_now().await;
    }
}
