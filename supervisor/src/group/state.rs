//! The table of a group: what its members are, and what is to be done so that they become what is wanted. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::restart::GiveUp;

/// Who is restarted when a member of a group has died and is to be restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// It alone.
    #[default]
    OneForOne,
    /// All: the others are stopped, in reverse order, then all start in order.
    OneForAll,
    /// It and those that come after it, directly or not.
    RestForOne,
}

/// Where a member is, as far as its group is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Unit {
    /// To be started.
    Down,
    Starting,
    Ready,
    /// It was told to stop.
    Stopping,
    /// It has died, and its delay runs.
    Waiting,
    /// It has died, and its delay is over.
    Due,
    /// It has done what it was for, or somebody has stopped it: it stays so until the whole group starts anew.
    Over,
}

/// What is heard of a member; late news of an earlier incarnation is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum News {
    Ready,
    Waiting,
    Due,
    Stopped,
    Over,
    Failed(GiveUp),
}

/// What is wanted of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    Up,
    /// Because somebody said so.
    Down,
    /// Because this member has failed.
    Failed(usize, GiveUp),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start(usize),
    Stop(usize),
}

/// What the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    /// On its way to what is wanted.
    Changing,
    /// All members are ready, or have done what they were for.
    Ready,
    /// All have done what they were for.
    Over,
    /// Nothing is up, as somebody wanted.
    Down,
    /// Nothing is up, because this member has failed.
    Failed(usize, GiveUp),
}

/// The members of a group. Written down as it is, but for what follows from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, from = "Written")]
pub(crate) struct Members {
    strategy: Strategy,
    /// For each member those that it comes after.
    after: Vec<Vec<usize>>,
    /// For each member those that come after it, directly or not.
    #[serde(skip_serializing)]
    later: Vec<BTreeSet<usize>>,
    /// Those who are never started again, not even for a sibling's sake.
    temporary: Vec<bool>,
    units: Vec<Unit>,
    wanted: Wanted,
}

/// [`Members`] as they were written down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    strategy: Strategy,
    after: Vec<Vec<usize>>,
    temporary: Vec<bool>,
    units: Vec<Unit>,
    wanted: Wanted,
}

impl From<Written> for Members {
    fn from(written: Written) -> Self {
        let Written { strategy, after, temporary, units, wanted } = written;
        Self { units, wanted, ..Self::new(strategy, after, temporary) }
    }
}

impl Unit {
    fn is_down(self) -> bool {
        matches!(self, Self::Down | Self::Over)
    }

    fn is_hit(self) -> bool {
        matches!(self, Self::Waiting | Self::Due)
    }

    /// Nothing of it runs.
    fn is_gone(self) -> bool {
        self.is_down() || self.is_hit()
    }

    fn is_up(self) -> bool {
        matches!(self, Self::Starting | Self::Ready)
    }

    /// After this news; total. `temporary`: once down it is over.
    pub(crate) fn hears(self, news: News, temporary: bool) -> Self {
        match (self, news) {
            (Self::Stopping, News::Stopped | News::Over) if temporary => Self::Over,
            (Self::Stopping, News::Stopped | News::Over | News::Failed(_)) => Self::Down,
            // It has not heard of the stop yet.
            (Self::Stopping, News::Ready | News::Waiting | News::Due) => self,
            (_, News::Ready) => Self::Ready,
            (_, News::Waiting) => Self::Waiting,
            (_, News::Due) => Self::Due,
            (Self::Down, News::Stopped | News::Over | News::Failed(_)) => self,
            (_, News::Stopped | News::Over | News::Failed(_)) => Self::Over,
        }
    }
}

/// Who comes after each, directly or not. `after` has no circle.
fn later(after: &[Vec<usize>]) -> Vec<BTreeSet<usize>> {
    let mut later = vec![BTreeSet::new(); after.len()];
    loop {
        let before = later.clone();
        for (member, those) in after.iter().enumerate() {
            let mine = later.get(member).cloned().unwrap_or_default();
            for other in those {
                if let Some(set) = later.get_mut(*other) {
                    set.insert(member);
                    set.extend(&mine);
                }
            }
        }
        if later == before {
            return later;
        }
    }
}

impl Members {
    pub(crate) fn new(strategy: Strategy, after: Vec<Vec<usize>>, temporary: Vec<bool>) -> Self {
        let units = vec![Unit::Down; after.len()];
        let later = later(&after);
        Self { strategy, after, later, temporary, units, wanted: Wanted::Down }
    }

