//! One fault on one container, from its application to its end: a straight line.

use std::sync::Arc;

use actix::Addr;
use tokio::sync::{oneshot, watch};

use super::act::{self, Undo};
use super::decide::Whom;
use super::report::{FaultStep, Ledger};
use super::{Shared, lock};
use crate::container::slot::ContainerSlot;
use crate::error::{Error, ErrorKind};
use crate::faults::held::Hold;
use crate::faults::plan::{FaultKind, Meets};
use crate::manager::actor::ManagerActor;
use crate::manager::msg::Find;

/// A fault that is to be applied.
pub(super) struct Job {
    pub(super) fault: usize,
    pub(super) whom: Whom,
    /// What stands still for it already.
    pub(super) hold: Option<Hold>,
    pub(super) shared: Arc<Shared>,
    pub(super) manager: Addr<ManagerActor>,
}

impl Job {
    /// Apply it, wait for its end, revert it.
    pub(super) async fn run(mut self) {
        let ledger = self.shared.ledger.clone();
        let until = self.until();
        let undo = match self.apply(&ledger).await {
            Ok(undo) => undo,
            Err(error) => {
                return ledger.note(self.fault, FaultStep::Skipped, Some(&self.whom), Some(error.to_string()));
            }
        };
        if !ledger.kind(self.fault).lasts() {
            return;
        }
        let why = self.end(until).await;
        drop(self.hold.take());
        match undo.carry_out().await {
            Ok(()) => ledger.note(self.fault, FaultStep::Reverted, Some(&self.whom), Some(why.to_owned())),
            Err(error) => ledger.note(self.fault, FaultStep::Left, Some(&self.whom), Some(error.to_string())),
        }
    }

    /// What ends it, counted from now on.
    fn until(&self) -> Option<oneshot::Receiver<()>> {
        let planned = self.shared.ledger.planned(self.fault);
        planned.until.as_ref().map(|_| lock(&self.shared.decider).until(self.fault))
    }

    async fn apply(&self, ledger: &Ledger) -> Result<Undo, Error> {
        if let Some(why) = *self.shared.over.borrow() {
            return Err(Error::new(ErrorKind::State, format!("{why} before")));
        }
        let planned = ledger.planned(self.fault);
        let applied = || ledger.note(self.fault, FaultStep::Applied, Some(&self.whom), None);
        if self.hold.is_some() {
            applied();
            return Ok(Undo::Nothing);
        }
        let slot = find(&self.manager, &self.whom).await?;
        if planned.kind == FaultKind::Kill {
            // Said before, so that what comes of it comes after it.
            applied();
        }
        let undo = act::apply(slot, planned, (&self.whom.key, &self.shared.claims)).await?;
        if planned.kind == FaultKind::Kill {
            return Ok(undo);
        }
        applied();
        Ok(undo)
    }

    /// Wait for its end; why it ends.
    async fn end(&mut self, until: Option<oneshot::Receiver<()>>) -> &'static str {
        let planned = self.shared.ledger.planned(self.fault);
        let time = async {
            match planned.lasts() {
                Some(lasts) => tokio::time::sleep(lasts).await,
                None => std::future::pending().await,
            }
        };
        let until = async {
            match until {
                // Without an answer the plan has ended, and says so itself.
                Some(until) => {
                    if until.await.is_err() {
                        std::future::pending().await
                    }
                }
                None => std::future::pending().await,
            }
        };
        let ended = ended(self.whom.ended.clone(), planned.kind.meets());
        let over = over(self.shared.over.subscribe());
        tokio::select! {
            biased;
            // First: a supervisor that shuts down ends its plans before its containers.
            why = over => why,
            () = ended => "the container has ended",
            () = until => "what it was to last until has happened",
            () = time => "its time is over",
        }
    }
}

/// The container, while it lives.
pub(super) async fn find(manager: &Addr<ManagerActor>, whom: &Whom) -> Result<Arc<ContainerSlot>, Error> {
    let ended = || Error::new(ErrorKind::State, "the container has ended");
    let (reply, answer) = oneshot::channel();
    let (id, generation) = &whom.key;
    manager.do_send(Find { id: id.to_string(), reply });
    let found = answer.await.map_err(|_| Error::lost_request())?.ok_or_else(ended)?;
    // Not one of its handles: it ends when it would without us.
    let slot = Arc::clone(&found);
    drop(found);
    if slot.main.generation != *generation || slot.main.ended() {
        return Err(ended());
    }
    Ok(slot)
}

/// The container is no longer what the fault is about.
async fn ended(mut ended: watch::Receiver<bool>, meets: Meets) {
    match meets {
        // It had ended before.
        Meets::End => while ended.changed().await.is_ok() {},
        _ => drop(ended.wait_for(|ended| *ended).await),
    }
}

/// The plan is over; why.
pub(super) async fn over(mut over: watch::Receiver<Option<&'static str>>) -> &'static str {
    match over.wait_for(Option::is_some).await {
        Ok(why) => why.unwrap_or_default(),
        Err(_) => "nobody holds the plan any more",
    }
}
