//! OOM, truthfully: counters read at birth and again after the last process is gone, before the directories are
//! removed, and a pure verdict over the two. Only the caller knows whether the process died of SIGKILL; "OOM" is that
//! **and** a verdict other than [`Oom::No`].
//!
//! | | v1 | v2 |
//! |---|---|---|
//! | who was killed | `oom_kill` of `memory.oom_control` (4.13), this very group's: summed over nested groups | `oom_kill` of `memory.events` (4.13), with descendants |
//! | whose limit | `memory.failcnt` and `memory.memsw.failcnt` rose, at each level | own: `oom` of `memory.events`, with descendants; above: `oom` of `memory.events.local` (5.2) |
//!
//! v1's `failcnt` also rises when reclaim helped, so a level whose count rose is a suspect, not a culprit: with suspects
//! both here and above the level stays unknown. And since the counters became optional (6.13 or so; seen on 6.18)
//! `memory.memsw.failcnt` stays 0 though the limit of memory and swap kills, so there the high-water mark is evidence:
//! `memory.memsw.max_usage_in_bytes` within one allocation of the limit. A mark says "once", not "now": a level that was
//! full before and is full after can be neither blamed nor cleared.
//! The counts of a nested v1 group that the workload removed itself are lost.

use super::detect::Controller;
use super::dir::Dir;
use super::error::CgroupError;
use super::group::{Group, Home};
use super::parse::{keyed, number};
use super::v1::UNLIMITED;
use super::v2::describe;
use serde::{Deserialize, Serialize};

type Result<T> = std::result::Result<T, CgroupError>;

/// The counters at one moment. Serializable, because a supervisor that comes back needs those of the birth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomEvidence {
    /// Processes of the container that the OOM killer took; `None`: unknown, and `why` says so.
    kills: Option<u64>,
    /// The container's own limits, with those it set for groups of its own.
    own: Option<Level>,
    /// The same for each visible group above, nearest first.
    above: Option<Vec<(String, Level)>>,
    why: Option<String>,
    /// They are version 2's.
    #[serde(default)]
    v2: bool,
}

/// A counter of the kernel's at two moments. `None`: it could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counter {
    /// The file and what of it, such as `memory.events oom_kill`; of a group above with its directory.
    pub name: String,
    /// When the container was made.
    pub before: Option<u64>,
    /// At its end.
    pub after: Option<u64>,
}

impl Counter {
    pub(crate) fn new(name: impl Into<String>, before: Option<u64>, after: Option<u64>) -> Self {
        Self { name: name.into(), before, after }
    }
}

impl OomEvidence {
    /// What a verdict over the two rests on: who was killed, how often the own limits were hit, and those of each group
    /// above where that has changed.
    pub fn counters(&self, after: &Self) -> Vec<Counter> {
        let (kills, own, local) = match after.v2 {
            true => ("memory.events oom_kill", "memory.events oom", "memory.events.local oom"),
            // Both counts as one: a limit of memory and swap has its own.
            false => ("memory.oom_control oom_kill", "memory.failcnt", "memory.failcnt"),
        };
        let hits = |level: Option<Level>| level.map(|level| level.hits);
        let mut all =
            vec![Counter::new(kills, self.kills, after.kills), Counter::new(own, hits(self.own), hits(after.own))];
        let above = self.above.iter().flatten().zip(after.above.iter().flatten());
        for ((_, old), (path, new)) in above.filter(|((old, _), (new, _))| old == new) {
            if old.hits != new.hits {
                all.push(Counter::new(format!("{path}/{local}"), Some(old.hits), Some(new.hits)));
            }
        }
        all
    }
}

/// How a level's limits fared until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Level {
    /// How often they were hit.
    hits: u64,
    /// v1: memory and swap were once at their limit; nothing counts how often.
    full: bool,
}

/// The largest allocation that may end in an OOM kill: eight pages (`PAGE_ALLOC_COSTLY_ORDER`), of 64 KiB at most.
const SLACK: u64 = if cfg!(target_arch = "x86_64") { 8 * 4096 } else { 8 * 65_536 };

impl Level {
    fn and(self, other: Level) -> Option<Level> {
        Some(Level { hits: self.hits.checked_add(other.hits)?, full: self.full || other.full })
    }

    /// Whether the limits were hit between two readings; `None`: cannot be told.
    fn hit_since(self, before: Level) -> Option<bool> {
        if self.hits > before.hits || (self.full && !before.full) {
            return Some(true);
        }
        (!self.full).then_some(false)
    }
}

