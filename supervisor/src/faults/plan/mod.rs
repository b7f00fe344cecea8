//! What is to go wrong: a plan of named faults, as data. Pure: nothing here has a clock, an actor or a container.
//!
//! Carried out by [`inject`](super::inject).

mod check;
mod kind;
mod seed;
mod target;
#[cfg(test)]
mod tests;
mod trigger;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;

pub(super) use kind::Meets;
pub use kind::{FaultKind, PlanOf};
pub(super) use seed::{Draw, sub_seed};
pub use target::{Pick, Target};
pub use trigger::Trigger;

/// Where [`Plan::seeded_by_env`] looks for a seed.
pub const SEED_VARIABLE: &str = "ORANGERY_FAULT_SEED";

/// Named faults and the seed of everything in them that is left to chance.
///
/// The same plan with the same seed decides the same: each fault draws from a sequence of its own, made of the seed and its
/// name, so that a fault more or less shifts no other. What is decided reproduces; how the threads and processes of the
/// day come to run beside each other does not.
///
/// ```
/// use orangery::faults::{FaultKind, Plan, PlannedFault, Trigger};
///
/// let plan = Plan::seeded(7).fault(
///     PlannedFault::new("second one dies", FaultKind::Kill, Trigger::Spawn { nth: 2 }).label("role", "worker"),
/// );
/// plan.check()?;
/// let text = serde_json::to_string(&plan).unwrap();
/// assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
/// # Ok::<(), orangery::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Plan {
    /// Where chance begins.
    pub seed: u64,
    /// What is to happen; their order means nothing.
    pub faults: Vec<PlannedFault>,
}

/// One fault of a [`Plan`].
///
/// ```
/// use std::time::Duration;
/// use orangery::Source;
/// use orangery::faults::{FaultKind, Pick, PlannedFault, Trigger};
///
/// // Whenever a worker ends, by a coin, two of those that live stand still for a tenth of a second; five times at most.
/// let fault = PlannedFault::new("neighbours sleep", FaultKind::Pause, Trigger::Exit { nth: 1 })
///     .label("role", "worker")
///     .pick(Pick::Some(2))
///     .probability(0.5)
///     .times(5)
///     .lasting(Duration::from_millis(100));
/// assert_eq!(fault.lasts_ms, Some(100));
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PlannedFault {
    /// What it is called: unique in its plan, and part of its chance.
    pub name: String,
    /// What goes wrong.
    pub kind: FaultKind,
    /// Whose events count, and who is hit. Default: each container, and the one that the event is about.
    #[serde(default)]
    pub target: Target,
    /// When. Each such event from the one that is named on is an occasion.
    pub trigger: Trigger,
    /// How likely it is on each occasion: above 0, at most 1, which is the default.
    #[serde(default = "always")]
    pub probability: f64,
    /// After how many occasions that were taken it is over. Default: 1.
    #[serde(default = "once")]
    pub times: u32,
    /// How long it lasts, in milliseconds; for kinds that last. Default: to the end of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts_ms: Option<u64>,
    /// It lasts until this has happened, counted from when it was applied, to anybody whom the target matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Trigger>,
}

const fn always() -> f64 {
    1.0
}

const fn once() -> u32 {
    1
}

impl Plan {
    /// No faults yet, and this seed.
    #[must_use]
    pub const fn seeded(seed: u64) -> Self {
        Self { seed, faults: Vec::new() }
    }

    /// No faults yet, and the seed that stands in the environment ([`SEED_VARIABLE`]), or a new one.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid): what stands there is no number.
    pub fn seeded_by_env() -> Result<Self, Error> {
        match std::env::var(SEED_VARIABLE) {
            Ok(text) => {
                let seed = text.trim().parse();
                let seed = seed.map_err(|_| Error::invalid(SEED_VARIABLE, format!("{text:?} is no number")))?;
                Ok(Self::seeded(seed))
            }
            Err(std::env::VarError::NotPresent) => Ok(Self::seeded(crate::supervisor::random())),
            Err(error) => Err(Error::invalid(SEED_VARIABLE, error.to_string())),
        }
    }

    /// With this fault more.
    #[must_use]
    pub fn fault(mut self, fault: PlannedFault) -> Self {
        self.faults.push(fault);
        self
    }

    /// Everything in it that makes no sense, at once.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid); the field names the fault and what is wrong with it, as in
    /// `faults["slow start"].probability`.
    pub fn check(&self) -> Result<(), Error> {
        Error::all(check::refusals(self))
    }

    /// The line that has the same decisions made again.
    pub(super) fn again(&self) -> String {
        let names: Vec<&str> = self.faults.iter().map(|fault| fault.name.as_str()).collect();
        format!("faults were injected ({}); for the same decisions: {SEED_VARIABLE}={}", names.join(", "), self.seed)
    }
}

impl PlannedFault {
    /// On the first such occasion, to the container that it is about.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: FaultKind, trigger: Trigger) -> Self {
        let (name, target) = (name.into(), Target::default());
        Self { name, kind, target, trigger, probability: always(), times: once(), lasts_ms: None, until: None }
    }

    /// Containers with this id alone.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.target.id = Some(id.into());
        self
    }

    /// Containers with this label alone; of several, all.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.target.labels.insert(name.into(), value.into());
        self
    }

    /// Which of them are hit.
    #[must_use]
    pub const fn pick(mut self, pick: Pick) -> Self {
        self.target.pick = pick;
        self
    }

    /// How likely it is on each occasion.
    #[must_use]
    pub const fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// After how many occasions that were taken it is over.
    #[must_use]
    pub const fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// How long it lasts; to the millisecond, rounded up.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasts_ms = Some(u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
        self
    }

    /// Until when it lasts.
    #[must_use]
    pub fn until(mut self, trigger: Trigger) -> Self {
        self.until = Some(trigger);
        self
    }

    /// How long it lasts, where a time was given.
    pub(super) fn lasts(&self) -> Option<Duration> {
        self.lasts_ms.map(Duration::from_millis)
    }
}
