//! The instance directory: who we are, for those who clean up after us.
//!
//! `/run/orangery/<instance>` (root) or `$XDG_RUNTIME_DIR/orangery/<instance>`, mode 0700, holds one locked file that
//! lists our cgroup directories. The kernel frees the lock when we are gone, however that happened; every later start
//! sweeps what the unlocked ones list. The keeper does the same at once, so this matters only when both were killed.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;

mod earlier;

pub(in crate::native) use earlier::Earlier;

const RECORD: &str = "record";

/// Our directory, locked while this lives and removed with it.
#[derive(Debug)]
pub struct Instance {
    base: PathBuf,
    name: String,
    record: File,
    /// It is there for a further supervisor, and the last keeper removes it.
    stays: bool,
}

impl Instance {
    /// Make a fresh instance below `base`, or below the usual place.
    ///
    /// # Errors
    /// The directory cannot be made, or belongs to somebody else.
    pub fn create(base: Option<&Path>) -> Result<Self, Error> {
        let base = match base {
            Some(base) => base.to_path_buf(),
            None => default_base(),
        };
        own_base(&base)?;
        let name = fresh_name()?;
        // Under a name that no sweep looks at until the record is there and locked.
        let (dir, young) = (base.join(&name), base.join(format!(".{name}")));
        let failed = |error: io::Error| Error::system(format!("cannot make {}", dir.display()), error);
        make_private(&young).map_err(failed)?;
        let made = lock_record(&young).and_then(|record| fs::rename(&young, &dir).map(|()| record));
        let record = made.map_err(|error| {
            let _ = fs::remove_dir_all(&young);
            failed(error)
        })?;
        Ok(Self { base, name, record, stays: false })
    }

    /// It outlives this supervisor.
    pub(super) fn stay(&mut self) {
        self.stays = true;
    }

    /// Another open file of its lock: locked as long as one of them is open.
    pub(super) fn lock(&self) -> io::Result<OwnedFd> {
        Ok(self.record.try_clone()?.into())
    }

    /// `i` and sixteen random hexadecimal digits.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory that holds ours.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Write down the directories that must go when we are gone, in place of what was written before.
    ///
    /// # Errors
    /// The record cannot be written.
    pub fn record(&mut self, roots: &[PathBuf]) -> Result<(), Error> {
        let mut text: String = roots.iter().map(|root| format!("{}\n", root.display())).collect();
        if self.stays {
            text.push_str(&format!("{BOOT}{}\n", crate::durable::identity::this_boot()));
        }
        let written =
            self.record.write_all_at(text.as_bytes(), 0).and_then(|()| self.record.set_len(text.len() as u64));
        written.map_err(|error| Error::system("cannot write the instance record", error))
    }

    /// Remove what dead instances left behind. Best effort: what cannot be removed is logged and tried again by the
    /// next start.
    pub fn sweep_dead(&self) {
        let entries = fs::read_dir(&self.base).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name != self.name)) {
            match entry.file_name().to_str() {
                Some(name) if is_instance(name) => sweep(&entry.path()),
                Some(name) if name.strip_prefix('.').is_some_and(is_instance) => sweep_young(&entry.path()),
                _ => {}
            }
        }
    }
}

/// Before the boot, in the list of the directories that must go.
const BOOT: &str = "boot ";

/// How long an instance may take from its directory to its name; it takes milliseconds.
const BIRTH: Duration = Duration::from_secs(600);

/// A directory whose maker died before it had a name. Nothing was listed in it yet.
fn sweep_young(dir: &Path) {
    let age = fs::symlink_metadata(dir).and_then(|meta| meta.modified()).map(|made| made.elapsed().unwrap_or_default());
    if age.is_ok_and(|age| age > BIRTH) {
        let _ = fs::remove_dir_all(dir);
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let _ = fs::remove_dir_all(self.base.join(&self.name));
    }
}

fn lock_record(dir: &Path) -> io::Result<File> {
    let record = File::options().write(true).create_new(true).mode(0o600).open(dir.join(RECORD))?;
    // Whoever sweeps after us opens it by its name.
    record.set_permissions(fs::Permissions::from_mode(0o600))?;
    record.try_lock()?;
    Ok(record)
}

fn is_instance(name: &str) -> bool {
    name.len() == 17 && name.starts_with('i') && name[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn default_base() -> PathBuf {
    let uid = rustix::process::geteuid();
    // uid 0 of a user namespace is not the owner of the machine's /run.
    if uid.is_root() && private_directory(Path::new("/run/orangery")).is_ok() {
        return "/run/orangery".into();
    }
    let runtime =
        std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute() && dir.is_dir());
    match runtime {
        Some(dir) => dir.join("orangery"),
        None => std::env::temp_dir().join(format!("orangery-{}", uid.as_raw())),
    }
}

/// Make `dir` with mode 0700 whatever the host's umask.
fn make_private(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).inspect_err(|_| {
        let _ = fs::remove_dir(dir);
    })
}

