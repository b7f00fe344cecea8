//! The state directory: whose it is, which version, and what lies where.
//!
//! ```text
//! DIR/lock                         held (flock) by its supervisor, whose number stands in it
//!     version                      how all of this is written
//!     runtime/                     the runtime's own: the keeper's door
//!     containers/ID/record.json    what is needed to have it again
//!                  /report.json    it has ended, and how
//!                  /log/main/      what it wrote
//!                  /log/G-N/       what the further process N of its incarnation G wrote
//!     services/ID.json             what it is, and how far it has come
//!     groups/NAME.json             what their members are, and what is wanted of them
//!     aside/                       records that nobody understands, as they were
//!     gone/                        what is being removed
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use orangery_io_stream::log::LogOptions;
use orangery_runtime::{Error as RuntimeError, ErrorKind};
use rustix::fs::{FlockOperation, OFlags, flock};
use serde::Serialize;

use super::file;
use crate::error::Error;
use crate::faults::{Faults, Site, Step};
use crate::ids::ProcessId;

/// The field that a refusal names.
const FIELD: &str = "durable";
/// How this program writes a state directory.
const VERSION: u32 = 1;
const ROOMS: [&str; 6] = ["runtime", "containers", "services", "groups", "aside", "gone"];

/// A state directory that is ours as long as this lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    root: PathBuf,
    /// Until the supervisor has ended.
    lock: Mutex<Option<File>>,
    sync: bool,
    /// Of processes that say nothing of a log.
    log: LogOptions,
    /// We go, and everything else stays: nothing is to be ended or written down any more.
    leaving: AtomicBool,
    names: AtomicU64,
    /// Asked at each step that is for good.
    faults: Faults,
}

fn refused(kind: ErrorKind, what: impl Into<String>, hint: &str) -> Error {
    RuntimeError::new(kind, what).with_field(FIELD).with_hint(hint).into()
}

fn failed(what: &str, path: &Path) -> impl Fn(io::Error) -> Error {
    let what = format!("cannot {what} {}", path.display());
    move |error| RuntimeError::system(what.clone(), error).with_field(FIELD).into()
}

/// Whether this can name something of ours in a directory: as the id of a container.
pub(crate) fn is_name(id: &str) -> bool {
    let mut bytes = id.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    first && id.len() <= 128 && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl StateDir {
    /// Make it, or take over what an earlier supervisor has left. Blocks as file operations do.
    ///
    /// # Errors
    /// [`ErrorKind::State`](crate::ErrorKind::State) while another supervisor has it, which is named;
    /// [`ErrorKind::Permission`](crate::ErrorKind::Permission) where others can enter it;
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) where something else is kept there;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for that of another version.
    pub(crate) fn open(root: &Path, log: LogOptions, sync: bool) -> Result<Self, Error> {
        let root = std::path::absolute(root).map_err(failed("find", root))?;
        private(&root)?;
        // Before the first file of ours is made in what is somebody else's.
        let known = is_ours(&root)?;
        let lock = lock(&root)?;
        check_version(&root, known, sync)?;
        for room in ROOMS {
            let path = root.join(room);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed("make", &path)(error)),
                _ => {}
            }
        }
        let (leaving, names) = (AtomicBool::new(false), AtomicU64::new(0));
        let lock = Mutex::new(Some(lock));
        let state = Self { root, lock, sync, log, leaving, names, faults: Faults::default() };
        // What the last one has not come to the end of.
        for entry in fs::read_dir(state.root.join("gone")).into_iter().flatten().flatten() {
            erase(&entry.path());
        }
        Ok(state)
    }

    pub(super) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The runtime's own room.
    pub(crate) fn runtime(&self) -> PathBuf {
        self.root.join("runtime")
    }

    /// Where the end of a further process is written.
    pub(super) fn report_of(&self, id: &str, generation: u32, number: ProcessId) -> PathBuf {
        self.container(id).join(format!("{generation}-{number}.json"))
    }

    /// Of one container.
    pub(super) fn container(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    pub(super) fn services(&self) -> PathBuf {
        self.root.join("services")
    }

    pub(super) fn groups(&self) -> PathBuf {
        self.root.join("groups")
    }

    pub(crate) fn log(&self) -> LogOptions {
        self.log
    }

    /// Ask these at each step.
    pub(crate) fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// This is done for good: where a test is killed.
    pub(crate) fn pass(&self, step: Step) {
        self.faults.ask(Site::Record(step));
    }

    /// Write down what it is now, in the place of what is there.
    pub(super) fn write<T: Serialize>(&self, path: &Path, record: &T) -> io::Result<()> {
        file::write(path, record, self.sync, |step| self.pass(step))
    }

    /// From now on nothing is ended because we go.
    pub(crate) fn leave(&self) {
        if !self.leaving.swap(true, Ordering::AcqRel) {
            self.pass(Step::Leaving);
        }
    }

    pub(crate) fn is_left(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// The next one may come, whoever still holds a handle of ours.
    pub(crate) fn release(&self) {
        self.leave();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Away from where it is looked for, as it is; where it lies then.
    pub(super) fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let name = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().replace('/', "-");
        let place = self.root.join("aside").join(format!("{name}.{}", self.unique()));
        fs::rename(path, &place).map(|()| place)
    }

    /// Gone from one moment to the next, whatever is in it; `false`: it was not there.
    pub(super) fn remove(&self, path: &Path) -> io::Result<bool> {
        let place = self.root.join("gone").join(self.unique());
        match fs::rename(path, &place) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            moved => moved?,
        }
        self.pass(Step::Moved);
        erase(&place);
        self.pass(Step::Removed);
        Ok(true)
    }

    /// For a file that has a name for a moment; it goes with the next start, where it is killed in that.
    pub(super) fn nameless(&self) -> PathBuf {
        self.root.join("gone").join(self.unique())
    }

    /// What nothing in `aside` or `gone` is called.
    fn unique(&self) -> String {
        let count = self.names.fetch_add(1, Ordering::Relaxed);
        format!("{:012x}-{count}", crate::supervisor::random() >> 16)
    }
}