/// What the counters prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Oom {
    /// The OOM killer took nobody.
    No,
    /// The container's own limit was the cause.
    Own {
        /// How many processes were killed.
        kills: u64,
    },
    /// The limit of a group above was, or the machine itself ran out.
    Ancestor {
        /// How many processes were killed.
        kills: u64,
        /// The nearest group above whose limit was hit; `None`: no visible one, so the machine or a group we cannot see.
        path: Option<String>,
    },
    /// Killed, but whose limit it was cannot be told.
    Killed {
        /// How many processes were killed.
        kills: u64,
    },
    /// There are no counters, or they were not readable.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Group {
    /// The counters now: once at birth, once after [`wait_empty`](Group::wait_empty) and before
    /// [`remove`](Group::remove) (afterwards they are gone, also through open files).
    pub fn oom(&self) -> OomEvidence {
        let unknown = |why: String| OomEvidence { why: Some(why), ..OomEvidence::default() };
        let read = match self.home(Controller::Memory) {
            Ok(Some(Home::V1(dir))) => self.read_v1(&dir),
            Ok(Some(Home::V2(dir))) => self.read_v2(&dir),
            Ok(None) => return unknown("the container has no memory controller".into()),
            Err(e) => Err(e),
        };
        read.unwrap_or_else(|e| unknown(describe(&e)))
    }

    /// What happened between two readings. Pure; the order matters.
    pub fn verdict(before: &OomEvidence, after: &OomEvidence) -> Oom {
        let unknown = |why: &str| Oom::Unknown { why: why.into() };
        let (Some(first), Some(last)) = (before.kills, after.kills) else {
            let why = after.why.as_ref().or(before.why.as_ref());
            return unknown(why.map_or("the counters were not read", String::as_str));
        };
        let Some(kills) = last.checked_sub(first) else {
            return unknown("the kill counter went back: a nested group was removed in between");
        };
        if kills == 0 {
            return Oom::No;
        }
        match (hit_here(before, after), hit_above(before, after)) {
            (Some(true), Some(None)) => Oom::Own { kills },
            (Some(false), Some(path)) => Oom::Ancestor { kills, path },
            _ => Oom::Killed { kills },
        }
    }

    fn read_v1(&self, dir: &Dir) -> Result<OomEvidence> {
        let (mut kills, mut own) = (Some(0u64), Some(Level::default()));
        dir.visit(&mut |group| {
            let control = match group.read("memory.oom_control") {
                Err(e) if e.is_gone() && group.path() != dir.path() => return Ok(()),
                other => other?,
            };
            kills = kills.zip(keyed(&control, "oom_kill")).and_then(|(sum, more)| sum.checked_add(more));
            own = own.zip(level_v1(group)).and_then(|(sum, more)| sum.and(more));
            Ok(())
        })?;
        let why = kills.is_none().then(|| "memory.oom_control has no oom_kill (it came with 4.13)".to_string());
        Ok(OomEvidence { kills, own, above: self.above(&level_v1), why, v2: false })
    }

    fn read_v2(&self, dir: &Dir) -> Result<OomEvidence> {
        let events = dir.read("memory.events")?;
        let kills = keyed(&events, "oom_kill");
        let why = kills.is_none().then(|| "memory.events has no oom_kill (it came with 4.13)".to_string());
        let local = |dir: &Dir| level_v2(&dir.read("memory.events.local").ok()?);
        Ok(OomEvidence { kills, own: level_v2(&events), above: self.above(&local), why, v2: true })
    }

    /// The count of every level from our own directory up to the mount's top. The top is left out when it has no such
    /// file: it is then the root, which has no limit.
    fn above(&self, count: &dyn Fn(&Dir) -> Option<Level>) -> Option<Vec<(String, Level)>> {
        let memory = |place: &&super::place::Place| place.has(Controller::Memory);
        let place = self.v1_places().find(memory).or(self.parents.v2.as_ref().filter(memory))?;
        let mut at = place.dir.try_clone().ok()?;
        let mut levels = Vec::with_capacity(place.depth);
        for _ in 0..place.depth {
            levels.push((at.path().display().to_string(), count(&at)?));
            at = at.up().ok()?;
        }
        if let Some(level) = count(&at) {
            levels.push((at.path().display().to_string(), level));
        }
        Some(levels)
    }
}

fn level_v2(events: &str) -> Option<Level> {
    Some(Level { hits: keyed(events, "oom")?, full: false })
}

/// Both of v1's counters; without swap accounting, or without a limit on swap, the first is all there is.
fn level_v1(dir: &Dir) -> Option<Level> {
    let count = |file| number(&dir.read(file).ok()?);
    let hits = count("memory.failcnt")?;
    let limit = match dir.read("memory.memsw.limit_in_bytes") {
        Ok(text) => number(&text)?,
        Err(e) if e.is_gone() => UNLIMITED,
        Err(_) => return None,
    };
    if limit >= UNLIMITED {
        return Some(Level { hits, full: false });
    }
    let full = count("memory.memsw.max_usage_in_bytes")? >= limit.saturating_sub(SLACK);
    Some(Level { hits: hits.checked_add(count("memory.memsw.failcnt")?)?, full })
}

fn hit_here(before: &OomEvidence, after: &OomEvidence) -> Option<bool> {
    after.own?.hit_since(before.own?)
}

