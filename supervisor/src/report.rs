//! The report: the one true account of an end. It exists once, may be asked for by many, and is kept after the end.

use std::time::{Duration, SystemTime};

use orangery_runtime::rootfs::RootWay;
use orangery_runtime::spec::UnmetLimit;
use serde::{Deserialize, Serialize};

use crate::hook::HookOutcome;
use crate::limit_hit::LimitHit;
use crate::unkillable::Unkillable;

/// A figure that was measured, or the reason why it is not known. Never zero for unknown.
///
/// In JSON: the value itself, or `{"unknown": "why"}`.
///
/// ```
/// use orangery::Measured;
/// let peak: Measured<u64> = serde_json::from_str("4096").unwrap();
/// assert_eq!(peak.known(), Some(&4096));
/// let unknown: Measured<u64> = serde_json::from_str(r#"{"unknown": "no cgroup"}"#).unwrap();
/// assert_eq!(unknown.known(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measured<T> {
    /// Measured.
    Known(T),
    /// Not known, and why.
    Unknown {
        /// The reason.
        unknown: String,
    },
}

impl<T> Measured<T> {
    /// The value, if it is known.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown { .. } => None,
        }
    }

    pub(crate) fn from_option(value: Option<T>, why: &str) -> Self {
        value.map_or_else(|| Self::Unknown { unknown: why.to_owned() }, Self::Known)
    }
}

/// How a process ended.
///
/// ```
/// use orangery::ExitStatus;
/// assert!(ExitStatus::Code(0).success());
/// assert_eq!(ExitStatus::Signal { signal: 9, core_dumped: false }.shell_code(), 137);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal {
        /// Its number.
        signal: i32,
        /// A core was written.
        core_dumped: bool,
    },
    /// Nobody can know; or it has not ended, although it was killed: [`Report::unkillable`].
    Lost,
}

impl ExitStatus {
    /// Code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }

    /// As a shell says it: the code, or 128 + n for signal n; 255 when nobody knows.
    #[must_use]
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal { signal, .. } => 128 + signal,
            Self::Lost => 255,
        }
    }
}

impl From<orangery_runtime::ExitStatus> for ExitStatus {
    fn from(status: orangery_runtime::ExitStatus) -> Self {
        match status {
            orangery_runtime::ExitStatus::Code(code) => Self::Code(code),
            orangery_runtime::ExitStatus::Signal { signal, core_dumped } => Self::Signal { signal, core_dumped },
            _ => Self::Lost,
        }
    }
}

/// A limit that can end a container.
///
/// ```
/// use orangery::{Cause, LimitKind};
/// let cause = Cause::Limit(LimitKind::Wall);
/// assert_ne!(cause, Cause::Limit(LimitKind::Memory));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LimitKind {
    /// Wall clock.
    Wall,
    /// Memory: the OOM killer took the process for the container's own limit, or for one that cannot be told.
    Memory,
    /// Processes and threads. Reserved: a refused fork ends nobody by itself, see [`CgroupUsage::pids_refused`].
    Pids,
    /// Private writable space. Reserved: a full file system ends nobody by itself.
    Disk,
    /// CPU time of all processes together ([`SandboxBuilder::cpu_time`](crate::SandboxBuilder::cpu_time)), or of one
    /// (RLIMIT_CPU).
    Cpu,
    /// No output for too long ([`SandboxBuilder::idle`](crate::SandboxBuilder::idle)).
    Idle,
    /// Size of a file (RLIMIT_FSIZE).
    FileSize,
    /// Bytes of output.
    Output,
    /// Nobody has attended to it for longer than it may be left alone.
    Unattended,
    /// A forbidden system call ended it.
    Seccomp,
    /// A kind that this version does not know: the report was written by a newer one.
    #[serde(other)]
    Unknown,
}

/// Why a container ended.
///
/// ```
/// use orangery::{Cause, LimitKind};
/// let verdict = |cause: &Cause| match cause {
///     Cause::Own => "it ended by itself",
///     Cause::Limit(LimitKind::Wall) => "it took too long",
///     Cause::Limit(_) => "it wanted too much",
///     _ => "we ended it",
/// };
/// assert_eq!(verdict(&Cause::Stop { escalated: true }), "we ended it");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cause {
    /// By itself, or by a signal that was not ours.
    Own,
    /// A limit.
    Limit(LimitKind),
    /// Somebody asked for it: `stop`, `kill`, the last handle was dropped, or, for a further process, its container has
    /// ended.
    Stop {
        /// It had to be killed: at once, or after the grace.
        escalated: bool,
    },
    /// Our own failure: an actor of ours spent its budget of panics, or the keeper was lost and with it the exit.
    SupervisorFault,
    /// It was not ready in time ([`Command::ready_when`](crate::Command::ready_when)).
    NotReady,
    /// It was unhealthy ([`Command::healthy_while`](crate::Command::healthy_while)).
    Unhealthy,
    /// It did not give a sign of life in time ([`Command::watchdog`](crate::Command::watchdog)).
    Watchdog,
    /// What served its root file system has ended ([`Report::rootfs`]): nothing in it could open a file any more.
    RootLost {
        /// How, with its last words.
        why: String,
    },
    /// A fault that was injected (feature `faults`): it has killed the container, or the exit in this report is its.
    Injected {
        /// Its name in the plan, or the site, such as `report-delivery`.
        fault: String,
    },
    /// A kind that this version does not know: the report was written by a newer one.
    #[serde(untagged, serialize_with = "unknown", deserialize_with = "anything")]
    Unknown,
}

