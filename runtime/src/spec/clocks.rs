//! The clocks of a container with a time namespace of its own (time_namespaces(7)).

use serde::{Deserialize, Serialize};

/// How far its clocks are ahead of the machine's.
///
/// ```
/// use orangery_runtime::spec::{ClockOffset, TimeOffsets};
/// let day = ClockOffset { secs: 86_400, nanos: 0 };
/// assert_ne!(TimeOffsets { boottime: day, ..TimeOffsets::default() }, TimeOffsets::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeOffsets {
    /// Of `CLOCK_MONOTONIC`.
    pub monotonic: ClockOffset,
    /// Of `CLOCK_BOOTTIME`, and of what /proc/uptime says.
    pub boottime: ClockOffset,
}

/// Seconds, which may be negative, and nanoseconds beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClockOffset {
    /// Seconds.
    pub secs: i64,
    /// Less than a second.
    pub nanos: u32,
}

impl TimeOffsets {
    /// As /proc/self/timens_offsets takes it.
    pub(crate) fn text(&self) -> String {
        let line = |name: &str, of: &ClockOffset| format!("{name} {} {}\n", of.secs, of.nanos);
        line("monotonic", &self.monotonic) + &line("boottime", &self.boottime)
    }

    /// What no kernel takes.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        let whole = |of: &ClockOffset| of.nanos < 1_000_000_000;
        (!whole(&self.monotonic) || !whole(&self.boottime)).then_some("nanoseconds are less than a second")
    }
}
