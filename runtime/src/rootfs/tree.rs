//! A root file system that is being made: entries are put into it by descriptors, so that no name of theirs and no link that
//! was put there before leads out of it.
//!
//! Until the end everything is ours, directories closed to others; [`Tree::settle`] gives each thing what it is to have, from
//! below upwards. So later entries find their way in whatever modes earlier ones have asked for, and what belongs to others
//! can still be linked, replaced and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::content::Content;
use super::entry::{Entry, Kind};
use super::late::{Late, What};
use super::limits::{UnpackLimits, quoted};
use super::owners::Owners;
use super::report::{UnpackReport, WhyLeftOut};
use crate::error::{Error, ErrorKind};

/// As `remove.rs` has it.
const STAY: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_XDEV).union(ResolveFlags::NO_MAGICLINKS);
pub(super) const STRICT: ResolveFlags = STAY.union(ResolveFlags::NO_SYMLINKS);
/// The kernel is asked again so often while something is renamed on the machine (openat2(2), EAGAIN).
const AGAIN: u32 = 128;

/// A directory of the tree.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) dir: Rc<OwnedFd>,
    /// Its path from the root, without a link in it.
    pub(super) path: PathBuf,
}

pub(super) struct Tree<'a> {
    root: Rc<OwnedFd>,
    /// Where what is replaced goes first: beside the root.
    beside: &'a OwnedFd,
    pub(super) owners: &'a mut Owners,
    pub(super) report: UnpackReport,
    leave: &'a dyn Fn() -> bool,
    limits: UnpackLimits,
    /// What is to be settled, by its path.
    late: BTreeMap<PathBuf, Late>,
    /// What the layer in hand has put there, where there are several, with all directories above.
    pub(super) placed: Option<BTreeSet<PathBuf>>,
    /// The directory that was asked for last, and under which name.
    last: Option<(PathBuf, Place)>,
    /// How much was made, directories that no entry speaks of included.
    made: u64,
}

/// An entry cannot be put where it wants to be.
pub(super) fn refused(entry: &[u8], why: impl std::fmt::Display) -> Error {
    Error::invalid("entry", format!("{}: {why}", quoted(entry)))
}

pub(super) fn failed(what: &str, entry: &[u8], error: Errno) -> Error {
    Error::system(format!("cannot {what} {}", quoted(entry)), error).with_field("entry")
}

/// Open in the root, and nowhere else.
pub(super) fn open(dir: &OwnedFd, path: &Path, flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let mut left = AGAIN;
    loop {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) if left > 0 => left -= 1,
            done => return done,
        }
    }
}

pub(super) const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);

impl<'a> Tree<'a> {
    /// In this empty directory, which is ours. `beside` is another one on the same file system.
    pub(super) fn new(
        root: OwnedFd,
        beside: &'a OwnedFd,
        owners: &'a mut Owners,
        limits: UnpackLimits,
        leave: &'a dyn Fn() -> bool,
    ) -> Self {
        let mut late = BTreeMap::new();
        late.insert(PathBuf::new(), Late::made());
        let (report, root) = (UnpackReport::default(), Rc::new(root));
        Self { root, beside, owners, report, leave, limits, late, placed: None, last: None, made: 0 }
    }

    /// What comes now lies over what is there; whiteouts are understood.
    pub(super) fn next_layer(&mut self) {
        self.placed = Some(BTreeSet::new());
    }

    /// This is where the tree itself is being made.
    pub(super) fn is_beside(&self, stat: &rustix::fs::Stat) -> bool {
        rustix::fs::fstat(self.beside).is_ok_and(|own| (own.st_dev, own.st_ino) == (stat.st_dev, stat.st_ino))
    }

    pub(super) fn go_on(&self) -> Result<(), Error> {
        match (self.leave)() {
            true => Err(Error::new(ErrorKind::State, "the root file system is not wanted any more")),
            false => Ok(()),
        }
    }

