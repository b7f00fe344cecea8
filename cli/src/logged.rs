//! `run --log`: the command's output goes into a durable log, and to us from there: neither what is in the log nor the
//! command's pace depends on whoever reads us.

use std::path::{Path, PathBuf};

use orangery::stream::log::{LogErrorKind, LogEvent, LogOptions, LogReader, ReadOptions, SyncPolicy};
use orangery::stream::{EndReason, From, Gap, GapCause};
use orangery::{Command, Event, Source, Subscriber};
use tokio::runtime::Handle;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use crate::args::LogArgs;
use crate::copy::{Trouble, write_all};
use crate::errors::Failure;
use crate::logs;
use crate::start::absolute;

/// The command with the log of `--log`: a new one, or the one that is there.
pub(crate) fn into_log(command: Command, args: &LogArgs) -> Command {
    let Some(dir) = &args.log else { return command };
    let options = LogOptions {
        segment_bytes: args.log_max_size,
        keep_segments: args.log_max_files,
        compress: args.log_compress,
        sync: SyncPolicy::OnClose,
        ..LogOptions::default()
    };
    command.log(absolute(dir), options)
}

/// Shows what comes into the log, until its end; on a thread of its own, because our own ends may block.
pub(crate) fn show(runtime: &Handle, mut output: Subscriber, trouble: &UnboundedSender<Trouble>) {
    while let Some(event) = runtime.block_on(output.recv()) {
        match event {
            Event::Chunk(chunk) if !written(chunk.source, &chunk.data, trouble) => return,
            Event::Gap(gap) => missing(&gap),
            Event::End(end) if matches!(end.reason, EndReason::Error(_) | EndReason::Abandoned) => {
                tracing::error!(reason = ?end.reason, "the log cannot be shown any more");
            }
            _ => {}
        }
    }
}

/// Whether it is written; the log goes on without us.
fn written(source: Source, data: &[u8], trouble: &UnboundedSender<Trouble>) -> bool {
    let written = write_all(source, data);
    written.map_err(|error| trouble.send(Trouble::Unwritable(source, error))).is_ok()
}

fn missing(gap: &Gap) {
    match gap.cause {
        GapCause::OutputLimit => tracing::info!(source = %gap.source, bytes = gap.bytes(), "over --output-limit"),
        cause => tracing::warn!(source = %gap.source, bytes = gap.bytes(), %cause, "missing in the log"),
    }
}

/// `run --restart --log`: what all lives of a command write into one log.
#[derive(Debug)]
pub(crate) struct Lives {
    dir: PathBuf,
    /// At the end of the log that is there already.
    reader: Option<LogReader>,
}

impl Lives {
    /// Of the lives that begin from now on.
    ///
    /// # Errors
    /// The log that is there cannot be read.
    pub(crate) fn of(dir: &Path) -> Result<Self, Failure> {
        let dir = absolute(dir);
        match open(&dir, From::Now) {
            Ok(reader) => Ok(Self { dir, reader: Some(reader) }),
            Err(error) if error.kind() == LogErrorKind::Missing => Ok(Self { dir, reader: None }),
            Err(error) => Err(logs::failed(&error).with_option("--log")),
        }
    }

    /// A reader of them, once the first has begun.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(crate) fn begin(self) -> Result<LogReader, Failure> {
        match self.reader {
            Some(reader) => Ok(reader),
            None => open(&self.dir, From::Start).map_err(|error| logs::failed(&error).with_option("--log")),
        }
    }
}

fn open(dir: &Path, from: From) -> Result<LogReader, orangery::stream::log::LogError> {
    LogReader::open(dir, from, ReadOptions { follow: true, through_ends: true, ..ReadOptions::default() })
}

/// Shows what comes into the log until it is over: then what is there is all there is. As [`show`], on a thread of its own.
pub(crate) fn show_lives(
    runtime: &Handle,
    mut reader: LogReader,
    mut over: watch::Receiver<bool>,
    trouble: &UnboundedSender<Trouble>,
) {
    loop {
        // Asked before the look.
        let last = *over.borrow_and_update();
        let event = match last {
            true => reader.try_next(),
            false => runtime.block_on(async {
                tokio::select! {
                    event = reader.next() => event,
                    _ = over.changed() => reader.try_next(),
                }
            }),
        };
        match event {
            Ok(Some(LogEvent::Chunk(chunk))) if !written(chunk.source, &chunk.data, trouble) => return,
            Ok(Some(LogEvent::Gap(gap))) => missing(&gap),
            Ok(Some(_)) => {}
            Ok(None) if last => return,
            Ok(None) => {}
            Err(error) => return tracing::error!(%error, "the log cannot be shown any more"),
        }
    }
}
