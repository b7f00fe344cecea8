//! What providers do for a container that runs.

use std::future::Future;

use orangery_runtime::network::NetworkProperties;
use orangery_runtime::rootfs::RootfsUsage;

use super::ContainerHandle;
use crate::error::{Error, ErrorKind};

impl ContainerHandle {
    /// Change how its network is wired; what may be changed is its provider's own vocabulary.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without a provider or where it cannot, [`ErrorKind::State`] after the end, or the
    /// provider's own.
    ///
    /// # Cancel safety
    /// Dropping the future drops the provider's: what it had done until then stays.
    pub fn change_network(
        &self,
        to: NetworkProperties,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let container = self.inner.slot.container.get().cloned();
        async move { Ok(container.ok_or_else(not_started)?.change_network(to).await?) }
    }

    /// How much its root file system takes, as its provider counts; `None` without one.
    ///
    /// # Errors
    /// The provider's.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub fn rootfs_usage(&self) -> impl Future<Output = Result<Option<RootfsUsage>, Error>> + Send + 'static + use<> {
        let container = self.inner.slot.container.get().cloned();
        async move { Ok(container.ok_or_else(not_started)?.rootfs_usage().await?) }
    }
}

fn not_started() -> Error {
    Error::new(ErrorKind::State, "the container has not started")
}
