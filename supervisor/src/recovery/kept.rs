//! The record of one container that outlives us: written by its own life and by those who change it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use orangery_runtime::durable;
use serde::Serialize;
use tokio::sync::{OwnedMutexGuard, RwLock, watch};

use super::dir::{StateDir, is_name};
use super::record::{ContainerRecord, Ended, ProcessRecord};
use super::{RECORD, REPORT, file};
use crate::command::Template;
use crate::container::slot::ContainerSlot;
use crate::container::state::State;
use crate::error::Error;
use crate::faults::Step;
use crate::ids::ProcessId;
use crate::process::begun::Note;
use crate::process::recording::LogTo;
use crate::process::slot::{Slot, Terms};
use crate::report::Report;

/// So many further processes that have ended are still known; of older ones the report and the log are removed.
const ENDED: usize = 64;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Kept {
    state: Arc<StateDir>,
    id: String,
    template: Template,
    generation: u32,
    of_service: bool,
    processes: Mutex<Processes>,
    /// What the runtime has said of it.
    runtime: Mutex<Option<durable::ContainerRecord>>,
    /// One writes at a time, and what is older never comes last; `true`: it has ended, and nothing comes any more. Held until the
    /// file is written, also where nobody waits for that any more.
    writing: Arc<tokio::sync::Mutex<bool>>,
    /// Its report was written. Held while it is, on a thread that may block or by a last word, for which nobody waits.
    reported: Arc<Mutex<bool>>,
    /// Its report is on the disk; `false` again when it was forgotten.
    retained: watch::Sender<bool>,
    /// Its directory is not there any more. Further processes write in it until then, and held for that: none comes behind it.
    forgotten: Arc<RwLock<bool>>,
}

/// Further ones.
#[derive(Debug, Default)]
struct Processes {
    alive: BTreeMap<ProcessId, (ProcessRecord, Terms)>,
    /// In the order in which they have ended.
    ended: Vec<ProcessId>,
}

impl Kept {
    /// Of a container that is to be made. `template` is [`Template::kept_in`] this directory.
    pub(crate) fn new(state: &Arc<StateDir>, template: &Template, generation: u32, of_service: bool) -> Self {
        Self {
            state: Arc::clone(state),
            id: template.id().to_owned(),
            template: template.clone(),
            generation,
            of_service,
            processes: Mutex::default(),
            runtime: Mutex::default(),
            writing: Arc::default(),
            reported: Arc::default(),
            retained: watch::Sender::new(false),
            forgotten: Arc::default(),
        }
    }

