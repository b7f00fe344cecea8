//! Something that stands still until whoever holds it lets go.

use tokio::sync::watch;

/// Whoever has this holds; dropped, it lets go.
#[cfg(any(test, feature = "faults"))]
pub(super) type Hold = watch::Sender<()>;

/// By whom it is held, of those that hold it.
#[derive(Debug, Default)]
pub(crate) struct Held(pub(super) Vec<watch::Receiver<()>>);

impl Held {
    /// Wait until nobody holds it any more.
    pub(crate) async fn over(self) {
        for mut hold in self.0 {
            while hold.changed().await.is_ok() {}
        }
    }
}
