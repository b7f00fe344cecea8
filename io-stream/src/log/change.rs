//! What a log does with its files, one after the other: where a test stops the process that writes it.

use std::fmt;
use std::sync::{Arc, OnceLock};

/// What was just done. The list is closed and only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// A further file was made, with its index. If somebody else holds the log, he does not know it, and it has no name.
    Made,
    /// He does.
    Told,
    /// It has its name.
    Named,
    /// A closed file lies beside itself, compressed and whole, under a name that nobody looks for.
    Packed,
    /// It lies there in both forms.
    Doubled,
    /// In the compressed one alone.
    Compressed,
    /// One that is not kept is gone.
    Removed,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 7] = [
        Change::Made,
        Change::Told,
        Change::Named,
        Change::Packed,
        Change::Doubled,
        Change::Compressed,
        Change::Removed,
    ];
}

type Told = dyn Fn(Change) + Send + Sync;

/// Who is told of each, if anybody is.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<OnceLock<Box<Told>>>);

impl Watch {
    pub(crate) fn by(&self, told: Box<Told>) {
        let _ = self.0.set(told);
    }

    pub(crate) fn tell(&self, change: Change) {
        if let Some(told) = self.0.get() {
            told(change);
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.0.get().is_some()).finish()
    }
}
