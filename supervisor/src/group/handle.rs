//! What a program holds of a group.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::Addr;
use serde::Serialize;
use tokio::sync::{oneshot, watch};

use super::actor::{Ask, GroupActor};
use super::builder::GroupBuilder;
use super::member::Member;
use super::slot::{GroupSlot, OwnedGroup};
use crate::error::{Error, ErrorKind};
use crate::ladder::StopLadder;
use crate::service::state::ServiceState;
use crate::service::{Service, ServiceChanges, ServiceInspect, Status, until};

/// Services, and groups of them, that are started, stopped and restarted together.
///
/// Clones are the same group, and so are handles from [`Supervisor::group`](crate::Supervisor::group). When the last of all of
/// them is dropped all of it is killed and removed, without blocking, unless [`Group::detach`] was called on any of them.
///
/// With a [durable](crate::Supervisor::durable) supervisor a group that [`GroupBuilder::start`] has started outlives its handles and
/// that supervisor, until [`Supervisor::forget`](crate::Supervisor::forget) or
/// [`Supervisor::shutdown`](crate::Supervisor::shutdown). One that was [prepared](GroupBuilder::prepare) outlives its handles only
/// where it is detached, and that supervisor once it was started.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Owner>,
}

struct Owner {
    slot: OwnedGroup,
    actor: Addr<GroupActor>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("name", &self.name()).finish_non_exhaustive()
    }
}

/// A group as it is now.
///
/// ```no_run
/// # fn f(group: orangery::Group) {
/// let orangery::GroupInspect { whole, members, .. } = group.inspect();
/// println!("{:?}, restarted {} times, {} members", whole.state, whole.restarts, members.len());
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GroupInspect {
    /// The group as one: an incarnation is a start of all its members, a death the failure of one.
    pub whole: ServiceInspect,
    /// Its members with their names, in the order in which they were added.
    pub members: Vec<(String, MemberInspect)>,
}

/// A member of a group as it is now.
///
/// ```no_run
/// # fn f(group: orangery::Group) {
/// use orangery::MemberInspect;
/// for (name, member) in group.inspect().members {
///     match member {
///         MemberInspect::Service(service) => println!("{name}: {:?}", service.state),
///         MemberInspect::Group(group) => println!("{name}: a group of {}", group.members.len()),
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberInspect {
    /// A service.
    Service(ServiceInspect),
    /// A group.
    Group(GroupInspect),
}

impl Group {
    /// Describe one.
    pub fn builder(name: impl Into<String>) -> GroupBuilder {
        GroupBuilder::new(name.into())
    }

    /// `None`: it is not on its thread yet.
    pub(super) fn attach(slot: OwnedGroup) -> Option<Self> {
        let actor = slot.actor.get()?.clone();
        Some(Self { inner: Arc::new(Owner { slot, actor }) })
    }

    /// Another handle of what is there.
    pub(crate) fn again(slot: &Arc<GroupSlot>) -> Option<Self> {
        Self::attach(OwnedGroup::new(slot))
    }

    /// Why an answer did not come.
    fn lost(slot: &GroupSlot) -> Error {
        if slot.is_over() { Error::new(ErrorKind::State, "the group is gone") } else { Error::lost_request() }
    }

    /// Where it outlives us its handles do not end it.
    pub(super) fn last(self) -> Self {
        if self.inner.slot.state_dir().is_some() {
            self.inner.slot.detached.store(true, Ordering::Release);
        }
        self
    }

    /// Its name below those of the groups that it is in.
    pub(super) fn path(&self) -> &str {
        &self.inner.slot.path
    }

    /// For good, with all members, whoever holds it; ready when nothing of them is written down any more. Gives their ids.
    pub(crate) async fn close(self) -> Vec<String> {
        let (mut ids, mut groups, mut services) = (Vec::new(), vec![self], Vec::new());
        while let Some(group) = groups.pop() {
            for (_, member) in &group.inner.slot.members {
                match member {
                    Member::Service(service) => services.push(service.clone()),
                    Member::Group(inner) => groups.push(inner.clone()),
                }
            }
            group.inner.slot.close();
            // Its actor does not go on without us, or has.
            let _ = until(&mut group.watch(), |_| false).await;
        }
        for service in services {
            service.close().await;
            ids.push(service.id().to_owned());
        }
        ids
    }

    pub(super) fn watch(&self) -> watch::Receiver<Status> {
        self.inner.slot.watch()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.slot.name
    }

    /// Where it is as a whole. It is [`ServiceState::Running`] once all members are ready, and stays so while some of them
    /// are restarted.
    #[must_use]
    pub fn state(&self) -> ServiceState {
        self.inner.slot.status().state
    }

