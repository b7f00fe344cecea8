//! When something that has ended is started again: a description ([`Restart`]) and its carrying out (`budget`). Pure:
//! times come in as arguments, nothing here waits, reads a clock or starts anything.
//!
//! An end is first judged: by the exit classes, then what it was of itself. The policy then says whether
//! there is to be another start (the table of [`Policy`]), the back-off when, and the window whether that is one
//! too many.
//!
//! # Defaults
//!
//! | what | default | precedents |
//! |---|---|---|
//! | policy | [`never`](Restart::never) | Docker `no`; OTP `temporary` |
//! | back-off: base, factor, cap | 100 ms, 2, 60 s | Docker the same; Kubernetes 10 s, 2, 300 s; systemd 100 ms, flat; s6 1 s, flat |
//! | jitter | 25 % | Nomad 25 %; task-supervisor 10 % |
//! | stable | 10 s | Docker 10 s; Kubernetes 10 min; systemd never resets |
//! | window | 10 in 10 min, then [`Fail`](WhenSpent::Fail) | Fly 10; systemd 5 in 10 s; Nomad 2 in 30 min, then the next interval; OTP 1 in 5 s |
//! | tally | the last 100 deaths | s6 100 |
//!
//! Ten delays of the default take 102 s, five only 3: a window of five would be spent before a dependency is back.

mod budget;
#[cfg(test)]
mod tests;

use std::time::Duration;

use orangery_runtime::Error as RuntimeError;
use serde::{Deserialize, Serialize};

use crate::probe::OnUnhealthy;
use crate::report::{Cause, ExitStatus, LimitKind, OomVerdict, Report};

pub(crate) use budget::{Budget, Decision};
pub use budget::{Death, GiveUp};

/// Who is started again when it has ended.
///
/// | | it succeeded | it failed | it was stopped through a handle of its container |
/// |---|---|---|---|
/// | `Never` | | | |
/// | `OnFailure` | | restart | |
/// | `Always` | restart | restart | restart |
/// | `UnlessStopped` | restart | restart | |
///
/// [`Service::stop`](crate::Service::stop) is never followed by a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Nobody.
    #[default]
    Never,
    /// Who failed.
    OnFailure,
    /// Everybody.
    Always,
    /// Everybody but who was stopped or killed by somebody who asked for it.
    UnlessStopped,
}

/// What an end was, once it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    /// Somebody ended it through its container.
    Stopped,
    /// Its class says: never again, and that is no failure.
    Prevented,
    /// Its class says: again, whatever the policy.
    Forced,
    /// Its class says: it can never work.
    Permanent,
    /// It was unhealthy and is not to be started again.
    Unhealthy,
}

/// What a policy makes of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Restart,
    /// It is over.
    Done,
    /// It is over, and whoever relies on it must hear of it.
    GiveUp(GiveUp),
}

impl Policy {
    /// The table; total.
    pub(crate) fn answer(self, outcome: Outcome) -> Answer {
        match (self, outcome) {
            (_, Outcome::Permanent) => Answer::GiveUp(GiveUp::Permanent),
            (_, Outcome::Unhealthy) => Answer::GiveUp(GiveUp::Unhealthy),
            (_, Outcome::Forced) => Answer::Restart,
            (Self::Never, _) | (_, Outcome::Prevented) => Answer::Done,
            (Self::OnFailure, Outcome::Failed) => Answer::Restart,
            (Self::OnFailure, Outcome::Succeeded | Outcome::Stopped) => Answer::Done,
            (Self::UnlessStopped, Outcome::Stopped) => Answer::Done,
            (Self::Always | Self::UnlessStopped, _) => Answer::Restart,
        }
    }
}

/// A kind of end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ExitClass {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// The OOM killer took it.
    Oom,
    /// It ended because of this limit.
    Limit(LimitKind),
    /// It ended because of a limit.
    AnyLimit,
    /// It was not ready in time.
    NotReady,
    /// It was unhealthy. Without a class it is as its [`OnUnhealthy`] says.
    Unhealthy,
    /// It did not give a sign of life in time.
    Watchdog,
}

