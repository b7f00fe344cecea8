//! When probes are asked and what follows.
//!
//! # Defaults
//!
//! | what | default | precedents |
//! |---|---|---|
//! | readiness: timeout | 60 s | testcontainers 60 s; systemd 90 s; s6-rc none |
//! | readiness: interval, timeout of one attempt | 250 ms, 1 s | testcontainers 100 ms; Kubernetes 10 s, 1 s |
//! | health: interval, timeout of one attempt | 10 s, 1 s | Kubernetes the same; Docker 30 s, 30 s |
//! | health: failures, successes | 3, 1 | Kubernetes and Docker the same |
//! | health: grace | none | Kubernetes and Docker the same |
//! | health: what follows | restart | Kubernetes; Docker nothing |
//! | watchdog: what follows | ABRT, 10 s, kill | systemd ABRT, 90 s, kill |
//! | end of what is not ready or not healthy | as it is stopped: its stop ladder | Docker, Kubernetes the same |

use std::time::Duration;

use orangery_runtime::Error as RuntimeError;
use serde::{Deserialize, Serialize};

use super::http::Http;
use super::spec::{Probe, Question};
use crate::ladder::StopLadder;

/// SIGABRT, so that it leaves a core, and how long that may take.
const ABORT: i32 = 6;
const GRACE: Duration = Duration::from_secs(10);

/// When a container is ready: [`Command::ready_when`](crate::Command::ready_when). Without a call each is as the table says:
/// it has 60 s, is asked each 250 ms, and one attempt may take 1 s.
///
/// ```
/// use orangery::{Probe, Readiness};
/// use std::time::Duration;
/// let readiness = Readiness::new(Probe::tcp(8080)).timeout(Duration::from_secs(10));
/// # let _ = readiness;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Readiness {
    pub(crate) probe: Probe,
    pub(crate) timeout: Duration,
    pub(crate) extension: Duration,
    pub(crate) interval: Duration,
    pub(crate) attempt: Duration,
}

impl Readiness {
    /// It is ready when this has succeeded once.
    pub fn new(probe: impl Into<Probe>) -> Self {
        Self {
            probe: probe.into(),
            timeout: Duration::from_secs(60),
            extension: Duration::ZERO,
            interval: Duration::from_millis(250),
            attempt: Duration::from_secs(1),
        }
    }

    /// Not ready this long after its start, it is ended, with the cause [`NotReady`](crate::Cause::NotReady).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How much more time it may ask for, all in all, by `EXTEND_TIMEOUT_USEC` ([`Probe::notify`]). Default: none.
    pub fn extendable(mut self, by: Duration) -> Self {
        self.extension = by;
        self
    }

    /// How long after an attempt has failed the next one begins.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long one attempt may take.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt = timeout;
        self
    }

    fn check(&self) -> Vec<RuntimeError> {
        let mut errors = self.probe.check("ready_when.probe", false);
        let spans = [
            ("ready_when.timeout", self.timeout),
            ("ready_when.interval", self.interval),
            ("ready_when.attempt_timeout", self.attempt),
        ];
        errors.extend(spans.into_iter().filter_map(|(field, span)| no_time(field, span)));
        if !self.extension.is_zero() && self.probe.0 != Question::Notify {
            errors.push(RuntimeError::invalid("ready_when.extendable", "only who notifies can ask for more time"));
        }
        if matches!(self.probe.0, Question::Delay(time) if time >= self.timeout) {
            errors.push(RuntimeError::invalid("ready_when.timeout", "it is over before the delay is"));
        }
        errors
    }
}

impl From<Probe> for Readiness {
    fn from(probe: Probe) -> Self {
        Self::new(probe)
    }
}

impl From<Http> for Readiness {
    fn from(http: Http) -> Self {
        Self::new(http)
    }
}

