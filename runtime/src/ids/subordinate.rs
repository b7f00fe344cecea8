//! What `/etc/subuid` and `/etc/subgid` give root: they win over the built-in ranges, because an administrator who
//! wrote them has said which ids of the machine are free. Read once, when a supervisor starts.

use std::fs;
use std::path::Path;

use super::{COUNT, Row, STRIDE, Segment};
use crate::error::{Error, ErrorKind};

/// One entry of root's.
#[derive(Clone, Copy, Debug)]
struct Entry {
    line: usize,
    start: u32,
    count: u32,
}

/// The ranges that the two files give root, in their order; `None`: neither names root.
pub(super) fn read(uids: &Path, gids: &Path) -> Result<Option<Vec<Segment>>, Error> {
    // A file that is not there, or that nobody may read, gives nothing: so does shadow's own reader.
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let (uid, gid) = (blocks(uids, &text(uids))?, blocks(gids, &text(gids))?);
    match (uid.is_empty(), gid.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(paired(&uid, &gid))),
        (true, false) => Err(refused(uids, None, format!("root has ids in {} and none here", gids.display()))),
        (false, true) => Err(refused(gids, None, format!("root has ids in {} and none here", uids.display()))),
    }
}

fn refused(path: &Path, line: Option<usize>, why: String) -> Error {
    let place = line.map_or_else(String::new, |line| format!(":{line}"));
    Error::new(ErrorKind::Invalid, format!("{}{place}: {why}", path.display()))
        .with_field("user_namespace")
        .with_hint("correct root's entries in /etc/subuid and /etc/subgid, or remove them all")
}

/// The ranges in each of root's entries, and how many. A line that is no entry is skipped with a warning, as
/// shadow does; an entry that cannot be used is an error, or containers would get ids that nobody meant.
fn blocks(path: &Path, text: &str) -> Result<Vec<(Row, u32)>, Error> {
    let entries = entries(path, text);
    for (index, entry) in entries.iter().enumerate() {
        if entry.start == 0 {
            return Err(refused(path, Some(entry.line), "id 0 is the machine's own root".into()));
        }
        if entry.count < COUNT {
            let why = format!("{} ids are too few: a container takes {COUNT}", entry.count);
            return Err(refused(path, Some(entry.line), why));
        }
        let apart =
            |other: &&Entry| other.start >= entry.start + entry.count || entry.start >= other.start + other.count;
        if let Some(other) = entries[..index].iter().find(|other| !apart(other)) {
            return Err(refused(path, Some(entry.line), format!("the ids overlap those of line {}", other.line)));
        }
    }
    Ok(entries.iter().map(row).collect())
}

/// Spread as the built-in ranges are where there is room for it; an entry of 131,072 ids is two ranges all the same.
fn row(entry: &Entry) -> (Row, u32) {
    let blocks = entry.count / COUNT;
    let spread = (blocks - 1) * STRIDE + COUNT <= entry.count;
    (Row { first: entry.start, stride: if spread { STRIDE } else { COUNT } }, blocks)
}

fn entries(path: &Path, text: &str) -> Vec<Entry> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| owner(line)).filter_map(|(line, text)| entry(path, line, text)).collect()
}

/// By name, or by number as `useradd` allows.
fn owner(line: &str) -> bool {
    matches!(line.split(':').next(), Some("root" | "0"))
}

fn entry(path: &Path, line: usize, text: &str) -> Option<Entry> {
    let parts: Vec<&str> = text.split(':').collect();
    let numbers = match parts[..] {
        [_, start, count] => start.parse::<u32>().ok().zip(count.parse::<u32>().ok()),
        _ => None,
    };
    // u32::MAX is no id: the kernel means "unchanged" by it.
    let good = numbers.filter(|(start, count)| start.checked_add(*count).is_some());
    if good.is_none() {
        tracing::warn!(file = %path.display(), line, "not of the form root:FIRST:COUNT, skipped");
    }
    good.map(|(start, count)| Entry { line, start, count })
}

