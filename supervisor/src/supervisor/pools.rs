//! Pools of a supervisor: their names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Supervisor;
use crate::error::Error;
use crate::pool::Shared;

/// Those that are there. Each lies with its handles, its leases and its tasks.
#[derive(Default)]
pub(super) struct Pools(Mutex<BTreeMap<String, Weak<Shared>>>);

impl Supervisor {
    /// Give it its name, which numbers the ids of its sandboxes.
    pub(crate) fn enroll_pool(&self, pool: &Arc<Shared>) -> Result<(), Error> {
        let mut named = self.inner.pools.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Dropped when nobody holds the lock: it may be the last that holds its sandboxes.
        let there: Vec<_> = named.values().filter_map(Weak::upgrade).collect();
        named.retain(|_, pool| pool.strong_count() > 0);
        let taken = there.iter().any(|other| other.name() == pool.name() && !other.is_over());
        if !taken {
            named.insert(pool.name().to_owned(), Arc::downgrade(pool));
        }
        drop(named);
        drop(there);
        if taken { Err(Error::taken("pool", pool.name())) } else { Ok(()) }
    }
}