/// What follows when a container has become unhealthy. It is seen in `inspect`, events and metrics in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum OnUnhealthy {
    /// Nothing: it may become healthy again.
    Report,
    /// It is ended, with the cause [`Unhealthy`](crate::Cause::Unhealthy); a service is then started again, whatever its
    /// policy, unless a class of its [`Restart`](crate::Restart) says otherwise. Its window counts.
    #[default]
    Restart,
    /// It is ended, with the same cause; a service has then failed ([`GiveUp::Unhealthy`](crate::restart::GiveUp::Unhealthy))
    /// and its group is told.
    Stop,
}

/// How it is seen that a container still does what it is for, from when it is ready on:
/// [`Command::healthy_while`](crate::Command::healthy_while). Without a call it is asked each 10 s, an attempt may take 1 s,
/// three failures in a row make it unhealthy, and it is restarted then.
///
/// ```
/// use orangery::{Health, OnUnhealthy, Probe};
/// use std::time::Duration;
/// let health = Health::new(Probe::exec(["curl", "-fs", "localhost:8080/healthz"]))
///     .interval(Duration::from_secs(30))
///     .failures(5)
///     .on_unhealthy(OnUnhealthy::Report);
/// # let _ = health;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Health {
    pub(crate) probe: Probe,
    pub(crate) interval: Duration,
    pub(crate) attempt: Duration,
    pub(crate) failures: u32,
    pub(crate) successes: u32,
    pub(crate) grace: Duration,
    pub(crate) action: OnUnhealthy,
    /// `None`: as it is stopped.
    pub(crate) ladder: Option<StopLadder>,
}

impl Health {
    /// It is healthy while this succeeds.
    pub fn new(probe: impl Into<Probe>) -> Self {
        Self {
            probe: probe.into(),
            interval: Duration::from_secs(10),
            attempt: Duration::from_secs(1),
            failures: 3,
            successes: 1,
            grace: Duration::ZERO,
            action: OnUnhealthy::default(),
            ladder: None,
        }
    }

    /// How long after an attempt the next one begins.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long one attempt may take; what takes longer has failed.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.attempt = timeout;
        self
    }

    /// So many failures in a row make it unhealthy.
    pub fn failures(mut self, in_a_row: u32) -> Self {
        self.failures = in_a_row;
        self
    }

    /// So many successes in a row make it healthy again.
    pub fn successes(mut self, in_a_row: u32) -> Self {
        self.successes = in_a_row;
        self
    }

    /// For so long after it was ready failures do not count, until the first success.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// What follows when it is unhealthy.
    pub fn on_unhealthy(mut self, action: OnUnhealthy) -> Self {
        self.action = action;
        self
    }

    /// How it is ended then: this signal (and CONT), and the kill when it has not ended after `grace`. Default: as it is
    /// stopped, by [`Command::stop_ladder`](crate::Command::stop_ladder).
    pub fn ended_by(self, signal: i32, grace: Duration) -> Self {
        self.ended_with(StopLadder::from((signal, grace)))
    }

    /// How it is ended then.
    pub fn ended_with(mut self, ladder: StopLadder) -> Self {
        self.ladder = Some(ladder);
        self
    }

    fn check(&self) -> Vec<RuntimeError> {
        let mut errors = self.probe.check("healthy_while.probe", true);
        let spans = [("healthy_while.interval", self.interval), ("healthy_while.timeout", self.attempt)];
        errors.extend(spans.into_iter().filter_map(|(field, span)| no_time(field, span)));
        let counts = [("healthy_while.failures", self.failures), ("healthy_while.successes", self.successes)];
        let none = counts.into_iter().filter(|(_, count)| *count == 0);
        errors.extend(none.map(|(field, _)| RuntimeError::invalid(field, "none in a row is true at any time")));
        errors.extend(self.ladder.iter().flat_map(|ladder| ladder.check("healthy_while.ended_by")));
        errors
    }
}

impl From<Probe> for Health {
    fn from(probe: Probe) -> Self {
        Self::new(probe)
    }
}

