//! The scheduling policy of a process.

use serde::{Deserialize, Serialize};

/// What sched_setattr(2) takes; what a policy does not know is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scheduler {
    /// `SCHED_*` of sched(7).
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19, of the ordinary policies.
    pub nice: i32,
    /// 1 to 99, of the real-time policies.
    pub priority: u32,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub runtime: u64,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub deadline: u64,
    /// Nanoseconds, of `SCHED_DEADLINE`.
    pub period: u64,
}

impl Scheduler {
    /// `struct sched_attr`. What `SCHED_FLAG_UTIL_CLAMP_MIN` and `_MAX` are about is 0: nobody has a field for it.
    #[must_use]
    pub(crate) fn attributes(&self) -> Vec<u8> {
        let size = crate::plan::wire::SCHED_ATTR;
        let mut bytes = Vec::new();
        for word in [size, self.policy] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.flags.to_le_bytes());
        bytes.extend_from_slice(&self.nice.to_le_bytes());
        bytes.extend_from_slice(&self.priority.to_le_bytes());
        for word in [self.runtime, self.deadline, self.period] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_structure_of_the_kernel() {
        let bytes = Scheduler { policy: 1, nice: -1, priority: 9, period: 7, ..Scheduler::default() }.attributes();
        assert_eq!(bytes.len(), usize::try_from(crate::plan::wire::SCHED_ATTR).unwrap());
        assert_eq!((bytes[0], bytes[4], bytes[16], bytes[20], bytes[40]), (56, 1, 0xff, 9, 7));
    }
}
