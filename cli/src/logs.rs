//! `orangery logs`: a durable log, read from any place, also while another process writes it.
//!
//! It works on the log's files alone. What the log does not have is said on stderr, never left out in silence.

use std::io;
use std::path::Path;
use std::time::SystemTime;

use orangery::stream::log::{LogError, LogErrorKind, LogEvent, LogReader, ReadOptions};
use orangery::stream::view::{LineEvent, Piece, ndjson};
use orangery::stream::{From, Source, Sources};

use crate::args::{LogStream, LogsArgs};
use crate::errors::Failure;
use crate::log_view::{IDLE, LogView};

/// Show it; the exit code is 0.
///
/// # Errors
/// There is no log, it cannot be read, or our own stdout takes no more.
pub(crate) fn logs(dir: &Path, args: &LogsArgs, json: bool) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system("cannot start the event loop", &error))?;
    let follow = args.follow || args.follow_on;
    let options = ReadOptions { sources: sources(args), follow, through_ends: args.follow_on };
    let reader = LogReader::open(dir, from(args), options).map_err(|error| failed(&error))?;
    let mut view = LogView::of(args, json);
    match runtime.block_on(all(&mut view, reader)) {
        // Whoever reads us has seen enough.
        Err(Ended::Unwritable(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(Ended::Unwritable(error)) => Err(Failure::system("cannot write the log", &error)),
        Err(Ended::Unreadable(error)) => Err(failed(&error)),
        Ok(()) => Ok(0),
    }
}

/// What the user reads when a log cannot be used.
pub(crate) fn failed(error: &LogError) -> Failure {
    const HINT: &str = "the directory that `orangery run --log` was given";
    match (error.kind(), error.io_error()) {
        (LogErrorKind::Missing | LogErrorKind::NotALog, _) => Failure::new(error.to_string()).with_hint(HINT),
        (_, Some(why)) => Failure::system(error, why),
        (_, None) => Failure::new(error.to_string()),
    }
}

fn sources(args: &LogsArgs) -> Sources {
    match args.stream {
        None => Sources::Both,
        Some(LogStream::Stdout) => Sources::Stdout,
        Some(LogStream::Stderr) => Sources::Stderr,
    }
}

fn from(args: &LogsArgs) -> From {
    let source = if args.stream == Some(LogStream::Stderr) { Source::Stderr } else { Source::Stdout };
    match (args.tail, args.since, args.from) {
        (Some(lines), ..) => From::TailLines(lines),
        (_, Some(ago), _) => From::Time(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH)),
        (.., Some(offset)) => From::Offset { source, offset },
        _ => From::Start,
    }
}

enum Ended {
    Unreadable(LogError),
    Unwritable(io::Error),
}

impl std::convert::From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Unwritable(error)
    }
}

async fn all(view: &mut LogView, mut reader: LogReader) -> Result<(), Ended> {
    loop {
        let next = match view.is_unfinished() {
            false => reader.next().await,
            true => match tokio::time::timeout(IDLE, reader.next()).await {
                Ok(next) => next,
                Err(_) => {
                    view.flush()?;
                    continue;
                }
            },
        };
        match next.map_err(Ended::Unreadable)? {
            Some(LogEvent::Chunk(chunk)) => view.piece(Piece::from(chunk))?,
            Some(LogEvent::Gap(gap)) => view.gap(gap.source, gap.from, gap.to, gap.cause.as_str())?,
            Some(LogEvent::End(end)) => view.end(|out| ndjson::write_event(&LineEvent::End(end), out))?,
            Some(_) => {}
            None => return Ok(view.flush()?),
        }
    }
}