impl From<Http> for Health {
    fn from(http: Http) -> Self {
        Self::new(http)
    }
}

/// A command says again and again that it is alive (`WATCHDOG=1` to `$NOTIFY_SOCKET`, by sd_notify(3)), and is ended when it
/// does not, with the cause [`Watchdog`](crate::Cause::Watchdog): [`Command::watchdog`](crate::Command::watchdog).
///
/// It is told how often by `$WATCHDOG_USEC`, may say another time (`WATCHDOG_USEC`), and is watched from when it is ready
/// on. Time in a pause does not count.
///
/// ```
/// use orangery::Watchdog;
/// use std::time::Duration;
/// let watchdog = Watchdog::new(Duration::from_secs(30)).ended_by(9, Duration::ZERO);
/// # let _ = watchdog;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[must_use]
pub struct Watchdog {
    pub(crate) within: Duration,
    pub(crate) ladder: StopLadder,
}

impl Watchdog {
    /// It says so at least this often; half of it is a good habit.
    pub fn new(within: Duration) -> Self {
        Self { within, ladder: StopLadder::new().then(ABORT, GRACE) }
    }

    /// How it is ended: this signal (and CONT), and the kill when it has not ended after `grace`. Default: ABRT, 10 s.
    pub fn ended_by(self, signal: i32, grace: Duration) -> Self {
        self.ended_with(StopLadder::from((signal, grace)))
    }

    /// How it is ended, in place of that.
    pub fn ended_with(mut self, ladder: StopLadder) -> Self {
        self.ladder = ladder;
        self
    }

    fn check(&self) -> Vec<RuntimeError> {
        let ladder = self.ladder.check("watchdog.ended_by");
        no_time("watchdog", self.within).into_iter().chain(ladder).collect()
    }
}

impl From<Duration> for Watchdog {
    fn from(within: Duration) -> Self {
        Self::new(within)
    }
}

fn no_time(field: &str, span: Duration) -> Option<RuntimeError> {
    span.is_zero().then(|| RuntimeError::invalid(field, "nothing happens in no time"))
}

/// All that is asked about one container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Care {
    pub(crate) readiness: Option<Readiness>,
    pub(crate) health: Option<Health>,
    pub(crate) watchdog: Option<Watchdog>,
}

impl Care {
    /// Everything that makes no sense.
    pub(crate) fn check(&self) -> Vec<RuntimeError> {
        let readiness = self.readiness.iter().flat_map(Readiness::check);
        let health = self.health.iter().flat_map(Health::check);
        readiness.chain(health).chain(self.watchdog.iter().flat_map(Watchdog::check)).collect()
    }

    /// `None` where nothing is asked, as of most containers.
    pub(crate) fn boxed(self) -> Option<Box<Self>> {
        (self.readiness.is_some() || self.health.is_some() || self.watchdog.is_some()).then(|| Box::new(self))
    }

    /// It speaks to us.
    pub(crate) fn is_notified(&self) -> bool {
        self.watchdog.is_some() || self.asks(&Question::Notify)
    }

    /// How many descriptors that takes.
    pub(crate) fn descriptors(&self) -> u64 {
        u64::from(self.is_notified()) + u64::from(self.asks(&Question::Descriptor))
    }

    /// It is ready by this.
    pub(crate) fn asks(&self, question: &Question) -> bool {
        self.readiness.as_ref().is_some_and(|readiness| readiness.probe.0 == *question)
    }

    /// How many commands are run in the container for it.
    pub(crate) fn commands(&self) -> u64 {
        let probes = self.readiness.iter().map(|it| &it.probe).chain(self.health.iter().map(|it| &it.probe));
        probes.filter(|probe| matches!(probe.0, Question::Exec(_))).count() as u64
    }

    pub(crate) fn on_unhealthy(&self) -> OnUnhealthy {
        self.health.as_ref().map(|health| health.action).unwrap_or_default()
    }
}
