//! What `/etc/subuid` and `/etc/subgid` give root: they win over the built-in ranges, because an administrator who
//! wrote them has said which ids of the machine are free. Read once, when a supervisor starts.

use std::path::Path;

use super::super::{COUNT, Row, STRIDE, Segment};
use super::{Entry, Owner, one_sided, read_or_nothing, refused};
use crate::error::Error;

const HINT: &str = "correct root's entries in /etc/subuid and /etc/subgid, or remove them all";

/// The ranges that the two files give root, in their order; `None`: neither names root.
pub(in crate::ids) fn read(uids: &Path, gids: &Path) -> Result<Option<Vec<Segment>>, Error> {
    let (uid, gid) = (blocks(uids, &read_or_nothing(uids))?, blocks(gids, &read_or_nothing(gids))?);
    match (uid.is_empty(), gid.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(paired(&uid, &gid))),
        (true, false) => Err(one_sided("root", uids, gids).with_hint(HINT)),
        (false, true) => Err(one_sided("root", gids, uids).with_hint(HINT)),
    }
}

/// The ranges in each of root's entries, and how many. An entry that cannot be used is an error, or containers would get
/// ids that nobody meant.
fn blocks(path: &Path, text: &str) -> Result<Vec<(Row, u32)>, Error> {
    let entries = Owner { name: Some("root"), id: 0 }.entries(path, text).map_err(|error| error.with_hint(HINT))?;
    if let Some(small) = entries.iter().find(|entry| entry.count < COUNT) {
        let why = format!("{} ids are too few: a container takes {COUNT}", small.count);
        return Err(refused(path, Some(small.line), why).with_hint(HINT));
    }
    Ok(entries.iter().map(row).collect())
}

/// Spread as the built-in ranges are where there is room for it; an entry of 131,072 ids is two ranges all the same.
fn row(entry: &Entry) -> (Row, u32) {
    let blocks = entry.count / COUNT;
    let spread = (blocks - 1) * STRIDE + COUNT <= entry.count;
    (Row { first: entry.start, stride: if spread { STRIDE } else { COUNT } }, blocks)
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
    use std::fs;

    use super::*;
    use crate::error::ErrorKind;

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
