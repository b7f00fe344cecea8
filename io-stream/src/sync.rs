//! The one kind of lock in this crate. Under `cfg(orangery_loom)` it is loom's, so that the hand-over can
//! be model-checked as it is; see `slot/model.rs`. (Not `cfg(loom)`: tokio has no pipes then.)

use std::sync::PoisonError;

#[cfg(orangery_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(orangery_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Locks, also after a panic elsewhere: no state here is left half changed by one.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
