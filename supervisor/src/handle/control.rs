//! Pause, resume and limits of a running container: through its actor, by its table.

use std::future::Future;
use std::sync::Arc;

use orangery_runtime::Pause;
use tokio::sync::oneshot;

use super::{ContainerHandle, lost};
#[cfg(doc)]
use crate::Limits;
use crate::container::msg::{Pause as PauseMessage, Update};
use crate::error::Error;
use crate::limit_update::LimitUpdate;

impl ContainerHandle {
    fn hold(&self, pause: Option<Pause>) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        let (reply, answer) = oneshot::channel();
        self.inner.actor.do_send(PauseMessage { pause, reply });
        let main = Arc::clone(&self.inner.slot.main);
        async move { answer.await.map_err(|_| lost(&main))? }
    }

    /// Freeze every process of it: [`Pause::Freeze`].
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without a freezer,
    /// [`ErrorKind::State`](crate::ErrorKind::State) after the end.
    ///
    /// # Cancel safety
    /// Asked for when called: it goes on when the future is dropped. The future does not keep the container alive.
    pub fn pause(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.pause_with(Pause::Freeze)
    }

    /// Hold every process of it in this way. [`Pause::Stop`] needs no freezer and is weaker: see there. [`Pause::Any`] takes what
    /// there is, and [`Inspect::paused`](crate::Inspect::paused) tells which that was. A container that
    /// is paused stays so in the way it was paused first. Nothing can be started in it meanwhile; it can be killed.
    ///
    /// ```
    /// use orangery::Pause;
    /// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
    /// container.pause_with(Pause::Any).await?;
    /// if let Some(weakness) = container.inspect().paused.and_then(Pause::weakness) {
    ///     println!("held by {weakness}");
    /// }
    /// container.resume().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As for [`ContainerHandle::pause`]; [`ErrorKind::Exhausted`](crate::ErrorKind::Exhausted) for [`Pause::Stop`] when
    /// processes were still running after five seconds: all run again then.
    ///
    /// # Cancel safety
    /// As for [`ContainerHandle::pause`].
    pub fn pause_with(&self, how: Pause) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.hold(Some(how))
    }

    /// Let it go on, in whichever way it was paused.
    ///
    /// # Errors
    /// As for [`ContainerHandle::pause`].
    ///
    /// # Cancel safety
    /// As for [`ContainerHandle::pause`].
    pub fn resume(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<> {
        self.hold(None)
    }

    /// Change limits while it runs: those of its cgroup ([`Limits`]), or any ([`LimitUpdate`]); what is not named stays. One
    /// update comes after the other, and each as a whole or not at all.
    ///
    /// # Errors
    /// Every field that makes no sense, before anything is written; else the field and the kernel's reason. The old limits
    /// hold then.
    ///
    /// # Cancel safety
    /// As for [`ContainerHandle::pause`].
    pub fn update<U: Into<LimitUpdate>>(
        &self,
        to: U,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static + use<U> {
        let to = to.into();
        let (reply, answer) = oneshot::channel();
        self.inner.actor.do_send(Update { to, reply });
        let main = Arc::clone(&self.inner.slot.main);
        async move { answer.await.map_err(|_| lost(&main))? }
    }
}
