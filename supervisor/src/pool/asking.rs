//! Who asks a pool for a sandbox, and who waits for one.

use std::sync::Arc;

use orangery_runtime as runtime;
use tokio::sync::oneshot;

use super::lease::Lease;
use super::shared::{Shared, State};
use super::state::{Effect, Input, Refusal, Sizes};
use crate::error::Error;

/// What came of a request.
pub(super) enum Asked {
    Now(Lease),
    Wait(Waiting),
}

/// A place in the queue. Dropped, it is another's.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    number: u64,
    answer: oneshot::Receiver<Result<Lease, Error>>,
}

impl Waiting {
    pub(super) async fn answer(mut self) -> Result<Lease, Error> {
        (&mut self.answer).await.unwrap_or_else(|_| Err(Error::shut_down()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.left(self.number);
    }
}

impl Shared {
    pub(super) fn ask(self: &Arc<Self>, waits: bool) -> Result<Asked, Error> {
        self.change(|shared, state, todo| {
            shared.bury(state, todo);
            match shared.step(state, Input::Take { waits }, todo) {
                Effect::Lease => {
                    let member = state.idle.pop_front().ok_or_else(Error::lost_request)?;
                    Ok(Asked::Now(shared.lease(state, member)))
                }
                Effect::Queue => {
                    let (sender, answer) = oneshot::channel();
                    state.numbers += 1;
                    state.waiting.push_back((state.numbers, sender));
                    Ok(Asked::Wait(Waiting { shared: Arc::clone(shared), number: state.numbers, answer }))
                }
                Effect::Refuse(refusal) => Err(shared.refused(state, refusal)),
                _ => Err(Error::lost_request()),
            }
        })
    }

    fn left(self: &Arc<Self>, number: u64) {
        self.change(|shared, state, todo| {
            let before = state.waiting.len();
            state.waiting.retain(|(waiting, _)| *waiting != number);
            if state.waiting.len() < before {
                shared.step(state, Input::Left, todo);
            }
        });
    }

    fn refused(&self, state: &State, refusal: Refusal) -> Error {
        let Sizes { most, waiting, .. } = self.sizes;
        let (field, what) = match refusal {
            Refusal::Closed => return state.error.clone().unwrap_or_else(Error::shut_down),
            Refusal::Hopeless => return state.error.clone().unwrap_or_else(Error::lost_request),
            Refusal::Waiting => ("pool.waiting", format!("{waiting} callers wait for a sandbox of this pool already")),
            Refusal::Most => ("pool.most", format!("all {most} sandboxes of this pool are in use or being removed")),
            Refusal::Idle => ("pool.idle", "no sandbox of this pool is ready at this moment".to_owned()),
        };
        let error = runtime::Error::new(runtime::ErrorKind::Exhausted, what).with_field(field).into();
        self.voice.meters().refused(&error);
        error
    }
}