    /// Put an entry there; `content` has what a file is to hold.
    pub(super) fn put(&mut self, entry: &Entry, content: &mut Content<'_>) -> Result<(), Error> {
        self.go_on()?;
        let path = self.path(&entry.path, &entry.path)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else { return self.root_itself(entry) };
        if self.placed.is_some() {
            let above = path.parent().unwrap_or(Path::new(""));
            if above.components().any(|part| part.as_os_str().as_bytes().starts_with(b".wh..wh.")) {
                // The bookkeeping of another storage.
                return Ok(());
            }
            if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
                return self.whiteout(entry, &path, hidden);
            }
        }
        match entry.kind {
            Kind::Device => return self.left_out(entry, WhyLeftOut::Device),
            Kind::Socket => return self.left_out(entry, WhyLeftOut::Socket),
            _ => {}
        }
        let above = path.parent().unwrap_or(Path::new(""));
        let place = self.place(above, &entry.path)?;
        let real = place.path.join(&name);
        self.count(&entry.path)?;
        if entry.kind != Kind::Directory || !self.is_directory(&place, &name) {
            self.clear(&place, &name, &real)?;
        }
        self.make(entry, &place, &name, &real, content)?;
        self.note(&real);
        self.report.entries += 1;
        Ok(())
    }

    fn count(&mut self, entry: &[u8]) -> Result<(), Error> {
        if self.made >= self.limits.entries {
            let why = format!("the limit of {} is passed at {}", self.limits.entries, quoted(entry));
            return Err(Error::invalid("limits.entries", why));
        }
        self.made += 1;
        Ok(())
    }

    fn make(
        &mut self,
        entry: &Entry,
        place: &Place,
        name: &OsStr,
        real: &Path,
        content: &mut Content<'_>,
    ) -> Result<(), Error> {
        match &entry.kind {
            Kind::File(extent) => {
                let file = self.file(entry, place, name)?;
                let mut file = std::fs::File::from(file);
                self.report.bytes += content.pour(&mut file, extent)?;
                self.attributes(entry, &file.into(), real, What::File)
            }
            Kind::Directory => self.directory(entry, place, name, real),
            Kind::Symlink(text) => {
                if text.is_empty() || text.contains(&0) {
                    return Err(refused(&entry.path, "a symbolic link that says nothing, or has a NUL in it"));
                }
                let made = rustix::fs::symlinkat(OsStr::from_bytes(text), &*place.dir, name);
                made.map_err(|error| failed("make the link", &entry.path, error))?;
                self.nameless(entry, place, name, real, What::Symlink)
            }
            Kind::Fifo => {
                let made = rustix::fs::mknodat(&*place.dir, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
                made.map_err(|error| failed("make the pipe", &entry.path, error))?;
                self.nameless(entry, place, name, real, What::Fifo)
            }
            Kind::HardLink(target) => self.hard_link(entry, target, place, name, real),
            Kind::Device | Kind::Socket => Ok(()),
        }
    }

    /// A name as a path from the root. Absolute ones and `..` are refused, not mended.
    fn path(&self, name: &[u8], entry: &[u8]) -> Result<PathBuf, Error> {
        if name.is_empty() || name.contains(&0) {
            return Err(refused(entry, "it has no name, or a NUL in it"));
        }
        if name.len() > self.limits.path {
            return Err(Error::invalid(
                "limits.path",
                format!("{} is longer than {}", quoted(entry), self.limits.path),
            ));
        }
        let mut path = PathBuf::new();
        let mut depth = 0;
        for part in Path::new(OsStr::from_bytes(name)).components() {
            match part {
                Component::Normal(part) => {
                    path.push(part);
                    depth += 1;
                }
                Component::CurDir => {}
                Component::RootDir => return Err(refused(entry, "an absolute path leads outside")),
                _ => return Err(refused(entry, "a path with .. leads outside")),
            }
        }
        if depth > self.limits.depth {
            let why = format!("{} lies {depth} levels deep; {} are possible", quoted(entry), self.limits.depth);
            return Err(Error::invalid("limits.depth", why));
        }
        Ok(path)
    }

    /// The directory at `path`, made with all above it where they are missing.
    pub(super) fn place(&mut self, path: &Path, entry: &[u8]) -> Result<Place, Error> {
        if let Some((asked, place)) = &self.last
            && asked == path
        {
            return Ok(place.clone());
        }
        let place = match open(&self.root, path, DIRECTORY, STRICT) {
            Ok(dir) => Place { dir: Rc::new(dir), path: path.to_owned() },
            Err(_) => self.walk(path, entry)?,
        };
        self.last = Some((path.to_owned(), place.clone()));
        Ok(place)
    }

    /// The same, step by step: through links of the archive that stay inside, and making what is not there.
    fn walk(&mut self, path: &Path, entry: &[u8]) -> Result<Place, Error> {
        let mut place = Place { dir: Rc::clone(&self.root), path: PathBuf::new() };
        for part in path.components() {
            let next = place.path.join(part);
            let name = Path::new(part.as_os_str());
            let opened = match open(&place.dir, name, DIRECTORY, STRICT) {
                Err(Errno::NOENT) => {
                    self.count(entry)?;
                    let made = rustix::fs::mkdirat(&*place.dir, name, Mode::RWXU);
                    made.map_err(|error| failed("make the directory of", entry, error))?;
                    self.late.insert(next.clone(), Late::made());
                    self.note(&next);
                    open(&place.dir, name, DIRECTORY, STRICT)
                }
                opened => opened,
            };
            place = match opened {
                Ok(dir) => Place { dir: Rc::new(dir), path: next },
                Err(Errno::LOOP | Errno::NOTDIR) => self.through(&next, entry)?,
                Err(error) => return Err(failed("open the directory of", entry, error)),
            };
        }
        Ok(place)
    }

    /// Through a symbolic link, as long as it stays inside.
    fn through(&self, path: &Path, entry: &[u8]) -> Result<Place, Error> {
        let dir = open(&self.root, path, DIRECTORY, STAY).map_err(|error| {
            let link = quoted(path.as_os_str().as_bytes());
            match error {
                Errno::XDEV => refused(entry, format!("the symbolic link {link} leads outside")),
                Errno::NOTDIR => refused(entry, format!("{link} is no directory")),
                Errno::LOOP | Errno::NOENT => refused(entry, format!("the symbolic link {link} leads to no directory")),
                error => failed("open the directory of", entry, error),
            }
        })?;
        let name = |dir: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", dir.as_raw_fd()));
        let named = name(&dir).and_then(|real| Ok((real, name(&self.root)?)));
        let (real, root) =
            named.map_err(|error| Error::system(format!("cannot find where {} leads", quoted(entry)), error))?;
        let path = real.strip_prefix(root).map_err(|_| refused(entry, "it leads outside"))?.to_owned();
        Ok(Place { dir: Rc::new(dir), path })
    }

    pub(super) fn is_directory(&self, place: &Place, name: &OsStr) -> bool {
        let stat = rustix::fs::statat(&*place.dir, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
    }

    /// Nothing of that name is there any more.
    pub(super) fn clear(&mut self, place: &Place, name: &OsStr, real: &Path) -> Result<(), Error> {
        match rustix::fs::unlinkat(&*place.dir, name, AtFlags::empty()) {
            Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {
                // Out of the way first: what is below is no part of the tree any more, whatever happens.
                let moved = rustix::fs::renameat(&*place.dir, name, self.beside, "replaced");
                moved.map_err(|error| failed("replace", real.as_os_str().as_bytes(), error))?;
                super::remove::at(self.beside, OsStr::new("replaced"), self.owners, self.leave)?;
                self.last = None;
            }
            Err(error) => return Err(failed("replace", real.as_os_str().as_bytes(), error)),
            // It may have been a link on the way to what was asked for last.
            Ok(()) => self.last = None,
        }
        let gone: Vec<PathBuf> = self
            .late
            .range(real.to_owned()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(real))
            .cloned()
            .collect();
        gone.iter().for_each(|path| drop(self.late.remove(path)));
        Ok(())
    }

    /// It came with this layer.
    pub(super) fn note(&mut self, real: &Path) {
        if let Some(placed) = &mut self.placed {
            let mut above = Some(real);
            while let Some(path) = above {
                if !placed.insert(path.to_owned()) {
                    break;
                }
                above = path.parent();
            }
        }
    }

    /// `./`: the root's own mode and owner.
    fn root_itself(&mut self, entry: &Entry) -> Result<(), Error> {
        if entry.kind != Kind::Directory {
            return Err(refused(&entry.path, "the root itself is a directory"));
        }
        let root = Rc::clone(&self.root);
        self.attributes(entry, &root, Path::new(""), What::Directory)?;
        self.report.entries += 1;
        Ok(())
    }

    fn left_out(&mut self, entry: &Entry, why: WhyLeftOut) -> Result<(), Error> {
        tracing::debug!(entry = %quoted(&entry.path), why = why.words(), "left out");
        self.report.skip(&entry.path, why, None);
        Ok(())
    }

    fn file(&self, entry: &Entry, place: &Place, name: &OsStr) -> Result<OwnedFd, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&*place.dir, name, flags, Mode::RUSR | Mode::WUSR);
        made.map_err(|error| failed("make the file", &entry.path, error))
    }

    fn directory(&mut self, entry: &Entry, place: &Place, name: &OsStr, real: &Path) -> Result<(), Error> {
        match rustix::fs::mkdirat(&*place.dir, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make the directory", &entry.path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let dir = open(&place.dir, Path::new(name), flags, STRICT);
        let dir = dir.map_err(|error| failed("open the directory", &entry.path, error))?;
        self.attributes(entry, &dir, real, What::Directory)
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        target: &[u8],
        place: &Place,
        name: &OsStr,
        real: &Path,
    ) -> Result<(), Error> {
        let path = self.path(target, &entry.path)?;
        let to = path.file_name().map(OsStr::to_owned);
        let to = to.ok_or_else(|| refused(&entry.path, "a hard link to the root"))?;
        let at = match open(&self.root, path.parent().unwrap_or(Path::new("")), DIRECTORY, STRICT) {
            Ok(dir) => Place { dir: Rc::new(dir), path: path.parent().unwrap_or(Path::new("")).to_owned() },
            Err(Errno::LOOP | Errno::NOTDIR) => self.through(path.parent().unwrap_or(Path::new("")), &entry.path)?,
            Err(error) => return Err(failed("find the file that is meant by the hard link", &entry.path, error)),
        };
        // The link itself, where it is one to a link.
        let made = rustix::fs::linkat(&*at.dir, &to, &*place.dir, name, AtFlags::empty());
        made.map_err(|error| match error {
            Errno::PERM => refused(&entry.path, format!("a hard link to {}, which is no file", quoted(target))),
            error => failed(&format!("make a hard link to {} at", quoted(target)), &entry.path, error),
        })?;
        // It is the same file; what is to become of it must not go with its first name.
        if let Some(late) = self.late.get(&at.path.join(&to)).cloned() {
            self.late.insert(real.to_owned(), late);
        }
        Ok(())
    }

    /// A link or a pipe: nothing that is opened.
    fn nameless(&mut self, entry: &Entry, place: &Place, name: &OsStr, real: &Path, what: What) -> Result<(), Error> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let found = open(&place.dir, Path::new(name), flags, STRICT);
        let found = found.map_err(|error| failed("look at", &entry.path, error))?;
        self.attributes(entry, &found, real, what)
    }

    /// What an entry is to have beside its content: now, or when all is there.
    fn attributes(&mut self, entry: &Entry, file: &OwnedFd, real: &Path, what: What) -> Result<(), Error> {
        let (uid, gid) = self.owners.kept(entry.ids)?;
        let mut mode = entry.mode;
        if uid.is_none() || gid.is_none() {
            self.report.owners_lost += 1;
            // Set to somebody's id, and not to the id of whoever it belongs to now.
            mode &= if uid.is_none() { !0o4000 } else { !0 } & if gid.is_none() { !0o2000 } else { !0 };
        }
        let mut late =
            Late { ids: (uid.unwrap_or(0), gid.unwrap_or(0)), mode, mtime: entry.mtime, what, capability: None };
        for (name, value) in &entry.xattrs {
            self.xattr(entry, file, &mut late, (name, value))?;
        }
        let at_once = what != What::Directory && self.owners.is_ours(late.ids) && late.capability.is_none();
        if at_once {
            late.now(file).map_err(|error| failed("set mode and time of", &entry.path, error))?;
            self.late.remove(real);
        } else {
            self.late.insert(real.to_owned(), late);
        }
        Ok(())
    }

    fn xattr(
        &mut self,
        entry: &Entry,
        file: &OwnedFd,
        late: &mut Late,
        (name, value): (&[u8], &[u8]),
    ) -> Result<(), Error> {
        let opened = matches!(late.what, What::File | What::Directory);
        if name == b"security.capability" && late.what == What::File {
            late.capability = Some(value.to_owned());
            return Ok(());
        }
        // Those of an overlay would be orders to ours.
        let ours = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.") && opened && !name.contains(&0);
        if !ours {
            self.report.skip(&entry.path, WhyLeftOut::Attribute, Some(name));
            return Ok(());
        }
        match rustix::fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            // ext4 has one block for all of a file's.
            Err(Errno::OPNOTSUPP | Errno::NOSPC | Errno::TOOBIG | Errno::RANGE | Errno::PERM) => {
                self.report.skip(&entry.path, WhyLeftOut::AttributeUnsupported, Some(name))
            }
            Err(error) => return Err(failed("set an extended attribute of", &entry.path, error)),
        }
        Ok(())
    }

    /// Everything is there: owners, modes and times, from below upwards.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        self.last = None;
        while let Some((path, late)) = self.late.pop_last() {
            self.go_on()?;
            let name = path.as_os_str().as_bytes();
            let flags = match late.what {
                What::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
                What::File => OFlags::RDONLY | OFlags::NONBLOCK,
                What::Symlink | What::Fifo => OFlags::PATH,
            };
            let opened = open(&self.root, &path, flags | OFlags::NOFOLLOW, STRICT);
            let file = opened.map_err(|error| failed("open", name, error))?;
            late.settle(file, self.owners, path.clone()).map_err(|error| match error.field() {
                Some(_) => error,
                None => error.with_field("entry"),
            })?;
        }
        self.owners.flush()
    }
}

/// Both times of an entry.
pub(super) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// A path as bytes of an entry.
pub(super) fn bytes_of(path: &Path) -> Vec<u8> {
    path.as_os_str().to_owned().into_vec()
}
