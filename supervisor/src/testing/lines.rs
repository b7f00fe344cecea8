//! Waiting for a line of output.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use orangery_io_stream::view::{Line, LineOptions, Lines, Piece};
use orangery_io_stream::{Cursor, Event, Source, Subscriber};

use super::within::within;

/// Lines that a failure shows.
const SHOWN: usize = 20;

/// A line that was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// It, without its newline; what is no UTF-8 replaced.
    pub text: String,
    /// Where it was written to.
    pub source: Source,
    /// The place behind it, for a reader that goes on there
    /// ([`ContainerHandle::resume_from`](crate::ContainerHandle::resume_from)).
    pub cursor: Cursor,
}

/// The line that was waited for did not come. Printed by `unwrap` as it is displayed: with the last lines that did.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoLine {
    /// What was waited for.
    pub wanted: String,
    /// How long; `None`: the output has ended.
    pub within: Option<Duration>,
    /// The last lines that were looked at, at most twenty, and then what there is of an unfinished one.
    pub last: Vec<String>,
}

impl fmt::Display for NoLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.within {
            Some(within) => write!(f, "no line {} within {within:?}", self.wanted)?,
            None => write!(f, "no line {}, and the output has ended", self.wanted)?,
        }
        match self.last.is_empty() {
            true => f.write_str("; there was none at all"),
            false => write!(f, "; the last ones were:\n    {}", self.last.join("\n    ")),
        }
    }
}

impl fmt::Debug for NoLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for NoLine {}

/// Reads output line by line, one wait after the other: each goes on behind the line that the last one has found.
///
/// ```no_run
/// # use std::time::Duration;
/// # use orangery::testing::LineReader;
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), Box<dyn std::error::Error>> {
/// let mut lines = LineReader::new(container.output());
/// lines.wait("listening", Duration::from_secs(20)).await?;
/// let request = lines.wait_where("a request", |line| line.starts_with("GET "), Duration::from_secs(20)).await?;
/// println!("{}", request.text);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct LineReader {
    output: Subscriber,
    lines: Lines,
    piece: Option<Piece>,
    /// The output has ended; what is unfinished counts as a line now.
    ended: bool,
    place: Cursor,
    last: VecDeque<String>,
}

impl LineReader {
    /// Of a subscription: from where that begins on, history included.
    #[must_use]
    pub fn new(output: Subscriber) -> Self {
        let (lines, place) = (Lines::new(LineOptions::default()), output.opening().start);
        Self { output, lines, piece: None, ended: false, place, last: VecDeque::new() }
    }

    /// The place behind the last line that was found or looked at.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        self.place
    }

    /// Wait for a line that has `text` in it.
    ///
    /// # Errors
    /// [`NoLine`], when the time is over or the output has ended without it.
    ///
    /// # Cancel safety
    /// May be dropped and called again: no line is missed but those that were looked at.
    pub async fn wait(&mut self, text: &str, limit: Duration) -> Result<Seen, NoLine> {
        self.wait_where(&format!("with {text:?}"), |line| line.contains(text), limit).await
    }

    /// Wait for a line that is `right`; a failure calls it `what`. An unfinished line counts when the output has ended.
    ///
    /// # Errors
    /// As for [`LineReader::wait`].
    ///
    /// # Cancel safety
    /// As for [`LineReader::wait`].
    pub async fn wait_where(
        &mut self,
        what: &str,
        right: impl Fn(&str) -> bool,
        limit: Duration,
    ) -> Result<Seen, NoLine> {
        let found = within(limit, async {
            while let Some(seen) = self.next().await {
                if right(&seen.text) {
                    return Some(seen);
                }
            }
            None
        });
        let within = match found.await {
            Some(Some(seen)) => return Ok(seen),
            Some(None) => None,
            None => Some(limit),
        };
        Err(NoLine { wanted: what.to_owned(), within, last: self.last() })
    }

    fn last(&mut self) -> Vec<String> {
        let unfinished = self.lines.clone().flush().map(|line| text(&line));
        self.last.iter().cloned().chain(unfinished).collect()
    }

    async fn next(&mut self) -> Option<Seen> {
        loop {
            if let Some(line) = self.ready() {
                return Some(self.seen(&line));
            }
            if self.ended {
                return None;
            }
            match self.output.recv().await {
                Some(Event::Chunk(chunk)) => self.piece = Some(chunk.into()),
                Some(Event::Gap(gap)) => {
                    let line = self.lines.cut(gap.source);
                    self.place = self.place.with(gap.source, gap.to);
                    self.note(format!("({} bytes are missing: {})", gap.bytes(), gap.cause));
                    if let Some(line) = line {
                        return Some(self.seen(&line));
                    }
                }
                _ => self.ended = true,
            }
        }
    }

    fn ready(&mut self) -> Option<Line> {
        if let Some(line) = self.piece.as_mut().and_then(|piece| self.lines.next_from(piece)) {
            return Some(line);
        }
        self.piece = None;
        if self.ended { self.lines.flush() } else { None }
    }

    fn seen(&mut self, line: &Line) -> Seen {
        let text = text(line);
        self.note(text.clone());
        self.place = self.place.with(line.source, self.place.offset(line.source).max(line.end));
        Seen { text, source: line.source, cursor: self.place }
    }

    fn note(&mut self, line: String) {
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

fn text(line: &Line) -> String {
    String::from_utf8_lossy(&line.data).into_owned()
}

/// Wait for a line that has `text` in it: [`LineReader::wait`], for one line. A subscription begins where it is told to, so
/// that a line that was written before is found ([`ContainerHandle::output`](crate::ContainerHandle::output)), or one behind
/// a [`Seen::cursor`] ([`ContainerHandle::resume_from`](crate::ContainerHandle::resume_from)).
///
/// # Errors
/// [`NoLine`], with the last lines that came instead, when the time is over or the output has ended.
///
/// # Cancel safety
/// Nothing is left of it when it is dropped.
pub async fn wait_line(output: Subscriber, text: &str, limit: Duration) -> Result<Seen, NoLine> {
    LineReader::new(output).wait(text, limit).await
}
