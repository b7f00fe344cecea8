//! Who has something: sources ring, the follower looks at those alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// The bells of one follower's sources.
#[derive(Debug, Default)]
pub(super) struct Ready(Mutex<Rung>);

#[derive(Debug, Default)]
struct Rung {
    keys: Vec<u64>,
    task: Option<Waker>,
}

impl Ready {
    fn rung(&self) -> MutexGuard<'_, Rung> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wake this task at the next bell. Before [`Ready::take`]: a bell in between wakes it.
    pub(super) fn listen(&self, cx: &Context<'_>) {
        let old = {
            let mut rung = self.rung();
            match &rung.task {
                Some(task) if task.will_wake(cx.waker()) => None,
                _ => rung.task.replace(cx.waker().clone()),
            }
        };
        // Not under the lock: it is somebody's code.
        drop(old);
    }

    /// Who has rung since the last time.
    pub(super) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut self.rung().keys)
    }
}

/// The waker of one source.
#[derive(Debug)]
pub(super) struct Bell {
    key: u64,
    /// It is among the keys, or was taken from there and not looked at yet.
    rung: AtomicBool,
    ready: Arc<Ready>,
}

impl Bell {
    /// One that has rung: a new source is looked at.
    pub(super) fn rung(key: u64, ready: &Arc<Ready>) -> Arc<Self> {
        ready.rung().keys.push(key);
        Arc::new(Self { key, rung: AtomicBool::new(true), ready: Arc::clone(ready) })
    }

    /// Its source is looked at now: what comes from here on rings again.
    pub(super) fn answered(&self) {
        self.rung.store(false, Ordering::Release);
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let task = {
            let mut rung = self.ready.rung();
            rung.keys.push(self.key);
            rung.task.take()
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}
