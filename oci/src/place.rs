//! Where containers are written down: a directory for each below `--root`.
//!
//! ```text
//!   ID/state.json   the record, whole or not at all, and a line each time that more is known
//!   ID/gate         FIFO: the command of a container that was made waits at its reading end
//!   ID/report       FIFO: and tells at this one, if it does not come to its exec
//!   ID/unwanted     somebody waits to remove it: who makes it gives up
//! ```
//!
//! Who begins or ends a container has its directory locked (flock(2)), which a killed command lets go; so it is while programs of the bundle
//! run which the container waits for, but for those that want to end it: they have its first process killed, which ends such a program as
//! well. Changes of one that lives lock its record, for moments. A container whose directory has no record, or a record without a process,
//! was in the making when its command was killed.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::Timespec;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::container::pause;
use crate::failure::Failure;
use crate::record::{Progress, Record};

/// How often a lock is tried that others have, each time a little later up to 50 ms: some fifteen seconds in all.
const TRIES: i64 = 310;
/// The same of who lets go of it soon or not at all.
const SOON: i64 = 20;
/// The one directory in that of a container: see `notify`.
pub(crate) const NOTIFY: &str = "notify";

/// Root of a user namespace that an ordinary user has made, as podman does: /run is the machine's there. One that says that its name is
/// root may be in a container with a /run of its own (runc's rule).
fn is_root_of_users() -> bool {
    std::env::var_os("USER").is_none_or(|user| user != "root") && !orangery_runtime::sys::has_all_ids()
}

/// The directory of all containers.
#[derive(Debug)]
pub(crate) struct Place {
    root: PathBuf,
}

impl Place {
    /// What was asked for, or where this user's containers are.
    ///
    /// # Errors
    /// An ordinary user without XDG_RUNTIME_DIR has no such place.
    pub(crate) fn of(asked: Option<&Path>) -> Result<Place, Failure> {
        let runtime = || std::env::var_os("XDG_RUNTIME_DIR").filter(|runtime| !runtime.is_empty()).map(PathBuf::from);
        let root = match asked {
            Some(asked) => std::path::absolute(asked)
                .map_err(|error| Failure::system(format!("--root {}", asked.display()), error))?,
            None if rustix::process::geteuid().is_root() => {
                runtime().filter(|_| is_root_of_users()).unwrap_or_else(|| PathBuf::from("/run")).join("orangery-oci")
            }
            None => runtime()
                .ok_or_else(|| Failure::new("--root is needed: XDG_RUNTIME_DIR is not set"))?
                .join("orangery-oci"),
        };
        Ok(Place { root })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Make the directory of a new container, whose id was [checked](check), and lock it.
    ///
    /// # Errors
    /// The container exists.
    pub(crate) fn make(&self, id: &str) -> Result<Room, Failure> {
        let failed = |error| Failure::system(format!("cannot make {}", self.root.display()), error);
        rustix::process::umask(Mode::from_raw_mode(0o022));
        fs::create_dir_all(&self.root).map_err(failed)?;
        trusted(&self.root)?;
        let path = self.root.join(id);
        match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o711)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Failure::new(format!("container with id exists: {id}"))),
            Err(error) => return Err(Failure::system(format!("cannot make {}", path.display()), error)),
        }
        // Whoever deletes it in between finds it empty, and we find it gone.
        let room = Room::open(&self.root, id)?.lock()?;
        room.is_there().then_some(room).ok_or_else(Failure::no_such_container)
    }

    /// The directory of a container that is there, as it is.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn find(&self, id: &str) -> Result<Room, Failure> {
        check(id)?;
        Room::open(&self.root, id)
    }

    /// All that are there, by name.
    ///
    /// # Errors
    /// They cannot be listed.
    pub(crate) fn all(&self) -> Result<Vec<Room>, Failure> {
        let failed = |error| Failure::system(format!("cannot list {}", self.root.display()), error);
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        trusted(&self.root)?;
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names.iter().filter_map(|name| self.find(name).ok()).collect())
    }
}