    /// Of one that was found; `ended`: with its report.
    pub(super) fn found(state: &Arc<StateDir>, record: &ContainerRecord, ended: bool) -> Self {
        let kept = Self::new(state, &record.template, record.generation, record.of_service);
        kept.runtime.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&record.runtime);
        kept.processes().alive = record.further.iter().map(|further| (further.0.number, further.clone())).collect();
        // Of most containers there never was one.
        if !ended && record.last_process > 0 {
            kept.processes().ended = reported(&kept.dir(), record.generation);
        }
        kept.retained.send_replace(ended);
        kept
    }

    /// The supervisor goes, and it stays as it is.
    pub(crate) fn is_left(&self) -> bool {
        self.state.is_left()
    }

    /// This is done for good.
    pub(crate) fn pass(&self, step: Step) {
        self.state.pass(step);
    }

    /// Where a further process of it writes, unless it has said so itself.
    pub(crate) fn log_of(&self, number: ProcessId) -> LogTo {
        let dir = self.dir().join("log").join(format!("{}-{number}", self.generation));
        LogTo { dir, options: self.state.log() }
    }

    pub(super) fn state(&self) -> &Arc<StateDir> {
        &self.state
    }

    fn dir(&self) -> PathBuf {
        self.state.container(&self.id)
    }

    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn it is to write.
    async fn turn(&self) -> OwnedMutexGuard<bool> {
        Arc::clone(&self.writing).lock_owned().await
    }

    /// Write down what it is now.
    ///
    /// # Errors
    /// What the system said, or its log is not open, as one that cannot be gone on with; the record that was there is still there.
    pub(crate) async fn write(&self, slot: &Arc<ContainerSlot>) -> Result<(), Error> {
        let over = self.turn().await;
        if *over {
            return Ok(());
        }
        let Some(record) = self.record(slot) else {
            let error = orangery_runtime::Error::new(orangery_runtime::ErrorKind::State, "its log is not open");
            return Err(error.with_field("durable").into());
        };
        let (path, state) = (self.dir().join(RECORD), Arc::clone(&self.state));
        self.blocking(move || {
            let _over = over;
            put(&state, &path, &record)
        })
        .await
    }

    /// It was not started after all: nothing is written down of it any more.
    pub(crate) async fn undo(&self) {
        let mut over = self.turn().await;
        *over = true;
        let (state, path) = (Arc::clone(&self.state), self.dir().join(RECORD));
        let removed = self.blocking(move || {
            let _over = over;
            state.remove(&path)
        });
        if let Err(error) = removed.await {
            tracing::warn!(container = %self.id, %error, "the record of a container that was not started stays");
        }
    }

    /// A further process has been started: it goes into the record.
    ///
    /// # Errors
    /// As for [`Kept::write`].
    pub(crate) async fn add(&self, owner: &Arc<ContainerSlot>, slot: &Slot, log: LogTo) -> Result<(), Error> {
        if let Some(record) = ProcessRecord::of(slot, &log) {
            self.processes().alive.insert(slot.number, (record, slot.terms()));
        }
        self.write(owner).await
    }

    /// Whatever is begun of this process's end is written down from now on.
    pub(crate) fn notes(self: &Arc<Self>, owner: &Arc<ContainerSlot>, slot: &Arc<Slot>) {
        let (kept, owner, of) = (Arc::clone(self), Arc::downgrade(owner), Arc::downgrade(slot));
        slot.noted_by(Note::new(move || {
            let (kept, both) = (Arc::clone(&kept), owner.upgrade().zip(of.upgrade()));
            Box::pin(async move {
                if let Some((owner, slot)) = both {
                    kept.note(&owner, &slot).await;
                }
            })
        }));
    }

    async fn note(&self, owner: &Arc<ContainerSlot>, slot: &Slot) {
        if let Some((record, _)) = self.processes().alive.get_mut(&slot.number) {
            record.begun = slot.begun();
        }
        if let Err(error) = self.write(owner).await {
            tracing::warn!(container = %self.id, process = %slot.number, %error, "a stop that is begun is not written down");
        }
    }

    fn record(&self, slot: &ContainerSlot) -> Option<ContainerRecord> {
        let log = self.template.parts().log.as_ref()?;
        let runtime = {
            let mut known = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
            // When it has ended it says no more.
            *known = slot.container.get().and_then(|container| container.record()).or_else(|| known.take());
            known.clone()
        };
        Some(ContainerRecord {
            runtime,
            paused: slot.state() == State::Paused,
            ready: slot.vitals().ready,
            notify: slot.notify.get().cloned(),
            template: self.template.clone(),
            generation: self.generation,
            of_service: self.of_service,
            create_us: slot.create_us.get().copied().unwrap_or_default(),
            limits: slot.limits(),
            watched: slot.watched.borrow().clone(),
            properties: slot.properties().all().clone(),
            main: ProcessRecord::of(&slot.main, log)?,
            further: self.processes().alive.values().cloned().collect(),
            last_process: slot.processes.last(),
        })
    }

    /// It has ended: its report stays until it is forgotten. Before anybody is told; `false`: it could not be written down.
    pub(crate) async fn ended(&self, slot: &Slot, report: &Arc<Report>) -> bool {
        let mut over = self.turn().await;
        *over = true;
        let ended = Ended::of(slot, report);
        let (path, state, reported) = (self.dir().join(REPORT), Arc::clone(&self.state), Arc::clone(&self.reported));
        let written = self.blocking(move || {
            let _over = over;
            put_once(&reported, &state, &path, &ended)
        });
        let written = written.await;
        self.note_end(written)
    }

    /// The same where nothing can be waited for. Whoever was to wait may have gone in the middle of it: what is written then stays.
    pub(crate) fn ended_at_once(&self, slot: &Slot, report: &Arc<Report>) {
        // Whoever has his turn now comes to its end; nobody else begins.
        if let Ok(mut over) = Arc::clone(&self.writing).try_lock_owned() {
            *over = true;
        }
        let ended = Ended::of(slot, report);
        let written = put_once(&self.reported, &self.state, &self.dir().join(REPORT), &ended);
        self.note_end(written.map_err(|error| unwritten(&error)));
    }

    fn note_end(&self, written: Result<(), Error>) -> bool {
        if let Err(error) = &written {
            tracing::error!(container = %self.id, %error, "its report is not written down");
        } else {
            self.pass(Step::Reported);
            self.retained.send_replace(true);
        }
        written.is_ok()
    }

    /// A further process of it has ended; `false`: that could not be written down. Of a container that was forgotten meanwhile nobody
    /// can ask for it, and nothing is.
    pub(crate) async fn process_ended(&self, slot: &Slot, report: &Arc<Report>) -> bool {
        let number = slot.number;
        let forgotten = Arc::clone(&self.forgotten).read_owned().await;
        if *forgotten {
            return true;
        }
        let old = {
            let mut processes = self.processes();
            processes.alive.remove(&number);
            processes.ended.push(number);
            (processes.ended.len() > ENDED).then(|| processes.ended.remove(0))
        };
        let (path, ended) = (self.report_path(number), Ended::of(slot, report));
        let old = old.map(|old| (self.report_path(old), self.log_of(old).dir));
        let state = Arc::clone(&self.state);
        let written = self.blocking(move || {
            let _there = forgotten;
            for path in old.iter().flat_map(|(report, log)| [log, report]) {
                state.remove(path)?;
            }
            put(&state, &path, &ended)
        });
        let written = written.await;
        if let Err(error) = &written {
            tracing::error!(container = %self.id, %number, %error, "a report is not written down");
        }
        written.is_ok()
    }

    /// The report of a further process that has ended.
    pub(crate) async fn report_of(&self, number: ProcessId) -> Option<Report> {
        let path = self.report_path(number);
        let read = tokio::task::spawn_blocking(move || file::read::<Ended>(&path)).await;
        Some(read.ok()?.ok()?.report)
    }

    fn report_path(&self, number: ProcessId) -> PathBuf {
        self.state.report_of(&self.id, self.generation, number)
    }

    /// Its report, its log and its id are given up; nothing happens to one that has not ended.
    pub(crate) async fn forget(&self) -> Result<bool, Error> {
        if !self.is_retained() {
            return Ok(false);
        }
        let (state, dir) = (Arc::clone(&self.state), self.dir());
        let mut forgotten = Arc::clone(&self.forgotten).write_owned().await;
        let removed = self.blocking(move || {
            let removed = state.remove(&dir)?;
            *forgotten = true;
            Ok(removed)
        });
        let removed = removed.await?;
        self.retained.send_replace(false);
        Ok(removed)
    }

    /// Its report is there for whoever comes.
    pub(crate) fn is_retained(&self) -> bool {
        *self.retained.borrow()
    }

    /// Ready when it was forgotten, or was never to be retained.
    pub(crate) async fn until_forgotten(&self) {
        let mut retained = self.retained.subscribe();
        // Its sender is in this.
        let _ = retained.wait_for(|retained| !retained).await;
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        if self.is_left() {
            return Err(Error::shut_down());
        }
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| Error::lost_request())?.map_err(|error| unwritten(&error))
    }
}

