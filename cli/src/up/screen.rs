//! What the user sees: lines of services behind their names, one line of state for each service at a terminal, plain
//! lines elsewhere, or JSON. One thread has both streams of ours, because they may block.

mod live;
mod paint;

use std::io::{self, IsTerminal as _, Write};

use orangery::Source;
use orangery::stream::Gap;
use orangery::stream::view::{Line, ndjson};
use tokio::sync::mpsc;

use super::build::Unit;
use crate::errors::Failure;
use live::Live;
use paint::Painter;

/// Lines that wait to be written; whoever has more waits.
const WAITING: usize = 256;

/// What is to be shown; units by their number.
#[derive(Debug)]
pub(super) enum Tell {
    /// A line of a service.
    Line(usize, Line),
    /// Bytes of a service that nobody will see.
    Missing(usize, Gap),
    /// Where a service is now.
    State(usize, String),
    /// A line of ours, on stderr.
    Note(String),
    /// A document, on stdout.
    Json(String),
}

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Documents on stdout, nothing else.
    Json,
    /// Lines.
    Plain,
    /// Lines, and under them one for each service, drawn anew.
    Live,
}

/// The way to it, and its end.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) tell: mpsc::Sender<Tell>,
    /// A stream of ours takes no more; told once, and what comes later is dropped.
    pub(super) trouble: mpsc::UnboundedReceiver<io::Error>,
    thread: std::thread::JoinHandle<()>,
}

impl Mode {
    /// `quiet`: nobody else writes to stderr meanwhile.
    pub(super) fn choose(json: bool, quiet: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        match (json, io::stderr().is_terminal()) {
            (true, _) => Self::Json,
            (false, true) if quiet && !dumb => Self::Live,
            _ => Self::Plain,
        }
    }
}

impl Screen {
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(mode: Mode, units: &[Unit]) -> Result<Self, Failure> {
        let (tell, told) = mpsc::channel(WAITING);
        let (sender, trouble) = mpsc::unbounded_channel();
        let painter = Painter::new(units);
        let live = (mode == Mode::Live).then(|| Live::new(units));
        let mut shown = Shown { mode, painter, live, parts: Vec::new(), ids: Vec::new() };
        shown.ids = units.iter().map(|unit| unit.id.clone()).collect();
        let work = move || {
            if let Err(error) = shown.until_the_end(told) {
                let _ = sender.send(error);
            }
        };
        let thread = std::thread::Builder::new().name("screen".into()).spawn(work);
        let thread = thread.map_err(|error| Failure::system("cannot start a thread", &error))?;
        Ok(Self { tell, trouble, thread })
    }

    /// Everything was told: wait until it is written; why it could not be.
    pub(super) async fn end(self) -> Option<io::Error> {
        let Self { tell, mut trouble, thread } = self;
        drop(tell);
        let error = trouble.recv().await;
        // It has closed its end, and so is at its own.
        let _ = thread.join();
        error
    }
}

/// What the thread has.
struct Shown {
    mode: Mode,
    painter: Painter,
    live: Option<Live>,
    /// What is to be written next, in order, each to its stream.
    parts: Vec<(Source, Vec<u8>)>,
    ids: Vec<String>,
}

impl Shown {
    fn until_the_end(&mut self, mut told: mpsc::Receiver<Tell>) -> io::Result<()> {
        self.draw()?;
        while let Some(first) = told.blocking_recv() {
            self.take(first);
            // What has come meanwhile needs one drawing.
            for _ in 0..WAITING {
                let Ok(next) = told.try_recv() else { break };
                self.take(next);
            }
            self.draw()?;
        }
        Ok(())
    }

    fn take(&mut self, tell: Tell) {
        let json = self.mode == Mode::Json;
        match tell {
            Tell::Line(unit, line) if json => {
                let id = serde_json::Value::from(self.ids.get(unit).map_or("", String::as_str));
                let out = self.part(Source::Stdout);
                out.extend_from_slice(format!("{{\"kind\":\"output\",\"container\":{id},").as_bytes());
                let mut object = Vec::new();
                ndjson::write_line(&line, &mut object);
                out.extend_from_slice(object.get(1..).unwrap_or_default());
            }
            Tell::Line(unit, line) => {
                let source = line.source;
                let painted = self.painter.line(unit, source, &line.data);
                self.part(source).extend_from_slice(&painted);
            }
            Tell::Missing(unit, gap) if json => {
                let id = serde_json::Value::from(self.ids.get(unit).map_or("", String::as_str));
                let text = format!("{{\"kind\":\"output_missing\",\"container\":{id},\"bytes\":{}}}\n", gap.bytes());
                self.part(Source::Stdout).extend_from_slice(text.as_bytes());
            }
            Tell::Missing(unit, gap) => {
                let label = self.painter.label(unit);
                let text = format!("{label}: {} bytes of its {} are missing: {}", gap.bytes(), gap.source, gap.cause);
                self.note(&text);
            }
            Tell::State(unit, state) => match &mut self.live {
                Some(live) => live.set(unit, state),
                None if json => {}
                None => {
                    let text = format!("{} {state}", self.painter.label(unit));
                    self.note(&text);
                }
            },
            Tell::Note(text) => self.note(&text),
            Tell::Json(text) => {
                let out = self.part(Source::Stdout);
                out.extend_from_slice(text.as_bytes());
                out.push(b'\n');
            }
        }
    }

    fn note(&mut self, text: &str) {
        let line = format!("orangery: {}\n", crate::errors::one_line(text));
        self.part(Source::Stderr).extend_from_slice(line.as_bytes());
    }

    /// What comes next on this stream.
    fn part(&mut self, source: Source) -> &mut Vec<u8> {
        if self.parts.last().is_none_or(|(last, _)| *last != source) {
            self.parts.push((source, Vec::new()));
        }
        let last = self.parts.len() - 1;
        &mut self.parts[last].1
    }

    /// Write what was taken, and draw the states under it.
    fn draw(&mut self) -> io::Result<()> {
        if let Some(live) = &mut self.live {
            write_all(Source::Stderr, live.erase().as_bytes())?;
        }
        for (source, bytes) in self.parts.drain(..) {
            write_all(source, &bytes)?;
        }
        match &mut self.live {
            Some(live) => write_all(Source::Stderr, live.draw().as_bytes()),
            None => Ok(()),
        }
    }
}

fn write_all(source: Source, bytes: &[u8]) -> io::Result<()> {
    match source {
        Source::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Source::Stderr => io::stderr().write_all(bytes),
    }
}
