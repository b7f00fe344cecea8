//! Other limits for a container that runs: plain values.

use std::time::Duration;

use orangery_runtime::Error as RuntimeError;
use orangery_runtime::cgroup::Limits;
use serde::{Deserialize, Serialize};

/// What is to be changed by [`ContainerHandle::update`](crate::ContainerHandle::update); what is not named stays. Times count
/// from where they always do: the wall limit from the start of the main process, so that one that is shorter than it has
/// run ends it now; processor time likewise; silence from the update. `Duration::MAX` and `u64::MAX` are no limit.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// use orangery::{LimitUpdate, Limits};
/// use std::time::Duration;
/// container.update(Limits { memory: Some(512 << 20), ..Limits::default() }).await?;
/// container.update(LimitUpdate::new().wall(Duration::from_secs(60)).output(10 << 20)).await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct LimitUpdate {
    pub(crate) cgroup: Limits,
    pub(crate) watched: Watched,
}

/// The limits that the supervisor watches itself. `None`: there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watched {
    pub(crate) wall: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) output: Option<u64>,
}

/// The limits of a container that the supervisor watches, as they are now. `None`: there is none.
///
/// ```no_run
/// # fn f(container: orangery::ContainerHandle) {
/// println!("{:?} ms", container.inspect().watched.wall_ms);
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WatchedLimits {
    /// Wall clock of the main process, in milliseconds.
    pub wall_ms: Option<u64>,
    /// Processor time of all processes, in milliseconds.
    pub cpu_time_ms: Option<u64>,
    /// Silence, in milliseconds.
    pub idle_ms: Option<u64>,
    /// Bytes that the main process may write.
    pub output: Option<u64>,
}

impl LimitUpdate {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those of the cgroup; the fields that are `None` stay.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.cgroup = limits;
        self
    }

    /// As [`SandboxBuilder::wall`](crate::SandboxBuilder::wall).
    pub fn wall(mut self, limit: Duration) -> Self {
        self.watched.wall = Some(limit);
        self
    }

    /// As [`SandboxBuilder::cpu_time`](crate::SandboxBuilder::cpu_time). Refused where no cgroup counts it.
    pub fn cpu_time(mut self, limit: Duration) -> Self {
        self.watched.cpu_time = Some(limit);
        self
    }

    /// As [`SandboxBuilder::idle`](crate::SandboxBuilder::idle).
    pub fn idle(mut self, limit: Duration) -> Self {
        self.watched.idle = Some(limit);
        self
    }

    /// Bytes that the main process may write; what happens beyond stays, and is a kill where there was no limit. A limit that
    /// was passed already is not taken back by a higher one: what came behind it is gone.
    pub fn output(mut self, bytes: u64) -> Self {
        self.watched.output = Some(bytes);
        self
    }

    /// Everything that makes no sense anywhere.
    pub(crate) fn check(&self) -> Vec<RuntimeError> {
        let refused = |(field, why)| RuntimeError::invalid(format!("limits.{field}"), why);
        let mut wrong: Vec<_> = self.cgroup.validate().into_iter().map(refused).collect();
        let Watched { wall, cpu_time, idle, output } = &self.watched;
        let zero = |time: &Option<Duration>| *time == Some(Duration::ZERO);
        for (field, zero) in
            [("wall", zero(wall)), ("cpu_time", zero(cpu_time)), ("idle", zero(idle)), ("output", *output == Some(0))]
        {
            if zero {
                wrong.push(RuntimeError::invalid(field, "a limit of zero allows nothing"));
            }
        }
        wrong
    }
}

impl From<Limits> for LimitUpdate {
    fn from(limits: Limits) -> Self {
        Self::new().limits(limits)
    }
}

impl Watched {
    /// With what `to` names.
    pub(crate) fn changed(&mut self, to: &Self) {
        self.wall = to.wall.or(self.wall);
        self.cpu_time = to.cpu_time.or(self.cpu_time);
        self.idle = to.idle.or(self.idle);
        self.output = to.output.or(self.output);
    }

    pub(crate) fn shown(&self) -> WatchedLimits {
        let ms = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        WatchedLimits {
            wall_ms: ms(self.wall),
            cpu_time_ms: ms(self.cpu_time),
            idle_ms: ms(self.idle),
            output: self.output,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_wrong_is_told_at_once_by_its_field() {
        let limits = Limits { pids: Some(0), ..Limits::default() };
        let update = LimitUpdate::from(limits).wall(Duration::ZERO).idle(Duration::ZERO).output(0);
        let fields: Vec<_> = update.check().iter().map(|error| error.field().unwrap_or("").to_owned()).collect();
        assert_eq!(fields, ["limits.pids", "wall", "idle", "output"]);
        assert!(LimitUpdate::new().wall(Duration::MAX).output(u64::MAX).check().is_empty());
    }
}
