//! Budgets, asked before any work starts. A permit is held by what it was given for and comes back when that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use orangery_runtime as runtime;
use orangery_runtime::spec::{Resource, rlimit};

use crate::error::Error;

/// Descriptors of the supervisor's process that one container takes at most.
pub const DESCRIPTORS_EACH: u64 = 4;
/// Descriptors that are kept free for everything else in the process.
pub const DESCRIPTORS_RESERVED: u64 = 64;

/// How many containers fit below a limit of `nofile` descriptors (RLIMIT_NOFILE): [`DESCRIPTORS_EACH`] for each of them
/// and [`DESCRIPTORS_RESERVED`] kept free. A supervisor admits no more than that, by the soft limit as it is at the
/// moment; several supervisors in one process do not know of each other.
///
/// ```
/// assert_eq!(orangery::containers_that_fit(1024), 240);
/// assert_eq!(orangery::containers_that_fit(10), 0);
/// assert_eq!(orangery::containers_that_fit(u64::MAX), u64::MAX, "no limit");
/// ```
#[must_use]
pub fn containers_that_fit(nofile: u64) -> u64 {
    match nofile {
        rlimit::INFINITY => u64::MAX,
        limit => limit.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_EACH,
    }
}

/// How many containers there may be.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    used: Arc<AtomicUsize>,
    most: usize,
    /// The soft limit on descriptors, which its owner may change at any time.
    nofile: fn() -> u64,
}

/// The right to one container.
#[derive(Debug)]
pub(crate) struct Permit {
    used: Arc<AtomicUsize>,
}

impl Admission {
    pub(crate) fn new(most: usize) -> Self {
        Self { used: Arc::default(), most, nofile: || Resource::Nofile.current().0 }
    }

    /// Descriptors that are promised to containers or kept free.
    #[cfg(feature = "metrics")]
    pub(crate) fn descriptors(&self) -> u64 {
        self.used.load(Ordering::Acquire) as u64 * DESCRIPTORS_EACH + DESCRIPTORS_RESERVED
    }

    /// A permit, or the refusal that says which budget is spent, in words and as its field.
    pub(crate) fn permit(&self) -> Result<Permit, Error> {
        let nofile = (self.nofile)();
        let fit = usize::try_from(containers_that_fit(nofile)).unwrap_or(usize::MAX);
        let most = self.most.min(fit);
        let grown = self.used.try_update(Ordering::AcqRel, Ordering::Acquire, |used| (used < most).then_some(used + 1));
        match grown {
            Ok(_) => Ok(Permit { used: Arc::clone(&self.used) }),
            Err(used) if used < self.most => Err(descriptors_spent(used, nofile)),
            Err(used) => {
                let what =
                    format!("{used} containers exist or are being made; this supervisor's limit is {}", self.most);
                Err(runtime::Error::new(runtime::ErrorKind::Exhausted, what).with_field("containers").into())
            }
        }
    }
}

fn descriptors_spent(used: usize, nofile: u64) -> Error {
    let what = format!(
        "{used} containers exist or are being made; {DESCRIPTORS_EACH} descriptors for one more and \
         {DESCRIPTORS_RESERVED} in reserve do not fit below RLIMIT_NOFILE, {nofile}"
    );
    let error = runtime::Error::new(runtime::ErrorKind::Exhausted, what);
    error.with_field("descriptors").with_hint("raise the limit on open files, such as with `ulimit -n`").into()
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn one_above_the_limit_is_refused_at_once_and_a_permit_comes_back() {
        let admission = Admission::new(2);
        let held = [admission.permit().unwrap(), admission.permit().unwrap()];
        let refused = admission.permit().unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some("containers")));
        drop(held);
        assert!(admission.permit().is_ok());
    }

    #[test]
    fn descriptors_are_a_budget_of_their_own_and_the_refusal_names_it() {
        let admission = Admission { nofile: || 64 + 2 * 4 + 3, ..Admission::new(10) };
        let held = [admission.permit().unwrap(), admission.permit().unwrap()];
        let refused = admission.permit().unwrap_err();
        assert_eq!((refused.kind(), refused.field()), (ErrorKind::Exhausted, Some("descriptors")));
        assert!(refused.to_string().contains("RLIMIT_NOFILE, 75") && refused.hint().is_some(), "{refused}");
        let roomier = Admission { nofile: || u64::MAX, ..admission };
        assert!(roomier.permit().is_ok(), "the limit as it is now");
        drop(held);
    }
}
