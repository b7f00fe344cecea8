//! One member of a group: a service or a group, which look the same to the group above.

use tokio::sync::watch;

use super::handle::Group;
use super::state::News;
use crate::error::{Error, ErrorKind};
use crate::ladder::StopLadder;
use crate::restart::GiveUp;
use crate::service::state::ServiceState;
use crate::service::{Service, Status};

/// See the file's head.
#[derive(Clone, Debug)]
pub(crate) enum Member {
    Service(Service),
    Group(Group),
}

impl Member {
    pub(crate) fn watch(&self) -> watch::Receiver<Status> {
        match self {
            Self::Service(service) => service.watch(),
            Self::Group(group) => group.watch(),
        }
    }

    /// Kill what runs of it; passes no mailbox.
    pub(crate) fn kill(&self) {
        match self {
            Self::Service(service) => service.kill(),
            Self::Group(group) => group.kill(),
        }
    }

    /// Have it started. A request that a panic has lost is made again; what comes of it is in its status.
    pub(crate) async fn start(self, fresh: bool) {
        loop {
            let started = match &self {
                Self::Service(service) => service.start_as(fresh).await,
                Self::Group(group) => group.start().await,
            };
            if !self.lost(started) {
                return;
            }
        }
    }

    /// Have it stopped; as for [`Member::start`].
    pub(crate) async fn stop(self, ladder: Option<StopLadder>) {
        loop {
            let stopped = match &self {
                Self::Service(service) => service.stop_as(ladder.clone()).await,
                Self::Group(group) => group.stop_as(ladder.clone()).await,
            };
            if !self.lost(stopped) {
                return;
            }
        }
    }

    fn lost(&self, answer: Result<(), Error>) -> bool {
        let lost = answer.is_err_and(|error| error.kind() == ErrorKind::SupervisorFault);
        lost && !self.watch().borrow().closed
    }
}

/// What a status says of an incarnation that is not older than `from`.
pub(crate) fn news(status: &Status, from: u32) -> Option<News> {
    if status.closed {
        return Some(News::Failed(status.give_up.unwrap_or(GiveUp::SupervisorFault)));
    }
    if status.generation < from {
        return None;
    }
    match status.state {
        _ if status.is_ready() => Some(News::Ready),
        ServiceState::BackOff if status.delay.is_some_and(|delay| delay.shown.due) => Some(News::Due),
        ServiceState::BackOff => Some(News::Waiting),
        ServiceState::Stopped => Some(News::Stopped),
        ServiceState::Ended => Some(News::Over),
        ServiceState::Failed => Some(News::Failed(status.give_up.unwrap_or(GiveUp::CannotStart))),
        ServiceState::Starting | ServiceState::Unready | ServiceState::Running | ServiceState::Stopping => None,
    }
}
