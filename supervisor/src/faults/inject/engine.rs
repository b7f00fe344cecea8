//! Carries out what was decided: one task for each plan, on a thread of the supervisor, and one for each fault that lasts.

use std::sync::Arc;

use actix::Addr;
use orangery_io_stream::view::{LineOptions, Lines, Piece};
use orangery_io_stream::{Event, SubscribeOptions, Subscriber};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::decide::{Order, Whom};
use super::job::{Job, find, over};
use super::report::FaultStep;
use super::{Shared, lock};
use crate::manager::actor::ManagerActor;

/// Obeys the decider of one plan.
pub(super) struct Engine {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) manager: Addr<ManagerActor>,
    /// Says `true` when everything is reverted.
    pub(super) done: watch::Sender<bool>,
}

impl Engine {
    /// Until the plan is over and everything of it is reverted.
    pub(super) async fn run(mut self) {
        let mut jobs = JoinSet::new();
        let mut over = std::pin::pin!(over(self.shared.over.subscribe()));
        loop {
            tokio::select! {
                biased;
                _ = &mut over => break,
                Some(order) = self.orders.recv() => self.obey(order, &mut jobs),
                Some(_) = jobs.join_next() => {}
            }
        }
        // Nothing is decided any more; what was is told.
        while let Ok(order) = self.orders.try_recv() {
            self.obey(order, &mut jobs);
        }
        while jobs.join_next().await.is_some() {}
        self.done.send_replace(true);
    }

    fn obey(&self, order: Order, jobs: &mut JoinSet<()>) {
        let (shared, manager) = (Arc::clone(&self.shared), self.manager.clone());
        match order {
            Order::Apply(fault, whom, hold) => {
                jobs.spawn(Job { fault, whom, hold, shared, manager }.run());
            }
            Order::Applied(fault, whom) => shared.ledger.note(fault, FaultStep::Applied, Some(&whom), None),
            Order::Skip(fault, whom, why) => {
                shared.ledger.note(fault, FaultStep::Skipped, whom.as_ref(), Some(why.to_owned()));
            }
            Order::Read(whom) => {
                jobs.spawn(async move {
                    let Ok(slot) = find(&manager, &whom).await else { return };
                    let output = slot.main.output.subscribe(SubscribeOptions::default());
                    drop(slot);
                    tokio::select! {
                        _ = over(shared.over.subscribe()) => {}
                        () = read(output, &shared, &whom) => {}
                    }
                });
            }
        }
    }
}

/// Tell the decider what a container writes, as far as that is not lost to a reader.
async fn read(mut output: Subscriber, shared: &Shared, whom: &Whom) {
    let mut lines = Lines::new(LineOptions::default());
    while let Some(event) = output.recv().await {
        match event {
            Event::Chunk(chunk) => {
                let (source, upto) = (chunk.source, chunk.offset + chunk.data.len() as u64);
                let mut piece = Piece::from(chunk);
                while let Some(line) = lines.next_from(&mut piece) {
                    if line.begins {
                        lock(&shared.decider).line(&whom.key, line.source, &line.data);
                    }
                }
                lock(&shared.decider).output(&whom.key, source, upto);
            }
            Event::Gap(gap) => {
                drop(lines.cut(gap.source));
                lock(&shared.decider).output(&whom.key, gap.source, gap.to);
            }
            _ => return,
        }
    }
}
