//! A container of an earlier supervisor that is ours now.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use tokio::sync::oneshot;

use super::Inner;
use super::container::{Core, Gated, Idle, Made, Main};
use super::janitor::Rests;
use super::off_thread::off_thread;
use super::own_group::OwnGroup;
use super::record::paused;
use super::report::Report;
use super::stdio::Ends;
use crate::Exit;
use crate::cgroup::Group;
use crate::durable::{ContainerRecord, FirstRecord, GroupRecord, Storing};
use crate::spec::{ContainerSpec, ProcessSpec};

impl Core {
    /// By a record that was checked. Blocks: files of cgroupfs.
    pub(super) fn adopted(
        inner: Arc<Inner>,
        record: &ContainerRecord,
        rests: Rests,
        main: Option<ProcessSpec>,
    ) -> Self {
        let container =
            ContainerSpec { id: record.id.clone(), enforcement: record.enforcement, ..ContainerSpec::default() };
        let main = main.filter(|_| record.first == FirstRecord::Stub);
        let core = Self::new(
            inner,
            Made {
                container,
                joining: record.joining.joining(),
                rests,
                before: record.before.clone(),
                main_ids: record.main_ids,
                init_pid: record.init.pid(),
                request: record.request,
                first: record.first,
                shares_pids: record.shares_pids,
                own_network: record.own_network,
                shared_range: record.range.is_some_and(|range| range.shared),
                unmet: record.unmet.clone(),
                ground: record.ground,
                main: main.map(|main| Main::Asked(Box::new(main))),
                waiting: None,
                idle: None,
                root_way: record.root_way.clone(),
            },
        );
        *core.paused() = paused(&record.paused, core.group());
        // How many there were is asked when one more is made.
        core.execs.store(0, Ordering::Relaxed);
        core
    }

    /// The name of one more group below `group`, which nobody else makes meanwhile.
    pub(super) async fn name_below(&self, group: &Arc<Group>) -> String {
        if self.execs.load(Ordering::Relaxed) == 0 {
            let group = Arc::clone(group);
            let used = off_thread(move || group.below()).await.unwrap_or_default();
            let used = used.iter().filter_map(|name| name.strip_prefix("exec-")?.parse::<u64>().ok()).max();
            self.execs.store(used.unwrap_or(0).saturating_add(1), Ordering::Relaxed);
        }
        format!("exec-{}", self.execs.fetch_add(1, Ordering::Relaxed))
    }

    /// Its stub is the main process.
    pub(super) fn idles(&self, exit: oneshot::Receiver<Exit>, storing: Option<Storing>) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(Idle { exit, storing });
    }

    /// Its command waits behind the start gate.
    pub(super) fn waits(
        &self,
        gate: OwnedFd,
        ends: Ends,
        report: Report,
        exit: oneshot::Receiver<Exit>,
        storing: Storing,
    ) {
        let gated = Gated { gate, ends, report, plan: None, exit, storing: Some(storing), hold: None };
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(gated);
    }

    /// It is gone, and was never started: nothing of its main process is held any more.
    pub(super) fn forget(&self) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stored = [waiting.and_then(|gated| gated.storing), idle.and_then(|idle| idle.storing)];
        stored.into_iter().flatten().for_each(Storing::discard);
    }

    /// To start it needs nothing but saying so.
    pub(super) fn waits_or_idles(&self) -> bool {
        let waits = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        waits || self.idle.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Its main process is there, if it is this one.
    pub(super) fn is_started(&self, main: bool) {
        self.started.fetch_or(main, Ordering::AcqRel);
    }

    /// The group of a process with limits of its own. Blocks.
    pub(super) fn own_group_again(&self, record: &GroupRecord) -> Option<OwnGroup> {
        OwnGroup::again(self.rests.group.clone()?, record, self.mode())
    }
}
