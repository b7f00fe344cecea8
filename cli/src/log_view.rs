//! A log as it is shown, wherever it is read: raw, as lines, as JSON, or as CRI writes it.

use std::io::{self, Write as _};
use std::time::Duration;

use orangery::Source;
use orangery::stream::view::{CarriageReturn, Line, LineOptions, Lines, Piece, cri, ndjson, rfc3339};

use crate::args::{LogFormat, LogsArgs};
use crate::copy::write_all;

/// After so long a silence an unfinished line is shown.
pub(crate) const IDLE: Duration = Duration::from_millis(100);

/// One way to show a log.
pub(crate) struct LogView {
    format: LogFormat,
    timestamps: bool,
    lines: Lines,
    buffer: Vec<u8>,
}

impl LogView {
    /// As the options say.
    pub(crate) fn of(args: &LogsArgs, json: bool) -> Self {
        let format = if json { LogFormat::Json } else { args.format };
        // Time stands in front of lines.
        let format = if args.timestamps && format == LogFormat::Raw { LogFormat::Lines } else { format };
        let options = LineOptions { carriage_return: CarriageReturn::Strip, ..LineOptions::default() };
        Self { format, timestamps: args.timestamps, lines: Lines::new(options), buffer: Vec::new() }
    }

    /// Whether times are shown.
    pub(crate) const fn has_times(&self) -> bool {
        self.timestamps || matches!(self.format, LogFormat::Json | LogFormat::Cri)
    }

    /// Whether a part of a line waits for the rest of it: after [`IDLE`] it is to be shown by [`LogView::flush`].
    pub(crate) fn is_unfinished(&self) -> bool {
        self.lines.has_partial()
    }

    /// # Errors
    /// A stream of ours takes no more; so for all of these.
    pub(crate) fn piece(&mut self, mut piece: Piece) -> io::Result<()> {
        if self.format == LogFormat::Raw {
            return write_all(piece.source, &piece.data);
        }
        // Many lines, one write.
        while let Some(line) = self.lines.next_from(&mut piece) {
            self.push(&line);
        }
        self.write()
    }

    /// Shows lines that have not ended.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some(line) = self.lines.flush() {
            self.push(&line);
        }
        self.write()
    }

    /// Bytes that nobody will see.
    pub(crate) fn gap(&mut self, source: Source, from: u64, to: u64, cause: &str) -> io::Result<()> {
        if let Some(line) = self.lines.cut(source) {
            self.push(&line);
        }
        let bytes = to.saturating_sub(from);
        if self.format == LogFormat::Json {
            let cause = serde_json::Value::from(cause);
            let gap =
                format!("{{\"gap\":{{\"stream\":\"{source}\",\"from\":{from},\"to\":{to},\"cause\":{cause}}}}}\n");
            self.buffer.extend_from_slice(gap.as_bytes());
        } else {
            let text = format!("orangery: {bytes} bytes of {source} are missing from {from} on ({cause})\n");
            // Nobody reads it: then nobody misses it.
            let _ = io::stderr().write_all(text.as_bytes());
        }
        self.write()
    }

    /// The output of a process has ended; `document` writes what is said of that, as a line of JSON.
    pub(crate) fn end(&mut self, document: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.flush()?;
        if self.format == LogFormat::Json {
            document(&mut self.buffer);
        }
        self.write()
    }

    fn push(&mut self, line: &Line) {
        match self.format {
            LogFormat::Json => ndjson::write_line(line, &mut self.buffer),
            LogFormat::Cri => cri::write_line(line, &mut self.buffer),
            LogFormat::Lines => {
                if self.timestamps && line.begins {
                    self.buffer.extend_from_slice(rfc3339(line.wall).as_bytes());
                    self.buffer.push(b' ');
                }
                self.buffer.extend_from_slice(&line.data);
                if line.ends {
                    self.buffer.push(b'\n');
                }
            }
            LogFormat::Raw => {}
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let written = write_all(Source::Stdout, &self.buffer);
        self.buffer.clear();
        written
    }
}