fn unknown<S: serde::Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("unknown")
}

fn anything<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<(), D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(drop)
}

/// What the OOM killer did.
///
/// ```
/// use orangery::OomVerdict;
/// let killed = |oom: &OomVerdict| matches!(oom, OomVerdict::Own { .. } | OomVerdict::Killed { .. });
/// assert!(!killed(&OomVerdict::No));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OomVerdict {
    /// It took nobody.
    No,
    /// The container's own limit.
    Own {
        /// Processes killed.
        kills: u64,
    },
    /// The limit of a group above, or the machine's memory.
    Ancestor {
        /// Processes killed.
        kills: u64,
        /// The group.
        path: Option<String>,
    },
    /// Killed; whose limit it was cannot be told.
    Killed {
        /// Processes killed.
        kills: u64,
    },
    /// There are no counters.
    Unknown {
        /// Why.
        why: String,
    },
}

impl From<orangery_runtime::cgroup::Oom> for OomVerdict {
    fn from(oom: orangery_runtime::cgroup::Oom) -> Self {
        use orangery_runtime::cgroup::Oom;
        match oom {
            Oom::No => Self::No,
            Oom::Own { kills } => Self::Own { kills },
            Oom::Ancestor { kills, path } => Self::Ancestor { kills, path },
            Oom::Killed { kills } => Self::Killed { kills },
            Oom::Unknown { why } => Self::Unknown { why },
            _ => Self::Unknown { why: "a verdict that this version does not know".into() },
        }
    }
}

/// What the main process used.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let report = container.wait().await?;
/// if let Some(usage) = report.usage.known() {
///     println!("{} us of processor time, {} KiB", usage.user_us + usage.system_us, usage.max_rss_kib);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Usage {
    /// User time in microseconds.
    pub user_us: u64,
    /// System time in microseconds.
    pub system_us: u64,
    /// Largest resident set in KiB.
    pub max_rss_kib: u64,
    /// Page faults without I/O.
    pub minor_faults: u64,
    /// Page faults with I/O.
    pub major_faults: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
}

impl From<orangery_runtime::Rusage> for Usage {
    fn from(usage: orangery_runtime::Rusage) -> Self {
        Self {
            user_us: usage.user_us,
            system_us: usage.system_us,
            max_rss_kib: usage.max_rss_kib,
            minor_faults: usage.minor_faults,
            major_faults: usage.major_faults,
            voluntary_switches: usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches,
        }
    }
}

/// What one output stream carried.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let orangery::StreamTotals { bytes, lost, .. } = container.wait().await?.stdout.clone();
/// println!("{bytes:?} came out, {lost} were lost");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StreamTotals {
    /// Bytes that the process wrote and we read; unknown where it wrote to a descriptor of its own.
    pub bytes: Measured<u64>,
    /// Bytes that subscribers lost, summed over all of them; with a log those that it did not take (a full disk).
    pub lost: u64,
    /// Bytes behind the output limit, which nobody got.
    #[serde(default)]
    pub suppressed: u64,
    /// How many bytes its pipe held when the process began: fewer than 65,536 where the pipe pages of the supervisor's user
    /// were spent (pipe(7)), so that the process waited sooner. A stream with many readers may have got a larger one since.
    #[serde(default = "older")]
    pub pipe: Measured<u64>,
}

fn older() -> Measured<u64> {
    Measured::from_option(None, "written by an older version")
}

/// What the container's cgroup counted, read after the last process was gone.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let report = container.wait().await?;
/// println!("{}: peak {:?}", report.cgroup.mode, report.cgroup.memory_peak.known());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CgroupUsage {
    /// `v2`, `v1`, `hybrid` or `none`.
    pub mode: String,
    /// CPU time of all processes in nanoseconds.
    pub cpu_ns: Measured<u64>,
    /// The most memory it used, in bytes.
    pub memory_peak: Measured<u64>,
    /// Forks that the process limit refused.
    pub pids_refused: Measured<u64>,
}

