//! Waiting for a future without a runtime. Our futures need none: everything they wait for happens on our threads.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Run `future` to its end on this thread: the whole library for programs without a runtime.
///
/// Every future and stream of this library can be waited for with it, since what they wait for happens on the
/// supervisor's own threads. It may be called inside any runtime too, of which nothing is entered or left; it blocks that
/// thread.
///
/// ```no_run
/// use orangery::{Stdin, Supervisor, block_on};
/// let supervisor = Supervisor::new()?;
/// let container = supervisor.command("sleep").arg("1000").spawn_blocking()?;
/// let listing = block_on(container.command("ls").arg("/").spawn())?;
/// println!("{:?}", block_on(listing.stdout().collect(4096)));
/// block_on(container.stop(15, std::time::Duration::from_secs(2)))?;
/// supervisor.shutdown_blocking();
/// # Ok::<(), orangery::Error>(())
/// ```
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            // A wake between the poll and this leaves a token, so that it returns at once.
            Poll::Pending => std::thread::park(),
        }
    }
}
