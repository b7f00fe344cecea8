//! The output of a process as one client reads it: first what is in its log, then what comes; of what is kept running, all
//! incarnations as one stream.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orangery::stream::Chunk;
use orangery::stream::log::{LogChunk, LogError, LogErrorKind, LogEvent, LogReader, ReadOptions};
use orangery::{
    Cursor, Event, ProcessHandle, Report, Service, ServiceInspect, ServiceState, Source, SubscribeOptions, Subscriber,
};

use super::daemon::system;
use super::failed::{Failed, failed};
use super::place::{Begin, Wanted};
use super::registry::{Body, Card, Further, busy};
use super::view;
use crate::wire::{Problem, ProblemKind};

/// What comes next.
#[derive(Debug)]
pub(super) enum Item {
    /// Of the stream; an end is the last item.
    Event(Event),
    /// How it ended; of what is kept running, one incarnation.
    Exit(Arc<Report>),
    /// There is nothing more for now, and more is not wanted.
    Now,
    /// It cannot be read on, and nobody knows what follows: whoever comes back hears what there still is.
    Cut,
    /// Nothing more will come, and nobody knows more.
    Over,
}

/// Whose output it is.
#[derive(Debug)]
enum Of {
    Process(ProcessHandle),
    Service {
        service: Service,
        dir: PathBuf,
        /// The incarnation that was read last.
        generation: u32,
        /// It was looked for while it ran.
        lived: bool,
        current: Option<ProcessHandle>,
    },
    /// It ran under an earlier daemon; its log is there.
    Log,
}

/// Where it stands.
#[derive(Debug)]
enum Stage {
    /// In the log, before what comes.
    History(Box<LogReader>),
    /// At what comes.
    Live(Box<Subscriber>),
    /// The process has ended: its report is due.
    Ended(Event),
    /// An incarnation is over: the next one is due.
    Between(Option<Event>),
    /// The last item was handed out.
    Over,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Reader {
    of: Of,
    stage: Stage,
    place: Cursor,
    options: ReadOptions,
    follow: bool,
}

impl Reader {
    /// Of a main process, from its log in `dir`. Blocks for its files.
    ///
    /// # Errors
    /// It never ran, or the cursor is none of it.
    pub(super) fn of_container(card: &Card, dir: &Path, wanted: &Wanted) -> Result<Self, Failed> {
        let of = match card.body() {
            Body::Container(container) => Of::Process(container.process().clone()),
            Body::Service(service) => {
                Of::Service { service, dir: dir.to_owned(), generation: 0, lived: false, current: None }
            }
            Body::Nothing => Of::Log,
            Body::Busy => return Err(busy()),
        };
        let options = ReadOptions { sources: wanted.sources, follow: false, through_ends: true };
        let log = match wanted.from {
            Begin::At(cursor) => LogReader::resume(dir, cursor, options),
            Begin::From(from) => LogReader::open(dir, from, options),
        };
        let log = log.map_err(|error| refused(&error))?;
        Ok(Self { of, place: log.cursor(), stage: Stage::History(Box::new(log)), options, follow: wanted.follow })
    }

    /// Of a further process.
    ///
    /// # Errors
    /// The cursor is none of it.
    pub(super) fn of_further(further: &Further, wanted: &Wanted) -> Result<Self, Failed> {
        let options = SubscribeOptions { sources: wanted.sources, ..SubscribeOptions::default() };
        let process = further.process.clone();
        let reader = match wanted.from {
            Begin::At(cursor) => process.resume_from(cursor, options)?,
            Begin::From(from) => process.subscribe(SubscribeOptions { from, ..options }),
        };
        let place = reader.opening().start;
        let options = ReadOptions { sources: wanted.sources, ..ReadOptions::default() };
        let stage = Stage::Live(Box::new(reader));
        Ok(Self { of: Of::Process(process), stage, place, options, follow: wanted.follow })
    }

    /// The place behind the last item.
    pub(super) const fn place(&self) -> Cursor {
        self.place
    }

    /// What comes next.
    ///
    /// # Cancel safety
    /// May be dropped and called again: nothing is lost.
    pub(super) async fn next(&mut self) -> Item {
        loop {
            let item = match &mut self.stage {
                Stage::History(_) => self.history(),
                Stage::Live(_) => self.live().await,
                Stage::Ended(_) => self.ended().await,
                Stage::Between(_) => self.between().await,
                Stage::Over => Some(Item::Over),
            };
            if let Some(item) = item {
                return item;
            }
        }
    }