impl ExitClass {
    fn holds(self, report: &Report) -> bool {
        match self {
            Self::Code(code) => report.exit == ExitStatus::Code(code),
            Self::Signal(signal) => matches!(report.exit, ExitStatus::Signal { signal: was, .. } if was == signal),
            Self::Oom => {
                let killed = matches!(report.exit, ExitStatus::Signal { signal: 9, .. });
                report.cause == Cause::Limit(LimitKind::Memory)
                    || report.cause == Cause::Own && killed && took_some(&report.oom)
            }
            Self::Limit(kind) => report.cause == Cause::Limit(kind),
            Self::AnyLimit => matches!(report.cause, Cause::Limit(_)),
            Self::NotReady => report.cause == Cause::NotReady,
            Self::Unhealthy => report.cause == Cause::Unhealthy,
            Self::Watchdog => report.cause == Cause::Watchdog,
        }
    }
}

fn took_some(oom: &OomVerdict) -> bool {
    matches!(oom, OomVerdict::Own { .. } | OomVerdict::Ancestor { .. } | OomVerdict::Killed { .. })
}

/// What a kind of end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Treatment {
    /// It succeeded.
    Success,
    /// It failed.
    Failure,
    /// Never again, whatever the policy; no failure.
    Prevent,
    /// Again, whatever the policy; the window still counts.
    Force,
    /// Never again: it says that it can never work.
    Permanent,
    /// If again, then at once; beside one of the others. The window still counts, the back-off does not grow.
    NoBackOff,
}

/// What follows when the window is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenSpent {
    /// No further start: failed, and its group is told.
    #[default]
    Fail,
    /// The next start waits until the window has room again.
    Delay,
}

/// When something that has ended is started again. Without a call each is as the [table of defaults](self#defaults) says.
///
/// ```
/// use orangery::{ExitClass, Restart, Treatment};
/// use std::time::Duration;
/// let restart = Restart::on_failure()
///     .back_off(Duration::from_secs(1), 2, Duration::from_secs(30))
///     .window(5, Duration::from_secs(60))
///     .class(ExitClass::Code(125), Treatment::Permanent)
///     .class(ExitClass::Oom, Treatment::Prevent);
/// # let _ = restart;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Restart {
    pub(crate) policy: Policy,
    classes: Vec<(ExitClass, Treatment)>,
    delays: Delays,
    jitter_percent: u32,
    pub(crate) seed: Option<u64>,
    stable: Duration,
    most: Option<u32>,
    within: Option<Duration>,
    when_spent: WhenSpent,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Delays {
    Growing { base: Duration, factor: u32, cap: Duration },
    Listed(Vec<Duration>),
}

impl Default for Restart {
    fn default() -> Self {
        Self::never()
    }
}

impl Restart {
    fn with(policy: Policy) -> Self {
        Self {
            policy,
            classes: Vec::new(),
            delays: Delays::Growing { base: Duration::from_millis(100), factor: 2, cap: Duration::from_secs(60) },
            jitter_percent: 25,
            seed: None,
            stable: Duration::from_secs(10),
            most: Some(10),
            within: Some(Duration::from_secs(600)),
            when_spent: WhenSpent::Fail,
        }
    }

    /// [`Policy::Never`].
    pub fn never() -> Self {
        Self::with(Policy::Never)
    }

    /// [`Policy::OnFailure`].
    pub fn on_failure() -> Self {
        Self::with(Policy::OnFailure)
    }

    /// [`Policy::Always`].
    pub fn always() -> Self {
        Self::with(Policy::Always)
    }

    /// [`Policy::UnlessStopped`].
    pub fn unless_stopped() -> Self {
        Self::with(Policy::UnlessStopped)
    }

