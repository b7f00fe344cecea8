//! `run --events FILE`: everything that happens, one JSON object a line, as it happens.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::thread::JoinHandle;

use orangery::Supervisor;
use orangery::events::{Events, Item, Since};

use crate::errors::Failure;

/// The thread that writes; a reader that is slow holds up nobody else.
#[derive(Debug)]
pub(crate) struct Told(JoinHandle<std::io::Result<()>>);

/// Where they go; opened before anything is made, so that a bad path is told before the command runs.
///
/// # Errors
/// It cannot be written.
pub(crate) fn open(path: Option<&Path>) -> Result<Option<File>, Failure> {
    let Some(path) = path else { return Ok(None) };
    let failed = |error| Failure::system(format!("cannot write {}", path.display()), &error).with_option("--events");
    File::create(path).map(Some).map_err(failed)
}

impl Told {
    /// Write what happens from now on.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn begin(supervisor: &Supervisor, file: File) -> Result<Self, Failure> {
        let events = supervisor.events(Since::Oldest);
        let thread = std::thread::Builder::new().name("events".into()).spawn(move || write(events, file));
        thread.map(Self).map_err(|error| Failure::system("cannot start a thread", &error))
    }

    /// The supervisor has ended: wait until everything is written.
    ///
    /// # Errors
    /// Not all of it could be.
    pub(crate) fn end(self) -> Result<(), Failure> {
        let written = self.0.join().map_err(|_| Failure::new("the thread that writes events failed"))?;
        written.map_err(|error| Failure::system("cannot write the events", &error).with_option("--events"))
    }
}

fn write(mut events: Events, mut file: File) -> std::io::Result<()> {
    while let Some(item) = orangery::block_on(events.recv()) {
        let mut line = match item {
            Item::Event(event) => serde_json::to_string(&*event)?,
            Item::Lagged { missed } => serde_json::json!({ "lagged": missed }).to_string(),
            _ => continue,
        };
        line.push('\n');
        file.write_all(line.as_bytes())?;
    }
    Ok(())
}
