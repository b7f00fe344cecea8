//! The watchdog: whoever has said how often it will say that it is alive, and does not, is ended.

use tokio::sync::watch;

use super::end;
use super::notify::Beats;
use crate::container::slot::ContainerSlot;
use crate::probe::Watchdog;
use crate::report::Cause;

/// From when it is ready on; ends with what follows.
pub(super) async fn watch(container: &ContainerSlot, watchdog: &Watchdog, mut beats: watch::Receiver<Beats>) {
    let mut seen = beats.borrow_and_update().clone();
    let mut within = seen.every.unwrap_or(watchdog.within);
    let mut left = within;
    // Its sender lives as long as this.
    while !seen.triggered && container.sleep_or(&mut left, beats.changed()).await.is_some() {
        let now = beats.borrow_and_update().clone();
        within = now.every.unwrap_or(within);
        if now.alive != seen.alive {
            left = within;
        }
        seen = now;
    }
    let why =
        if seen.triggered { "it has asked for it".to_owned() } else { format!("no sign of life within {within:?}") };
    container.know(|vitals| vitals.failure = Some(format!("watchdog: {why}")));
    end(&container.main, Cause::Watchdog, &watchdog.ladder).await;
}
