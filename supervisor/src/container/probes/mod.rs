//! Asks the probes of one container: from its start until it is ready, then about its health. Part of the container's
//! straight line ([`life`](super::life)) and dropped with its main process, so that nothing is asked of a dead one and no
//! late answer is heard. What is found is in the slot ([`vitals`](super::vitals)); what follows from it is a kill with its
//! cause noted first, as a limit's.

mod attempt;
mod exec;
mod tcp;

use std::sync::Arc;
use std::time::Duration;

use orangery_io_stream::{Event, Overflow, SubscribeOptions, Subscriber};
use orangery_runtime::ProcessSpec;
use orangery_runtime::spec::Stdio;
use tokio::time::Instant;

use super::slot::ContainerSlot;
use crate::error::Error;
use crate::probe::health::{Answer, Thresholds, Verdict};
use crate::probe::line::Finder;
use crate::probe::{Care, Health, HealthState, OnUnhealthy, Question, Readiness};
use crate::process::slot::{CAPTURE_BUDGET, Slot};
use crate::report::Cause;
use attempt::Asker;

/// SIGCONT.
const CONT: i32 = 18;

/// What has to be there before the first byte, and before the start.
pub(super) struct Prepared {
    care: Care,
    lines: Option<Subscriber>,
    /// Commands run as it does.
    main: ProcessSpec,
}

/// Before anything runs.
///
/// # Errors
/// A line is looked for in output that does not pass here.
pub(super) fn prepare(slot: &Slot, care: Care, main: &ProcessSpec) -> Result<Prepared, Error> {
    let question = care.readiness.as_ref().map(|readiness| &readiness.probe.0);
    let lines = match question {
        Some(Question::Line(_)) => Some(lines(slot, main)?),
        _ => None,
    };
    Ok(Prepared { care, lines, main: main.clone() })
}

fn lines(slot: &Slot, main: &ProcessSpec) -> Result<Subscriber, Error> {
    if main.tty.is_none() && ![&main.stdout, &main.stderr].into_iter().any(|end| matches!(end, Stdio::Piped)) {
        let why = "its output goes to descriptors of its own: nobody here sees what is written";
        return Err(Error::invalid("ready_when.probe", why));
    }
    // It keeps nothing and is read without a pause, so that it holds nobody up for long.
    let overflow = Overflow::block(CAPTURE_BUDGET);
    Ok(slot.output.subscribe(SubscribeOptions { overflow, ..SubscribeOptions::default() }))
}

/// Ask until its end, which drops this.
pub(super) async fn watch(container: &Arc<ContainerSlot>, prepared: Prepared) {
    let Prepared { care, lines, main } = prepared;
    let asker = Asker { container, main };
    if let Some(readiness) = &care.readiness
        && let Err(why) = until_ready(&asker, readiness, lines).await
    {
        container.know(|vitals| vitals.failure = Some(why));
        return end(&container.main, Cause::NotReady, Care::gently()).await;
    }
    if let Some(health) = &care.health {
        keep_asking(&asker, health).await;
    }
}

/// Ready in time, or why not.
async fn until_ready(asker: &Asker<'_>, readiness: &Readiness, lines: Option<Subscriber>) -> Result<(), String> {
    let (container, began) = (asker.container, Instant::now());
    let asked = async {
        match &readiness.probe.0 {
            Question::Delay(time) => container.sleep(*time).await,
            Question::Line(text) => written(lines, text).await,
            question => passed(asker, question, readiness).await,
        }
    };
    tokio::select! {
        biased;
        () = asked => {
            container.became_ready(began.elapsed());
            Ok(())
        }
        () = container.sleep(readiness.timeout) => Err(match (&readiness.probe.0, container.vitals().failure) {
            (Question::Line(text), _) => format!("it has not written {text:?}"),
            (_, Some(why)) => why,
            (_, None) => "there was no answer".into(),
        }),
    }
}

/// Ready when the text was written; never when it was not and nothing more can come.
async fn written(lines: Option<Subscriber>, text: &str) {
    let Some(mut lines) = lines else { return std::future::pending().await };
    let mut finders = [Finder::new(text), Finder::new(text)];
    while let Some(event) = lines.recv().await {
        match event {
            Event::Chunk(chunk) if finders[chunk.source as usize].find(&chunk.data) => return,
            Event::Gap(_) => finders.iter_mut().for_each(Finder::gap),
            _ => {}
        }
    }
    std::future::pending().await
}

/// Ready with the first success.
async fn passed(asker: &Asker<'_>, question: &Question, readiness: &Readiness) {
    while asker.ask(question, readiness.attempt).await != Answer::Passed {
        asker.container.sleep(readiness.interval).await;
    }
}

/// Ask about its health until that has an end.
async fn keep_asking(asker: &Asker<'_>, health: &Health) {
    let (container, began) = (asker.container, Instant::now());
    let thresholds = Thresholds { failures: health.failures, successes: health.successes };
    let mut verdict = Verdict::NONE;
    loop {
        container.sleep(health.interval).await;
        let answer = match asker.ask(&health.probe.0, health.attempt).await {
            Answer::Failed if began.elapsed() < health.grace => Answer::FailedEarly,
            answer => answer,
        };
        let after = verdict.next(answer, thresholds);
        container.know(|vitals| vitals.failures = after.failures);
        if after.state != verdict.state {
            container.became(after.state);
        }
        verdict = after;
        if verdict.state == HealthState::Unhealthy && health.action != OnUnhealthy::Report {
            return end(&container.main, Cause::Unhealthy, health.gently).await;
        }
    }
}

/// End it for this reason, unless that is under way for another.
async fn end(slot: &Slot, cause: Cause, (signal, grace): (i32, Duration)) {
    if slot.intent().is_some() {
        return;
    }
    slot.intend(cause.clone(), true);
    let _ = slot.signal(signal);
    let _ = slot.signal(CONT);
    tokio::time::sleep(grace).await;
    let _ = slot.kill(cause);
}
