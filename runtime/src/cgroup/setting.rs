//! One value for one file, and writing a list of them so that a failure leaves nothing half changed.

use super::detect::Controller;
use super::dir::Dir;
use super::error::CgroupError;
use std::borrow::Cow;

/// One write, and the field of `Limits` that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: Controller,
    pub(super) file: Cow<'static, str>,
    pub(super) value: String,
    pub(super) field: Cow<'static, str>,
    /// Of a file with a line for each device.
    pub(super) line: Option<Line>,
}

/// A line of a file: what is written changes it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its first word.
    pub(super) key: String,
    /// What is written to have none.
    pub(super) reset: String,
}

impl Line {
    /// The line that `value` changes, in a file of many: the kernel's files of that kind are known by name. `None`: the file holds
    /// one value, or one that nobody knows.
    pub(super) fn of(file: &str, value: &str) -> Option<Line> {
        let key = value.split_whitespace().next()?;
        let no_more = match file {
            "io.max" => "rbps=max wbps=max riops=max wiops=max",
            "io.weight" | "io.bfq.weight" if key == "default" => "100",
            "io.weight" | "io.bfq.weight" | "blkio.weight_device" | "blkio.bfq.weight_device" => "default",
            "io.latency" => "target=max",
            "rdma.max" => "hca_handle=max hca_object=max",
            "misc.max" | "dmem.max" => "max",
            "dmem.min" | "dmem.low" | "net_prio.ifpriomap" => "0",
            rate if rate.starts_with("blkio.throttle.") && rate.ends_with("_device") => "0",
            _ => return None,
        };
        Some(Line { key: key.to_owned(), reset: format!("{key} {no_more}") })
    }
}

impl Setting {
    pub(super) fn new(controller: Controller, file: &'static str, value: String, field: &'static str) -> Setting {
        Setting { controller, file: file.into(), value, field: field.into(), line: None }
    }

    /// Of a file that somebody else has named.
    pub(super) fn named(controller: Controller, file: String, value: String, field: String) -> Setting {
        let line = Line::of(&file, &value);
        Setting { controller, file: file.into(), value, field: field.into(), line }
    }

    pub(super) fn of_line(self, line: Line) -> Setting {
        Setting { line: Some(line), ..self }
    }

    pub(super) fn with_field(self, field: String) -> Setting {
        Setting { field: field.into(), ..self }
    }

    /// What is to be written to have what the file says now.
    pub(super) fn put_back(&self, now: &str) -> String {
        match &self.line {
            None => now.trim_end().to_owned(),
            Some(Line { key, reset }) => {
                let of_ours = |line: &&str| line.split(' ').next() == Some(key);
                now.lines().find(of_ours).unwrap_or(reset).to_owned()
            }
        }
    }
}

/// Writes each setting to its directory, in order. With `restore`, the first failure writes the old values back, last
/// one first; an old value that cannot be put back (best effort) is told in the error's reason.
pub(super) fn apply(writes: &[(&Dir, Setting)], restore: bool) -> Result<(), CgroupError> {
    let mut done: Vec<(&Dir, &Setting, String)> = Vec::new();
    for (dir, setting) in writes {
        match write(dir, setting, restore) {
            Ok(old) => done.push((dir, setting, old)),
            Err(error) => {
                let error = error.with_field(setting.field.clone());
                return Err(if restore { undo(done, error) } else { error });
            }
        }
    }
    Ok(())
}

fn write(dir: &Dir, setting: &Setting, restore: bool) -> Result<String, CgroupError> {
    let old = if restore { setting.put_back(&dir.read(&setting.file)?) } else { String::new() };
    dir.write(&setting.file, &setting.value)?;
    Ok(old)
}

/// What limits were before they are changed: for somebody who finds later that they are not to be.
#[derive(Debug)]
pub struct Before(Vec<(Dir, Setting, String)>);

impl Before {
    /// Of what these would change.
    pub(super) fn of(writes: &[(&Dir, Setting)]) -> Result<Before, CgroupError> {
        let one = |(dir, setting): &(&Dir, Setting)| {
            Ok((dir.try_clone()?, setting.clone(), setting.put_back(&dir.read(&setting.file)?)))
        };
        writes.iter().map(one).collect::<Result<_, _>>().map(Before)
    }

    /// Put them back, the last one first. All are tried.
    ///
    /// # Errors
    /// What could not be, each by its file, and why.
    pub fn put_back(self) -> Result<(), String> {
        let lost = self.0.iter().rev().filter_map(|(dir, setting, old)| lost(dir, setting, old).err());
        let lost: Vec<String> = lost.collect();
        if lost.is_empty() { Ok(()) } else { Err(lost.join(", ")) }
    }
}

fn undo(done: Vec<(&Dir, &Setting, String)>, error: CgroupError) -> CgroupError {
    let lost: Vec<String> =
        done.into_iter().rev().filter_map(|(dir, setting, old)| lost(dir, setting, &old).err()).collect();
    if lost.is_empty() { error } else { error.with_reason(format!("and could not put back {}", lost.join(", "))) }
}

/// Put one back; what of it was not to be. A file takes one line in a write, whatever it shows.
fn lost(dir: &Dir, setting: &Setting, old: &str) -> Result<(), String> {
    let write = |line: &str| {
        let what = setting.line.as_ref().map_or_else(String::new, |line| format!(" ({})", line.key));
        dir.write(&setting.file, line).map_err(|error| format!("{}{what}: {error}", setting.file))
    };
    match old.lines().count() {
        0 => write(""),
        _ => old.lines().try_for_each(write),
    }
}
