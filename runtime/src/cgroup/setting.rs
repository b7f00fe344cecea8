//! One value for one file, and writing a list of them so that a failure leaves nothing half changed.

use super::detect::Controller;
use super::dir::Dir;
use super::error::CgroupError;

/// One write, and the field of `Limits` that asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) controller: Controller,
    pub(super) file: &'static str,
    pub(super) value: String,
    pub(super) field: &'static str,
}

/// Writes each setting to its directory, in order. With `restore`, the first failure writes the old values back, last
/// one first; an old value that cannot be put back (best effort) is told in the error's reason.
pub(super) fn apply(writes: &[(&Dir, Setting)], restore: bool) -> Result<(), CgroupError> {
    let mut done: Vec<(&Dir, &Setting, String)> = Vec::new();
    for (dir, setting) in writes {
        match write(dir, setting, restore) {
            Ok(old) => done.push((dir, setting, old)),
            Err(error) => {
                let error = error.with_field(setting.field);
                return Err(if restore { undo(done, error) } else { error });
            }
        }
    }
    Ok(())
}

fn write(dir: &Dir, setting: &Setting, restore: bool) -> Result<String, CgroupError> {
    let old = if restore { dir.read(setting.file)? } else { String::new() };
    dir.write(setting.file, &setting.value)?;
    Ok(old)
}

fn undo(done: Vec<(&Dir, &Setting, String)>, error: CgroupError) -> CgroupError {
    let lost: Vec<&str> = done
        .into_iter()
        .rev()
        .filter(|(dir, setting, old)| dir.write(setting.file, old.trim_end()).is_err())
        .map(|(_, setting, _)| setting.file)
        .collect();
    if lost.is_empty() { error } else { error.with_reason(format!("and could not put back {}", lost.join(", "))) }
}
