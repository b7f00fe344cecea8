//! A piece of undoing that belongs to somebody else and must run exactly once, whoever asks for it first and whoever is
//! dropped meanwhile.

use std::sync::OnceLock;

use tokio::sync::watch;

use crate::BoxFuture;

/// Runs in a task of its own, so that dropping whoever waits does not stop it.
#[derive(Debug, Default)]
pub(super) struct Once {
    done: OnceLock<watch::Receiver<bool>>,
}

impl Once {
    /// Begin it if nobody has, and wait for its end. A panic in it is an end too. Needs a tokio runtime.
    pub(super) async fn run(&self, what: &'static str, make: impl FnOnce() -> BoxFuture<()>) {
        let mut done = self.done.get_or_init(|| begin(what, make())).clone();
        if done.wait_for(|done| *done).await.is_err() {
            tracing::warn!(what, "it panicked");
        }
    }

    /// Somebody has begun it.
    pub(super) fn begun(&self) -> bool {
        self.done.get().is_some()
    }
}

fn begin(what: &'static str, work: BoxFuture<()>) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tracing::debug!(what, "begins");
    tokio::spawn(async move {
        work.await;
        sender.send_replace(true);
    });
    receiver
}