/// The nth range of users with the nth of groups, in as few segments as that takes.
fn paired(uids: &[(Row, u32)], gids: &[(Row, u32)]) -> Vec<Segment> {
    let (mut uids, mut gids) = (uids.iter().copied(), gids.iter().copied());
    let (mut uid, mut gid) = (uids.next(), gids.next());
    let mut segments = Vec::new();
    while let (Some((of_uids, users)), Some((of_gids, groups))) = (uid, gid) {
        let blocks = users.min(groups);
        segments.push(Segment { uid: of_uids, gid: of_gids, blocks });
        let rest = |row: Row, have: u32| (have > blocks).then(|| (Row { first: row.at(blocks), ..row }, have - blocks));
        uid = rest(of_uids, users).or_else(|| uids.next());
        gid = rest(of_gids, groups).or_else(|| gids.next());
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uid: &str, gid: &str) -> Result<Option<Vec<Segment>>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let (uids, gids) = (dir.path().join("subuid"), dir.path().join("subgid"));
        fs::write(&uids, uid).unwrap();
        fs::write(&gids, gid).unwrap();
        read(&uids, &gids)
    }

    fn why(uid: &str, gid: &str) -> String {
        let error = of(uid, gid).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("user_namespace")), "{error:?}");
        error.what().rsplit('/').next().unwrap().to_owned()
    }

    #[test]
    fn nobody_s_files_and_other_people_s_entries_give_nothing() {
        assert_eq!(of("", "").unwrap(), None);
        assert_eq!(of("alice:100000:65536\n", "alice:100000:65536\nrooted:5:65536\n").unwrap(), None);
        assert_eq!(read(Path::new("/no/such"), Path::new("/no/such")).unwrap(), None);
    }

    #[test]
    fn users_and_groups_are_paired_block_by_block() {
        let row = |first, stride| Row { first, stride };
        let segment = |uid, gid| Segment { uid, gid, blocks: 1 };
        let one = of("root:100000:65536\n", "0:200000:70000\n").unwrap().unwrap();
        assert_eq!(one, [segment(row(100_000, STRIDE), row(200_000, STRIDE))]);
        // Two ranges that leave no room for a gap; ten that do.
        let many = of("root:1000000:131072\nroot:100000:65536\n", "root:2000000:65536\n0:3000000:655370\n").unwrap();
        let want = [
            segment(row(1_000_000, COUNT), row(2_000_000, STRIDE)),
            segment(row(1_065_536, COUNT), row(3_000_000, STRIDE)),
            segment(row(100_000, STRIDE), row(3_065_537, STRIDE)),
        ];
        assert_eq!(many.unwrap(), want);
    }

    #[test]
    fn lines_that_are_no_entries_are_skipped() {
        for bad in ["root", "root:x:65536", "root:1:2:3", "root:4294967295:65536", "root:-1:65536", ""] {
            let good = of(&format!("{bad}\nroot:100000:65536\n"), "root:100000:65536\n").unwrap().unwrap();
            assert_eq!(good.len(), 1, "{bad}");
        }
    }

    #[test]
    fn entries_that_cannot_be_used_are_refused_with_file_and_line() {
        let good = "root:100000:65536\n";
        assert!(why(good, "").starts_with("subuid and none here"), "{}", why(good, ""));
        assert!(why("", good).starts_with("subgid and none here"), "{}", why("", good));
        assert!(why("#\nroot:100000:65535\n", good).starts_with("subuid:2: 65535 ids are too few"));
        assert!(why(good, "root:0:65536\n").starts_with("subgid:1: id 0 is the machine's own root"));
        let twice = "root:100000:65536\nroot:500000:65536\n0:165535:65536\n";
        assert!(why(good, twice).starts_with("subgid:3: the ids overlap those of line 1"), "{}", why(good, twice));
    }
}
