//! Whether a container is ready and healthy, for who holds it.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;

use super::ContainerHandle;
use crate::error::{Error, ErrorKind};
use crate::probe::Vitals;
use crate::report::Cause;

impl ContainerHandle {
    /// Wait until it is ready, as [`Command::ready_when`](crate::Command::ready_when) says; without that it is. A
    /// container that was ready once stays so.
    ///
    /// # Errors
    /// [`ErrorKind::NotReady`] when it was not in time, or has ended before it was.
    ///
    /// # Cancel safety
    /// May be dropped and called again. The future does not keep the container alive.
    pub fn ready(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (mut vitals, main) = (self.watch_vitals(), Arc::clone(&self.inner.slot.main));
        async move {
            let mut exit = main.exit.subscribe();
            tokio::select! {
                biased;
                Ok(_) = vitals.wait_for(|vitals| vitals.ready) => return Ok(()),
                _ = exit.wait_for(Option::is_some) => {}
            }
            let why = vitals.borrow().failure.clone();
            Err(match (why, main.intent()) {
                (Some(why), Some(intent)) if intent.cause == Cause::NotReady => {
                    Error::new(ErrorKind::NotReady, format!("it was not ready in time: {why}"))
                }
                _ => Error::new(ErrorKind::NotReady, "it has ended before it was ready"),
            })
        }
    }

    pub(crate) fn vitals(&self) -> Vitals {
        self.inner.slot.vitals()
    }

    pub(crate) fn watch_vitals(&self) -> watch::Receiver<Vitals> {
        self.inner.slot.watch_vitals()
    }
}
