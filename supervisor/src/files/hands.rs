//! The hands of one job: children of the keeper that touch files as a user of the container whom we cannot become. Each is
//! made when it is first needed, which is rare, and goes with the job.

use std::cell::RefCell;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use orangery_runtime as runtime;
use runtime::hand::{Errand, Hand};
use rustix::io::{Errno, Result as IoResult};

use super::job::Leave;
use crate::admission::Permit;
use crate::error::Error;

/// See the file's head.
pub(super) struct Hands<'a> {
    container: Arc<dyn runtime::Container>,
    leave: Leave<'a>,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    made: Vec<Made>,
    /// Why there is none, or none any more.
    failed: Option<Error>,
}

struct Made {
    ids: (u32, u32),
    hand: Hand,
    /// Given back behind the hand.
    _room: Option<Permit>,
}

impl std::fmt::Debug for Hands<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hands").finish_non_exhaustive()
    }
}

impl<'a> Hands<'a> {
    pub(super) fn new(container: Arc<dyn runtime::Container>, leave: Leave<'a>) -> Self {
        Self { container, leave, state: RefCell::default() }
    }

    /// Have it done as these. EPROTO: there is nobody who could, see [`Hands::failure`].
    pub(super) fn carry_out(
        &self,
        ids: (u32, u32),
        errand: &Errand<'_>,
        place: BorrowedFd<'_>,
    ) -> IoResult<Option<OwnedFd>> {
        let mut state = self.state.borrow_mut();
        if state.failed.is_some() {
            return Err(Errno::PROTO);
        }
        let done = self.of(&mut state, ids).and_then(|hand| hand.carry_out(errand, place).map_err(Error::from));
        done.unwrap_or_else(|error| {
            state.failed = Some(error);
            Err(Errno::PROTO)
        })
    }

    /// Why the work has failed, where it is not for the files.
    pub(super) fn failure(&self) -> Option<Error> {
        self.state.borrow_mut().failed.take()
    }

    /// On a blocking thread of our own system, which may wait for what its other threads do.
    fn of<'s>(&self, state: &'s mut State, ids: (u32, u32)) -> Result<&'s mut Hand, Error> {
        let at = match state.made.iter().position(|made| made.ids == ids) {
            Some(at) => at,
            None => {
                let room = self.leave.hand()?;
                let hand = tokio::runtime::Handle::current().block_on(self.container.hand(ids))?;
                tracing::debug!(uid = ids.0, gid = ids.1, "a hand touches files for us");
                state.made.push(Made { ids, hand, _room: room });
                state.made.len() - 1
            }
        };
        state.made.get_mut(at).map(|made| &mut made.hand).ok_or_else(Error::lost_request)
    }
}