    /// The nth start in a row waits `min(cap, base * factor^(n-1))`.
    pub fn back_off(mut self, base: Duration, factor: u32, cap: Duration) -> Self {
        self.delays = Delays::Growing { base, factor, cap };
        self
    }

    /// The nth start in a row waits the nth of these, those after the last one wait that. Empty: nobody waits.
    pub fn delays(mut self, delays: impl IntoIterator<Item = Duration>) -> Self {
        self.delays = Delays::Listed(delays.into_iter().collect());
        self
    }

    /// Each delay is shorter than it says by up to this share of itself, so that what fell together does not rise
    /// together. 0: exact.
    pub fn jitter(mut self, percent: u32) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// Where the jitter comes from. The same seed, the same delays. Default: random for each service.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// After a run of this length delays begin with the first again.
    pub fn stable(mut self, run: Duration) -> Self {
        self.stable = run;
        self
    }

    /// At most `most` restarts in any span of this length.
    pub fn window(mut self, most: u32, within: Duration) -> Self {
        (self.most, self.within) = (Some(most), Some(within));
        self
    }

    /// At most this many restarts in all, however long that takes.
    pub fn at_most(mut self, restarts: u32) -> Self {
        (self.most, self.within) = (Some(restarts), None);
        self
    }

    /// As many restarts as it takes.
    pub fn without_window(mut self) -> Self {
        (self.most, self.within) = (None, None);
        self
    }

    /// What follows when the window is spent.
    pub fn when_spent(mut self, what: WhenSpent) -> Self {
        self.when_spent = what;
        self
    }

    /// Ends of this kind mean that. Of several that apply the last one counts, and [`Treatment::NoBackOff`] beside it.
    pub fn class(mut self, class: ExitClass, treatment: Treatment) -> Self {
        self.classes.push((class, treatment));
        self
    }

    /// Everything that makes no sense.
    pub(crate) fn check(&self) -> Vec<RuntimeError> {
        let mut errors = Vec::new();
        let mut refuse = |field: &str, why: &str| errors.push(RuntimeError::invalid(field, why));
        if self.jitter_percent > 100 {
            refuse("restart.jitter", "more than 100 percent of a delay cannot be taken from it");
        }
        if matches!(self.delays, Delays::Growing { factor: 0, .. }) {
            refuse("restart.back_off", "a factor of zero makes no delay; write 1 for delays that do not grow");
        }
        if self.within == Some(Duration::ZERO) {
            refuse("restart.window", "a window of zero length holds nothing");
        }
        if self.when_spent == WhenSpent::Delay && (self.within.is_none() && self.most.is_some() || self.most == Some(0))
        {
            refuse("restart.when_spent", "this window never has room again, so that nothing can wait for it");
        }
        errors
    }

    /// What this end was, and whether the next start is to wait. `on_unhealthy`: what was to follow if it was that.
    pub(crate) fn judge(&self, report: &Report, on_unhealthy: OnUnhealthy) -> (Outcome, bool) {
        let mut outcome = match report.cause {
            Cause::Unhealthy => match on_unhealthy {
                OnUnhealthy::Restart => Outcome::Forced,
                OnUnhealthy::Stop => Outcome::Unhealthy,
                OnUnhealthy::Report => Outcome::Failed,
            },
            Cause::NotReady | Cause::Watchdog => Outcome::Failed,
            _ if report.success() => Outcome::Succeeded,
            Cause::Stop { .. } => Outcome::Stopped,
            _ => Outcome::Failed,
        };
        let mut waits = true;
        for (_, treatment) in self.classes.iter().filter(|(class, _)| class.holds(report)) {
            match treatment {
                Treatment::Success => outcome = Outcome::Succeeded,
                Treatment::Failure => outcome = Outcome::Failed,
                Treatment::Prevent => outcome = Outcome::Prevented,
                Treatment::Force => outcome = Outcome::Forced,
                Treatment::Permanent => outcome = Outcome::Permanent,
                Treatment::NoBackOff => waits = false,
            }
        }
        (outcome, waits)
    }
}
