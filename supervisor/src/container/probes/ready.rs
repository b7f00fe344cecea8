//! From the start until it is ready.

use std::time::Duration;

use orangery_io_stream::{Event, Source, Subscriber};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::Instant;

use super::attempt::Asker;
use super::notify::Beats;
use crate::probe::health::Answer;
use crate::probe::line::Finder;
use crate::probe::{Question, Readiness};

/// More is not read from a descriptor for one line.
const MOST: usize = 4096;

/// What was made before the start, for who needs it.
pub(super) struct Means {
    pub(super) lines: Option<Subscriber>,
    pub(super) descriptor: Option<pipe::Receiver>,
    pub(super) beats: Option<watch::Receiver<Beats>>,
}

/// Ready in time, or why not.
pub(super) async fn until_ready(asker: &Asker<'_>, readiness: &Readiness, means: Means) -> Result<(), String> {
    let (container, began) = (asker.container, Instant::now());
    let Means { lines, descriptor, beats } = means;
    let mut extensions = beats.clone();
    let asked = async {
        match &readiness.probe.0 {
            Question::Delay(time) => container.sleep(*time).await,
            Question::Line(text) => written(lines, text).await,
            Question::Notify => notified(beats).await,
            Question::Descriptor => line_end(descriptor).await,
            question => passed(asker, question, readiness).await,
        }
    };
    tokio::pin!(asked);
    let (mut left, mut more, mut heard) = (readiness.timeout, readiness.extension, 0);
    loop {
        tokio::select! {
            biased;
            () = &mut asked => {
                container.became_ready(began.elapsed());
                return Ok(());
            }
            wanted = container.sleep_or(&mut left, extended(&mut extensions, &mut heard)) => match wanted {
                None => return Err(why_not(&readiness.probe.0, container.vitals().failure)),
                Some(wanted) => {
                    let granted = wanted.saturating_sub(left).min(more);
                    (left, more) = (left + granted, more - granted);
                }
            },
        }
    }
}

fn why_not(question: &Question, failure: Option<String>) -> String {
    match (question, failure) {
        (Question::Line(text), _) => format!("it has not written {text:?}"),
        (Question::Notify, _) => "it has not sent READY=1".into(),
        (Question::Descriptor, _) => "it has written no line to its descriptor".into(),
        (_, Some(why)) => why,
        (_, None) => "there was no answer".into(),
    }
}

/// The text was written; never when it was not and nothing more can come.
async fn written(lines: Option<Subscriber>, text: &str) {
    let Some(mut lines) = lines else { return std::future::pending().await };
    let mut finders = [Finder::new(text), Finder::new(text)];
    while let Some(event) = lines.recv().await {
        match event {
            Event::Chunk(chunk) if finders[usize::from(chunk.source == Source::Stderr)].find(&chunk.data) => return,
            Event::Gap(_) => finders.iter_mut().for_each(Finder::gap),
            _ => {}
        }
    }
    std::future::pending().await
}

/// READY=1 was sent.
async fn notified(beats: Option<watch::Receiver<Beats>>) {
    if let Some(mut beats) = beats
        && beats.wait_for(|beats| beats.ready).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// A line has ended; never when it is closed before, or when there is too much for a line.
async fn line_end(descriptor: Option<pipe::Receiver>) {
    let Some(mut descriptor) = descriptor else { return std::future::pending().await };
    let (mut piece, mut total) = ([0; 64], 0);
    while total < MOST {
        match descriptor.read(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(read) if piece.get(..read).unwrap_or_default().contains(&b'\n') => return,
            Ok(read) => total += read,
        }
    }
    std::future::pending().await
}

/// The first success.
async fn passed(asker: &Asker<'_>, question: &Question, readiness: &Readiness) {
    while asker.ask(question, readiness.attempt).await != Answer::Passed {
        asker.container.sleep(readiness.interval).await;
    }
}

/// It asks for so much time from now, once more than was heard.
async fn extended(beats: &mut Option<watch::Receiver<Beats>>, heard: &mut u64) -> Duration {
    let Some(beats) = beats else { return std::future::pending().await };
    match beats.wait_for(|beats| beats.extend.0 != *heard).await {
        Ok(beats) => {
            *heard = beats.extend.0;
            beats.extend.1
        }
        Err(_) => std::future::pending().await,
    }
}