fn erase(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = removed {
        tracing::warn!(%error, path = %path.display(), "it stays until the next start");
    }
}

/// The directory itself, which nobody else enters.
fn private(root: &Path) -> Result<(), Error> {
    if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(root) {
        return Err(failed("make", root)(error));
    }
    let meta = fs::metadata(root).map_err(failed("look at", root))?;
    if meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        let what = format!("{} is not a directory that only this user can enter", root.display());
        return Err(refused(ErrorKind::Permission, what, "chmod 0700"));
    }
    Ok(())
}

/// There is a version in it; else it is empty but for a lock.
fn is_ours(root: &Path) -> Result<bool, Error> {
    let names = fs::read_dir(root).map_err(failed("read", root))?.flatten().map(|entry| entry.file_name());
    let names: Vec<_> = names.collect();
    let known = names.iter().any(|name| name == "version");
    if !known && names.iter().any(|name| name != "lock" && name != "version.new") {
        let what = format!("there is something else in {}, and no version", root.display());
        return Err(refused(ErrorKind::Invalid, what, "a directory of its own"));
    }
    Ok(known)
}

/// So long a lock is waited for whose holder is gone: it was killed while a child of it, of which nobody tells, was between its fork and
/// its exec, and has the file until then.
const ITS_CHILD: Duration = Duration::from_secs(2);

/// There is no process of this number.
fn is_gone(holder: &str) -> bool {
    let holder = holder.trim().parse().ok().and_then(rustix::process::Pid::from_raw);
    holder.is_some_and(|holder| rustix::process::test_kill_process(holder) == Err(rustix::io::Errno::SRCH))
}

