//! What providers hold for a container: its network and its root file system, given back exactly once.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::once::Once;
use super::reach::fetch;
use crate::durable::Found;
use crate::error::{Error, ErrorKind};
use crate::keeper::Client;
use crate::network::pasta::Wired;
use crate::network::{NetworkLink, NetworkProperties, NetworkProvider};
use crate::plan::reach;
use crate::plan::wire::Purpose;
use crate::rootfs::{Layers, RootfsGuard, RootfsProvider, RootfsUsage};
use crate::spec::{ContainerSpec, Rootfs};

/// A network namespace that a provider was asked to wire.
#[derive(Debug)]
pub(super) struct Network {
    provider: Arc<dyn NetworkProvider>,
    /// It is this one, of ours.
    pasta: Option<Arc<Wired>>,
    link: Arc<NetworkLink>,
    /// One call at a time; a dropped one lets go.
    turn: tokio::sync::Mutex<()>,
    detached: Once,
}

impl Network {
    pub(super) fn new(provider: Arc<dyn NetworkProvider>, link: NetworkLink) -> Self {
        let (turn, detached) = (tokio::sync::Mutex::default(), Once::default());
        Self { provider, pasta: None, link: Arc::new(link), turn, detached }
    }

    /// That of pasta.
    pub(super) fn pasta(wired: Arc<Wired>, link: NetworkLink) -> Self {
        let provider = Arc::clone(&wired) as Arc<dyn NetworkProvider>;
        Self { pasta: Some(wired), ..Self::new(provider, link) }
    }

    /// One that an earlier supervisor has attached. Without a namespace the container has ended.
    pub(super) async fn adopt(self, state: Option<String>) -> Result<Arc<Self>, Error> {
        let network = Arc::new(self);
        let adopted = network.provider.adopt(Arc::clone(&network.link), state).await;
        adopted.map_err(|error| of_provider(error, "network: adopt", "network_provider"))?;
        Ok(network)
    }

    /// What the provider wants to find again.
    pub(super) fn record(&self) -> Found {
        let helper = self.link.helper().and_then(|helper| helper.record());
        let pasta = self.pasta.as_ref().map(|wired| wired.written());
        Found { state: self.provider.record(&self.link), pasta, helper }
    }

    /// Resolves when what keeps it going has ended by itself, with how; where there is no such thing never.
    pub(super) async fn lost(&self) -> String {
        match self.link.helper() {
            Some(helper) => helper.ended().await,
            None => std::future::pending().await,
        }
    }

    pub(super) async fn attach(&self) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        let attached = self.provider.attach(Arc::clone(&self.link)).await;
        let field = if self.pasta.is_some() { "pasta" } else { "network_provider" };
        attached.map_err(|error| of_provider(error, "network: attach", field))
    }

    pub(super) async fn change(&self, to: NetworkProperties) -> Result<(), Error> {
        let _turn = self.turn.lock().await;
        if self.detached.begun() {
            return Err(Error::new(ErrorKind::State, "the container's network is detached"));
        }
        self.provider.change(Arc::clone(&self.link), to).await
    }

    pub(super) fn describe(&self) -> NetworkProperties {
        self.provider.describe(&self.link)
    }

    /// Idempotent; waits for the end of it.
    pub(super) async fn detach(self: &Arc<Self>) {
        let network = Arc::clone(self);
        let work = || {
            Box::pin(async move {
                let _turn = network.turn.lock().await;
                network.provider.detach(Arc::clone(&network.link)).await;
                if let Some(helper) = network.link.helper() {
                    helper.end().await;
                }
            }) as crate::BoxFuture<()>
        };
        self.detached.run("network: detach", work).await;
    }
}

/// A provider's refusal says where it comes from.
fn of_provider(error: Error, stage: &str, field: &str) -> Error {
    let error = if error.stage().is_none() { error.with_stage(stage) } else { error };
    if error.field().is_none() { error.with_field(field) } else { error }
}

/// In place of the namespace of a container that has ended.
pub(super) fn no_namespace() -> Result<OwnedFd, Error> {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open("/dev/null", flags, rustix::fs::Mode::empty())
        .map_err(|error| Error::system("cannot open /dev/null", error))
}

/// The network namespace of the process behind `init`: from its pidfd (6.11), or by way of a socket that the keeper makes
/// in it.
pub(super) async fn network_namespace(keeper: &Client, init: &OwnedFd) -> Result<OwnedFd, Error> {
    if let Ok(namespace) = crate::sys::network_namespace(init) {
        return Ok(namespace);
    }
    let failed = |error| Error::system("cannot open the container's network namespace", error);
    let copy = init.try_clone().map_err(failed)?;
    let family = u32::try_from(libc::AF_UNIX).unwrap_or(1);
    let plan = reach::socket(true, family, u32::try_from(libc::SOCK_DGRAM).unwrap_or(2));
    let socket = fetch(keeper, copy, &plan, Purpose::Socket).await?;
    crate::sys::network_of_socket(&socket).map_err(failed)
}

/// A root file system that a provider has prepared.
#[derive(Debug)]
pub(super) struct Root {
    guard: Arc<dyn RootfsGuard>,
    released: Once,
}

impl Root {
    /// Ask the provider, and let the spec have what it says.
    pub(super) async fn prepare(provider: &dyn RootfsProvider, spec: &mut ContainerSpec) -> Result<Arc<Self>, Error> {
        let prepared = provider.prepare(&spec.id).await;
        let prepared = prepared.map_err(|error| of_provider(error, "rootfs: prepare", "rootfs_provider"))?;
        let access = prepared.access;
        spec.rootfs = match prepared.layers {
            Layers::Directories(lower) => Rootfs::Layers { lower, access },
            Layers::Mounts(mounts) => {
                spec.root_mounts = mounts.into_iter().map(Arc::new).collect();
                Rootfs::Layers { lower: Vec::new(), access }
            }
        };
        Ok(Arc::new(Self { guard: Arc::from(prepared.guard), released: Once::default() }))
    }

    /// One that was prepared for an earlier supervisor.
    pub(super) async fn adopt(
        provider: &dyn RootfsProvider,
        container: &str,
        state: Option<String>,
    ) -> Result<Arc<Self>, Error> {
        let guard = provider.adopt(container, state).await;
        let guard = guard.map_err(|error| of_provider(error, "rootfs: adopt", "rootfs_provider"))?;
        Ok(Arc::new(Self { guard: Arc::from(guard), released: Once::default() }))
    }

    /// What the provider wants to find again.
    pub(super) fn record(&self) -> Found {
        Found { state: self.guard.record(), pasta: None, helper: None }
    }

    pub(super) fn usage(&self) -> crate::BoxFuture<Result<RootfsUsage, Error>> {
        self.guard.usage()
    }

    /// Idempotent; waits for the end of it.
    pub(super) async fn release(&self) {
        let guard = Arc::clone(&self.guard);
        self.released.run("rootfs: release", || Box::pin(async move { guard.release().await })).await;
    }
}
