//! Work that may block, on a thread that may. What it logs belongs to the span of whoever asked.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

/// How many threads read and remove cgroups at a time.
const FEW: usize = 8;

/// [`spawn_blocking`] in the span of the caller.
pub(super) fn off_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let span = tracing::Span::current();
    spawn_blocking(move || span.in_scope(act))
}

/// [`off_thread`], for short work on files of the kernel's own alone, which nobody outside can hold up: a few at a time, so that the
/// end of thousands at once is not as many threads.
#[derive(Clone, Debug)]
pub(super) struct Few(Arc<Semaphore>);

impl Default for Few {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(FEW)))
    }
}

impl Few {
    pub(super) async fn off_thread<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // Never closed. Held by the work, not by who waits for it, and may go.
        let turn = Arc::clone(&self.0).acquire_owned().await.ok();
        off_thread(move || {
            let done = act();
            drop(turn);
            done
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_few_at_a_time_and_all_in_the_end() {
        let (few, now, most) = (Few::default(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = (0..100).map(|number| {
            let (few, now, most) = (few.clone(), Arc::clone(&now), Arc::clone(&most));
            tokio::spawn(async move {
                few.off_thread(move || {
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    number
                })
                .await
            })
        });
        let mut sum = 0;
        for done in work.collect::<Vec<_>>() {
            sum += done.await.unwrap().unwrap();
        }
        assert_eq!(sum, 99 * 50);
        assert!((1..=FEW).contains(&most.load(Ordering::SeqCst)));
        // One that panics gives its turn back.
        for _ in 0..2 * FEW {
            assert!(few.off_thread(|| panic!("a test")).await.is_err());
        }
        assert_eq!(few.0.available_permits(), FEW);
    }
}
