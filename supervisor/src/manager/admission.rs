//! Budgets, asked before any work starts. A permit is held by what it was given for and comes back when that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, ErrorKind};

/// How many containers there may be.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    used: Arc<AtomicUsize>,
    most: usize,
}

/// The right to one container.
#[derive(Debug)]
pub(crate) struct Permit {
    used: Arc<AtomicUsize>,
}

impl Admission {
    pub(crate) fn new(most: usize) -> Self {
        Self { used: Arc::default(), most }
    }

    /// A permit, or the refusal that says which budget is spent.
    pub(crate) fn permit(&self) -> Result<Permit, Error> {
        let grown =
            self.used.try_update(Ordering::AcqRel, Ordering::Acquire, |used| (used < self.most).then_some(used + 1));
        match grown {
            Ok(_) => Ok(Permit { used: Arc::clone(&self.used) }),
            Err(used) => {
                let what =
                    format!("{used} containers exist or are being made; this supervisor's limit is {}", self.most);
                Err(Error::new(ErrorKind::Exhausted, what))
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_above_the_limit_is_refused_at_once_and_a_permit_comes_back() {
        let admission = Admission::new(2);
        let held = [admission.permit().unwrap(), admission.permit().unwrap()];
        assert_eq!(admission.permit().unwrap_err().kind(), ErrorKind::Exhausted);
        drop(held);
        assert!(admission.permit().is_ok());
    }
}
