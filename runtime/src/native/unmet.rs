//! The limits of a container that do not hold, where it does without: what its later processes get in their place, and what a
//! change comes to.

use std::sync::{MutexGuard, PoisonError};

use super::cgroup_error;
use super::container::Core;
use crate::cgroup::Limits;
use crate::error::{Error, Errors};
use crate::spec::{Enforcement, ProcessSpec, UnmetLimit, give};

impl Core {
    pub(super) fn unmet(&self) -> Vec<UnmetLimit> {
        self.unmet_now().clone()
    }

    fn unmet_now(&self) -> MutexGuard<'_, Vec<UnmetLimit>> {
        self.unmet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands in the place of limits that do not hold is of each process: of a further one too.
    pub(super) fn give_in_place(&self, process: &mut ProcessSpec) {
        give(process, &mut self.unmet());
    }

    /// Change limits; what cannot be had of them, where it does without. Blocks.
    pub(super) fn update(&self, mut limits: Limits) -> Result<Vec<UnmetLimit>, Error> {
        let group = self.limited()?;
        let wrong = limits.validate().into_iter();
        let wrong: Vec<_> = wrong.map(|(field, why)| Error::invalid(format!("limits.{field}"), why)).collect();
        if !wrong.is_empty() {
            return Err(Errors(wrong).into_one());
        }
        let (asked, mut left) = (limits.clone(), Vec::new());
        while let Err(error) = group.update(&limits) {
            let told = cgroup_error(&error);
            match error.field() {
                Some(field) if self.enforcement() != Enforcement::Required && limits.clear(field) => {
                    left.push(self.changed_in_vain(field, error.is_unsupported(), &told, &asked));
                }
                _ => return Err(told),
            }
        }
        let mut unmet = self.unmet_now();
        unmet.retain(|old| !asked.clone().clear(&old.limit));
        unmet.extend(left.iter().cloned());
        Ok(left)
    }

    fn changed_in_vain(&self, field: &str, never: bool, told: &Error, asked: &Limits) -> UnmetLimit {
        if !never {
            return UnmetLimit::new(field, format!("{told}; what held before still does"));
        }
        let mut unmet = self.ground.unmet(field, told.to_string(), asked);
        if let Some(fallback) = &mut unmet.instead {
            fallback.weakness.push_str("; of those that are started from now on");
        }
        unmet
    }
}
