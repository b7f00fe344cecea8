//! The ids of a user namespace that exists already. No system call tells them for a descriptor; /proc does, for a process
//! that lives in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::error::{Error, ErrorKind};
use crate::plan::idmap::{IdMap, Ids};

/// The maps of `namespace` as seen from our own user namespace. Looks through /proc until somebody is found in it.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when nobody lives in it, [`ErrorKind::State`] when its maps are not written yet.
pub(crate) fn of(namespace: &OwnedFd) -> Result<IdMap, Error> {
    let failed = |error: rustix::io::Errno| Error::system("cannot look for the ids of this user namespace", error);
    let wanted = rustix::fs::fstat(namespace).map_err(failed)?;
    let wanted = (wanted.st_dev, wanted.st_ino);
    let entries = std::fs::read_dir("/proc").map_err(|error| Error::system("cannot list processes", error))?;
    let pids =
        entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    for entry in pids {
        // One process, whatever its number is later.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(process) = rustix::fs::open(entry.path(), flags, Mode::empty()) else { continue };
        if lives_in(process.as_fd(), wanted) {
            let texts = ["uid_map", "gid_map", "setgroups"].map(|name| read(process.as_fd(), name));
            // It may have gone elsewhere, or have ended, while it was read.
            if lives_in(process.as_fd(), wanted) {
                return understood(&texts);
            }
        }
    }
    let why = "nobody lives in this user namespace who could be asked for its ids";
    Err(Error::new(ErrorKind::Unsupported, why).with_hint("keep a process in it until the container is made"))
}

fn lives_in(process: BorrowedFd<'_>, namespace: (u64, u64)) -> bool {
    let found = rustix::fs::statat(process, "ns/user", AtFlags::empty());
    found.is_ok_and(|found| (found.st_dev, found.st_ino) == namespace)
}

fn read(process: BorrowedFd<'_>, name: &str) -> String {
    let opened = rustix::fs::openat(process, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    opened.ok().and_then(|fd| std::io::read_to_string(std::fs::File::from(fd)).ok()).unwrap_or_default()
}

fn understood([uid, gid, setgroups]: &[String; 3]) -> Result<IdMap, Error> {
    match (Ids::parse(uid), Ids::parse(gid)) {
        (Some(uid), Some(gid)) => Ok(IdMap { uid, gid, deny_setgroups: setgroups.trim() == "deny" }),
        _ => Err(Error::new(ErrorKind::State, "the ids of this user namespace are not mapped yet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_has_the_ids_that_we_have() {
        let own = std::fs::File::open("/proc/self/ns/user").unwrap().into();
        let ids = of(&own).unwrap();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        assert!(ids.uid.has(uid) && ids.gid.has(gid), "{ids:?}");
    }

    #[test]
    fn maps_that_are_not_written_are_told() {
        let texts = |uid: &str| [uid.to_owned(), "0 0 1".to_owned(), "deny\n".to_owned()];
        assert!(understood(&texts("0 5 1")).unwrap().deny_setgroups);
        assert_eq!(understood(&texts("")).unwrap_err().kind(), ErrorKind::State);
    }
}
