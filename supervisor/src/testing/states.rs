//! Waiting for the state of a container.

use std::fmt;
use std::time::Duration;

use super::within::within;
use crate::container::state::State;
use crate::events::Since;
use crate::handle::ContainerHandle;

/// A container did not come to a state in time, or cannot any more.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("container {container} is {now:?}, not {wanted:?}{}", match within {
    Some(within) => format!(" within {within:?}"),
    None => ", and will not be".into(),
})]
#[non_exhaustive]
pub struct NotThere {
    /// Its id.
    pub container: String,
    /// What was waited for.
    pub wanted: State,
    /// What it is.
    pub now: State,
    /// How long it was waited for. `None`: it has gone.
    pub within: Option<Duration>,
}

impl fmt::Debug for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Wait until a container is in this state: it may have been for long. One that it is in for a moment alone may be missed;
/// the feed misses none ([`Supervisor::events`](crate::Supervisor::events)). Of a service:
/// [`Service::wait_state`](crate::Service::wait_state).
///
/// # Errors
/// [`NotThere`], when the time is over, or at once when it has gone and was to be something else. Printed by `unwrap` as
/// it is displayed.
///
/// # Cancel safety
/// May be dropped and called again.
pub async fn wait_state(container: &ContainerHandle, wanted: State, limit: Duration) -> Result<(), NotThere> {
    let slot = container.slot();
    let not = |now, within| NotThere { container: slot.id.clone(), wanted, now, within };
    let arrived = async {
        // Before the look: what changes after it is told.
        let mut events = slot.voice().feed().read(Since::Now);
        loop {
            match slot.state() {
                now if now == wanted => return Ok(()),
                State::Gone => return Err(not(State::Gone, None)),
                _ => {}
            }
            if events.recv().await.is_none() {
                let now = slot.state();
                return if now == wanted { Ok(()) } else { Err(not(now, None)) };
            }
        }
    };
    within(limit, arrived).await.unwrap_or_else(|| Err(not(slot.state(), Some(limit))))
}
