//! What lies in the state directory at a start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::de::DeserializeOwned;

use super::dir::{StateDir, is_name};
use super::file::{self, Unreadable};
use super::group::{GroupRecord, MemberRecord};
use super::record::{ContainerRecord, Ended};
use super::report::SetAside;
use super::service::ServiceRecord;
use super::side_by_side::side_by_side;
use super::{RECORD, REPORT};
use crate::group::members;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Without a report: they may live.
    pub(crate) living: Vec<ContainerRecord>,
    pub(crate) ended: Vec<(ContainerRecord, Ended)>,
    pub(crate) services: Vec<ServiceRecord>,
    pub(crate) groups: Vec<GroupRecord>,
    pub(crate) set_aside: Vec<SetAside>,
}

/// Read all of it. What is no record is set aside; what was never a container any more is removed.
pub(crate) fn look(state: &StateDir) -> Found {
    let mut found = Found::default();
    let mut names: Vec<_> =
        fs::read_dir(state.containers()).into_iter().flatten().flatten().map(|it| it.path()).collect();
    names.sort();
    let read = |dir: &PathBuf| (file::read::<ContainerRecord>(&dir.join(RECORD)), file::read(&dir.join(REPORT)));
    for (dir, (record, ended)) in side_by_side(names, read) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match record {
            Ok(record) if is_name(&name) && record.template.id() == name => found.add(state, &dir, record, ended),
            Ok(_) => found.put_aside(state, &dir, "it is called otherwise than its record says"),
            // Its creation was never answered: what is there was made for it.
            Err(Unreadable::Missing) if is_name(&name) && dir.is_dir() => drop(state.remove(&dir)),
            Err(error) => found.put_aside(state, &dir, &format!("{RECORD}: {error}")),
        }
    }
    state.find_services(&mut found);
    state.find_groups(&mut found);
    found.without_unmade(state);
    found
}

impl Found {
    /// Groups whose making was not answered are undone, with their members; those of which a member is missing are set aside,
    /// and the members that are there go on alone.
    fn without_unmade(&mut self, state: &StateDir) {
        let never = |record: &GroupRecord| !record.held && record.is_unstarted();
        for path in self.groups.extract_if(.., |record| never(record)).map(|record| record.path) {
            undo(&path, state.remove_group(&path));
        }
        loop {
            let services: BTreeSet<_> = self.services.iter().map(|service| service.template.id().to_owned()).collect();
            let paths: BTreeSet<_> = self.groups.iter().map(|group| group.path.clone()).collect();
            let there = |member: &MemberRecord| if member.is_group { &paths } else { &services }.contains(&member.id);
            let torn = self.groups.iter().position(|group| !group.members.iter().all(there));
            let Some(torn) = torn else { break };
            let torn = self.groups.remove(torn);
            self.put_aside(state, &state.group(&torn.path), "a member of it is not there");
        }
        loop {
            let members = members(&self.groups);
            // A group within one that is not there: nobody would start it.
            let lone = |record: &GroupRecord| record.held && record.is_unstarted() && !members.contains(&record.path);
            let Some(lone) = self.groups.iter().position(lone) else { break };
            let lone = self.groups.remove(lone);
            undo(&lone.path, state.remove_group(&lone.path));
        }
        let members = members(&self.groups);
        let lone = |record: &ServiceRecord| record.is_unstarted() && !members.contains(record.template.id());
        for id in self.services.extract_if(.., |record| lone(record)).map(|record| record.template.id().to_owned()) {
            undo(&id, state.remove_service(&id));
        }
    }

    fn add(&mut self, state: &StateDir, dir: &Path, record: ContainerRecord, ended: Result<Ended, Unreadable>) {
        let path = dir.join(REPORT);
        match ended {
            Ok(ended) if ended.report.generation == record.generation => self.ended.push((record, ended)),
            // Of the incarnation before.
            Ok(_) | Err(Unreadable::Missing) => self.living.push(record),
            Err(error) => {
                self.put_aside(state, &path, &error.to_string());
                self.living.push(record);
            }
        }
    }

    /// All records in a room that are one each, in the order of their names; what is none is set aside.
    pub(super) fn records<T: DeserializeOwned>(
        &mut self,
        state: &StateDir,
        room: &Path,
        is: impl Fn(&T, &str) -> bool,
    ) -> Vec<T> {
        let mut paths: Vec<_> = fs::read_dir(room).into_iter().flatten().flatten().map(|it| it.path()).collect();
        paths.sort_by_key(|path| path.file_stem().map(ToOwned::to_owned));
        let mut records = Vec::new();
        for path in paths {
            if path.extension().is_some_and(|kind| kind == "new") {
                // Of a write that was cut short; the record that it was to replace is whole.
                let _ = fs::remove_file(&path);
                continue;
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match file::read::<T>(&path) {
                Ok(record) if is(&record, &name) => records.push(record),
                Ok(_) => self.put_aside(state, &path, "it is called otherwise than its record says"),
                Err(error) => self.put_aside(state, &path, &error.to_string()),
            }
        }
        records
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

/// It was never answered that it is there.
fn undo(name: &str, removed: io::Result<bool>) {
    if let Err(error) = removed {
        tracing::warn!(name, %error, "the record of one that was never made stays");
    }
}