/// Further processes of this incarnation whose reports are in the directory of its container, the oldest first. Blocks as file
/// operations do.
fn reported(dir: &Path, generation: u32) -> Vec<ProcessId> {
    let prefix = format!("{generation}-");
    let number = |name: &str| name.strip_prefix(&prefix)?.strip_suffix(".json")?.parse().ok().map(ProcessId);
    let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut numbers: Vec<_> = names.filter_map(|name| number(name.to_str()?)).collect();
    numbers.sort_unstable();
    numbers
}

/// Write one file of a container, whose directory is made by its log unless that lies elsewhere.
fn put(state: &StateDir, path: &Path, what: &impl Serialize) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    state.write(path, what)
}

/// Write the first report; a second one is not.
fn put_once(reported: &Mutex<bool>, state: &StateDir, path: &Path, report: &impl Serialize) -> io::Result<()> {
    let mut reported = reported.lock().unwrap_or_else(PoisonError::into_inner);
    if !*reported {
        put(state, path, report)?;
        *reported = true;
    }
    Ok(())
}

/// Something cannot be written down.
pub(crate) fn unwritten(error: &io::Error) -> Error {
    let errno = io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(0));
    let what = format!("cannot write a record: {error}");
    orangery_runtime::Error::system(what, errno).with_field("durable").into()
}

