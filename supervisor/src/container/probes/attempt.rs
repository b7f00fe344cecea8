//! One attempt of a probe that is asked again and again.

use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::ProcessSpec;

use super::{exec, http, tcp};
use crate::container::slot::ContainerSlot;
use crate::faults::Faults;
use crate::probe::Question;
use crate::probe::health::Answer;

/// Why an attempt was no success, in words.
#[derive(Debug)]
pub(super) enum Miss {
    /// It does not do what it is for.
    Failed(String),
    /// Nobody could ask: our own lack, which says nothing of it.
    Unasked(String),
}

/// Who asks.
pub(super) struct Asker<'a> {
    pub(super) container: &'a Arc<ContainerSlot>,
    /// How commands are run.
    pub(super) further: ProcessSpec,
    pub(super) faults: &'a Faults,
}

impl Asker<'_> {
    /// Ask once; why it failed is in the slot. Waits while the container is paused, and an attempt that a pause has come
    /// into says nothing.
    pub(super) async fn ask(&self, question: &Question, time: Duration) -> Answer {
        let container = self.container;
        let pauses = container.awake().await;
        let answer = match self.faults.pass_probe().await {
            Some(instead) => instead.map_err(Miss::Failed),
            None => self.attempt(question, time).await,
        };
        if container.pauses() != pauses {
            return Answer::Void;
        }
        let (answer, failure) = match answer {
            Ok(()) => (Answer::Passed, None),
            Err(Miss::Failed(why)) => (Answer::Failed, Some(why)),
            Err(Miss::Unasked(why)) => (Answer::Void, Some(why)),
        };
        container.voice().meters().probed(answer);
        container.know(|vitals| vitals.failure = failure);
        answer
    }

    async fn attempt(&self, question: &Question, time: Duration) -> Result<(), Miss> {
        let container = self.container;
        match question {
            Question::Exec(command) => exec::run(container, &self.further, command, time).await,
            Question::Tcp(at) => in_time(time, async { tcp::connect(container, *at).await.map(drop) }).await,
            Question::Http(asked) => in_time(time, http::get(container, asked)).await,
            // Heard of in another way: they are no attempts.
            Question::Line(_) | Question::Delay(_) | Question::Notify | Question::Descriptor => {
                std::future::pending().await
            }
        }
    }
}

async fn in_time(time: Duration, attempt: impl Future<Output = Result<(), Miss>>) -> Result<(), Miss> {
    tokio::time::timeout(time, attempt).await.unwrap_or_else(|_| Err(Miss::Failed(no_answer(time))))
}

/// What took too long.
pub(super) fn no_answer(time: Duration) -> String {
    format!("no answer within {time:?}")
}
