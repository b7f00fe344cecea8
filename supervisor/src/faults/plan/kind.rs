//! The catalogue: what can go wrong with a container.

use orangery_io_stream::Source;
use orangery_runtime::cgroup::{CpuQuota, Limits};
use serde::{Deserialize, Serialize};

/// What goes wrong. `docs/faults.md` has the table: by what each is made, what it needs, how it is reverted.
///
/// The list grows.
///
/// ```
/// use orangery::faults::FaultKind;
/// let kind: FaultKind = serde_json::from_str(r#"{"starve_cpu":{"percent":5}}"#).unwrap();
/// assert_eq!((kind.name(), kind.lasts()), ("starve_cpu", true));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum FaultKind {
    /// The container is killed, with everything in it: the cause in its report is
    /// [`Injected`](crate::Cause::Injected).
    Kill,
    /// All its processes are held: by the freezer, and where there is none by SIGSTOP. Skipped for what is paused already.
    Pause,
    /// It may have no more memory than this. What it has beyond that is reclaimed, or the kernel kills one of its
    /// processes for it.
    StarveMemory {
        /// At least 512 KiB.
        bytes: u64,
    },
    /// It gets no more of one processor than this.
    StarveCpu {
        /// From 1 to 100.
        percent: u8,
    },
    /// It may have no more processes and threads than this; those that it has beyond stay.
    StarvePids {
        /// At least 1. The container's first process counts too, where that is ours.
        most: u64,
    },
    /// Nobody reads this output: readers see nothing of it, and whoever writes stands still when the pipe is full. Of all
    /// processes of the container. Ends with the container's main process, whose last bytes are then read.
    StallOutput {
        /// Which.
        #[serde(with = "source")]
        source: Source,
    },
    /// A step of a plan fails in the child, which makes the creation or the start fail. For
    /// [`Trigger::Spawn`](super::Trigger::Spawn) and [`Trigger::Restart`](super::Trigger::Restart).
    FailStep {
        /// Of which plan.
        of: PlanOf,
        /// The step, from 0, as `orangery explain` prints it.
        step: u16,
    },
    /// The report of the main process comes this fault later; its bare exit does not.
    LateExit,
    /// The report of the main process says this exit code, with the cause [`Injected`](crate::Cause::Injected); its bare
    /// exit is the true one.
    OverrideExit {
        /// From 0 to 255.
        code: i32,
    },
}

/// The plans of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PlanOf {
    /// That of its first process, which makes it.
    Container,
    /// That of its main process.
    Main,
}

/// At which moment a kind meets its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::faults) enum Meets {
    /// While it is made.
    Birth,
    /// While it runs.
    Life,
    /// When its report is made.
    End,
}

impl FaultKind {
    /// Its name, as in JSON: `"starve_cpu"`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::StarveMemory { .. } => "starve_memory",
            Self::StarveCpu { .. } => "starve_cpu",
            Self::StarvePids { .. } => "starve_pids",
            Self::StallOutput { .. } => "stall_output",
            Self::FailStep { .. } => "fail_step",
            Self::LateExit => "late_exit",
            Self::OverrideExit { .. } => "override_exit",
        }
    }

    /// Whether it lasts, and is reverted in the end.
    #[must_use]
    pub const fn lasts(&self) -> bool {
        !matches!(self, Self::Kill | Self::FailStep { .. } | Self::OverrideExit { .. })
    }

    pub(in crate::faults) const fn meets(&self) -> Meets {
        match self {
            Self::FailStep { .. } => Meets::Birth,
            Self::LateExit | Self::OverrideExit { .. } => Meets::End,
            _ => Meets::Life,
        }
    }

    /// The limits of a container that is starved.
    pub(in crate::faults) fn limits(&self) -> Option<Limits> {
        match *self {
            Self::StarveMemory { bytes } => Some(Limits { memory: Some(bytes), ..Limits::default() }),
            Self::StarveCpu { percent } => {
                let quota = CpuQuota { quota_us: u64::from(percent) * 1000, period_us: 100_000 };
                Some(Limits { cpu_quota: Some(quota), ..Limits::default() })
            }
            Self::StarvePids { most } => Some(Limits { pids: Some(most), ..Limits::default() }),
            _ => None,
        }
    }
}

/// A source by its name.
pub(super) mod source {
    use orangery_io_stream::Source;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(in crate::faults::plan) fn serialize<S: Serializer>(source: &Source, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(source.as_str())
    }

    pub(in crate::faults::plan) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Source, D::Error> {
        let name = String::deserialize(from)?;
        let found = Source::ALL.into_iter().find(|source| source.as_str() == name);
        found.ok_or_else(|| de::Error::unknown_variant(&name, &["stdout", "stderr"]))
    }
}