/// The nearest level above that was hit. `None`: the levels are unknown, not the same ones, or one cannot be cleared.
fn hit_above(before: &OomEvidence, after: &OomEvidence) -> Option<Option<String>> {
    let (before, after) = (before.above.as_ref()?, after.above.as_ref()?);
    if before.len() != after.len() {
        return None;
    }
    for ((old_path, old), (path, new)) in before.iter().zip(after) {
        if old_path != path {
            return None;
        }
        if new.hit_since(*old)? {
            return Some(Some(path.clone()));
        }
    }
    Some(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(kills: u64, own: u64, above: &[u64]) -> OomEvidence {
        let level = |hits| Level { hits, full: false };
        let above = above.iter().enumerate().map(|(i, n)| (format!("/level{i}"), level(*n))).collect();
        OomEvidence { kills: Some(kills), own: Some(level(own)), above: Some(above), why: None, v2: true }
    }

    #[test]
    fn verdict_table() {
        let before = evidence(1, 10, &[5, 5]);
        let level1 = Some("/level1".to_string());
        let blind = OomEvidence { above: None, ..evidence(2, 11, &[]) };
        let gone = OomEvidence { why: Some("gone".into()), ..OomEvidence::default() };
        let table = [
            (evidence(1, 10, &[5, 5]), Oom::No),
            (evidence(1, 99, &[9, 9]), Oom::No), // limits hit, nobody killed
            (evidence(3, 46, &[5, 5]), Oom::Own { kills: 2 }),
            (evidence(2, 10, &[5, 104]), Oom::Ancestor { kills: 1, path: level1 }),
            (evidence(2, 10, &[6, 104]), Oom::Ancestor { kills: 1, path: Some("/level0".into()) }),
            (evidence(2, 10, &[5, 5]), Oom::Ancestor { kills: 1, path: None }),
            (evidence(2, 11, &[6, 5]), Oom::Killed { kills: 1 }),
            (evidence(2, 11, &[5]), Oom::Killed { kills: 1 }),
            (blind, Oom::Killed { kills: 1 }),
            (gone.clone(), Oom::Unknown { why: "gone".into() }),
        ];
        for (after, expected) in table {
            assert_eq!(Group::verdict(&before, &after), expected, "{after:?}");
        }
        assert!(matches!(Group::verdict(&before, &evidence(0, 10, &[5, 5])), Oom::Unknown { .. }));
        assert_eq!(Group::verdict(&gone, &before), Oom::Unknown { why: "gone".into() });
        assert!(matches!(Group::verdict(&before, &OomEvidence::default()), Oom::Unknown { .. }));
    }

    #[test]
    fn a_full_level_is_evidence_once() {
        let (empty, mut full) = (evidence(0, 0, &[0]), evidence(1, 0, &[0]));
        full.own = Some(Level { hits: 0, full: true });
        assert_eq!(Group::verdict(&empty, &full), Oom::Own { kills: 1 });
        let later = OomEvidence { kills: Some(2), ..full.clone() };
        assert_eq!(Group::verdict(&full, &later), Oom::Killed { kills: 1 });
        let mut above = evidence(1, 0, &[0]);
        above.above = Some(vec![("/level0".into(), Level { hits: 0, full: true })]);
        let path = Some("/level0".to_string());
        assert_eq!(Group::verdict(&empty, &above), Oom::Ancestor { kills: 1, path });
        let later = OomEvidence { kills: Some(2), own: Some(Level { hits: 1, full: false }), ..above.clone() };
        assert_eq!(Group::verdict(&above, &later), Oom::Killed { kills: 1 });
    }

    #[test]
    fn level_v2_reads_oom_and_not_oom_kill() {
        let events = "low 0\nhigh 0\nmax 36\noom 1\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(level_v2(events), Some(Level { hits: 1, full: false }));
        assert_eq!(level_v2("low 0\noom_kill 2\n"), None);
    }

    #[test]
    fn the_counters_of_a_verdict_are_named_as_the_kernel_names_them() {
        let after = OomEvidence { v2: true, ..evidence(3, 10, &[5, 104]) };
        let names = |after: &OomEvidence| {
            let all = evidence(1, 10, &[5, 5]).counters(after);
            all.into_iter().map(|it| (it.name, it.before, it.after)).collect::<Vec<_>>()
        };
        let counter = |name: &str, before, after| (name.to_owned(), Some(before), Some(after));
        let want = [
            counter("memory.events oom_kill", 1, 3),
            counter("memory.events oom", 10, 10),
            counter("/level1/memory.events.local oom", 5, 104),
        ];
        assert_eq!(names(&after), want);
        assert_eq!(names(&OomEvidence { v2: false, ..after })[0].0, "memory.oom_control oom_kill");
    }

    #[test]
    fn evidence_survives_a_record() {
        let text = serde_json::to_string(&evidence(1, 2, &[3])).unwrap();
        assert_eq!(serde_json::from_str::<OomEvidence>(&text).unwrap(), evidence(1, 2, &[3]));
    }
}
