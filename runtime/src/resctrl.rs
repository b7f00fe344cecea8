//! Groups of resctrl, in which the kernel divides caches and memory bandwidth (Documentation/filesystems/resctrl.rst): one is made or
//! found, its schemata are written, and its `tasks` is what a child writes itself into, as into a cgroup of version 1.
//!
//! Knows no processes. Where the file system is mounted is looked up; all else is told, so that tests can have a directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

const FIELD: &str = "intel_rdt";
/// Of the file system itself.
const TAKEN: [&str; 3] = ["info", "mon_groups", "mon_data"];

/// The group of who is in no other one: the file system's own directory.
const DEFAULT: &str = "/";

/// What a bundle says (`linux.intelRdt`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rdt {
    /// The group, `/` for the default one; unset: one of the container's own, that goes with it. One that has a name is somebody's and stays.
    pub group: Option<String>,
    /// Lines of its `schemata`. Without any a group that has a name must be there already; with some, one that is there must have
    /// these: it is others' as well, and is not changed.
    pub schemata: Vec<String>,
    /// A monitoring group of the container's own.
    pub monitoring: bool,
}

impl Rdt {
    /// What cannot be meant.
    pub(crate) fn wrong(&self) -> Option<String> {
        if self.group.as_deref() == Some(DEFAULT) && !self.schemata.is_empty() {
            return Some("the schemata of the machine's default group are everybody's".into());
        }
        let group = self.group.as_deref().filter(|name| *name != DEFAULT && !is_name(name));
        let odd = |line: &&String| line.is_empty() || line.len() > 4000 || line.contains(['\0', '\n']);
        let line = self.schemata.iter().find(odd);
        group
            .map(|name| format!("{name:?} is no name of a group"))
            .or(line.map(|line| format!("{line:?} is no line of schemata")))
    }
}

/// Its group's directory, below where it is mounted.
fn name<'a>(id: &'a str, rdt: &'a Rdt) -> &'a str {
    match rdt.group.as_deref() {
        Some(DEFAULT) => ".",
        group => group.unwrap_or(id),
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && !name.contains(['/', '\0', '\n'])
        && !TAKEN.contains(&name)
}

/// Where it is mounted.
pub(crate) fn mounted() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    text.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next() == Some("resctrl")).then(|| before.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

/// What was made of it. Nothing is removed on drop.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// `tasks` of its group, and of its monitoring group.
    pub(crate) tasks: Vec<OwnedFd>,
    /// The directories that go with the container, each in its parent.
    pub(crate) own: Vec<(PathBuf, String)>,
}

/// Make or find it, below `root`.
pub(crate) fn prepare(root: &Path, id: &str, rdt: &Rdt) -> Result<Prepared, Error> {
    let mut own = Vec::new();
    let tasks = fill(root, id, rdt, &mut own).inspect_err(|_| take_away(&own))?;
    Ok(Prepared { tasks, own })
}

/// One that is there already would go with this container.
fn anothers(group: &Path) -> Error {
    let what = format!("there is a group {} of resctrl already, which is somebody else's", group.display());
    Error::new(ErrorKind::State, what).with_field(FIELD)
}

/// What goes with the container, of what was made, is added to `own`, inner ones first.
fn fill(root: &Path, id: &str, rdt: &Rdt, own: &mut Vec<(PathBuf, String)>) -> Result<Vec<OwnedFd>, Error> {
    let group = root.join(name(id, rdt));
    if rdt.group.is_some() && rdt.schemata.is_empty() {
        if !group.is_dir() {
            let what = format!("there is no group {} of resctrl, and no schemata to make it with", group.display());
            return Err(Error::new(ErrorKind::Invalid, what).with_field(FIELD));
        }
    } else if made(&group)? {
        // One that has a name stays, unless it was made for nothing.
        divide(root, &group, &rdt.schemata).inspect_err(|_| drop(fs::remove_dir(&group)))?;
        if rdt.group.is_none() {
            own.push((root.to_owned(), id.to_owned()));
        }
    } else if rdt.group.is_none() {
        return Err(anothers(&group));
    } else {
        compare(root, &group, &rdt.schemata)?;
    }
    if rdt.monitoring {
        let groups = group.join("mon_groups");
        if !made(&groups.join(id))? {
            return Err(anothers(&groups.join(id)));
        }
        own.insert(0, (groups, id.to_owned()));
    }
    tasks(root, id, rdt)
}

