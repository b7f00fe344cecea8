//! What a program holds of a group.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};

use super::builder::GroupBuilder;
use super::member::Member;
use crate::error::{Error, ErrorKind};
use crate::service::state::ServiceState;
use crate::service::{Service, ServiceInspect, Status, until};

/// Services, and groups of them, that are started, stopped and restarted together.
///
/// Clones are the same group. When the last one is dropped all of it is killed and removed, without blocking.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Owner>,
}

/// What is wanted of a group's task; each who asks waits for the answer.
pub(super) enum Ask {
    Start(oneshot::Sender<Result<(), Error>>),
    Stop { signal: i32, grace: Duration, reply: oneshot::Sender<()> },
}

/// What is shared by its handles and its task.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) members: Vec<(String, Member)>,
    pub(super) status: watch::Sender<Status>,
}

struct Owner {
    shared: Arc<Shared>,
    asks: mpsc::UnboundedSender<Ask>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        // The task sees that nobody can ask any more, and ends.
        self.shared.kill();
    }
}

impl Shared {
    /// Kill what runs of each member.
    pub(super) fn kill(&self) {
        self.members.iter().for_each(|(_, member)| member.kill());
    }
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

    pub(super) fn new(shared: Arc<Shared>, asks: mpsc::UnboundedSender<Ask>) -> Self {
        Self { inner: Arc::new(Owner { shared, asks }) }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Status> {
        self.inner.shared.status.subscribe()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.shared.name
    }

    /// Where it is as a whole. It is [`ServiceState::Running`] once all members are ready, and stays so while some of them
    /// are restarted.
    #[must_use]
    pub fn state(&self) -> ServiceState {
        self.inner.shared.status.borrow().state
    }

    /// As it is now.
    #[must_use]
    pub fn inspect(&self) -> GroupInspect {
        let members = self.inner.shared.members.iter().map(|(name, member)| {
            let now = match member {
                Member::Service(service) => MemberInspect::Service(service.inspect()),
                Member::Group(group) => MemberInspect::Group(group.inspect()),
            };
            (name.clone(), now)
        });
        GroupInspect { whole: self.inner.shared.status.borrow().inspect(self.name()), members: members.collect() }
    }

    /// The member of this name that is a service.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<Service> {
        self.inner.shared.members.iter().find_map(|(known, member)| match member {
            Member::Service(service) if known == name => Some(service.clone()),
            _ => None,
        })
    }

    /// The member of this name that is a group.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Self> {
        self.inner.shared.members.iter().find_map(|(known, member)| match member {
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
    /// Why it has failed. [`ErrorKind::State`] while it is being stopped.
    ///
    /// # Cancel safety
    /// Asked for when called: it goes on when the future is dropped.
    pub fn start(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inner.asks.send(Ask::Start(reply));
        async move { answer.await.map_err(|_| Error::new(ErrorKind::State, "the group is gone"))? }
    }

    /// Stop all members in reverse order, each as [`Service::stop`] does and when those that come after it are gone. Comes
    /// back when nothing runs.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when the group is gone.
    ///
    /// # Cancel safety
    /// As for [`Group::start`].
    pub fn stop(
        &self,
        signal: i32,
        grace: Duration,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        let _ = self.inner.asks.send(Ask::Stop { signal, grace, reply });
        async move { answer.await.map_err(|_| Error::new(ErrorKind::State, "the group is gone")) }
    }

    /// Kill all members now and at once, and start nothing any more until somebody does. Passes no mailbox and never blocks.
    pub fn kill(&self) {
        drop(self.stop(9, Duration::ZERO));
        self.inner.shared.kill();
    }
}