#[expect(clippy::disallowed_methods, reason = "nobody tells of a child's exec; see `ITS_CHILD`")]
fn lock(root: &Path) -> Result<File, Error> {
    let path = root.join("lock");
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(&path);
    let mut file = opened.map_err(failed("open", &path))?;
    let until = Instant::now() + ITS_CHILD;
    while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(failed("lock", &path)(error.into()));
        }
        let mut holder = String::new();
        let _ = file.rewind().and_then(|()| (&file).take(16).read_to_string(&mut holder));
        if Instant::now() >= until || !is_gone(&holder) {
            let what = format!("process {} supervises what is in {}", holder.trim(), root.display());
            return Err(refused(ErrorKind::State, what, "another directory, or end that one first"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(failed("write", &path))?;
    Ok(file)
}

/// With the lock: another one may have been quicker than [`is_ours`].
fn check_version(root: &Path, known: bool, sync: bool) -> Result<(), Error> {
    let path = root.join("version");
    match understood(root) {
        Ok(false) if !known => {
            file::replace(&path, format!("{VERSION}\n").as_bytes(), sync, |_| ()).map_err(failed("write", &path))
        }
        Ok(false) => Err(failed("read", &path)(io::ErrorKind::NotFound.into())),
        other => other.map(drop),
    }
}

/// Whether this program can read what is there, which it does not touch; `false`: nobody has written anything there.
pub(crate) fn understood(root: &Path) -> Result<bool, Error> {
    let path = root.join("version");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        text => text.map_err(failed("read", &path))?,
    };
    match text.trim().parse::<u32>() {
        Ok(VERSION) => Ok(true),
        // Version 1 is the first: there is nothing to migrate from.
        Ok(other) => {
            let what = format!("{} was written as version {other}; this program knows {VERSION}", root.display());
            let hint = "the program that has written it, or another directory: what runs in it is left as it is";
            Err(refused(ErrorKind::Unsupported, what, hint))
        }
        Err(_) => {
            let what = format!("{} says nothing that is a version", path.display());
            Err(refused(ErrorKind::Invalid, what, "a directory of its own"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::error::ErrorKind;

    fn open(root: &Path) -> Result<StateDir, Error> {
        StateDir::open(root, LogOptions::default(), false)
    }

    fn private_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        dir
    }

    #[test]
    fn one_supervisor_has_it_at_a_time() {
        let dir = private_dir();
        let root = dir.path().join("made");
        let state = open(&root).unwrap();
        let error = open(&root).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::State, Some("durable")));
        assert!(error.to_string().contains(&format!("process {} ", std::process::id())), "{error}");
        drop(state);
        open(&root).unwrap();
    }

    #[test]
    fn a_lock_that_outlives_its_holder_is_waited_for() {
        let dir = private_dir();
        let root = dir.path().join("made");
        drop(open(&root).unwrap());
        let path = root.join("lock");
        // No process has this number (PID_MAX_LIMIT).
        fs::write(&path, "4194305\n").unwrap();
        let child = File::open(&path).unwrap();
        flock(&child, FlockOperation::LockExclusive).unwrap();
        std::thread::scope(|scope| {
            let next = scope.spawn(|| open(&root));
            drop(child);
            next.join().unwrap().unwrap();
        });
        // It does not end.
        let child = File::open(&path).unwrap();
        fs::write(&path, "4194305\n").unwrap();
        flock(&child, FlockOperation::LockExclusive).unwrap();
        assert_eq!(open(&root).unwrap_err().kind(), ErrorKind::State);
    }

    #[test]
    fn what_is_not_ours_is_refused_and_left() {
        let dir = private_dir();
        fs::write(dir.path().join("precious"), "x").unwrap();
        let error = open(dir.path()).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("durable")));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let open_to_all = private_dir();
        fs::set_permissions(open_to_all.path(), Permissions::from_mode(0o755)).unwrap();
        assert_eq!(open(open_to_all.path()).unwrap_err().kind(), ErrorKind::Permission);
        let error = open(Path::new("/dev/null/x")).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::NotFound, Some("durable")));
    }

    #[test]
    fn another_version_is_refused_in_words() {
        for (text, kind) in [("2\n", ErrorKind::Unsupported), ("0", ErrorKind::Unsupported), ("x", ErrorKind::Invalid)]
        {
            let dir = private_dir();
            fs::write(dir.path().join("version"), text).unwrap();
            let error = open(dir.path()).unwrap_err();
            assert_eq!((error.kind(), error.field()), (kind, Some("durable")), "{error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn what_is_removed_is_gone_also_after_a_crash_half_way() {
        let dir = private_dir();
        let state = open(dir.path()).unwrap();
        fs::create_dir_all(state.container("a").join("log")).unwrap();
        assert!(state.remove(&state.container("a")).unwrap());
        assert!(!state.remove(&state.container("a")).unwrap());
        fs::create_dir_all(dir.path().join("gone/half/way")).unwrap();
        drop(state);
        open(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("gone")).unwrap().count(), 0);
    }

    #[test]
    fn names_lead_nowhere_else() {
        for good in ["a", "A.b-c_9", &"x".repeat(128)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "-a", "a\0", "ä", &"x".repeat(129)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
