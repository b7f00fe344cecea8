//! The walk over a tree that may be hostile: one level of descriptors at a time, never a path twice.

use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Stat, fstat, readlinkat};
use rustix::io::Errno;

use super::failed;
use super::job::Leave;
use super::options::{Copied, CopyOptions, SkipReason, Skipped};
use super::side::{Side, kind};
use super::target::{Target, names};
use crate::admission::Permit;
use crate::error::{Error, ErrorKind};

/// One directory that is being copied.
struct Level {
    source: OwnedFd,
    target: OwnedFd,
    names: Vec<OsString>,
    /// Below what is copied.
    path: PathBuf,
    mode: u32,
    device: u64,
    /// Of both descriptors.
    _room: Option<Permit>,
}

struct Walk<'a> {
    from: &'a Side<'a>,
    to: &'a Target<'a>,
    options: CopyOptions,
    leave: Leave<'a>,
    copied: Copied,
    entries: u64,
    levels: Vec<Level>,
}

/// Copy what `from` names to `to`, which must not exist.
pub(super) fn copy(
    (from, source): (&Side<'_>, &Path),
    (to, target): (&Side<'_>, &Path),
    options: CopyOptions,
    leave: Leave<'_>,
) -> Result<Copied, Error> {
    let fail = |what, error: Errno| Error::from(failed(what, source, error).with_field("from"));
    let found = from.find(source).map_err(|error| fail("open", error))?;
    let stat = fstat(&found).map_err(|error| fail("look at", error))?;
    let target = Target::new(to, target, "to", options.entries)?;
    target.must_be_new()?;
    let mut walk =
        Walk { from, to: &target, options, leave, copied: Copied::default(), entries: 1, levels: Vec::new() };
    let name = target.temporary();
    let refused = walk.one(target.dir(), name, &found, &stat, PathBuf::new(), None)?;
    if let Some(reason) = refused {
        return Err(Error::invalid("from", format!("{} cannot be copied: {reason:?}", source.display())));
    }
    walk.down()?;
    let copied = walk.copied;
    target.appear()?;
    Ok(copied)
}

impl Walk<'_> {
    /// Everything below what has been opened.
    fn down(&mut self) -> Result<(), Error> {
        while let Some(level) = self.levels.last_mut() {
            if self.leave.is_cancelled() {
                return Err(Error::new(ErrorKind::State, "the copy is not wanted any more"));
            }
            let Some(name) = level.names.pop() else {
                self.up()?;
                continue;
            };
            let path = level.path.join(&name);
            let found = match self.from.entry(&level.source, &name) {
                Ok(found) => found,
                // It has gone meanwhile.
                Err(Errno::NOENT) => continue,
                Err(Errno::ACCESS | Errno::PERM) => {
                    self.skip(path, SkipReason::Unreadable);
                    continue;
                }
                Err(error) => return Err(failed("open", &path, error).with_field("from").into()),
            };
            let stat = fstat(&found).map_err(|error| failed("look at", &path, error))?;
            let (device, target) = (level.device, level.target.try_clone());
            let target = target.map_err(|error| failed("copy into the directory of", &path, error))?;
            if let Some(reason) = self.one(&target, &name, &found, &stat, path.clone(), Some(device))? {
                self.skip(path, reason);
            }
        }
        Ok(())
    }

    /// The directory in hand is complete. Its owner may always use it, or we could not remove what we have made.
    fn up(&mut self) -> Result<(), Error> {
        let Some(level) = self.levels.pop() else { return Ok(()) };
        let changed = self.to.side().change_mode(&level.target, level.mode | 0o700);
        changed.map_err(|error| failed("change the mode of", &level.path, error).with_field("to").into())
    }

    fn skip(&mut self, path: PathBuf, reason: SkipReason) {
        self.copied.skipped.push(Skipped { path, reason });
    }

    /// Copy one thing to `name` in `dir`; a directory is only begun. `Some`: it was left alone.
    fn one(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        found: &OwnedFd,
        stat: &Stat,
        path: PathBuf,
        above: Option<u64>,
    ) -> Result<Option<SkipReason>, Error> {
        // Another device is another mount: only then the file system can be another.
        if above != Some(stat.st_dev) {
            let pseudo = self.from.is_pseudo(found).map_err(|error| failed("look at", &path, error))?;
            if pseudo {
                return Ok(Some(SkipReason::Pseudo));
            }
        }
        match kind(stat) {
            FileType::RegularFile => self.file(dir, name, found, stat, &path),
            FileType::Directory => self.enter(dir, name, found, stat, path),
            FileType::Symlink => self.link(dir, name, found, &path),
            FileType::Fifo => Ok(Some(SkipReason::Fifo)),
            FileType::Socket => Ok(Some(SkipReason::Socket)),
            _ => Ok(Some(SkipReason::Device)),
        }
    }

    fn file(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        found: &OwnedFd,
        stat: &Stat,
        path: &Path,
    ) -> Result<Option<SkipReason>, Error> {
        // Before it is opened: a sparse file of a petabyte costs nothing.
        if u64::try_from(stat.st_size).unwrap_or(u64::MAX) > self.bytes_left() {
            return Err(self.too_much("bytes", self.options.bytes, path));
        }
        let source = match self.from.open(found, false) {
            Ok(source) => source,
            Err(Errno::ACCESS | Errno::PERM | Errno::AGAIN) => return Ok(Some(SkipReason::Unreadable)),
            Err(error) => return Err(failed("open", path, error).with_field("from").into()),
        };
        let make = |error: Errno| failed("make the copy of", path, error).with_field("to");
        let target = self.to.side().make_file(dir, name).map_err(make)?;
        let mut target = std::fs::File::from(target);
        self.content(&mut source.into(), &mut target, path)?;
        self.to.side().change_mode(&target, stat.st_mode).map_err(make)?;
        self.copied.files += 1;
        Ok(None)
    }

    /// As many bytes as there are, which may be more than there were.
    fn content(&mut self, source: &mut std::fs::File, target: &mut std::fs::File, path: &Path) -> Result<(), Error> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            if self.leave.is_cancelled() {
                return Err(Error::new(ErrorKind::State, "the copy is not wanted any more"));
            }
            let read = match source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed("read", path, error).with_field("from").into()),
            };
            if read as u64 > self.bytes_left() {
                return Err(self.too_much("bytes", self.options.bytes, path));
            }
            self.copied.bytes += read as u64;
            let written = target.write_all(buffer.get(..read).unwrap_or_default());
            written.map_err(|error| failed("write the copy of", path, error).with_field("to"))?;
        }
    }

    fn enter(
        &mut self,
        dir: &OwnedFd,
        name: &OsStr,
        found: &OwnedFd,
        stat: &Stat,
        path: PathBuf,
    ) -> Result<Option<SkipReason>, Error> {
        if self.levels.len() >= self.options.depth {
            return Err(self.too_much("depth", self.options.depth as u64, &path));
        }
        let room = self.leave.level()?;
        let source = match self.from.open(found, true) {
            Ok(source) => source,
            Err(Errno::ACCESS | Errno::PERM) => return Ok(Some(SkipReason::Unreadable)),
            Err(error) => return Err(failed("open", &path, error).with_field("from").into()),
        };
        let left = self.options.entries.saturating_sub(self.entries);
        let (names, more) = names(&source, left).map_err(|error| failed("list", &path, error).with_field("from"))?;
        if more {
            return Err(self.too_much("entries", self.options.entries, &path));
        }
        self.entries += names.len() as u64;
        let target = self.to.side().make_directory(dir, name);
        let target = target.map_err(|error| failed("make the copy of", &path, error).with_field("to"))?;
        self.copied.directories += 1;
        self.levels.push(Level { source, target, names, path, mode: stat.st_mode, device: stat.st_dev, _room: room });
        Ok(None)
    }

    fn link(&mut self, dir: &OwnedFd, name: &OsStr, found: &OwnedFd, path: &Path) -> Result<Option<SkipReason>, Error> {
        let text = readlinkat(found, "", Vec::new()).map_err(|error| failed("read the link", path, error))?;
        let text = OsStr::from_bytes(text.as_bytes());
        if !self.options.outside_links && !stays_inside(Path::new(text), self.levels.len()) {
            return Ok(Some(SkipReason::OutsideLink));
        }
        let made = self.to.side().link(dir, name, text);
        made.map_err(|error| failed("make the copy of", path, error).with_field("to"))?;
        self.copied.links += 1;
        Ok(None)
    }

    fn bytes_left(&self) -> u64 {
        self.options.bytes.saturating_sub(self.copied.bytes)
    }

    fn too_much(&self, which: &str, most: u64, path: &Path) -> Error {
        let place = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Error::invalid(format!("limits.{which}"), format!("the limit of {most} is passed at {}", place.display()))
    }
}

