//! What lies in the state directory at a start.

use std::fs;
use std::path::Path;

use super::dir::{StateDir, is_name};
use super::file::{self, Unreadable};
use super::record::{ContainerRecord, Ended};
use super::report::SetAside;
use super::service::ServiceRecord;
use super::{RECORD, REPORT};

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Without a report: they may live.
    pub(crate) living: Vec<ContainerRecord>,
    pub(crate) ended: Vec<(ContainerRecord, Ended)>,
    pub(crate) services: Vec<ServiceRecord>,
    pub(crate) set_aside: Vec<SetAside>,
}

/// Read all of it. What is no record is set aside; what was never a container any more is removed.
pub(crate) fn look(state: &StateDir) -> Found {
    let mut found = Found::default();
    let mut names: Vec<_> =
        fs::read_dir(state.containers()).into_iter().flatten().flatten().map(|it| it.path()).collect();
    names.sort();
    for dir in names {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match file::read::<ContainerRecord>(&dir.join(RECORD)) {
            Ok(record) if is_name(&name) && record.template.id() == name => found.add(state, &dir, record),
            Ok(_) => found.put_aside(state, &dir, "it is called otherwise than its record says"),
            // Its creation was never answered: what is there was made for it.
            Err(Unreadable::Missing) if is_name(&name) && dir.is_dir() => drop(state.remove(&dir)),
            Err(error) => found.put_aside(state, &dir, &format!("{RECORD}: {error}")),
        }
    }
    state.find_services(&mut found);
    found
}

impl Found {
    fn add(&mut self, state: &StateDir, dir: &Path, record: ContainerRecord) {
        let path = dir.join(REPORT);
        match file::read::<Ended>(&path) {
            Ok(ended) if ended.report.generation == record.generation => self.ended.push((record, ended)),
            // Of the incarnation before.
            Ok(_) | Err(Unreadable::Missing) => self.living.push(record),
            Err(error) => {
                self.put_aside(state, &path, &error.to_string());
                self.living.push(record);
            }
        }
    }

    /// Away from where it is looked for; told.
    pub(super) fn put_aside(&mut self, state: &StateDir, path: &Path, why: &str) {
        match state.set_aside(path) {
            Ok(path) => {
                tracing::warn!(path = %path.display(), why, "set aside");
                self.set_aside.push(SetAside { path, why: why.to_owned() });
            }
            Err(error) => {
                tracing::error!(path = %path.display(), why, %error, "it cannot be set aside");
                self.set_aside.push(SetAside { path: path.to_owned(), why: format!("{why}; and it stays: {error}") });
            }
        }
    }
}