/// The library's rule for ids of bundles, which is also a file name: runc's, and no longer than a name may be.
///
/// # Errors
/// It is no id.
pub(crate) fn check(id: &str) -> Result<(), Failure> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    if (1..=128).contains(&id.len()) && !matches!(id, "." | "..") && id.chars().all(good) {
        return Ok(());
    }
    let rule = "a container ID is 1 to 128 of A-Z a-z 0-9 . _ + -, but neither . nor ..";
    let why = id.chars().find(|c| !good(*c)).map(|c| format!("invalid character `{}` in the ID; ", c.escape_debug()));
    Err(Failure::new(format!("invalid container id format: {id:?} ({}{rule})", why.unwrap_or_default())))
}

/// The directory of one container.
#[derive(Debug)]
pub(crate) struct Room {
    path: PathBuf,
    id: String,
    dir: OwnedFd,
    /// Locked by us.
    changes: Option<OwnedFd>,
}

/// Whether a directory could be locked.
#[derive(Debug)]
pub(crate) enum Lock {
    Ours(Room),
    /// Somebody else begins or ends the container.
    Others(Room),
}

impl Room {
    fn open(root: &Path, id: &str) -> Result<Room, Failure> {
        trusted(root)?;
        let path = root.join(id);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(dir) => {
                believable(&dir, &path)?;
                Ok(Room { path, id: id.to_owned(), dir, changes: None })
            }
            Err(Errno::NOENT) => Err(Failure::no_such_container()),
            Err(error) => Err(Failure::system(format!("cannot open {}", path.display()), error)),
        }
    }

    /// Nobody else begins or ends it, until this is dropped. Waited for, but not for ever.
    ///
    /// # Errors
    /// It was removed meanwhile; somebody else does not come to an end.
    pub(crate) fn lock(self) -> Result<Room, Failure> {
        self.lock_with(|_| ())
    }

    /// The same, and whoever has it goes on if he was stopped: a hook may do so to the command that waits for it, and nobody else would
    /// let it go on.
    ///
    /// # Errors
    /// As [`Room::lock`].
    pub(crate) fn lock_waking(self) -> Result<Room, Failure> {
        self.lock_with(Self::wake)
    }

    fn lock_with(mut self, waits: impl Fn(&Self)) -> Result<Room, Failure> {
        for tries in 0..TRIES {
            match self.try_lock()? {
                Lock::Ours(room) => return Ok(room),
                Lock::Others(room) => self = room,
            }
            waits(&self);
            pause_before(tries);
        }
        Err(Failure::new(format!("another command that begins or ends container {} does not come to an end", self.id)))
    }

    /// Tell who has it locked to go on. The kernel says by which number who that is (proc_locks(5)); only who has our directory open is meant.
    fn wake(&self) {
        let Ok(ours) = rustix::fs::fstat(&self.dir) else { return };
        let is_ours = |stat: &rustix::fs::Stat| (stat.st_dev, stat.st_ino) == (ours.st_dev, ours.st_ino);
        let inode = format!(":{}", ours.st_ino);
        for line in fs::read_to_string("/proc/locks").unwrap_or_default().lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let &[_, "FLOCK", _, _, number, file, ..] = words.as_slice() else { continue };
            let pid = number.parse().ok().filter(|number| *number > 0).and_then(Pid::from_raw);
            let Some(pid) = pid.filter(|_| file.ends_with(&inode)) else { continue };
            // Before its files are looked at: whoever has the number afterwards is not sent anything.
            let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            let files = fs::read_dir(format!("/proc/{number}/fd")).into_iter().flatten().flatten();
            if files.filter_map(|file| rustix::fs::stat(file.path()).ok()).any(|stat| is_ours(&stat)) {
                let _ = pidfd_send_signal(pidfd, Signal::CONT);
            }
        }
    }

    /// The same within some 200 ms: who has just said that it is made lets go of it at once.
    ///
    /// # Errors
    /// It was removed meanwhile.
    pub(crate) fn lock_soon(mut self) -> Result<Lock, Failure> {
        for tries in 1..SOON {
            match self.try_lock()? {
                Lock::Others(room) => self = room,
                ours => return Ok(ours),
            }
            pause(Timespec { tv_sec: 0, tv_nsec: tries * 1_000_000 });
        }
        self.try_lock()
    }

    /// The same, without waiting.
    ///
    /// # Errors
    /// It was removed meanwhile.
    pub(crate) fn try_lock(self) -> Result<Lock, Failure> {
        match rustix::io::retry_on_intr(|| flock(&self.dir, FlockOperation::NonBlockingLockExclusive)) {
            Ok(()) if self.is_there() => Ok(Lock::Ours(self)),
            Ok(()) => Err(Failure::no_such_container()),
            Err(Errno::WOULDBLOCK) => Ok(Lock::Others(self)),
            Err(error) => Err(Failure::system(format!("cannot lock {}", self.path.display()), error)),
        }
    }

    /// Let others begin or end it.
    pub(crate) fn unlock(&self) {
        let _ = flock(&self.dir, FlockOperation::Unlock);
    }

    /// Nobody else changes it, until this is dropped. Waited for, but not for ever: nobody does so for long.
    ///
    /// # Errors
    /// It was removed meanwhile; somebody else does not come to an end.
    pub(crate) fn change(mut self) -> Result<Room, Failure> {
        self.changes = Some(self.lock_changes()?);
        if self.is_there() { Ok(self) } else { Err(Failure::no_such_container()) }
    }

    /// Nobody else changes it, as long as this is there. Waited for as [`Room::change`].
    ///
    /// # Errors
    /// Nothing is written down of it; somebody else does not come to an end.
    pub(crate) fn lock_changes(&self) -> Result<OwnedFd, Failure> {
        let failed = |error| Failure::system("cannot lock what is written down of the container", error);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.dir, "state.json", flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Err(Failure::no_such_container()),
            Err(error) => return Err(failed(error)),
        };
        for tries in 0..TRIES {
            match rustix::io::retry_on_intr(|| flock(&file, FlockOperation::NonBlockingLockExclusive)) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK) => pause_before(tries),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(Failure::new(format!("another command that changes container {} does not come to an end", self.id)))
    }

    /// Who makes it is to give up as soon as it comes to look.
    ///
    /// # Errors
    /// There is no space, or no right.
    pub(crate) fn unwant(&self) -> Result<(), Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.dir, "unwanted", flags, Mode::from_raw_mode(0o600)) {
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(Failure::system(format!("cannot write in {}", self.path.display()), error)),
        }
    }

    /// Somebody waits to remove it.
    pub(crate) fn is_unwanted(&self) -> bool {
        rustix::fs::statat(&self.dir, "unwanted", rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// The directory that we have open is still the one of that name.
    fn is_there(&self) -> bool {
        match (rustix::fs::fstat(&self.dir), rustix::fs::lstat(&self.path)) {
            (Ok(ours), Ok(there)) => (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino),
            _ => false,
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// What is written down; `None`: nothing yet.
    ///
    /// # Errors
    /// It cannot be read, or is of another version.
    pub(crate) fn record(&self) -> Result<Option<Record>, Failure> {
        let path = self.path.join("state.json");
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mut text = Vec::new();
        let read = match rustix::fs::openat(&self.dir, "state.json", flags, Mode::empty()) {
            Ok(file) => fs::File::from(file).read_to_end(&mut text),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => Err(error.into()),
        };
        read.map_err(|error| Failure::system(format!("cannot read {}", path.display()), error))?;
        let wrong = |why: String| Failure::new(format!("{} is no record of ours: {why}", path.display()));
        let record = Record::parse(&text).map_err(wrong)?;
        // Somebody has moved the directory.
        if record.id != self.id {
            return Err(wrong(format!("it is that of container {}", record.id.escape_debug())));
        }
        Ok(Some(record))
    }

    /// Write it down, whole or not at all.
    ///
    /// # Errors
    /// There is no space, or no right.
    pub(crate) fn write(&self, record: &Record) -> Result<(), Failure> {
        replace(&self.path.join("state.json"), &record.line()?, 0o600)
    }

    /// Add to what was written down how far it has come by now.
    ///
    /// # Errors
    /// As [`Room::write`].
    pub(crate) fn add(&self, progress: &Progress) -> Result<(), Failure> {
        let failed = |error| Failure::system(format!("cannot write {}", self.path.join("state.json").display()), error);
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.dir, "state.json", flags, Mode::empty());
        let file = file.map_err(|error| failed(error.into()))?;
        fs::File::from(file).write_all(&progress.line()?).map_err(failed)
    }

    /// Remove it: files first, so that one that was cut short is a container that was in the making.
    ///
    /// # Errors
    /// It cannot be removed; gone already is none.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        let failed = |error| Failure::system(format!("cannot remove {}", self.path.display()), error);
        // The keeper has done so, and another container may have the name by now.
        if !self.is_there() {
            return Ok(());
        }
        for _ in 0..TRIES {
            match fs::read_dir(&self.path) {
                Ok(entries) => {
                    for entry in entries {
                        let path = entry.map_err(failed)?.path();
                        let removed = match path.file_name() == Some(NOTIFY.as_ref()) {
                            true => fs::remove_dir_all(path),
                            false => fs::remove_file(path),
                        };
                        gone_is_fine(removed).map_err(failed)?;
                    }
                }
                // The keeper of a command that was killed is faster.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(error)),
            }
            match fs::remove_dir(&self.path) {
                // Another one wants it removed as well, and has just said so in there.
                Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
                removed => return gone_is_fine(removed).map_err(failed),
            }
        }
        Err(failed(Errno::NOTEMPTY.into()))
    }
}

/// Who can rename in there says which container is meant by a name.
fn trusted(root: &Path) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(root, flags, Mode::empty()) {
        Ok(dir) => whose(&dir, root, true),
        Err(Errno::NOENT) => Err(Failure::no_such_container()),
        Err(error) => Err(Failure::system(format!("cannot open {}", root.display()), error)),
    }
}

