//! `/etc/subuid` and `/etc/subgid`: which ids beside their own an administrator has given to whom. Read once, when a
//! supervisor starts.

use std::fs;
use std::path::Path;

use crate::error::{Error, ErrorKind};

pub(super) mod root;
pub mod user;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    line: usize,
    start: u32,
    count: u32,
}

impl Entry {
    fn end(self) -> u32 {
        self.start + self.count
    }
}

/// Whose entries are wanted.
#[derive(Clone, Copy, Debug)]
struct Owner<'a> {
    /// `None`: the number has no name.
    name: Option<&'a str>,
    id: u32,
}

impl Owner<'_> {
    /// This owner's entries, in the file's order. A line that is no entry is skipped with a warning, as shadow does.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], with file and line, for ids of the machine's root, and for those that are there twice: the
    /// kernel takes no map with them, and whoever wrote them meant others.
    fn entries(self, path: &Path, text: &str) -> Result<Vec<Entry>, Error> {
        let mut entries: Vec<Entry> = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let Some(entry) = self.entry(path, index + 1, text.trim()) else { continue };
            if entry.start == 0 {
                return Err(refused(path, Some(entry.line), "id 0 is the machine's own root".into()));
            }
            if let Some(other) = entries.iter().find(|other| other.start < entry.end() && entry.start < other.end()) {
                let why = format!("the ids overlap those of line {}", other.line);
                return Err(refused(path, Some(entry.line), why));
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// By name, or by number as `useradd` allows.
    fn has(self, owner: &str) -> bool {
        Some(owner) == self.name || owner.parse() == Ok(self.id)
    }

    fn entry(self, path: &Path, line: usize, text: &str) -> Option<Entry> {
        let parts: Vec<&str> = text.split(':').collect();
        if !parts.first().is_some_and(|owner| self.has(owner)) {
            return None;
        }
        let numbers = match parts[..] {
            [_, start, count] => start.parse::<u32>().ok().zip(count.parse::<u32>().ok()),
            _ => None,
        };
        // u32::MAX is no id: the kernel means "unchanged" by it.
        let good = numbers.filter(|(start, count)| *count > 0 && start.checked_add(*count).is_some());
        if good.is_none() {
            tracing::warn!(file = %path.display(), line, "not of the form OWNER:FIRST:COUNT, skipped");
        }
        good.map(|(start, count)| Entry { line, start, count })
    }
}

/// A file that is not there, or that we may not read, gives nothing: so does shadow's own reader.
fn read_or_nothing(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn refused(path: &Path, line: Option<usize>, why: String) -> Error {
    let place = line.map_or_else(String::new, |line| format!(":{line}"));
    Error::new(ErrorKind::Invalid, format!("{}{place}: {why}", path.display())).with_field("user_namespace")
}

/// There are user ids without group ids, or the other way round.
fn one_sided(who: &str, without: &Path, with: &Path) -> Error {
    refused(without, None, format!("{who} has ids in {} and none here", with.display()))
}