/// The account of one container's main process, or of one further process.
///
/// The schema is versioned; readers skip fields that they do not know.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let report = container.wait().await?;
/// println!("{:?} because of {:?} after {:?}", report.exit, report.cause, report.wall_us);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Version of this schema: 1.
    pub schema: u32,
    /// The container's id.
    pub id: String,
    /// Which incarnation.
    pub generation: u32,
    /// Process id outside; may belong to another process by now.
    pub pid: i32,
    /// How it ended.
    pub exit: ExitStatus,
    /// Why it ended.
    pub cause: Cause,
    /// What the OOM killer did in the whole container.
    pub oom: OomVerdict,
    /// What the process itself used.
    pub usage: Measured<Usage>,
    /// From its start to its exit, in microseconds.
    pub wall_us: Measured<u64>,
    /// Making the container took this long, in microseconds.
    pub create_us: Measured<u64>,
    /// Starting the process in it took this long, in microseconds.
    pub start_us: u64,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// When it ended, in milliseconds since 1970: its start and `wall_us`, so that a clock that is set meanwhile moves
    /// neither against the other.
    pub ended_at_ms: u64,
    /// Standard output.
    pub stdout: StreamTotals,
    /// Standard error.
    pub stderr: StreamTotals,
    /// A process that outlived the main one still held an output pipe when the drain grace ended.
    pub leaked_writers: bool,
    /// The output limit in bytes, if it was passed. How much was written beyond: [`StreamTotals::suppressed`].
    #[serde(default)]
    pub output_limit: Option<u64>,
    /// What the cgroup counted.
    pub cgroup: CgroupUsage,
    /// The limits that were reached, each with what was counted.
    #[serde(default)]
    pub limits_hit: Vec<LimitHit>,
    /// The limits of the container that were asked for and do not hold, with what stands in their place; of a main process
    /// alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<UnmetLimit>,
    /// How the container had its root file system, and why not otherwise; of a main process alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<RootWay>,
    /// It was killed and has not ended: what was left when this was written.
    #[serde(default)]
    pub unkillable: Option<Unkillable>,
    /// What has become of [`Command::pre_stop`](crate::Command::pre_stop); `None` where there is none, or no stop has come
    /// to it.
    #[serde(default)]
    pub pre_stop: Option<HookOutcome>,
    /// What has become of [`Command::post_stop`](crate::Command::post_stop), where there is one.
    #[serde(default)]
    pub post_stop: Option<HookOutcome>,
}

impl Report {
    /// It ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit.success() && self.cause == Cause::Own
    }

    /// With this exit code, if there is one, which a test had put in the place of the true exit under this name.
    pub(crate) fn instead(self, code: Option<(i32, String)>) -> Self {
        match code {
            Some((code, fault)) => {
                let cause = Cause::Injected { fault };
                Self { exit: ExitStatus::Code(code), cause, ..self }
            }
            None => self,
        }
    }

    /// How long it ran, where that is known.
    #[must_use]
    pub fn wall(&self) -> Option<Duration> {
        self.wall_us.known().copied().map(Duration::from_micros)
    }

    /// The exit code of a command line: 124 when the wall limit or its silence ended it, else as [`ExitStatus::shell_code`].
    #[must_use]
    pub fn shell_code(&self) -> i32 {
        match self.cause {
            Cause::Limit(LimitKind::Wall | LimitKind::Idle) => 124,
            _ => self.exit.shell_code(),
        }
    }
}

pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Any report, for tests of what carries one.
#[cfg(test)]
pub(crate) fn example() -> Report {
    let nothing = || Measured::from_option(None, "an example");
    let totals = StreamTotals { bytes: Measured::Known(5), lost: 0, suppressed: 0, pipe: Measured::Known(65_536) };
    Report {
        schema: 1,
        id: "job".into(),
        generation: 1,
        pid: 7,
        exit: ExitStatus::Code(3),
        cause: Cause::Limit(LimitKind::Memory),
        oom: OomVerdict::Own { kills: 1 },
        usage: Measured::from_option(None, "an example"),
        wall_us: Measured::Known(12),
        create_us: nothing(),
        start_us: 3,
        started_at_ms: 1,
        ended_at_ms: 2,
        stdout: totals.clone(),
        stderr: totals,
        leaked_writers: true,
        output_limit: None,
        cgroup: CgroupUsage {
            mode: "v2".into(),
            cpu_ns: nothing(),
            memory_peak: nothing(),
            pids_refused: Measured::Known(2),
        },
        limits_hit: Vec::new(),
        unmet: vec![UnmetLimit::new("cpu_quota", "an example")],
        rootfs: None,
        unkillable: None,
        pre_stop: None,
        post_stop: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_a_newer_version_is_skipped() {
        for (text, want) in [
            (r#""own""#, Cause::Own),
            (r#"{"limit":"wall"}"#, Cause::Limit(LimitKind::Wall)),
            (r#"{"limit":"moonlight"}"#, Cause::Limit(LimitKind::Unknown)),
            (r#"{"injected":{"fault":"f1"}}"#, Cause::Injected { fault: "f1".into() }),
            (r#""eclipse""#, Cause::Unknown),
            (r#"{"eclipse":{"of":["sun"]}}"#, Cause::Unknown),
        ] {
            assert_eq!(serde_json::from_str::<Cause>(text).unwrap(), want, "{text}");
        }
        assert_eq!(serde_json::to_string(&Cause::Unknown).unwrap(), r#""unknown""#);
    }
}
