//! Counts nothing.

use crate::State;
use crate::error::Error;
use crate::events::Event;
use crate::pool::state::Tally;
use crate::probe::HealthState;
use crate::probe::health::Answer;
use crate::process::output::Output;

#[derive(Clone, Default)]
pub(crate) struct Meters {}

/// A stream that is not counted.
pub(crate) struct Enrolled;

impl Meters {
    #[expect(clippy::unused_self, reason = "the other one needs it")]
    pub(crate) fn observe(&self, _: &Event) {}

    #[expect(clippy::unused_self, reason = "the other one needs it")]
    pub(crate) fn moved(&self, _: Option<State>, _: State) {}

    #[expect(clippy::unused_self, reason = "the other one needs it")]
    pub(crate) fn health_moved(&self, _: Option<HealthState>, _: Option<HealthState>) {}

    #[expect(clippy::unused_self, reason = "the other one needs it")]
    pub(crate) fn probed(&self, _: Answer) {}

    #[expect(clippy::unused_self, reason = "the other one needs it")]
    pub(crate) fn refused(&self, _: &Error) {}

    #[expect(clippy::unused_self, reason = "the other one needs it")]
    pub(crate) fn pool(&self, _: &str, _: &Tally) {}

    #[expect(clippy::unused_self, reason = "the other one needs it")]
    pub(crate) fn pool_made(&self, _: &str) {}

    #[expect(clippy::unused_self, reason = "the other one needs it")]
    pub(crate) fn pool_discarded(&self, _: &str, _: &'static str) {}

    #[expect(clippy::unused_self, reason = "the other one needs it")]
    pub(crate) fn enroll(&self, _: &Output) -> Enrolled {
        Enrolled
    }
}
