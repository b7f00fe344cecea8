//! What the two files give an ordinary user: all of it is mapped in the user namespace of a supervisor's keeper.

use std::path::Path;

use super::{Entry, Owner, one_sided, read_or_nothing, refused};
use crate::error::Error;

/// Extents that a map may have (kernel 4.15 and later), less the one of the user itself.
const EXTENTS: usize = 339;

/// Ids of one kind that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The first one.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// Ids beside an ordinary user's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// User ids, in the order of the file; entries that touch are one.
    pub uids: Vec<Extent>,
    /// Group ids.
    pub gids: Vec<Extent>,
}

impl Given {
    /// What `/etc/subuid` and `/etc/subgid` give the user with these ids, by its name in `/etc/passwd` or by its number;
    /// `None`: nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for entries that cannot be used, with file and line: those that
    /// overlap, that have the user's own id or root's, those of one file alone, and more than the kernel takes in a map.
    pub fn of(uid: u32, gid: u32) -> Result<Option<Self>, Error> {
        let passwd = read_or_nothing(Path::new("/etc/passwd"));
        let owner = Owner { name: name_of(&passwd, uid), id: uid };
        read(owner, gid, Path::new("/etc/subuid"), Path::new("/etc/subgid"))
    }
}

fn read(owner: Owner<'_>, gid: u32, uids: &Path, gids: &Path) -> Result<Option<Given>, Error> {
    let of = |path: &Path, own| {
        let entries = owner.entries(path, &read_or_nothing(path))?;
        if let Some(entry) = entries.iter().find(|entry| (entry.start..entry.end()).contains(&own)) {
            return Err(refused(path, Some(entry.line), format!("{own} is the user's own id")));
        }
        let extents = extents(&entries);
        if extents.len() > EXTENTS {
            let why = format!("{} ranges that do not touch; the kernel maps {EXTENTS}", extents.len());
            return Err(refused(path, None, why));
        }
        Ok(extents)
    };
    let given = Given { uids: of(uids, owner.id)?, gids: of(gids, gid)? };
    let who = owner.name.map_or_else(|| owner.id.to_string(), str::to_owned);
    match (given.uids.is_empty(), given.gids.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(given)),
        (true, false) => Err(one_sided(&who, uids, gids)),
        (false, true) => Err(one_sided(&who, gids, uids)),
    }
}

/// Entries as the lines of a map: what touches and comes next is one.
fn extents(entries: &[Entry]) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    for entry in entries {
        match extents.last_mut() {
            Some(last) if last.start + last.count == entry.start => last.count += entry.count,
            _ => extents.push(Extent { start: entry.start, count: entry.count }),
        }
    }
    extents
}

fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, _, id) = (parts.next()?, parts.next()?, parts.next()?);
        (id.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::ErrorKind;

    const BOB: Owner<'_> = Owner { name: Some("bob"), id: 1001 };

    fn of(owner: Owner<'_>, uid: &str, gid: &str) -> Result<Option<Given>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let (uids, gids) = (dir.path().join("subuid"), dir.path().join("subgid"));
        fs::write(&uids, uid).unwrap();
        fs::write(&gids, gid).unwrap();
        read(owner, 1002, &uids, &gids)
    }

    fn why(uid: &str, gid: &str) -> String {
        let error = of(BOB, uid, gid).unwrap_err();
        assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some("user_namespace")), "{error:?}");
        error.what().rsplit('/').next().unwrap().to_owned()
    }

    fn extent(start: u32, count: u32) -> Extent {
        Extent { start, count }
    }

    #[test]
    fn ranges_are_found_by_name_and_by_number_and_those_that_touch_are_one() {
        let text = "bad\nalice:100000:65536\nbob:200000:10\nbob:x:5\n1001:200010:5\nbob:300000:1\nbob:5:0\n";
        let given = of(BOB, text, "1001:7:1\n").unwrap().unwrap();
        assert_eq!(given.uids, [extent(200_000, 15), extent(300_000, 1)]);
        assert_eq!(given.gids, [extent(7, 1)]);
        assert_eq!(of(Owner { name: None, id: 7 }, text, text).unwrap(), None);
        assert_eq!(read(BOB, 1, Path::new("/no/such"), Path::new("/no/such")).unwrap(), None);
    }

    #[test]
    fn ranges_that_cannot_be_mapped_are_refused_with_file_and_line() {
        let good = "bob:100000:65536\n";
        assert_eq!(why("#\nbob:100000:10\n1001:100009:1\n", good), "subuid:3: the ids overlap those of line 2");
        assert_eq!(why("bob:0:10\n", good), "subuid:1: id 0 is the machine's own root");
        assert_eq!(why("bob:1000:10\n", good), "subuid:1: 1001 is the user's own id");
        // It is a number of users, and none of its groups.
        assert!(of(BOB, good, "bob:1001:1\n").is_ok());
        assert_eq!(why(good, "bob:1000:3\n"), "subgid:1: 1002 is the user's own id");
        assert_eq!((why(good, ""), why("", good)), ("subuid and none here".into(), "subgid and none here".into()));
        let many: String = (0..340).map(|n| format!("bob:{}:1\n", 100_000 + 2 * n)).collect();
        assert_eq!(why(&many, good), "subuid: 340 ranges that do not touch; the kernel maps 339");
        assert!(of(BOB, &many[..many.len() - "bob:100678:1\n".len()], good).is_ok());
    }

    #[test]
    fn a_user_is_called_as_passwd_says() {
        assert_eq!(name_of("root:x:0:0::/:/bin/sh\nbob:x:1000:1000::/:/bin/sh\n", 1000), Some("bob"));
        assert_eq!(name_of("root:x:0:0::/:/bin/sh\n", 1000), None);
    }
}