/// Make `dir` and what is missing above it with mode 0700, or accept it when it is ours and nobody else's.
fn private_directory(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    for dir in missing.into_iter().rev() {
        match make_private(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let meta = fs::symlink_metadata(dir)?;
    if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is not a directory that only this user can write",
        ));
    }
    Ok(())
}

/// Make the directory that instances are in, or accept it.
fn own_base(base: &Path) -> Result<(), Error> {
    private_directory(base).map_err(|error| {
        let why = if error.raw_os_error().is_none() { format!(": {error}") } else { String::new() };
        Error::system(format!("cannot use the state directory {}{why}", base.display()), error).with_field("state_dir")
    })
}

fn fresh_name() -> Result<String, Error> {
    let mut bytes = [0u8; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Error::system("cannot get random bytes", error))?;
    Ok(format!("i{:016x}", u64::from_le_bytes(bytes)))
}

/// Remove what a dead instance listed, unless it lives.
fn sweep(dir: &Path) {
    let record = dir.join(RECORD);
    let Ok(file) = File::open(&record) else {
        // Dead before its record was made.
        let _ = fs::remove_dir(dir);
        return;
    };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => return,
    }
    let text = fs::read_to_string(&record).unwrap_or_default();
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let listed = || text.lines().map(Path::new).filter(|path| is_its_cgroup(path, name));
    // All of them first: on v1 who is frozen in one hierarchy dies in none.
    listed().for_each(kill_below);
    let left = listed().filter(|path| !remove_cgroup(path)).count();
    if left > 0 {
        tracing::warn!(
            instance = name,
            "cgroups of a dead supervisor could not be removed; the next start tries again"
        );
    } else {
        let _ = fs::remove_dir_all(dir);
    }
}

/// Only what carries the instance's name is touched.
fn is_its_cgroup(path: &Path, instance: &str) -> bool {
    let ours = path.file_name().and_then(|name| name.to_str()) == Some(&format!("orangery-{instance}"));
    ours && path.starts_with("/sys/fs/cgroup")
}

/// Kill and remove one listed directory.
fn remove_cgroup(path: &Path) -> bool {
    // Directories vanish from the deepest up; the kernel says EBUSY for a moment after a kill. Without `cgroup.kill` whoever forks
    // meanwhile is met by a later round.
    for _ in 0..200 {
        kill_below(path);
        remove_below(path);
        if !path.exists() {
            return true;
        }
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
    false
}

fn kill_below(path: &Path) {
    let _ = fs::write(path.join("freezer.state"), "THAWED");
    if fs::write(path.join("cgroup.kill"), "1").is_err() {
        let pids = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        for pid in pids.lines().filter_map(|line| line.parse().ok()).filter_map(rustix::process::Pid::from_raw) {
            kill_member(path, pid);
        }
    }
    for child in children(path) {
        kill_below(&child);
    }
}

/// By pidfd, and only if the process is still listed after the pidfd was opened.
fn kill_member(path: &Path, pid: rustix::process::Pid) {
    let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else { return };
    let listed = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
    if listed.lines().any(|line| line.parse() == Ok(pid.as_raw_nonzero().get())) {
        let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    }
}

fn children(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

fn remove_below(path: &Path) {
    for child in children(path) {
        remove_below(&child);
    }
    let _ = fs::remove_dir(path);
}

/// The lock file of the id ranges, shared by all supervisors of the machine; where /run cannot be written, by those
/// with the same state directory `base`.
#[must_use]
pub fn ids_file(base: &Path) -> PathBuf {
    ids_file_in(Path::new("/run/orangery"), base)
}

fn ids_file_in(shared: &Path, base: &Path) -> PathBuf {
    let writable = || rustix::fs::access(shared, rustix::fs::Access::WRITE_OK).map_err(io::Error::from);
    match private_directory(shared).and_then(|()| writable()) {
        Ok(()) => shared.join("ids"),
        Err(error) => {
            tracing::warn!(
                %error,
                "cannot use {}: only supervisors with the state directory {} get user ids apart from each other",
                shared.display(),
                base.display()
            );
            base.join("ids")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_are_locked_below_the_state_directory_where_run_cannot_be_written() {
        let base = tempfile::tempdir().unwrap();
        let shared = base.path().join("run/orangery");
        assert_eq!(ids_file_in(&shared, base.path()), shared.join("ids"));
        assert_eq!(ids_file_in(Path::new("/proc/orangery"), base.path()), base.path().join("ids"));
        assert!(crate::ids::Ranges::open(&base.path().join("ids")).is_ok());
    }

    #[test]
    fn directories_that_never_got_a_name_are_swept_when_they_are_old() {
        let base = tempfile::tempdir().unwrap();
        let (old, young) = (base.path().join(".i0123456789abcdef"), base.path().join(".ifedcba9876543210"));
        for dir in [&old, &young] {
            fs::create_dir(dir).unwrap();
            fs::write(dir.join(RECORD), "").unwrap();
        }
        File::open(&old).unwrap().set_modified(std::time::SystemTime::now() - 2 * BIRTH).unwrap();
        let instance = Instance::create(Some(base.path())).unwrap();
        instance.sweep_dead();
        assert!(!old.exists() && young.exists() && base.path().join(instance.name()).exists());
    }
}
