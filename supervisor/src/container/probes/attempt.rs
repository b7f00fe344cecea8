//! One attempt of a probe that is asked again and again.

use std::sync::Arc;
use std::time::Duration;

use orangery_runtime::ProcessSpec;

use super::{exec, tcp};
use crate::container::slot::ContainerSlot;
use crate::probe::Question;
use crate::probe::health::Answer;

/// Who asks.
pub(super) struct Asker<'a> {
    pub(super) container: &'a Arc<ContainerSlot>,
    /// The main process, as it was to be.
    pub(super) main: ProcessSpec,
}

impl Asker<'_> {
    /// Ask once; why it failed is in the slot. Waits while the container is paused, and an attempt that a pause has come
    /// into says nothing.
    pub(super) async fn ask(&self, question: &Question, time: Duration) -> Answer {
        let container = self.container;
        let pauses = container.awake().await;
        let answer = self.attempt(question, time).await;
        if container.pauses() != pauses {
            return Answer::Void;
        }
        container.voice().meters().probed(answer.is_ok());
        let passed = answer.is_ok();
        container.know(|vitals| vitals.failure = answer.err());
        if passed { Answer::Passed } else { Answer::Failed }
    }

    async fn attempt(&self, question: &Question, time: Duration) -> Result<(), String> {
        match question {
            Question::Exec(command) => exec::run(self.container, &self.main, command, time).await,
            Question::Tcp(at) => in_time(time, async { tcp::connect(self.container, *at).await.map(drop) }).await,
            // Asked in another way: they are no attempts.
            Question::Line(_) | Question::Delay(_) => std::future::pending().await,
        }
    }
}

async fn in_time(time: Duration, attempt: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    tokio::time::timeout(time, attempt).await.unwrap_or_else(|_| Err(no_answer(time)))
}

/// What took too long.
pub(super) fn no_answer(time: Duration) -> String {
    format!("no answer within {time:?}")
}
