//! What probes find of a container, kept in its slot and told.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::slot::ContainerSlot;
use crate::events::Kind;
use crate::probe::{Care, HealthState, Vitals};

/// Who waits for what probes find, and for pauses.
pub(crate) struct Known {
    vitals: watch::Sender<Vitals>,
    /// How often it was paused and resumed so far: odd while it is paused.
    pauses: watch::Sender<u64>,
}

impl Default for Known {
    fn default() -> Self {
        Self { vitals: watch::Sender::new(Vitals::default()), pauses: watch::Sender::new(0) }
    }
}

impl Known {
    pub(super) fn paused(&self, paused: bool) {
        self.pauses.send_if_modified(|pauses| {
            let other = (*pauses % 2 == 1) != paused;
            *pauses += u64::from(other);
            other
        });
    }
}

impl ContainerSlot {
    /// As it is now.
    pub(crate) fn vitals(&self) -> Vitals {
        self.known.vitals.borrow().clone()
    }

    pub(crate) fn watch_vitals(&self) -> watch::Receiver<Vitals> {
        self.known.vitals.subscribe()
    }

    /// Its main process is about to be seen.
    pub(super) fn vitals_begin(&self, care: Option<&Care>) {
        let health = care.and_then(|care| care.health.as_ref()).map(|_| HealthState::Starting);
        let ready = care.is_none_or(|care| care.readiness.is_none());
        self.voice.meters().health_moved(None, health);
        self.known.vitals.send_modify(|vitals| (vitals.ready, vitals.health) = (ready, health));
    }

    /// Nothing is asked any more.
    pub(super) fn vitals_end(&self) {
        self.voice.meters().health_moved(self.known.vitals.borrow().health, None);
    }

    /// Something of it has changed.
    pub(super) fn know(&self, change: impl FnOnce(&mut Vitals)) {
        self.known.vitals.send_if_modified(|vitals| {
            let before = vitals.clone();
            change(vitals);
            *vitals != before
        });
    }

    /// It is ready, this long after its start.
    pub(super) fn became_ready(&self, after: Duration) {
        self.know(|vitals| {
            (vitals.ready, vitals.failure) = (true, None);
            let after_us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
            self.voice.tell(None, Kind::ContainerReady { after_us }, None);
        });
    }

    /// Another verdict on its health.
    pub(super) fn became(&self, health: HealthState) {
        self.know(|vitals| {
            self.voice.meters().health_moved(vitals.health, Some(health));
            vitals.health = Some(health);
            self.voice.tell(None, Kind::ContainerHealth { health, failure: vitals.failure.clone() }, None);
        });
    }

    /// Wait until it is not paused; how often it was paused and resumed so far.
    pub(super) async fn awake(&self) -> u64 {
        let mut pauses = self.known.pauses.subscribe();
        // Its sender is in the slot that we hold: the wait cannot fail.
        pauses.wait_for(|pauses| pauses % 2 == 0).await.map_or(0, |pauses| *pauses)
    }

    /// How often it was paused and resumed so far.
    pub(super) fn pauses(&self) -> u64 {
        *self.known.pauses.borrow()
    }

    /// Ready when it was paused or resumed more often than this.
    pub(super) async fn paused_since(&self, pauses: u64) {
        let mut now = self.known.pauses.subscribe();
        // Its sender is in the slot that we hold.
        let _ = now.wait_for(|now| *now != pauses).await;
    }

    /// This much time in which it was not paused.
    pub(super) async fn sleep(&self, mut time: Duration) {
        self.sleep_or(&mut time, std::future::pending::<()>()).await;
    }

    /// So much of `left` as it takes until something else is ready, if that is before; `left` is what remains.
    pub(super) async fn sleep_or<T>(&self, left: &mut Duration, other: impl Future<Output = T>) -> Option<T> {
        let mut pauses = self.known.pauses.subscribe();
        tokio::pin!(other);
        loop {
            tokio::select! {
                biased;
                it = &mut other => return Some(it),
                _ = self.awake() => {}
            }
            let began = Instant::now();
            let over = tokio::select! {
                biased;
                it = &mut other => Some(Some(it)),
                () = tokio::time::sleep(*left) => Some(None),
                _ = pauses.wait_for(|pauses| pauses % 2 == 1) => None,
            };
            *left = left.saturating_sub(began.elapsed());
            if let Some(over) = over {
                return over;
            }
        }
    }
}