impl Template {
    /// As it is kept there: it has a name and a log.
    ///
    /// # Errors
    /// Everything of it that cannot be written down, by field; an id that is no name.
    pub(crate) fn kept_in(mut self, state: &StateDir, name: impl FnOnce() -> String) -> Result<Self, Error> {
        self = self.named(name);
        if !is_name(self.id()) {
            let why = "letters, digits, '.', '_' and '-', a letter or digit first, at most 128 of them";
            return Err(Error::invalid("id", why));
        }
        let mut refused = self.sandbox().inner.spec.unrecordable();
        refused.extend(self.parts().process.unrecordable());
        if self.sandbox().inner.keep_files {
            let why = "files are kept by descriptors, which do not outlive this process";
            let error = orangery_runtime::Error::new(orangery_runtime::ErrorKind::Unsupported, why);
            refused.push(error.with_field("keep_files"));
        }
        Error::all(refused)?;
        if self.parts().log.is_none() {
            let dir = state.container(self.id()).join("log").join("main");
            self.log_to(LogTo { dir, options: state.log() });
        }
        // A path that is no UTF-8 is found here, and not when it has started.
        file::encode(&self)
            .map_err(|error| Error::invalid("durable", format!("it cannot be written down: {error}")))?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use orangery_io_stream::log::LogOptions;

    use super::*;

    #[test]
    fn the_first_report_that_is_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let state = StateDir::open(dir.path(), LogOptions::default(), false).unwrap();
        let (reported, path) = (Mutex::new(false), dir.path().join("containers/a/report.json"));
        fs::write(dir.path().join("containers/a"), "no directory").unwrap();
        put_once(&reported, &state, &path, &"cannot").unwrap_err();
        fs::remove_file(dir.path().join("containers/a")).unwrap();
        for report in ["first", "second"] {
            put_once(&reported, &state, &path, &report).unwrap();
            assert_eq!(file::read::<String>(&path).unwrap(), "first");
        }
    }

    #[test]
    fn reports_of_further_processes_are_found_by_their_incarnation() {
        let dir = tempfile::tempdir().unwrap();
        assert!(reported(&dir.path().join("none"), 1).is_empty());
        for name in ["1-10.json", "1-9.json", "1-2.json", "1-3.new", "11-4.json", "2-5.json", "1-.json", RECORD, REPORT]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(reported(dir.path(), 1), [2, 9, 10].map(ProcessId));
    }
}
