//! What the keeper holds of a process that outlives us: its streams, with the files that they are emptied into while nobody
//! is there, and its exit, until its report is written down.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use orangery_io_stream::Source;
use orangery_io_stream::log::{Holder, Log, LogOptions, Meanwhile, Recording};
use orangery_runtime::ProcessSpec;
use orangery_runtime::durable::{Beside, HeldStream, Holds, ProcessRecord};
use orangery_runtime::spec::{Hold, LogFile, Stdio};
use tokio::sync::RwLock;

use super::slot::Slot;
use crate::error::Error;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Held {
    /// How it is found.
    pub(crate) record: ProcessRecord,
    holds: RwLock<Option<Holds>>,
    most: u64,
}

/// The largest that the file of a stream may become while nobody is there who removes older ones.
fn most(options: &LogOptions, limit: Option<u64>) -> u64 {
    let segments = options.segment_bytes.saturating_mul(options.keep_segments as u64);
    segments.min(limit.unwrap_or(u64::MAX))
}

/// Before a process with a log is asked for: the keeper is to hold it, known by the slot's label from now on.
///
/// # Errors
/// A file cannot be made.
pub(crate) async fn hold(slot: &Slot, mut spec: ProcessSpec) -> Result<ProcessSpec, Error> {
    let Some(log) = slot.output.log().and_then(Recording::log) else { return Ok(spec) };
    let label = slot.label.get_or_init(|| format!("{:016x}", crate::supervisor::random())).clone();
    let limit = slot.may_write.borrow().map(|limit| limit.bytes);
    let asked = tokio::task::spawn_blocking(move || ask(&mut spec, &label, &log, limit).map(|()| spec));
    asked.await.map_err(|_| Error::lost_request())?
}

/// Blocks as file operations do.
fn ask(spec: &mut ProcessSpec, label: &str, log: &Log, limit: Option<u64>) -> Result<(), Error> {
    let most = most(&log.options(), limit);
    let file = |source| match log.share(source) {
        Ok(file) => Ok(LogFile { file: Arc::new(file), most }),
        Err(error) => Err(super::recording::refused(&error)),
    };
    let mut hold = Hold::new(label);
    if spec.tty.is_some() || matches!(spec.stdout, Stdio::Piped) {
        hold.stdout = Some(file(Source::Stdout)?);
    }
    if spec.tty.is_none() && matches!(spec.stderr, Stdio::Piped) {
        hold.stderr = Some(file(Source::Stderr)?);
    }
    spec.hold = Some(hold);
    Ok(())
}

impl Held {
    fn stream(holds: &Holds, source: Source) -> Option<&HeldStream> {
        match source {
            Source::Stdout => holds.tty.as_ref().or(holds.stdout.as_ref()),
            Source::Stderr => holds.stderr.as_ref(),
        }
    }
}

impl Holder for Held {
    fn hold<'a>(
        &'a self,
        source: Source,
        pipe: BorrowedFd<'a>,
        file: OwnedFd,
        takes: bool,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            let holds = self.holds.read().await;
            // Settled: it holds nothing any more.
            let Some(stream) = holds.as_ref().and_then(|holds| Self::stream(holds, source)) else { return true };
            let log = LogFile { file: Arc::new(file), most: if takes { self.most } else { 0 } };
            let told = stream.rotate(pipe, &log).await;
            if let Err(error) = &told {
                tracing::warn!(%source, %error, "the keeper does not know where the log goes on");
            }
            told.is_ok()
        })
    }
}

impl Slot {
    /// What came of it when it started: from now on its log and its input tell the keeper what it has to know. Gives the
    /// input's part.
    pub(crate) fn held_by(&self, mut holds: Holds, again: bool) -> Option<HeldStream> {
        let stdin = holds.stdin.take();
        let record = holds.record.clone();
        let log = self.output.log().and_then(Recording::log);
        let limit = self.may_write.borrow().map(|limit| limit.bytes);
        let most = log.as_ref().map_or(u64::MAX, |log| most(&log.options(), limit));
        let sources = Source::ALL.into_iter().filter(|source| Held::stream(&holds, *source).is_some());
        let sources: Vec<_> = sources.collect();
        if let Some(log) = log.as_ref().filter(|_| again) {
            for source in &sources {
                let drained = Held::stream(&holds, *source).and_then(|stream| stream.drained);
                let Some(drained) = drained else { continue };
                let since = std::time::Duration::from_nanos(drained.since_ns);
                log.meanwhile(*source, &Meanwhile { logged: drained.logged, lost: drained.lost, since });
            }
        }
        let held = Arc::new(Held { record, holds: RwLock::new(Some(holds)), most });
        if self.held.set(Arc::clone(&held)).is_ok()
            && let Some(log) = log
        {
            if again { log.held_again(held, &sources) } else { log.held_by(held) }
        }
        stdin
    }

    /// The keeper holds this as well.
    pub(crate) fn is_beside(&self, beside: Beside) {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner).push(beside);
    }

    /// Nobody needs any more what the keeper holds beside it.
    pub(crate) fn discard_beside(&self) {
        let beside = std::mem::take(&mut *self.beside.lock().unwrap_or_else(PoisonError::into_inner));
        beside.into_iter().for_each(Beside::discard);
    }

    /// Its report is written down: the keeper need not know it any more.
    pub(crate) async fn settle(&self) {
        self.discard_beside();
        if let Some(held) = self.held.get()
            && let Some(holds) = held.holds.write().await.take()
        {
            holds.settle();
        }
    }
}
