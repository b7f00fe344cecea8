//! A deadline that needs no runtime and no runtime's clock: a thread that sleeps, and is woken when it is not needed any more.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::poll_fn;

/// What `future` comes to within this time; `None`: nothing.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut alarm = None;
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(value));
        }
        // Only who has to wait needs it.
        if alarm.get_or_insert_with(|| Alarm::set(limit)).has_rung(cx.waker()) {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// A little time, for another look.
pub(super) async fn pause(time: Duration) {
    let _: Option<()> = within(time, std::future::pending()).await;
}

struct Alarm {
    clock: Arc<Clock>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Clock {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    rung: bool,
    off: bool,
    waker: Option<Waker>,
}

impl Clock {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, limit: Duration) {
        let wait = self.changed.wait_timeout_while(self.state(), limit, |state| !state.off);
        let (mut state, _) = wait.unwrap_or_else(PoisonError::into_inner);
        state.rung = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Alarm {
    fn set(limit: Duration) -> Self {
        let clock = Arc::new(Clock::default());
        let ours = Arc::clone(&clock);
        let thread = std::thread::Builder::new().name("deadline".into()).spawn(move || ours.run(limit));
        if thread.is_err() {
            // Better too early than never.
            clock.state().rung = true;
        }
        Self { clock, thread: thread.ok() }
    }

    fn has_rung(&self, waker: &Waker) -> bool {
        let mut state = self.clock.state();
        state.waker = Some(waker.clone());
        state.rung
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = {
            let mut state = self.clock.state();
            state.off = true;
            state.waker.take()
        };
        drop(waker);
        self.clock.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_on;

    #[test]
    fn what_comes_in_time_comes_and_what_does_not_does_not() {
        let hour = Duration::from_secs(3600);
        assert_eq!(block_on(within(hour, std::future::ready(3))), Some(3));
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || sender.send(7));
        assert_eq!(block_on(within(hour, receiver)), Some(Ok(7)));
        thread.join().unwrap().unwrap();
        assert_eq!(block_on(within(Duration::from_millis(1), std::future::pending::<()>())), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_clock_neither_stops_nor_hurries_it() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || sender.send(7));
        assert_eq!(within(Duration::from_secs(3600), receiver).await, Some(Ok(7)));
        thread.join().unwrap().unwrap();
        pause(Duration::from_millis(1)).await;
    }
}
