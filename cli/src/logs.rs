//! `orangery logs`: a durable log, read from any place, also while another process writes it.
//!
//! It works on the log's files alone. What the log does not have is said on stderr, never left out in silence.

use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use orangery::stream::log::{LogChunk, LogError, LogErrorKind, LogEvent, LogReader, ReadOptions};
use orangery::stream::view::{CarriageReturn, LineEvent, LineOptions, Lines, Piece, cri, ndjson, rfc3339};
use orangery::stream::{From, Gap, Source, Sources};

use crate::args::{LogFormat, LogStream, LogsArgs};
use crate::copy::write_all;
use crate::errors::Failure;

/// After so long a silence an unfinished line is shown.
const IDLE: Duration = Duration::from_millis(100);

/// Show it; the exit code is 0.
///
/// # Errors
/// There is no log, it cannot be read, or our own stdout takes no more.
pub(crate) fn logs(args: &LogsArgs, json: bool) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::system("cannot start the event loop", &error))?;
    let follow = args.follow || args.follow_on;
    let options = ReadOptions { sources: sources(args), follow, through_ends: args.follow_on };
    let reader = LogReader::open(&args.dir, from(args), options).map_err(|error| failed(&error))?;
    let format = if json { LogFormat::Json } else { args.format };
    let mut show = Show::new(format, args.timestamps);
    match runtime.block_on(show.all(reader)) {
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

/// One way to show a log.
struct Show {
    format: LogFormat,
    timestamps: bool,
    lines: Lines,
    buffer: Vec<u8>,
}

impl Show {
    fn new(format: LogFormat, timestamps: bool) -> Self {
        // Time stands in front of lines.
        let format = if timestamps && format == LogFormat::Raw { LogFormat::Lines } else { format };
        let options = LineOptions { carriage_return: CarriageReturn::Strip, ..LineOptions::default() };
        Self { format, timestamps, lines: Lines::new(options), buffer: Vec::new() }
    }

    async fn all(&mut self, mut reader: LogReader) -> Result<(), Ended> {
        loop {
            let next = match self.lines.has_partial() {
                false => reader.next().await,
                true => match tokio::time::timeout(IDLE, reader.next()).await {
                    Ok(next) => next,
                    Err(_) => {
                        self.flush()?;
                        continue;
                    }
                },
            };
            match next.map_err(Ended::Unreadable)? {
                Some(LogEvent::Chunk(chunk)) => self.chunk(chunk)?,
                Some(LogEvent::Gap(gap)) => self.gap(&gap)?,
                Some(LogEvent::End(end)) => {
                    self.flush()?;
                    if self.format == LogFormat::Json {
                        self.event(&LineEvent::End(end))?;
                    }
                }
                Some(_) => {}
                None => return self.flush(),
            }
        }
    }

    fn chunk(&mut self, chunk: LogChunk) -> Result<(), Ended> {
        if self.format == LogFormat::Raw {
            return Ok(write_all(chunk.source, &chunk.data)?);
        }
        let mut piece = Piece::from(chunk);
        // Many lines, one write.
        while let Some(line) = self.lines.next_from(&mut piece) {
            self.push(&LineEvent::Line(line));
        }
        self.write()
    }

    /// Shows lines that have not ended.
    fn flush(&mut self) -> Result<(), Ended> {
        while let Some(line) = self.lines.flush() {
            self.push(&LineEvent::Line(line));
        }
        self.write()
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), Ended> {
        if let Some(line) = self.lines.cut(gap.source) {
            self.push(&LineEvent::Line(line));
        }
        self.event(&LineEvent::Gap(*gap))?;
        if self.format != LogFormat::Json {
            // Nobody reads it: then nobody misses it.
            let _ = writeln!(
                io::stderr(),
                "orangery: {} bytes of {} are missing from {} on ({})",
                gap.bytes(),
                gap.source,
                gap.from,
                gap.cause
            );
        }
        Ok(())
    }

    fn event(&mut self, event: &LineEvent) -> Result<(), Ended> {
        self.push(event);
        self.write()
    }

    fn push(&mut self, event: &LineEvent) {
        match (self.format, event) {
            (LogFormat::Json, event) => ndjson::write_event(event, &mut self.buffer),
            (LogFormat::Cri, LineEvent::Line(line)) => cri::write_line(line, &mut self.buffer),
            (LogFormat::Lines, LineEvent::Line(line)) => {
                if self.timestamps && line.begins {
                    self.buffer.extend_from_slice(rfc3339(line.wall).as_bytes());
                    self.buffer.push(b' ');
                }
                self.buffer.extend_from_slice(&line.data);
                if line.ends {
                    self.buffer.push(b'\n');
                }
            }
            _ => {}
        }
    }

    fn write(&mut self) -> Result<(), Ended> {
        let written = write_all(Source::Stdout, &self.buffer);
        self.buffer.clear();
        Ok(written?)
    }
}
