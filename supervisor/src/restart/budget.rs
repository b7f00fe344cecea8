//! Back-off, window and tally of one thing that is restarted. Times are given as what has passed since some beginning.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Answer, Delays, Outcome, Restart, WhenSpent};
use crate::error::Error;
use crate::report::{Cause, ExitStatus, Report, unix_ms};

/// Deaths that are remembered; older ones are forgotten.
const TALLY: usize = 100;

/// One end of an incarnation, as the tally keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Death {
    /// Which incarnation.
    pub generation: u32,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// How it ended; `None`: `error` says why nobody knows.
    pub exit: Option<ExitStatus>,
    /// Why it ended; `None` as for `exit`.
    pub cause: Option<Cause>,
    /// Why it could not be started, or was lost.
    pub error: Option<String>,
    /// How long it ran, in microseconds.
    pub ran_us: u64,
}

impl Death {
    pub(crate) fn of(report: &Report) -> Self {
        Self {
            generation: report.generation,
            at_ms: report.ended_at_ms,
            exit: Some(report.exit),
            cause: Some(report.cause.clone()),
            error: None,
            ran_us: report.wall_us.known().copied().unwrap_or(0),
        }
    }

    /// It could not be started, or nobody knows how it ended.
    pub(crate) fn unreported(generation: u32, error: &Error) -> Self {
        let at_ms = unix_ms(std::time::SystemTime::now());
        Self { generation, at_ms, exit: None, cause: None, error: Some(error.to_string()), ran_us: 0 }
    }
}

/// Why there is no further start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum GiveUp {
    /// The window is spent: it was restarted as often as it may be.
    WindowSpent,
    /// It said that it can never work ([`Treatment::Permanent`](super::Treatment::Permanent)).
    Permanent,
    /// It cannot be started, and trying again would not change that.
    CannotStart,
    /// It was unhealthy, and that is what was to follow ([`OnUnhealthy::Stop`](crate::OnUnhealthy::Stop)).
    Unhealthy,
    /// Its container was killed and does not end ([`Unkillable`](crate::Unkillable)): it still has the name.
    Unkillable,
    /// A member of the group has failed.
    Member,
    /// The actor that was responsible for it spent its budget of panics.
    SupervisorFault,
}

/// What follows an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Another start after this.
    Restart { after: Duration },
    /// It has done what it was for.
    Done,
    /// No further start; told upwards.
    Escalate(GiveUp),
}

/// What has happened so far, and so what may still happen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Budget {
    restart: Restart,
    random: u64,
    /// Restarts in a row without a stable run between them.
    in_a_row: u32,
    /// When restarts within the window were due, in order.
    due: VecDeque<Duration>,
    tally: Arc<VecDeque<Death>>,
}

impl Budget {
    /// `seed` counts where the description has none.
    pub(crate) fn new(restart: Restart, seed: u64) -> Self {
        let random = restart.seed.unwrap_or(seed);
        Self { restart, random, in_a_row: 0, due: VecDeque::new(), tally: Arc::default() }
    }

    pub(crate) fn restart(&self) -> &Restart {
        &self.restart
    }

    /// The last deaths, the oldest first.
    pub(crate) fn tally(&self) -> Arc<VecDeque<Death>> {
        Arc::clone(&self.tally)
    }

    /// Somebody starts it by hand: as if nothing had happened, but for the tally.
    pub(crate) fn renew(&mut self) {
        self.in_a_row = 0;
        self.due.clear();
    }

    /// An end at `now` after a run of `ran`.
    pub(crate) fn decide(&mut self, now: Duration, ran: Duration, (outcome, waits): (Outcome, bool)) -> Decision {
        match self.restart.policy.answer(outcome) {
            Answer::Done => Decision::Done,
            Answer::GiveUp(why) => Decision::Escalate(why),
            Answer::Restart => self.another(now, ran, waits),
        }
    }

    /// Remember a death.
    pub(crate) fn count(&mut self, death: Death) {
        let tally = Arc::make_mut(&mut self.tally);
        if tally.len() == TALLY {
            tally.pop_front();
        }
        tally.push_back(death);
    }

    fn another(&mut self, now: Duration, ran: Duration, waits: bool) -> Decision {
        if ran >= self.restart.stable {
            self.in_a_row = 0;
        }
        let mut after = Duration::ZERO;
        if waits {
            self.in_a_row = self.in_a_row.saturating_add(1);
            let full = self.restart.delay(self.in_a_row);
            after = full.saturating_sub(self.jitter(full));
        }
        let mut due = now.saturating_add(after);
        if let Some(most) = self.restart.most {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            self.forget(due);
            if self.due.len() >= most {
                let room = self.due.len().checked_sub(most).and_then(|index| self.due.get(index).copied());
                match (self.restart.when_spent, room, self.restart.within) {
                    (WhenSpent::Delay, Some(oldest), Some(within)) => due = oldest.saturating_add(within),
                    _ => return Decision::Escalate(GiveUp::WindowSpent),
                }
                self.forget(due);
            }
            self.due.push_back(due);
        }
        Decision::Restart { after: due.saturating_sub(now) }
    }

    /// Restarts that are out of the window that ends with one at `due`.
    fn forget(&mut self, due: Duration) {
        if let Some(within) = self.restart.within {
            self.due.retain(|then| then.saturating_add(within) > due);
        }
    }

    /// What to take from a delay: up to the share that the description says, the same for the same seed.
    fn jitter(&mut self, full: Duration) -> Duration {
        let share = u128::from(self.restart.jitter_percent.min(100));
        let most = full.as_nanos().saturating_mul(share) / 100;
        let less = u128::from(self.next_random()) % (most + 1);
        nanos(less)
    }

    /// splitmix64.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Restart {
    /// Before the jitter: what the nth restart in a row waits.
    pub(super) fn delay(&self, nth: u32) -> Duration {
        let before = nth.saturating_sub(1);
        match &self.delays {
            Delays::Growing { base, factor, cap } => {
                let grown = u128::from(*factor).checked_pow(before).and_then(|by| base.as_nanos().checked_mul(by));
                grown.map_or(*cap, |grown| nanos(grown).min(*cap))
            }
            Delays::Listed(list) => {
                let index = usize::try_from(before).unwrap_or(usize::MAX);
                list.get(index).or(list.last()).copied().unwrap_or_default()
            }
        }
    }
}

fn nanos(nanos: u128) -> Duration {
    u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
}
