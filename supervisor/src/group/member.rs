//! One member of a group: a service or a group, which look the same to the group above.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
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
    /// The id of the service, or the path of the group.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Service(service) => service.id(),
            Self::Group(group) => group.path(),
        }
    }

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

    /// Have it started: asked for when called. A request that a panic has lost is made again, as long as it is wished; `false`:
    /// it was not, and never will be. What comes of it is in its status.
    pub(super) fn start(&self, fresh: bool, wish: &Wish) -> impl Future<Output = bool> + Send + 'static + use<> {
        let ask = move |member: &Self| match member {
            Self::Service(service) => service.start_as(fresh).boxed(),
            Self::Group(group) => group.start().boxed(),
        };
        self.clone().ask(ask, wish.clone(), wish.up())
    }

    /// Have it stopped; as for [`Member::start`].
    pub(super) fn stop(
        &self,
        ladder: Option<StopLadder>,
        wish: &Wish,
    ) -> impl Future<Output = bool> + Send + 'static + use<> {
        let ask = move |member: &Self| match member {
            Self::Service(service) => service.stop_as(ladder.clone()).boxed(),
            Self::Group(group) => group.stop_as(ladder.clone()).boxed(),
        };
        self.clone().ask(ask, wish.clone(), wish.down())
    }

    fn ask(
        self,
        ask: impl Fn(&Self) -> BoxFuture<'static, Result<(), Error>> + Send + 'static,
        wish: Wish,
        wished: u64,
    ) -> impl Future<Output = bool> + Send + 'static {
        let mut asked = ask(&self);
        async move {
            while self.lost((&mut asked).await) {
                if !wish.is(wished) {
                    wish.0.void.store(wished, Ordering::Release);
                    return false;
                }
                asked = ask(&self);
            }
            true
        }
    }

    fn lost(&self, answer: Result<(), Error>) -> bool {
        let lost = answer.is_err_and(|error| error.kind() == ErrorKind::SupervisorFault);
        lost && !self.watch().borrow().closed
    }
}

/// What a group wishes of one member: a number, odd for up and even for down, that grows when that changes.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish(Arc<Wished>);

#[derive(Debug, Default)]
struct Wished {
    last: AtomicU64,
    /// One that never came to the member.
    void: AtomicU64,
}

impl Wish {
    fn to(&self, up: bool) -> u64 {
        let wished = self.0.last.load(Ordering::Acquire);
        let wished = if (wished % 2 == 1) == up { wished } else { wished + 1 };
        self.0.last.store(wished, Ordering::Release);
        wished
    }

    fn up(&self) -> u64 {
        self.to(true)
    }

    fn down(&self) -> u64 {
        self.to(false)
    }

    /// It is to be down, and the last wish for up never came to it, nor will it. Said once more it is the same wish.
    pub(super) fn never_came(&self) {
        if !self.is_idle() {
            self.0.void.store(self.up(), Ordering::Release);
            self.down();
        }
    }

    /// Nothing else was wished since.
    fn is(&self, wished: u64) -> bool {
        self.0.last.load(Ordering::Acquire) == wished
    }

    /// It is to be down, and the wish before that never came to it: what it is, it was before.
    pub(super) fn is_idle(&self) -> bool {
        let void = self.0.void.load(Ordering::Acquire);
        void % 2 == 1 && self.is(void + 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_holds_until_the_opposite_is_wished() {
        let wish = Wish::default();
        let first = wish.up();
        assert!(wish.up() == first && wish.is(first));
        let down = wish.down();
        assert!(wish.down() == down && wish.is(down) && !wish.is(first));
        wish.0.void.store(first, Ordering::Release);
        assert!(wish.is_idle());
        assert!(wish.up() > down && !wish.is(first) && !wish.is(down) && !wish.is_idle());
        for wish in [wish, Wish::default()] {
            wish.never_came();
            assert!(wish.is_idle());
            let down = wish.down();
            wish.never_came();
            assert!(wish.is_idle() && wish.is(down));
            wish.up();
            assert!(!wish.is_idle());
        }
    }
}
