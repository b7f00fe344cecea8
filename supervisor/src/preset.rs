//! Choices that go together, by name: what differs from a sandbox of no words at all, said and set in one place.

mod table;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use orangery_runtime::ProcessSpec;
use orangery_runtime::cgroup::CpuQuota;
use orangery_runtime::spec::{Caps, Disk, Enforcement, Landlock, Rlimit};
use serde::{Deserialize, Serialize};

use crate::each::Each;
use crate::output_limit::OutputLimit;
use crate::sandbox::SandboxBuilder;

/// A set of choices over a [`SandboxBuilder`], for a use that is known.
///
/// A sandbox of no words is strict already: no network, ids of its own, the host's programs read-only, few capabilities, a
/// filter, no new privileges. What it has none of are limits, because nobody knows how much is much: a preset says so, and
/// takes away what its use does not need. [`Preset::choices`] has every value, [`Choices::lines`] each with its reason.
///
/// ```
/// use orangery::{Preset, Sandbox};
/// let sandbox = Sandbox::builder().preset(Preset::Judge).memory(64 << 20).build()?;
/// assert!("jugde".parse::<Preset>().unwrap_err().contains("strict, judge, ci, interactive"));
/// # Ok::<(), orangery::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Preset {
    /// For what is trusted least: little of everything, no capability, no socket, less of the machine in sight.
    Strict,
    /// For submissions that are judged: a few seconds, little memory, one answer.
    Judge,
    /// For builds and their tests: much of everything, but not for ever.
    Ci,
    /// For a person at a terminal: bounds against accidents, and no clock.
    Interactive,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Strict, Self::Judge, Self::Ci, Self::Interactive];

    /// Its name, as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Strict => "strict",
            Self::Judge => "judge",
            Self::Ci => "ci",
            Self::Interactive => "interactive",
        }
    }

    /// What it is for.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Strict => "for what is trusted least",
            Self::Judge => "for submissions that are judged",
            Self::Ci => "for builds and their tests",
            Self::Interactive => "for a person at a terminal",
        }
    }

    /// Everything that it sets.
    #[must_use]
    pub fn choices(self) -> Choices {
        table::of(self)
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("{name:?} is no preset; there are {known}")
        })
    }
}

/// What a [`Preset`] sets. `None` and empty: as without it.
///
/// ```
/// use orangery::Preset;
/// let judge = Preset::Judge.choices();
/// assert!(judge.wall.is_some() && judge.lines().iter().any(|line| line.setting == "wall"));
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Choices {
    /// Whose they are.
    pub preset: Preset,
    /// What becomes of limits that cannot be had.
    pub enforcement: Enforcement,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Processors.
    pub cpus: Option<CpuQuota>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Private writable space.
    pub disk: Disk,
    /// Longest life.
    pub wall: Option<Duration>,
    /// Most processor time, of all processes together.
    pub cpu_time: Option<Duration>,
    /// Most output of each process.
    pub output: Option<OutputLimit>,
    /// Paths that are hidden, beside those that always are.
    pub masked: Vec<PathBuf>,
    /// Of each process that has none of its own.
    pub caps: Option<Caps>,
    /// Of each process, where it has no limit of its own on the same resource.
    pub rlimits: Vec<Rlimit>,
    /// System calls that fail with EPERM, beside those that the profile refuses.
    pub refused_calls: Vec<String>,
    /// Of each process that has none of its own.
    pub landlock: Option<Landlock>,
}

/// One choice in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Choice {
    /// What is set, by the builder's name of it.
    pub setting: &'static str,
    /// To what.
    pub value: String,
    /// Why.
    pub why: &'static str,
    /// A sandbox of no words has it too.
    pub always: bool,
}

impl Choices {
    /// Every choice, and what holds without any, each with its reason.
    #[must_use]
    pub fn lines(&self) -> Vec<Choice> {
        table::lines(self)
    }

    /// What of it is each process's: what `process` has of its own already stays.
    pub fn give(&self, process: &mut ProcessSpec) {
        self.each().give(process);
    }

    fn each(&self) -> Each {
        let Self { caps, rlimits, refused_calls, landlock, .. } = self.clone();
        Each { caps, rlimits, refused_calls, landlock }
    }
}

impl SandboxBuilder {
    /// Choices that go together. It is a call like the others: what is set after it wins, and it wins over what was set before,
    /// so that it is best the first one. What it has no opinion of stays as it is; paths that it hides are added to others.
    ///
    /// ```
    /// use orangery::{Preset, Sandbox};
    /// use std::time::Duration;
    /// let patient = Sandbox::builder().preset(Preset::Judge).wall(Duration::from_secs(60)).build()?;
    /// # Ok::<(), orangery::Error>(())
    /// ```
    pub fn preset(mut self, preset: Preset) -> Self {
        let choices = preset.choices();
        let each = choices.each();
        let Choices { preset: _, enforcement, memory, cpus, pids, disk, wall, cpu_time, output, masked, .. } = choices;
        let inner = &mut self.inner;
        let spec = &mut inner.spec;
        (spec.enforcement, spec.disk) = (enforcement, disk);
        spec.limits.memory = memory.or(spec.limits.memory);
        spec.limits.cpu_quota = cpus.or(spec.limits.cpu_quota);
        spec.limits.pids = pids.or(spec.limits.pids);
        spec.masked_paths.extend(masked);
        inner.wall = wall.or(inner.wall);
        inner.cpu_time = cpu_time.or(inner.cpu_time);
        inner.output = output.or(inner.output);
        inner.each.caps = each.caps.or(inner.each.caps);
        each.rlimits.into_iter().for_each(|limit| inner.each.rlimit(limit));
        inner.each.landlock = each.landlock.or(inner.each.landlock.take());
        if !each.refused_calls.is_empty() {
            inner.each.refused_calls = each.refused_calls;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Sandbox;

    #[test]
    fn each_can_be_built_named_and_written_down() {
        for preset in Preset::ALL {
            Sandbox::builder().preset(preset).build().unwrap();
            assert_eq!(preset.name().parse(), Ok(preset));
            assert_eq!(serde_json::to_value(preset).unwrap(), preset.name());
        }
        assert!("Judge".parse::<Preset>().is_err());
    }

    #[test]
    fn the_last_word_counts() {
        let after = Sandbox::builder().preset(Preset::Judge).memory(1 << 20).refuse_calls(["mount"]).build().unwrap();
        assert_eq!(after.inner.spec.limits.memory, Some(1 << 20));
        assert_eq!(after.inner.each.refused_calls, ["mount"]);
        let before = Sandbox::builder().memory(1 << 20).preset(Preset::Judge).build().unwrap();
        assert_eq!(before.inner.spec.limits.memory, Preset::Judge.choices().memory);
    }

    #[test]
    fn what_it_has_no_opinion_of_stays() {
        let sandbox = Sandbox::builder().wall(Duration::from_secs(1)).preset(Preset::Interactive).build().unwrap();
        assert_eq!(sandbox.inner.wall, Some(Duration::from_secs(1)));
    }
}
