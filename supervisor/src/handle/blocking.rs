//! The handles for programs without a runtime. Everything else of them is waited for by [`block_on`](crate::block_on).

use std::sync::Arc;
use std::time::Duration;

use super::{ContainerHandle, ProcessHandle};
use crate::blocking::block_on;
use crate::error::Error;
use crate::report::Report;

impl ProcessHandle {
    /// [`ProcessHandle::wait`] for programs without a runtime; may be called inside one too, and blocks its thread, as all of
    /// these.
    ///
    /// # Errors
    /// As there.
    pub fn wait_blocking(&self) -> Result<Arc<Report>, Error> {
        block_on(self.wait())
    }

    /// [`ProcessHandle::stop`] for programs without a runtime.
    ///
    /// # Errors
    /// As there.
    pub fn stop_blocking(&self, signal: i32, grace: Duration) -> Result<(), Error> {
        block_on(self.stop(signal, grace))
    }
}

impl ContainerHandle {
    /// [`ContainerHandle::wait`] for programs without a runtime.
    ///
    /// # Errors
    /// As for [`ProcessHandle::wait`].
    pub fn wait_blocking(&self) -> Result<Arc<Report>, Error> {
        block_on(self.wait())
    }

    /// [`ContainerHandle::stop`] for programs without a runtime.
    ///
    /// # Errors
    /// As for [`ProcessHandle::stop`].
    pub fn stop_blocking(&self, signal: i32, grace: Duration) -> Result<(), Error> {
        block_on(self.stop(signal, grace))
    }

    /// [`ContainerHandle::delete`] for programs without a runtime.
    ///
    /// # Errors
    /// As there.
    pub fn delete_blocking(&self) -> Result<(), Error> {
        block_on(self.delete())
    }
}