/// Write the schemata of a group that was just made.
fn divide(root: &Path, group: &Path, schemata: &[String]) -> Result<(), Error> {
    let file = group.join("schemata");
    let failed = |error| refused(root, format!("cannot write {}", file.display()), error);
    if schemata.is_empty() {
        return Ok(());
    }
    let mut opened = fs::OpenOptions::new().write(true).open(&file).map_err(failed)?;
    // A write for each: a later one may say otherwise of what an earlier one is about, and within one the kernel refuses that.
    schemata.iter().try_for_each(|line| opened.write_all(format!("{line}\n").as_bytes()).map_err(failed))
}

/// A group that is there has these.
fn compare(root: &Path, group: &Path, schemata: &[String]) -> Result<(), Error> {
    let file = group.join("schemata");
    let text = fs::read_to_string(&file);
    let text =
        text.map_err(|error| Error::system(format!("cannot read {}", file.display()), error).with_field(FIELD))?;
    let step = fs::read_to_string(root.join("info/MB/bandwidth_gran")).ok();
    let step = step.and_then(|text| text.trim().parse().ok()).filter(|step| *step > 0).unwrap_or(1);
    let (has, asked) = (values(text.lines(), step), values(schemata.iter().map(String::as_str), step));
    match asked.iter().find(|(domain, value)| has.get(*domain) != Some(value)) {
        None => Ok(()),
        Some(((resource, domain), value)) => {
            let what = format!(
                "the group {} of resctrl is there already and does not have {resource}:{domain}={value}; it is not changed",
                group.display()
            );
            Err(Error::new(ErrorKind::State, what).with_field(FIELD))
        }
    }
}

/// What each domain of each resource has: `L3:0=ff;1=f` and the like, the last word of all. The kernel writes zeros before a mask,
/// blanks before a name, and rounds percentages up to a `step` of theirs.
fn values<'a>(lines: impl Iterator<Item = &'a str>, step: u64) -> BTreeMap<(&'a str, &'a str), String> {
    let of_line = |line: &'a str| {
        let (resource, domains) = line.trim().split_once(':')?;
        Some(domains.split(';').filter_map(move |one| {
            let (domain, value) = one.split_once('=')?;
            let value = match (resource, value.trim().parse::<u64>()) {
                ("MB", Ok(percent)) => percent.div_ceil(step).saturating_mul(step).to_string(),
                _ => value.trim().trim_start_matches('0').to_ascii_lowercase(),
            };
            Some(((resource, domain.trim()), value))
        }))
    };
    lines.filter_map(of_line).flatten().collect()
}

/// `tasks` of what is there already, for the container's next process.
pub(crate) fn tasks(root: &Path, id: &str, rdt: &Rdt) -> Result<Vec<OwnedFd>, Error> {
    let group = root.join(name(id, rdt));
    let mut tasks = vec![open(&group)?];
    if rdt.monitoring {
        tasks.push(open(&group.join("mon_groups").join(id))?);
    }
    Ok(tasks)
}

/// With what the kernel says of its last refusal.
fn refused(root: &Path, what: String, error: std::io::Error) -> Error {
    let said = fs::read_to_string(root.join("info/last_cmd_status")).unwrap_or_default();
    let said = said.trim();
    let what = if said.is_empty() || said == "ok" { what } else { format!("{what} ({said})") };
    Error::system(what, error).with_field(FIELD)
}

/// `false`: it was there.
fn made(dir: &Path) -> Result<bool, Error> {
    match fs::create_dir(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => {
            let what = format!("cannot make the group {} of resctrl", dir.display());
            Err(Error::system(what, error).with_field(FIELD))
        }
    }
}

fn open(group: &Path) -> Result<OwnedFd, Error> {
    let path = group.join("tasks");
    let opened = fs::OpenOptions::new().write(true).open(&path);
    opened
        .map(OwnedFd::from)
        .map_err(|error| Error::system(format!("cannot open {}", path.display()), error).with_field(FIELD))
}

fn take_away(own: &[(PathBuf, String)]) {
    for (parent, name) in own {
        let _ = fs::remove_dir(parent.join(name));
    }
}

