//! The seam for networks: whoever knows how to wire a container's network namespace implements [`NetworkProvider`]. This
//! crate knows no bridges and no firewalls; the one network of its own is that of [`Pasta`], which needs no rights.
//!
//! ```text
//!  create ──► namespaces and pid 1 exist, nothing of the user's runs ──► attach ──► start ──► ... change ...
//!                                          the container is gone (or was never finished) ──► detach ──► cgroup, name
//! ```

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::BoxFuture;
use crate::error::{Error, ErrorKind};
use crate::native::helper::Helper;

mod addresses;
pub(crate) mod device;
mod message;
pub(crate) mod pasta;
mod plugin;
mod publish;
mod resolv;

pub use message::PluginMessage;
pub use pasta::Pasta;
pub use plugin::NetworkPlugin;
pub use publish::{Protocol, Publish};

/// What a provider calls the properties of a network: for people and reports, and what [`NetworkProvider::change`]
/// takes. The vocabulary is the provider's own.
pub type NetworkProperties = BTreeMap<String, String>;

/// A container's own network namespace. The descriptor keeps it alive until the provider is done with it.
#[derive(Debug)]
pub struct NetworkLink {
    container: String,
    namespace: OwnedFd,
    helper: Option<Arc<Helper>>,
}

impl NetworkLink {
    /// A link of a container with this id, for tests of a provider.
    #[must_use]
    pub fn new(container: impl Into<String>, namespace: OwnedFd) -> Self {
        Self { container: container.into(), namespace, helper: None }
    }

    pub(crate) fn with_helper(mut self, helper: Arc<Helper>) -> Self {
        self.helper = Some(helper);
        self
    }

    /// Who starts a program of ours beside it.
    pub(crate) fn helper(&self) -> Option<&Arc<Helper>> {
        self.helper.as_ref()
    }

    /// The container's id.
    #[must_use]
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Its network namespace, for `setns(2)` on a thread of the provider's own, or for netlink's `IFLA_NET_NS_FD`.
    #[must_use]
    pub fn namespace(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

/// Wires network namespaces. Each call for one container is awaited before the next one is made, except that a future
/// may be dropped, and that is all a provider has to know about failure: **once `attach` was called, `detach` is called
/// exactly once**, whether `attach` succeeded, failed, panicked or was dropped half-way, and whatever became of the
/// container. Only the death of the whole supervisor comes before it: the namespace then dies with its last process,
/// and what lies outside of it must be tied to it (as a veth pair is) or swept by the provider's next start.
pub trait NetworkProvider: Debug + Send + Sync + 'static {
    /// Wire the namespace: `lo` is up, nothing else is there, and nothing of the user's runs before this has succeeded.
    ///
    /// # Errors
    /// The creation of the container fails with it and is undone, `detach` included.
    fn attach(&self, link: Arc<NetworkLink>) -> BoxFuture<Result<(), Error>>;

    /// Change what can be changed while the container runs.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for what this provider cannot change, [`ErrorKind::Invalid`] for what makes no sense.
    fn change(&self, link: Arc<NetworkLink>, to: NetworkProperties) -> BoxFuture<Result<(), Error>> {
        let (_, _) = (link, to);
        let refused = Error::new(ErrorKind::Unsupported, "this network cannot be changed").with_field("network");
        Box::pin(async move { Err(refused) })
    }

    /// What a further supervisor has to give back to [`adopt`](NetworkProvider::adopt): asked for once the network is
    /// attached, and after each change.
    fn record(&self, link: &NetworkLink) -> Option<String> {
        let _ = link;
        None
    }

    /// A network that was attached for an earlier supervisor is this provider's from now on, with what that one was told by
    /// [`record`](NetworkProvider::record). Of a container that has ended meanwhile the link has no namespace but a descriptor
    /// of /dev/null, and [`detach`](NetworkProvider::detach) is all that follows; it may have been carried out already.
    ///
    /// # Errors
    /// Whatever hinders it: the container is not adopted then.
    fn adopt(&self, link: Arc<NetworkLink>, state: Option<String>) -> BoxFuture<Result<(), Error>> {
        let (_, _) = (link, state);
        Box::pin(std::future::ready(Ok(())))
    }

    /// What `inspect` shows. Called at any time after a successful `attach`; must not block.
    fn describe(&self, link: &NetworkLink) -> NetworkProperties;

    /// Take back whatever `attach` did, also when it did only a part. The container's processes are gone. Removing the
    /// container waits for it, so it must end; what it cannot take back is its own to tell and to sweep.
    fn detach(&self, link: Arc<NetworkLink>) -> BoxFuture<()>;
}

/// The trivial provider: nothing but the `lo` that every namespace of ours has.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loopback;

impl NetworkProvider for Loopback {
    fn attach(&self, _: Arc<NetworkLink>) -> BoxFuture<Result<(), Error>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn describe(&self, _: &NetworkLink) -> NetworkProperties {
        NetworkProperties::from([("interfaces".to_owned(), "lo".to_owned())])
    }

    fn detach(&self, _: Arc<NetworkLink>) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}
