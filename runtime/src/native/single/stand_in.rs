//! Who is in the cgroup of a container before the container is (`plan/stand_in.rs`). It is a child of the keeper's and ends with it, so
//! that a group that was made around it is empty again whatever becomes of us.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::fs::OFlags;

use super::super::stdio;
use super::super::supply::Supply;
use super::Maker;
use super::halt::{Stop, Until};
use crate::error::{Error, ErrorKind};
use crate::plan::stand_in::plan;

/// A process that keeps a place. It ends when this is dropped.
#[derive(Debug)]
pub struct StandIn {
    /// The keeper's number of it.
    id: u64,
    pid: i32,
    gate: OwnedFd,
    /// What it says as it ends: nobody asks.
    _report: OwnedFd,
}

impl StandIn {
    /// Its number in our pid namespace, as long as its keeper lives.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Maker {
    /// Start one, where we are.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn stand_in(&mut self) -> Result<StandIn, Error> {
        let plan = plan();
        let (report, theirs) = stdio::pipe()?;
        rustix::fs::fcntl_setfl(&report, OFlags::NONBLOCK)
            .map_err(|error| Error::system("cannot prepare a pipe", error))?;
        let (waits, gate) = stdio::gate()?;
        let mut supply = Supply::new(theirs);
        supply.gate = Some(waits);
        let (id, pid, _) = self.brief.spawn_own(&plan, supply.all(&plan, None)?)?;
        Ok(StandIn { id, pid, gate, _report: report })
    }

    /// Let it go, now that somebody else is where it was. It is nobody's child when this comes back.
    pub(super) fn relieve(&mut self, stand_in: StandIn) -> Result<(), Error> {
        let StandIn { id, gate, _report, .. } = stand_in;
        drop(gate);
        let until = Until { time: Some(Instant::now() + super::hooks::PATIENCE), ..Until::default() };
        let kept = "the process that has kept the container's cgroup does not end";
        loop {
            if self.brief.end_of(id)?.is_some() {
                return Ok(());
            }
            match until.wait([Some(self.brief.socket()?)]) {
                Ok(_) => {}
                Err(Stop::Late) => return Err(Error::new(ErrorKind::Keeper, kept)),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
    }
}