/// A link in a directory `depth` levels below the copy's parent leads to a place in the copy: it climbs first, no higher
/// than the copy's top, and then only descends. Since that holds for each link of the copy, it holds for a descent
/// through other links too.
fn stays_inside(text: &Path, depth: usize) -> bool {
    let climbs = text.components().take_while(|part| matches!(part, Component::ParentDir | Component::CurDir));
    let climbs = climbs.filter(|part| *part == Component::ParentDir).count();
    let mut rest = text.components().skip_while(|part| matches!(part, Component::ParentDir | Component::CurDir));
    climbs < depth && rest.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rustix::fs::Mode;

    use super::*;

    /// Three levels, five files, a fifo.
    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        for name in ["1", "a/2", "a/b/3", "a/b/c/4", "a/b/c/5"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("a/fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        dir
    }

    fn copy_host(
        from: &Path,
        to: &Path,
        options: CopyOptions,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Copied, Error> {
        copy((&Side::host()?, from), (&Side::host()?, to), options, Leave::until(is_cancelled))
    }

    #[test]
    fn cancelled_at_any_moment_it_leaves_nothing() {
        let (from, to) = (tree(), tempfile::tempdir().unwrap());
        let target = to.path().join("copy");
        for most in 0.. {
            let asked = Cell::new(0);
            let cancelled = || asked.replace(asked.get() + 1) >= most;
            match copy_host(from.path(), &target, CopyOptions::default(), &cancelled) {
                Ok(copied) => {
                    assert!(most > 10);
                    assert_eq!((copied.files, copied.directories, copied.skipped.len()), (5, 4, 1));
                    return;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::State),
            }
            assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0, "cancelled after {most}");
        }
    }

    #[test]
    fn each_limit_is_exact_and_named_with_its_place() {
        let (from, to) = (tree(), tempfile::tempdir().unwrap());
        let options = CopyOptions::default;
        // Five names of 1, 3, 5, 7 and 7 bytes; ten names with the first.
        for (fits, too_small, field) in [
            (options().bytes(23), options().bytes(22), "limits.bytes"),
            (options().entries(10), options().entries(9), "limits.entries"),
            (options().depth(4), options().depth(3), "limits.depth"),
        ] {
            let target = to.path().join(field);
            let error = copy_host(from.path(), &target, too_small, &|| false).unwrap_err();
            assert_eq!((error.kind(), error.field()), (ErrorKind::Invalid, Some(field)));
            assert!(error.to_string().contains("a/b"), "{error}");
            assert_eq!(std::fs::read_dir(to.path()).unwrap().count(), 0);
            copy_host(from.path(), &target, fits, &|| false).unwrap();
            let again = copy_host(from.path(), &target, fits, &|| false).unwrap_err();
            assert_eq!((again.kind(), again.field()), (ErrorKind::Exists, Some("to")));
            std::fs::remove_dir_all(target).unwrap();
        }
    }

    #[test]
    fn only_links_that_climb_no_higher_than_the_top_stay_inside() {
        for (text, depth, inside) in [
            ("x", 1, true),
            ("a/b", 1, true),
            ("./a", 1, true),
            ("..", 1, false),
            ("../x", 2, true),
            ("../../x", 2, false),
            ("a/../x", 3, false),
            ("/etc/passwd", 9, false),
            ("x", 0, false),
        ] {
            assert_eq!(stays_inside(Path::new(text), depth), inside, "{text} at {depth}");
        }
    }
}
