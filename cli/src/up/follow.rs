//! The output of all services through all their incarnations, as lines: one task.
//!
//! The library's feed of many finds each incarnation when it is born, however soon it ends. Whoever watched the services themselves would
//! miss what comes and goes between two looks.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use orangery::events::{Kind, Since};
use orangery::follow::{Follow, FollowOptions, Item};
use orangery::stream::view::{LineOptions, Lines, Piece};
use orangery::{EventFilter, Overflow, ProcessId, SubscribeOptions, Supervisor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::build::Unit;
use super::screen::Tell;

/// A prompt is shown when nothing has come for so long.
const IDLE: Duration = Duration::from_millis(200);

/// Who shows them.
#[derive(Debug)]
pub(super) struct Followers {
    task: Option<JoinHandle<()>>,
}

impl Followers {
    /// Show what the containers of these write, from the first byte on. Before any of them is started.
    pub(super) fn start(supervisor: &Supervisor, units: &[Unit], screen: &mpsc::Sender<Tell>) -> Self {
        let usual = FollowOptions::default();
        // No byte is lost, and whoever writes waits for us.
        let output = SubscribeOptions { overflow: Overflow::block(Duration::MAX), ..usual.output };
        let options = FollowOptions { since: Since::Oldest, output, max_sources: usize::MAX, ..usual };
        let feed = supervisor.follow(EventFilter::new().kind("process_started"), options);
        let shown = units.iter().enumerate().map(|(number, unit)| (unit.id.clone(), Shown::new(number)));
        Self { task: Some(tokio::spawn(show(feed, shown.collect(), screen.clone()))) }
    }

    /// The supervisor ends: wait until everything is shown that was written.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub(super) async fn end(&mut self) {
        if let Some(task) = &mut self.task {
            // It is not aborted before, and does not panic.
            let _ = task.await;
            self.task = None;
        }
    }

    /// Show nothing any more: nobody waits for a reader of ours.
    pub(super) fn give_up(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// What one service writes.
struct Shown {
    unit: usize,
    lines: Lines,
    /// When it wrote last.
    heard: Instant,
    /// Those whose output has not ended, in the order of their births; the first one is shown.
    born: VecDeque<Incarnation>,
}

struct Incarnation {
    generation: u32,
    /// What has come of it before its turn.
    waits: VecDeque<Item>,
}

async fn show(mut feed: Follow, mut all: HashMap<String, Shown>, screen: mpsc::Sender<Tell>) {
    loop {
        let idle = all.values().filter_map(Shown::idle_at).min();
        let idle = async {
            match idle {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let mut tells = Vec::new();
        tokio::select! {
            item = feed.recv() => match item {
                Some(item) => take(&mut all, item, &mut tells),
                None => return,
            },
            () = idle => {
                let now = Instant::now();
                let due = all.values_mut().filter(|shown| shown.idle_at().is_some_and(|at| at <= now));
                due.for_each(|shown| shown.flush(&mut tells));
            }
        }
        for tell in tells {
            if screen.send(tell).await.is_err() {
                return;
            }
        }
    }
}

fn take(all: &mut HashMap<String, Shown>, item: Item, tells: &mut Vec<Tell>) {
    let member = match &item {
        Item::Event(event) => {
            let is_main = matches!(event.kind, Kind::ProcessStarted { .. }) && event.process == Some(ProcessId::MAIN);
            let container = event.container.as_deref().filter(|_| is_main);
            if let Some(shown) = container.and_then(|id| all.get_mut(id)) {
                shown.incarnation(event.generation);
            }
            return;
        }
        Item::Chunk { member, .. }
        | Item::Gap { member, .. }
        | Item::Closed { member, .. }
        | Item::Disconnected { member, .. }
        | Item::Gone { member, .. } => Arc::clone(member),
        _ => return,
    };
    if let Some(shown) = all.get_mut(&*member.container) {
        shown.take(member.generation, item, tells);
    }
}

impl Shown {
    fn new(unit: usize) -> Self {
        Self { unit, lines: lines(), heard: Instant::now(), born: VecDeque::new() }
    }

    /// When what it has written of a line is shown.
    fn idle_at(&self) -> Option<Instant> {
        self.lines.has_partial().then(|| self.heard + IDLE)
    }

    /// Its place in the order; one that was not heard of is the last.
    fn incarnation(&mut self, generation: u32) -> usize {
        self.born.iter().position(|one| one.generation == generation).unwrap_or_else(|| {
            self.born.push_back(Incarnation { generation, waits: VecDeque::new() });
            self.born.len() - 1
        })
    }

    fn take(&mut self, generation: u32, item: Item, tells: &mut Vec<Tell>) {
        let place = self.incarnation(generation);
        if let (1.., Some(later)) = (place, self.born.get_mut(place)) {
            later.waits.push_back(item);
            return;
        }
        let mut next = Some(item);
        while let Some(item) = next {
            self.show(item, tells);
            next = self.born.front_mut().and_then(|first| first.waits.pop_front());
        }
    }

    /// An item of the first one.
    fn show(&mut self, item: Item, tells: &mut Vec<Tell>) {
        match item {
            Item::Chunk { chunk, .. } => {
                self.heard = Instant::now();
                let mut piece = Piece::from(chunk);
                while let Some(line) = self.lines.next_from(&mut piece) {
                    tells.push(Tell::Line(self.unit, line));
                }
            }
            Item::Gap { gap, .. } => {
                while let Some(line) = self.lines.cut(gap.source) {
                    tells.push(Tell::Line(self.unit, line));
                }
                tells.push(Tell::Missing(self.unit, gap));
            }
            // Nothing more comes of it.
            _ => {
                self.flush(tells);
                self.lines = lines();
                self.born.pop_front();
            }
        }
    }

    fn flush(&mut self, tells: &mut Vec<Tell>) {
        while let Some(line) = self.lines.flush() {
            tells.push(Tell::Line(self.unit, line));
        }
    }
}

fn lines() -> Lines {
    Lines::new(LineOptions::default())
}