/// Remove what was made for a container, by what is written down of it ([`Born::shares`](crate::native::single::Born::shares)); what is gone
/// already is as good.
///
/// # Errors
/// It is there and does not go.
pub fn remove(own: &[PathBuf]) -> Result<(), Error> {
    for dir in own {
        match fs::remove_dir(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let what = format!("cannot remove the group {} of resctrl", dir.display());
                return Err(Error::system(what, error).with_field(FIELD));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Other shares of what there is, for the group of a container's own; what it had before, for [`put_back`].
///
/// # Errors
/// Resctrl is not mounted; its group is somebody's who has named it, or there is none; the kernel refuses a line, and then nothing has changed.
pub fn change(id: &str, rdt: Option<&Rdt>, lines: &[String]) -> Result<String, Error> {
    let Some(root) = mounted() else {
        let why = "resctrl is not mounted on this machine, or its processor has none";
        return Err(Error::new(ErrorKind::Unsupported, why).with_field(FIELD));
    };
    change_at(&root, id, rdt, lines)
}

fn change_at(root: &Path, id: &str, rdt: Option<&Rdt>, lines: &[String]) -> Result<String, Error> {
    let why = match rdt {
        None => Some("the container was made without a group of resctrl (linux.intelRdt)".to_owned()),
        Some(Rdt { group: Some(name), .. }) => {
            Some(format!("the group {name} of resctrl has a name, so that others may be in it; it is not changed"))
        }
        Some(_) => Rdt { schemata: lines.to_vec(), ..Rdt::default() }.wrong(),
    };
    if let Some(why) = why {
        return Err(Error::invalid(FIELD, why));
    }
    let file = root.join(id).join("schemata");
    let failed = |error| Error::system(format!("cannot read {}", file.display()), error).with_field(FIELD);
    let before = fs::read_to_string(&file).map_err(failed)?;
    let changed = divide(root, &root.join(id), lines);
    // Of several lines some may have been taken.
    changed.inspect_err(|_| drop(put_back_at(root, id, &before)))?;
    Ok(before)
}

/// What [`change`] has found.
///
/// # Errors
/// The kernel refuses it by now.
pub fn put_back(id: &str, before: &str) -> Result<(), Error> {
    mounted().map_or(Ok(()), |root| put_back_at(&root, id, before))
}

fn put_back_at(root: &Path, id: &str, before: &str) -> Result<(), Error> {
    // The kernel writes blanks before names.
    let lines: Vec<_> = before.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    divide(root, &root.join(id), &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with what the kernel puts into each group that is made.
    fn group(root: &Path, name: &str) -> PathBuf {
        let dir = root.join(name);
        fs::create_dir_all(dir.join("mon_groups")).unwrap();
        for file in ["schemata", "tasks"] {
            fs::write(dir.join(file), "").unwrap();
        }
        dir
    }

    #[test]
    fn a_group_is_joined_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = group(root.path(), "gold");
        let schemata = vec!["L3:0=f".to_owned(), "MB:0=20".to_owned()];
        let rdt = Rdt { group: Some("gold".into()), schemata, monitoring: true };
        let before = "    MB:0= 20;1=100\n    L3:0=0000f;1=fffff\n";
        fs::write(dir.join("schemata"), before).unwrap();
        // A group to watch that is somebody else's.
        let monitored = dir.join("mon_groups/c1");
        fs::create_dir(&monitored).unwrap();
        let error = prepare(root.path(), "c1", &rdt).unwrap_err();
        assert!(error.kind() == ErrorKind::State && error.what().contains("mon_groups/c1"), "{error}");
        assert!(monitored.is_dir(), "it is not taken away");
        fs::remove_dir(&monitored).unwrap();
        let rdt = Rdt { monitoring: false, ..rdt };
        let prepared = prepare(root.path(), "c1", &rdt).unwrap();
        for other in ["L3:0=7", "L3:2=f", "L2:0=f", "MB:0=10"] {
            let other = Rdt { schemata: vec!["L3:1=fffff".into(), other.into()], ..rdt.clone() };
            assert_eq!(prepare(root.path(), "c1", &other).unwrap_err().kind(), ErrorKind::State, "{other:?}");
        }
        assert_eq!(fs::read_to_string(dir.join("schemata")).unwrap(), before, "it is others' as well");
        fs::create_dir_all(root.path().join("info/MB")).unwrap();
        fs::write(root.path().join("info/MB/bandwidth_gran"), "10\n").unwrap();
        let rounded = Rdt { schemata: vec!["L3:0=F;1=0".into(), "L3:1=fffff".into(), "MB:0=15".into()], ..rdt.clone() };
        assert!(prepare(root.path(), "c1", &rounded).is_ok(), "the last word, as the kernel has it");
        divide(root.path(), &dir, &rdt.schemata).unwrap();
        let written = fs::read_to_string(dir.join("schemata")).unwrap();
        assert!(written.starts_with("L3:0=f\nMB:0=20\n"), "{written}");
        for fd in &prepared.tasks {
            rustix::io::write(fd, b"0").unwrap();
        }
        assert_eq!(fs::read_to_string(dir.join("tasks")).unwrap(), "0");
        assert!(prepared.own.is_empty(), "what has a name stays");
        let alone = Rdt::default();
        let others = group(root.path(), "c1");
        assert_eq!(prepare(root.path(), "c1", &alone).unwrap_err().kind(), ErrorKind::State);
        assert!(others.is_dir(), "what is somebody else's stays");
    }

    #[test]
    fn what_was_made_is_told_and_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = group(root.path(), "gold");
        let watched = Rdt { group: Some("gold".into()), monitoring: true, ..Rdt::default() };
        let mut own = Vec::new();
        // No kernel fills what is made here.
        fill(root.path(), "c1", &watched, &mut own).unwrap_err();
        assert_eq!(own, [(dir.join("mon_groups"), "c1".to_owned())]);
        let all: Vec<PathBuf> = own.iter().map(|(parent, name)| parent.join(name)).collect();
        remove(&all).unwrap();
        assert!(!all[0].exists() && dir.is_dir());
        remove(&all).unwrap();
        let mut own = Vec::new();
        fill(root.path(), "c1", &Rdt::default(), &mut own).unwrap_err();
        assert_eq!(own, [(root.path().to_owned(), "c1".to_owned())]);
    }

    #[test]
    fn a_group_of_its_own_gets_other_shares() {
        let root = tempfile::tempdir().unwrap();
        let file = group(root.path(), "c1").join("schemata");
        fs::write(&file, "    MB:0= 20\n    L3:0=ff\n").unwrap();
        let (own, lines) = (Rdt::default(), ["L3:0=f".to_owned()]);
        let before = change_at(root.path(), "c1", Some(&own), &lines).unwrap();
        assert!(
            fs::read_to_string(&file).unwrap().starts_with("L3:0=f\n"),
            "the kernel takes what it is about and leaves the rest"
        );
        fs::write(&file, "").unwrap();
        put_back_at(root.path(), "c1", &before).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "MB:0= 20\nL3:0=ff\n");
        let named = Rdt { group: Some("gold".into()), ..Rdt::default() };
        for (rdt, lines) in [(None, &lines[..]), (Some(&named), &lines[..]), (Some(&own), &["a\0".to_owned()])] {
            assert_eq!(change_at(root.path(), "c1", rdt, lines).unwrap_err().field(), Some(FIELD));
        }
        let gone = change_at(root.path(), "c2", Some(&own), &lines).unwrap_err();
        assert!(gone.to_string().contains("c2/schemata"), "{gone}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "MB:0= 20\nL3:0=ff\n");
    }

    #[test]
    fn what_cannot_be_had_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let missing = Rdt { group: Some("none".into()), ..Rdt::default() };
        assert_eq!(prepare(root.path(), "c1", &missing).unwrap_err().field(), Some(FIELD));
        // No kernel fills what is made here.
        assert!(prepare(root.path(), "c1", &Rdt::default()).is_err());
        fs::create_dir(root.path().join("info")).unwrap();
        fs::write(root.path().join("info/last_cmd_status"), "unknown resource\n").unwrap();
        let bad = Rdt { schemata: vec!["X:0=1".into()], ..Rdt::default() };
        assert!(prepare(root.path(), "c1", &bad).unwrap_err().to_string().contains("unknown resource"));
        assert!(!root.path().join("c1").exists());
        for wrong in ["", "..", "a/b", "info", "mon_groups"] {
            assert!(Rdt { group: Some(wrong.into()), ..Rdt::default() }.wrong().is_some(), "{wrong}");
        }
        let default = Rdt { group: Some("/".into()), ..Rdt::default() };
        assert!(default.wrong().is_none() && root.path().join(name("c1", &default)).is_dir());
        assert!(Rdt { schemata: vec!["MB:0=9".into()], ..default }.wrong().is_some());
        assert!(Rdt { schemata: vec!["a\nb".into()], ..Rdt::default() }.wrong().is_some());
    }
}
