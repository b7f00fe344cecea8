//! A group that another supervisor has begun: what is written down of it, and how it goes on from there. What happened to its
//! members meanwhile they say themselves; what they were told and may not have heard is told once more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::handle::Group;
use super::member::Member;
use super::run::{self, Order, Run};
use super::state::Unit;
use crate::error::{Error, ErrorKind};
use crate::recovery::{GroupRecord, MemberRecord};
use crate::report::unix_ms;
use crate::service::{Delay, Service, Status};
use crate::supervisor::Supervisor;

/// Whom the groups have as members.
pub(crate) fn members(groups: &[GroupRecord]) -> BTreeSet<String> {
    groups.iter().flat_map(|group| &group.members).map(|member| member.id.clone()).collect()
}

/// All of them, with the services that go on already; those that are nobody's members go on alone. None of them ends with a handle.
///
/// # Errors
/// The supervisor is shut down.
pub(crate) async fn go_on(
    supervisor: &Supervisor,
    mut records: Vec<GroupRecord>,
    mut services: BTreeMap<String, Service>,
) -> Result<(), Error> {
    let (named, mut groups) = (members(&records), BTreeMap::<String, Group>::new());
    // Those within others first. Each turn makes one at least, as there are no circles among what was made.
    for _ in 0..records.len() {
        let there = |member: &MemberRecord| !member.is_group || groups.contains_key(&member.id);
        let Some(next) = records.iter().position(|record| record.members.iter().all(there)) else { break };
        let record = records.remove(next);
        let made = record.members.iter().map(|member| {
            let there = match member.is_group {
                true => groups.remove(&member.id).map(Member::Group),
                false => services.remove(&member.id).map(Member::Service),
            };
            Some((member.name.clone(), there?))
        });
        let Some(made) = made.collect() else {
            tracing::error!(group = record.path, "a member of it is another one's");
            continue;
        };
        // One whose own group could not be read waits for nobody's turn.
        let held = named.contains(&record.path);
        groups.insert(record.path.clone(), run::begin(supervisor, Order::again(record, made, held)).await?);
    }
    Ok(())
}

/// What has passed since then.
fn since(at_ms: u64) -> Duration {
    Duration::from_millis(unix_ms(SystemTime::now()).saturating_sub(at_ms))
}

impl Order {
    fn again(record: GroupRecord, made: Vec<(String, Member)>, held: bool) -> Self {
        Self {
            path: record.path.clone(),
            name: record.name.clone(),
            members: record.table.clone(),
            made,
            budget: record.budget.clone(),
            ladder: record.ladder.clone(),
            held,
            again: Some(Box::new(record)),
        }
    }
}

impl Run {
    /// As it was written down; before its actor begins.
    pub(super) fn restore(&mut self, record: GroupRecord) {
        let (now, passed) = (Instant::now(), since(record.at_ms));
        let ago = |elapsed: Duration| now.checked_sub(elapsed.saturating_add(passed)).unwrap_or(now);
        (self.began, self.since) = (ago(record.elapsed), ago(record.since));
        self.stop.asked = record.asked;
        for (watched, was) in self.watched.iter_mut().zip(record.members) {
            (watched.from, watched.heard, watched.started_in) = (was.from, was.heard, was.started_in);
        }
        let delay = record.delay.map(Delay::again);
        let (tally, error) = (self.budget.tally(), record.error.map(|why| Error::new(ErrorKind::State, why)));
        self.slot.publish(|status| {
            (status.state, status.generation, status.restarts) = (record.state, record.generation, record.restarts);
            (status.give_up, status.delay, status.tally, status.error) = (record.give_up, delay, tally, error);
        });
        self.goes_on = true;
    }

    /// Once, with what the members are in hand: whoever was killed before a member had heard.
    pub(super) fn tell_again(&mut self) {
        if !self.goes_on {
            return;
        }
        for index in 0..self.watched.len() {
            match self.members.unit(index) {
                Unit::Starting if self.awaits_start(index) => self.ask_for(index),
                Unit::Stopping => {
                    // The stop has overtaken the start, which nobody will hear of: what it is, it was before.
                    if self.awaits_start(index)
                        && let Some(watched) = self.watched.get(index)
                    {
                        watched.wish.never_came();
                    }
                    self.stop_member(index);
                }
                _ => {}
            }
        }
        // All of them were told: a panic on the way tells them once more, and they join.
        self.goes_on = false;
        self.look();
    }

    /// As it is now, and is as a whole.
    pub(super) fn record(&self, status: &Status) -> GroupRecord {
        let members = self.slot.members.iter().zip(&self.watched).map(|((name, member), watched)| MemberRecord {
            name: name.clone(),
            id: member.id().to_owned(),
            is_group: matches!(member, Member::Group(_)),
            from: watched.from,
            heard: watched.heard,
            started_in: watched.started_in,
        });
        GroupRecord {
            path: self.slot.path.clone(),
            name: self.slot.name.clone(),
            table: self.members.clone(),
            members: members.collect(),
            ladder: self.stop.described.clone(),
            asked: self.stop.asked.clone(),
            held: self.held,
            state: status.state,
            generation: status.generation,
            restarts: status.restarts,
            give_up: status.give_up,
            error: status.error.as_ref().map(ToString::to_string),
            delay: status.delay.map(|delay| (delay.shown.delay, delay.shown.until_ms)),
            budget: self.budget.clone(),
            at_ms: unix_ms(SystemTime::now()),
            elapsed: self.began.elapsed(),
            since: self.since.elapsed(),
        }
    }
}