    /// What is in the log; at its end, what comes.
    fn history(&mut self) -> Option<Item> {
        let Stage::History(log) = &mut self.stage else { return None };
        let event = match log.try_next() {
            Ok(Some(LogEvent::Chunk(chunk))) => Some(Event::Chunk(piece(chunk))),
            Ok(Some(LogEvent::Gap(gap))) => Some(Event::Gap(gap)),
            // Of an incarnation; whether it was the last one is known elsewhere.
            Ok(Some(_)) => return None,
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "a log cannot be read any more");
                return self.over(Item::Cut);
            }
        };
        self.place = log.cursor();
        match event {
            Some(event) => Some(Item::Event(event)),
            None => self.come_to_the_present(),
        }
    }

    fn come_to_the_present(&mut self) -> Option<Item> {
        let options = SubscribeOptions { sources: self.options.sources, ..SubscribeOptions::default() };
        let process = match &mut self.of {
            Of::Process(process) => Some(process.clone()),
            Of::Service { service, generation, lived, current, .. } => {
                *current = service.current().map(|now| {
                    (*generation, *lived) = (now.inspect().generation, true);
                    now.process().clone()
                });
                current.clone()
            }
            Of::Log => None,
        };
        self.stage = match process.map(|process| process.resume_from(self.place, options)) {
            Some(Ok(reader)) => Stage::Live(Box::new(reader)),
            Some(Err(gone)) => {
                tracing::warn!(%gone, "a reader of a log was overtaken");
                return self.over(Item::Cut);
            }
            None if matches!(self.of, Of::Log) => Stage::Over,
            None => Stage::Between(None),
        };
        None
    }

    async fn live(&mut self) -> Option<Item> {
        let Stage::Live(reader) = &mut self.stage else { return None };
        let event = match self.follow {
            true => reader.recv().await,
            // Whether something is there, not whether this task has had its share of the thread.
            false => match futures_util::FutureExt::now_or_never(tokio::task::unconstrained(reader.recv())) {
                Some(event) => event,
                None => return self.over(Item::Now),
            },
        };
        self.place = reader.cursor();
        match event {
            Some(end @ Event::End(_)) => {
                self.stage = Stage::Ended(end);
                None
            }
            Some(event) => Some(Item::Event(event)),
            None => self.over(Item::Over),
        }
    }

    fn over(&mut self, item: Item) -> Option<Item> {
        self.stage = Stage::Over;
        Some(item)
    }

    /// Its report, then the end, or the next incarnation.
    async fn ended(&mut self) -> Option<Item> {
        let Stage::Ended(end) = &self.stage else { return None };
        let end = end.clone();
        let process = match &self.of {
            Of::Process(process) => Some(process.clone()),
            Of::Service { current, .. } => current.clone(),
            Of::Log => None,
        };
        let Some(process) = process else { return self.over(Item::Event(end)) };
        let report = match self.follow {
            true => process.wait().await.ok(),
            false => view::report_now(&process),
        };
        let told = report.map(Item::Exit);
        self.stage = Stage::Between(Some(end));
        told
    }

    async fn between(&mut self) -> Option<Item> {
        let Stage::Between(end) = &self.stage else { return None };
        let last = |end: &Option<Event>| end.clone().map_or(Item::Over, Item::Event);
        let Of::Service { service, dir, generation, lived, .. } = &mut self.of else {
            let item = last(end);
            return self.over(item);
        };
        if !self.follow {
            return self.over(Item::Now);
        }
        // One that was still being made when its log was read to the end runs later: that is waited for too, once.
        let (seen, made) = (*generation, !*lived);
        let runs = |state| matches!(state, ServiceState::Unready | ServiceState::Running);
        let comes = move |now: &ServiceInspect| now.generation > seen || made && runs(now.state);
        match service.wait_for(move |now| comes(now) || now.state.is_settled()).await {
            Ok(now) if comes(&now) => {
                (*generation, *lived) = (now.generation, now.generation == seen);
                // One that has come and gone meanwhile is in the log, too.
                match LogReader::resume(dir, self.place, self.options) {
                    Ok(log) => self.stage = Stage::History(Box::new(log)),
                    Err(error) => {
                        tracing::warn!(%error, "a log cannot be read any more");
                        return self.over(Item::Cut);
                    }
                }
                None
            }
            _ => {
                let item = last(end);
                self.over(item)
            }
        }
    }
}

fn piece(chunk: LogChunk) -> Chunk {
    let place = chunk.cursor();
    let other = match chunk.source {
        Source::Stdout => Source::Stderr,
        Source::Stderr => Source::Stdout,
    };
    Chunk {
        stream: place.stream(),
        source: chunk.source,
        generation: place.generation(),
        offset: chunk.offset,
        other_offset: place.offset(other),
        seq: chunk.seq.unwrap_or(0),
        wall: chunk.wall.unwrap_or(std::time::SystemTime::UNIX_EPOCH),
        mono: chunk.mono.unwrap_or_default(),
        data: chunk.data,
    }
}

fn refused(error: &LogError) -> Failed {
    match (error.kind(), error.gone(), error.io_error()) {
        (LogErrorKind::Missing, ..) => failed(ProblemKind::State, "it has not been started: there is no log of it"),
        (_, Some(gone), _) => gone.into(),
        (_, _, Some(why)) => system("cannot read its log", why),
        _ => Problem::new(ProblemKind::System, error.to_string()).into(),
    }
}
