//! Work that may block, on a thread that may. What it logs belongs to the span of whoever asked.

use tokio::task::{JoinHandle, spawn_blocking};

/// [`spawn_blocking`] in the span of the caller.
pub(super) fn off_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let span = tracing::Span::current();
    spawn_blocking(move || span.in_scope(act))
}