    /// They are so many.
    pub(crate) fn is_of(&self, count: usize) -> bool {
        [self.after.len(), self.temporary.len(), self.units.len()] == [count; 3]
    }

    pub(crate) fn unit(&self, member: usize) -> Unit {
        self.units.get(member).copied().unwrap_or(Unit::Over)
    }

    /// Those that were told to stop and are not gone.
    pub(crate) fn stopping(&self) -> Vec<usize> {
        self.all().filter(|member| self.unit(*member) == Unit::Stopping).collect()
    }

    fn set(&mut self, member: usize, unit: Unit) {
        if let Some(place) = self.units.get_mut(member) {
            *place = unit;
        }
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.units.len()
    }

    /// Somebody wants all of them to run, from the beginning.
    pub(crate) fn up(&mut self) {
        self.wanted = Wanted::Up;
        self.units.iter_mut().filter(|unit| unit.is_down()).for_each(|unit| *unit = Unit::Down);
    }

    /// Somebody wants none of them to run.
    pub(crate) fn down(&mut self) {
        self.wanted = Wanted::Down;
    }

    /// Something has happened to a member.
    pub(crate) fn heard(&mut self, member: usize, news: News) {
        let before = self.unit(member);
        let temporary = self.temporary.get(member).copied().unwrap_or(false);
        self.set(member, before.hears(news, temporary));
        if let (News::Failed(why), Wanted::Up) = (news, self.wanted) {
            self.wanted = Wanted::Failed(member, why);
        }
    }

    /// What is to be done now; each is told once.
    pub(crate) fn next(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.wanted != Wanted::Up {
            self.stop(self.all().collect(), &mut actions);
            return actions;
        }
        let hit: Vec<usize> = self.all().filter(|member| self.unit(*member).is_hit()).collect();
        let affected = self.affected(&hit);
        self.stop(affected.iter().copied().filter(|member| !self.unit(*member).is_hit()).collect(), &mut actions);
        let quiet = affected.iter().all(|member| self.unit(*member).is_down() || self.unit(*member) == Unit::Due);
        for member in hit {
            let healed = self.unit(member) == Unit::Due && (quiet || self.strategy == Strategy::OneForOne);
            if healed {
                self.set(member, Unit::Down);
            }
        }
        for member in self.all() {
            let held = !quiet && affected.contains(&member);
            let ready = |other: &usize| matches!(self.unit(*other), Unit::Ready | Unit::Over);
            let free = self.after.get(member).is_some_and(|after| after.iter().all(ready));
            if self.unit(member) == Unit::Down && !held && free {
                self.set(member, Unit::Starting);
                actions.push(Action::Start(member));
            }
        }
        actions
    }

    /// Who starts anew with those that are hit, themselves included.
    fn affected(&self, hit: &[usize]) -> Vec<usize> {
        match self.strategy {
            _ if hit.is_empty() => Vec::new(),
            Strategy::OneForOne => Vec::new(),
            Strategy::OneForAll => self.all().collect(),
            Strategy::RestForOne => {
                let later = hit.iter().filter_map(|member| self.later.get(*member)).flatten();
                later.chain(hit).copied().collect::<BTreeSet<_>>().into_iter().collect()
            }
        }
    }

    /// Stop those of these that nobody who is not gone comes after.
    fn stop(&mut self, these: Vec<usize>, actions: &mut Vec<Action>) {
        for member in these {
            let mut later = self.later.get(member).into_iter().flatten();
            let followed = later.any(|other| !self.unit(*other).is_gone());
            let unit = self.unit(member);
            if (unit.is_up() || unit.is_hit()) && !followed {
                self.set(member, Unit::Stopping);
                actions.push(Action::Stop(member));
            }
        }
    }

    pub(crate) fn whole(&self) -> Whole {
        let all = |is: fn(Unit) -> bool| self.units.iter().all(|unit| is(*unit));
        match self.wanted {
            Wanted::Up if all(|unit| unit == Unit::Over) => Whole::Over,
            Wanted::Up if all(|unit| matches!(unit, Unit::Ready | Unit::Over)) => Whole::Ready,
            Wanted::Down if all(Unit::is_down) => Whole::Down,
            Wanted::Failed(member, why) if all(Unit::is_down) => Whole::Failed(member, why),
            _ => Whole::Changing,
        }
    }
}

#[cfg(test)]
mod tests;