/// Who can write in there says whom `kill` and `delete` end. In a place that all can write to, as /tmp is, that may be anybody.
fn believable(dir: &OwnedFd, path: &Path) -> Result<(), Failure> {
    whose(dir, path, false)
}

/// Nobody but root and us changes what is in there; where each may add what is his alone (sticky), that may be enough.
fn whose(dir: &OwnedFd, path: &Path, sticky_will_do: bool) -> Result<(), Failure> {
    let failed = |error| Failure::system(format!("cannot look at {}", path.display()), error);
    let stat = rustix::fs::fstat(dir).map_err(failed)?;
    let ours = [rustix::process::geteuid().as_raw(), 0].contains(&stat.st_uid);
    let sticky = sticky_will_do && stat.st_mode & 0o1000 != 0;
    let why = match (ours, stat.st_mode & 0o022) {
        (true, mode) if mode == 0 || sticky => return Ok(()),
        (true, _) => "can be written to by others".to_owned(),
        (false, _) => format!("belongs to user {}", stat.st_uid),
    };
    Err(Failure::new(format!("{} {why}: what it says of a container is not believed", path.display())))
}

/// Whoever has a lock tells nobody when he is done.
fn pause_before(tries: i64) {
    pause(Timespec { tv_sec: 0, tv_nsec: tries.min(50) * 1_000_000 });
}

fn gone_is_fine(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Put `text` into the file `path`: nobody sees half of it.
///
/// # Errors
/// It cannot be written.
pub(crate) fn replace(path: &Path, text: &[u8], mode: u32) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |error| Failure::system(format!("cannot write {}", path.display()), error);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = || {
        // What is there of that name is of somebody who was killed, or a trap: nothing is written through it.
        gone_is_fine(fs::remove_file(&temporary))?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(text)?;
        drop(file);
        fs::rename(&temporary, path)
    };
    written().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed(error)
    })
}
