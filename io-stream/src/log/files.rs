//! Files of a log's directory, opened as what they are to be: whoever else may write there cannot have us write into, read
//! from, or wait for something else. No symbolic link is followed, and nothing but regular files is used.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RenameFlags, open, renameat_with};
use rustix::io::Errno;

/// Not waiting is for what is no regular file (the reading end of a pipe, say): those are refused here.
const CAREFUL: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

fn regular(path: &Path, how: OFlags) -> io::Result<File> {
    let file = File::from(open(path, CAREFUL | how, Mode::from_raw_mode(0o666))?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "no regular file")),
    }
}

/// One to read.
pub(crate) fn read(path: &Path) -> io::Result<File> {
    regular(path, OFlags::RDONLY)
}

/// One to write, which is there. Never to append: splice(2) refuses that with EINVAL.
pub(crate) fn write(path: &Path) -> io::Result<File> {
    regular(path, OFlags::RDWR)
}

/// A new one; it is an error that there is something.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    regular(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
}

/// A new one, in the place of whatever is there.
pub(crate) fn fresh(path: &Path) -> io::Result<File> {
    remove(path)?;
    create(path)
}

/// All of one.
pub(crate) fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    read(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes one; that somebody else did so before is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives a file another name, which nothing has.
pub(crate) fn appear(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that knows no such renames.
        Err(Errno::INVAL | Errno::NOSYS) => {
            std::fs::hard_link(from, to)?;
            remove(from)
        }
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_but_a_regular_file_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("target"), "kept").unwrap();
        symlink(at("target"), at("link")).unwrap();
        rustix::fs::mkfifoat(CWD, at("fifo"), Mode::RWXU).unwrap();
        std::fs::create_dir(at("dir")).unwrap();
        for name in ["link", "fifo", "dir"] {
            assert!(read(&at(name)).is_err() && write(&at(name)).is_err() && create(&at(name)).is_err(), "{name}");
            assert!(contents(&at(name)).is_err(), "{name}");
        }
        // Something of our own stands where a link was; what it led to is as it was.
        drop(fresh(&at("link")).unwrap());
        assert_eq!((contents(&at("link")).unwrap(), contents(&at("target")).unwrap()), (Vec::new(), b"kept".to_vec()));
        let taken = appear(&at("link"), &at("target")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        appear(&at("link"), &at("new")).unwrap();
        assert!(read(&at("new")).is_ok() && read(&at("link")).is_err());
    }
}
