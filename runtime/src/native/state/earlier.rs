//! The instance that an earlier supervisor has left for the next one.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::{BOOT, Instance, RECORD, is_instance, own_base};
use crate::error::Error;

/// The instance of an earlier supervisor with the same state directory.
#[derive(Debug)]
pub(in crate::native) struct Earlier {
    base: PathBuf,
    name: String,
}

impl Earlier {
    /// The one that is there; with several, which is nobody's doing of ours, the first by name.
    ///
    /// # Errors
    /// The directory is not ours alone.
    pub(in crate::native) fn find(base: &Path) -> Result<Option<Self>, Error> {
        own_base(base)?;
        let entries = fs::read_dir(base).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let first = names.filter(|name| is_instance(name)).min();
        Ok(first.map(|name| Self { base: base.to_path_buf(), name }))
    }

    pub(in crate::native) fn name(&self) -> &str {
        &self.name
    }

    /// Its cgroup directories, and the boot that it is of.
    pub(in crate::native) fn listed(&self) -> (Vec<PathBuf>, String) {
        let text = fs::read_to_string(self.base.join(&self.name).join(RECORD)).unwrap_or_default();
        let boot = text.lines().find_map(|line| line.strip_prefix(BOOT)).unwrap_or_default().to_owned();
        (text.lines().filter(|line| line.starts_with('/')).map(PathBuf::from).collect(), boot)
    }

    /// It is gone by now: the last keeper has removed it.
    pub(in crate::native) fn is_gone(&self) -> bool {
        !self.base.join(&self.name).join(RECORD).exists()
    }

    /// Make it ours, with the lock that its keeper has held.
    pub(in crate::native) fn inherit(self, lock: OwnedFd) -> Instance {
        Instance { base: self.base, name: self.name, record: lock.into(), stays: true }
    }

    /// Make it ours if nobody holds it: supervisor and keeper are gone.
    pub(in crate::native) fn lock(&self) -> Option<Instance> {
        let record = File::options().read(true).write(true).open(self.base.join(&self.name).join(RECORD)).ok()?;
        record.try_lock().ok()?;
        // Removed while we were looking, it locks nothing.
        let same = !self.is_gone();
        same.then(|| Instance { base: self.base.clone(), name: self.name.clone(), record, stays: true })
    }
}
