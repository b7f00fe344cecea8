//! The feed of the supervisor: where each service is, everything in words, or everything as JSON. One task.

use std::collections::HashMap;

use orangery::ExitStatus;
use orangery::events::{Event, Events, Item, Kind};
use tokio::sync::mpsc;

use super::build::Unit;
use super::screen::{Mode, Tell};
use super::words;

/// What `up` shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    pub(super) mode: Mode,
    /// `--watch-events`.
    pub(super) events: bool,
}

/// See the file's head.
pub(super) struct News {
    view: View,
    units: HashMap<String, usize>,
    /// How the last incarnation of each has ended.
    exits: HashMap<String, ExitStatus>,
    screen: mpsc::Sender<Tell>,
}

impl News {
    pub(super) fn new(view: View, units: &[Unit], screen: &mpsc::Sender<Tell>) -> Self {
        let units = units.iter().enumerate().map(|(number, unit)| (unit.id.clone(), number)).collect();
        Self { view, units, exits: HashMap::new(), screen: screen.clone() }
    }

    /// Tell everything, until the supervisor ends.
    pub(super) async fn tell(mut self, mut events: Events) {
        while let Some(item) = events.recv().await {
            let told = match item {
                Item::Event(event) => self.event(&event).await,
                Item::Lagged { missed } => self.lagged(missed).await,
                _ => Ok(()),
            };
            if told.is_err() {
                return;
            }
        }
    }

    async fn event(&mut self, event: &Event) -> Result<(), mpsc::error::SendError<Tell>> {
        let container = event.container.as_deref();
        if let (Some(id), Kind::ContainerExited { exit }) = (container, &event.kind) {
            self.exits.insert(id.to_owned(), *exit);
        }
        if let (Some(id), Kind::ContainerFailed(_)) = (container, &event.kind) {
            self.exits.remove(id);
        }
        let last = container.and_then(|id| self.exits.get(id)).copied();
        if self.view.mode == Mode::Json {
            let text = serde_json::to_string(event).unwrap_or_default();
            return self.screen.send(Tell::Json(text)).await;
        }
        if self.view.events {
            self.screen.send(Tell::Note(words::event(event, last))).await?;
        }
        let unit = container.and_then(|id| self.units.get(id));
        match (unit, words::state(&event.kind, last)) {
            // In lines it has been told.
            (Some(unit), Some(state)) if !self.view.events || self.view.mode == Mode::Live => {
                self.screen.send(Tell::State(*unit, state)).await
            }
            _ => Ok(()),
        }
    }

    async fn lagged(&self, missed: u64) -> Result<(), mpsc::error::SendError<Tell>> {
        let tell = match self.view.mode {
            Mode::Json => Tell::Json(serde_json::json!({ "kind": "lagged", "missed": missed }).to_string()),
            _ => Tell::Note(format!("{missed} events were missed")),
        };
        self.screen.send(tell).await
    }
}
