//! The durable log of a process: opened before anything is made for it, and emptied into on a thread of its own, where the
//! kernel may make a writer wait for the disk without holding up a shard.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use orangery_io_stream::log::{Log, LogError, LogErrorKind, LogOptions, Recording};
use orangery_io_stream::{EndReason, Fate, PipeReader, pump_process};
use orangery_runtime as runtime;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::slot::Slot;
use crate::error::Error;
use crate::faults::Faults;
use crate::shard::Shards;

/// A log that was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LogTo {
    pub(crate) dir: PathBuf,
    #[serde(with = "crate::recovery::form::log_options")]
    pub(crate) options: LogOptions,
}

impl LogTo {
    /// Open it, or make it; on a blocking thread. Dropped unused, what was made is removed.
    pub(crate) async fn open(self) -> Result<Recording, Error> {
        let Self { dir, options } = self;
        if !dir.is_absolute() {
            return Err(Error::invalid("log", format!("{} is not an absolute path", dir.display())));
        }
        let opened = tokio::task::spawn_blocking(move || Log::open_or_create(&dir, options).map(Recording::new)).await;
        opened.map_err(|_| Error::lost_request())?.map_err(|error| refused(&error))
    }
}

/// Why a directory cannot be used.
pub(super) fn refused(error: &LogError) -> Error {
    let of = |kind| runtime::Error::new(kind, error.to_string());
    let (error, hint) = match (error.kind(), error.io_error()) {
        (LogErrorKind::InUse, _) => (of(runtime::ErrorKind::State), "a directory for each that writes at one time"),
        (LogErrorKind::NotALog, _) => (of(runtime::ErrorKind::Invalid), "a directory without a file log.state"),
        (LogErrorKind::Option, _) => (
            of(runtime::ErrorKind::Invalid),
            "segments of one byte at least, one segment to keep at least, a level of zstd",
        ),
        (LogErrorKind::Unsupported, _) => (of(runtime::ErrorKind::Unsupported), "the feature logs-zstd"),
        (_, Some(why)) => {
            let errno = std::io::Error::from_raw_os_error(why.raw_os_error().unwrap_or(0));
            let what = format!("{} {}", error.operation(), error.path().display());
            (runtime::Error::system(what, errno), "a directory that exists or can be made, and can be written")
        }
        _ => (of(runtime::ErrorKind::System), "another directory"),
    };
    error.with_field("log").with_hint(hint).into()
}

/// Empty both pipes to their end, into the log of `slot` or into its hub, and end those with the exit. `grace`: how long after
/// the exit the pipes may stay open. Dropped, it
/// abandons whoever reads.
pub(crate) fn drained(
    slot: &Arc<Slot>,
    (stdout, stderr): (Option<OwnedFd>, Option<OwnedFd>),
    grace: Option<Duration>,
    faults: &Faults,
    shards: &Shards,
) -> impl Future<Output = EndReason> + use<> {
    let mut exit = slot.exit.subscribe();
    let exited = async move {
        let exit = exit.wait_for(Option::is_some).await;
        exit.ok().and_then(|exit| exit.as_ref().map(|exit| fate(exit.status))).unwrap_or_default()
    };
    let pump = match slot.output.log().cloned() {
        Some(log) => Err(into_log(log, (stdout, stderr), exited, grace, faults, (shards, &slot.span))),
        // In a box: each future that it is moved into would have room for it twice, for as long as the process lives.
        None => {
            let (stdout, stderr) = (reader(faults, stdout), reader(faults, stderr));
            Ok(Box::pin(pump_process(stdout, stderr, slot.output.hub.clone(), exited, grace)))
        }
    };
    async move {
        match pump {
            Ok(pump) => pump.await,
            Err(ended) => ended.await.unwrap_or(EndReason::Abandoned),
        }
    }
}

/// How it ended, as its readers are told.
fn fate(status: runtime::ExitStatus) -> Fate {
    match status {
        runtime::ExitStatus::Code(code) => Fate::Code(code),
        runtime::ExitStatus::Signal { signal, core_dumped } => Fate::Signal { signal, core_dumped },
        _ => Fate::Unknown,
    }
}

/// On the thread that writes logs, until it is done or nobody waits for it.
fn into_log(
    log: Recording,
    (stdout, stderr): (Option<OwnedFd>, Option<OwnedFd>),
    exited: impl Future<Output = Fate> + Send + 'static,
    grace: Option<Duration>,
    faults: &Faults,
    (shards, span): (&Shards, &tracing::Span),
) -> oneshot::Receiver<EndReason> {
    let (mut reply, ended) = oneshot::channel();
    let (faults, span) = (faults.clone(), span.clone());
    let began = shards.run_logs(move || {
        let writing = async move {
            let pump = log.pump(reader(&faults, stdout), reader(&faults, stderr), exited, grace);
            tokio::select! {
                reason = pump => drop(reply.send(reason)),
                () = reply.closed() => {}
            }
        };
        actix_rt::spawn(writing.instrument(span));
    });
    if !began {
        tracing::error!("the thread that writes logs is gone");
    }
    ended
}

/// The reading end of a pipe, for a pump on this thread.
fn reader(faults: &Faults, fd: Option<OwnedFd>) -> Option<PipeReader> {
    match PipeReader::from_fd(fd?) {
        Ok(reader) => Some(faults.watch_reader(reader)),
        Err(error) => {
            tracing::error!(%error, "an output stream cannot be read");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::ErrorKind;

    fn refusal(dir: &Path, options: LogOptions) -> Error {
        refused(&Log::open_or_create(dir, options).unwrap_err())
    }

    #[test]
    fn each_refusal_names_the_field_and_what_to_do() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("log");
        let log = Log::create(&dir, LogOptions::default()).unwrap();
        let damaged = parent.path().join("damaged");
        std::fs::create_dir(&damaged).unwrap();
        std::fs::write(damaged.join("log.state"), "nonsense").unwrap();
        let none = LogOptions { segment_bytes: 0, ..LogOptions::default() };
        for (error, kind, errno) in [
            (refusal(&dir, LogOptions::default()), ErrorKind::State, None),
            (refusal(&damaged, LogOptions::default()), ErrorKind::Invalid, None),
            (refusal(&parent.path().join("new"), none), ErrorKind::Invalid, None),
            (refusal(Path::new("/dev/null/log"), LogOptions::default()), ErrorKind::NotFound, Some(20)),
        ] {
            assert_eq!((error.kind(), error.field(), error.errno()), (kind, Some("log"), errno), "{error}");
            assert!(error.hint().is_some());
        }
        drop(log);
    }
}
