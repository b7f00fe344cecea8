//! Stats: asked for, or pushed at an interval.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use orangery_runtime::cgroup::Stats;
use tokio::sync::watch;

use super::ContainerHandle;
use crate::container::msg::PushStats;

/// Shortest interval: each reading opens a dozen files of the cgroup.
const SHORTEST: Duration = Duration::from_millis(10);

/// The counters of a container as they come: see [`ContainerHandle::stats_stream`].
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// use futures_util::StreamExt as _;
/// let mut stats: orangery::StatsStream = container.stats_stream(std::time::Duration::from_secs(1));
/// while let Some(stats) = stats.next().await {
///     println!("{:?}", stats.cpu_usage_ns);
/// }
/// # Ok(()) }
/// ```
#[must_use = "a stream does nothing until it is read"]
pub struct StatsStream {
    inner: Pin<Box<dyn Stream<Item = Stats> + Send>>,
}

impl fmt::Debug for StatsStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatsStream").finish_non_exhaustive()
    }
}

impl Stream for StatsStream {
    type Item = Stats;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Stats>> {
        self.inner.as_mut().poll_next(cx)
    }
}

impl ContainerHandle {
    /// Its counters now, or the last ones.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.slot.stats()
    }

    /// Its counters, at once and then at every interval (at least 10 ms), until it is gone; the last item are the final
    /// ones. A slow reader gets the newest when it comes, never old ones. Readings are made on a thread of the
    /// supervisor's, only while the stream exists. The stream does not keep the container alive.
    ///
    /// ```
    /// use futures_util::StreamExt as _;
    /// # async fn f(container: orangery::ContainerHandle) {
    /// let mut stats = container.stats_stream(std::time::Duration::from_secs(1));
    /// while let Some(stats) = stats.next().await {
    ///     println!("{:?} bytes", stats.memory_current);
    /// }
    /// # }
    /// ```
    pub fn stats_stream(&self, every: Duration) -> StatsStream {
        let slot = Arc::clone(&self.inner.slot);
        let (sender, mut newest) = watch::channel(slot.stats());
        newest.mark_changed();
        self.inner.actor.do_send(PushStats { every: every.max(SHORTEST), sender });
        let stream = futures_util::stream::unfold(Some((newest, slot)), async |state| {
            let (mut newest, slot) = state?;
            match newest.changed().await {
                Ok(()) => {
                    let stats = newest.borrow_and_update().clone();
                    Some((stats, Some((newest, slot))))
                }
                // Nobody pushes any more: the container is gone, or going with its actor or supervisor.
                Err(_) => Some((slot.stats(), None)),
            }
        });
        StatsStream { inner: Box::pin(stream) }
    }
}