    /// As it is now.
    #[must_use]
    pub fn inspect(&self) -> GroupInspect {
        let members = self.inner.slot.members.iter().map(|(name, member)| {
            let now = match member {
                Member::Service(service) => MemberInspect::Service(service.inspect()),
                Member::Group(group) => MemberInspect::Group(group.inspect()),
            };
            (name.clone(), now)
        });
        GroupInspect { whole: self.inner.slot.status().inspect(self.name()), members: members.collect() }
    }

    /// The member of this name that is a service.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<Service> {
        self.inner.slot.members.iter().find_map(|(known, member)| match member {
            Member::Service(service) if known == name => Some(service.clone()),
            _ => None,
        })
    }

    /// The member of this name that is a group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Self> {
        self.inner.slot.members.iter().find_map(|(known, member)| match member {
            Member::Group(group) if known == name => Some(group.clone()),
            _ => None,
        })
    }

    /// Wait until what is told of it as a whole satisfies `wanted`; as for [`Service::wait_for`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub fn wait_for<W>(
        &self,
        mut wanted: W,
    ) -> impl Future<Output = Result<ServiceInspect, Error>> + Send + 'static + use<W>
    where
        W: FnMut(&ServiceInspect) -> bool + Send + 'static,
    {
        let (mut status, name) = (self.watch(), self.name().to_owned());
        async move {
            let seen = until(&mut status, |status| wanted(&status.inspect(&name))).await?;
            Ok(seen.inspect(&name))
        }
    }

    /// Wait until it has settled: all members have ended, or it is stopped, or it has failed.
    ///
    /// # Errors
    /// As for [`Group::wait_for`].
    ///
    /// # Cancel safety
    /// As for [`Group::wait_for`].
    pub fn wait(&self) -> impl Future<Output = Result<ServiceInspect, Error>> + Send + 'static + use<> {
        self.wait_for(|now| now.state.is_settled())
    }

    /// Start all members in order, with new back-offs and windows. Does nothing to a group that runs. Comes back when all
    /// are ready.
    ///
    /// # Errors
    /// Why it has failed. [`ErrorKind::State`] while it is being stopped; [`ErrorKind::SupervisorFault`] when its actor failed
    /// with the request in hand.
    ///
    /// # Cancel safety
    /// Asked for when called: it goes on when the future is dropped.
    pub fn start(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        self.inner.actor.do_send(Ask::Start(reply));
        let slot = Arc::clone(&self.inner.slot);
        async move { answer.await.map_err(|_| Self::lost(&slot))? }
    }

    /// [`Group::stop_with`] one signal and its grace.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub fn stop(
        &self,
        signal: i32,
        grace: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.stop_with(StopLadder::from((signal, grace)))
    }

    /// Stop all members in reverse order, each as [`Service::stop_with`] does and when those that come after it are gone:
    /// each of them has the whole ladder. Comes back when nothing runs. A second call joins the first and may only shorten
    /// it, for each member.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what is no signal, and nothing is done; [`ErrorKind::State`] when the group is gone;
    /// [`ErrorKind::SupervisorFault`] when its actor failed with the request in hand.
    ///
    /// # Cancel safety
    /// As for [`Group::start`].
    pub fn stop_with(&self, ladder: StopLadder) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.stop_as(Some(ladder))
    }

    /// [`Group::stop_with`] the ladder that it was described with ([`GroupBuilder::stop_ladder`]), without one each member
    /// in its own way.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub fn stop_gently(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.stop_as(None)
    }

    pub(super) fn stop_as(
        &self,
        ladder: Option<StopLadder>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let refused = Error::all(StopLadder::check_given(ladder.as_ref()));
        let (reply, answer) = oneshot::channel();
        if refused.is_ok() {
            self.inner.actor.do_send(Ask::Stop { ladder, reply });
        }
        let slot = Arc::clone(&self.inner.slot);
        async move {
            refused?;
            answer.await.map_err(|_| Self::lost(&slot))
        }
    }

    /// Kill all members now and at once, and start nothing any more until somebody does. Passes no mailbox and never blocks.
    pub fn kill(&self) {
        drop(self.stop_with(StopLadder::new()));
        self.inner.slot.kill();
    }

    /// Every change of its state as a whole from now on, in order; as for [`Service::changes`]. Those of its members are their
    /// own.
    pub fn changes(&self) -> ServiceChanges {
        ServiceChanges::new(self.inner.slot.changes())
    }

    /// Let it live when all handles are gone, for good; it ends when it is stopped, and with the supervisor.
    /// [`Supervisor::group`](crate::Supervisor::group) gives a handle of it again.
    pub fn detach(self) {
        self.inner.slot.detached.store(true, Ordering::Release);
    }
}
