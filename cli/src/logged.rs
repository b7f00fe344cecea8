//! `run --log`: the command's output goes into a durable log, and to us from there.
//!
//! The command gets pipes of ours, which are emptied into the log by splice(2): what is in it does not depend on whoever
//! reads us, and neither does the command's pace. A reader of the log shows it meanwhile.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use orangery::stream::log::{
    Log, LogErrorKind, LogEvent, LogOptions, LogReader, ReadOptions, SyncPolicy, log_pump_pair,
};
use orangery::stream::{PipeReader, Sources};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::args::LogArgs;
use crate::copy::{Counts, Trouble, write_all};
use crate::errors::Failure;
use crate::logs::failed;

/// The log of `--log`: a new one, or the one that is there.
///
/// # Errors
/// It can be neither made nor opened.
pub(crate) fn log(args: &LogArgs) -> Result<Option<Log>, Failure> {
    let Some(dir) = &args.log else { return Ok(None) };
    let options = LogOptions {
        segment_bytes: args.log_max_size,
        keep_segments: args.log_max_files,
        sync: SyncPolicy::OnClose,
        ..LogOptions::default()
    };
    let log = match Log::create(dir, options) {
        Err(error) if error.kind() == LogErrorKind::Exists => Log::open(dir, options),
        made => made,
    };
    log.map(Some).map_err(|error| failed(&error).with_option("--log"))
}

/// Empties both pipes into the log, until `ended` says that the container is gone. On a runtime.
///
/// # Errors
/// The pipes cannot be waited for.
pub(crate) fn pump(log: Log, pipes: [OwnedFd; 2], ended: oneshot::Receiver<()>) -> Result<(), Failure> {
    let reader = |fd| PipeReader::from_fd(fd).map_err(|error| Failure::new(error.to_string()));
    let [out, err] = pipes;
    let (out, err) = (reader(out)?, reader(err)?);
    tokio::spawn(async move {
        let ended = async {
            // Dropped is said as well.
            let _ = ended.await;
        };
        log_pump_pair(Some(out), Some(err), log, ended, Some(Duration::ZERO)).await;
    });
    Ok(())
}

/// A reader of what comes into the log from now on.
///
/// # Errors
/// The log cannot be read.
pub(crate) fn reader(log: &Log) -> Result<LogReader, Failure> {
    let options = ReadOptions { sources: Sources::Both, follow: true };
    log.resume(log.cursor(), options).map_err(|error| failed(&error).with_option("--log"))
}

/// Shows what comes into the log, until its end; on a thread of its own, because our own ends may block.
pub(crate) fn show(runtime: &Handle, mut reader: LogReader, counts: &Arc<Counts>, trouble: &UnboundedSender<Trouble>) {
    loop {
        match runtime.block_on(reader.next()) {
            Ok(Some(LogEvent::Chunk(chunk))) => {
                counts.add(chunk.source, chunk.data.len());
                if let Err(error) = write_all(chunk.source, &chunk.data) {
                    // The log goes on without us.
                    let _ = trouble.send(Trouble::Unwritable(chunk.source, error));
                    return;
                }
            }
            Ok(Some(LogEvent::Gap(gap))) => {
                tracing::warn!(source = %gap.source, bytes = gap.bytes(), cause = %gap.cause, "missing in the log");
            }
            Ok(Some(_)) => {}
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, "the log cannot be shown any more"),
        }
    }
}
