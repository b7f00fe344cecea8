//! Root file systems from archives and directories: what callers say, and the order of the work.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::archive::Archive;
use super::content::Content;
use super::limits::{Budget, UnpackLimits};
use super::owners::Owners;
use super::remove::{self, Removed};
use super::report::{Progress, UnpackReport, Unpacked};
use super::staging::{self, Staging};
use super::tree::Tree;
use super::{decode, directory};
use crate::error::{Error, ErrorKind};

/// One layer of a root file system: an archive or a directory.
#[derive(Debug)]
pub struct Layer(Source);

enum Source {
    Tar(PathBuf),
    Reader(Box<dyn Read + Send>),
    Directory(PathBuf),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tar(path) => f.debug_tuple("Tar").field(path).finish(),
            Self::Reader(_) => f.write_str("Reader"),
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
        }
    }
}

impl Layer {
    /// A tar archive: ustar, GNU or pax; compressed by gzip or zstd where the features of these names are switched on.
    #[must_use]
    pub fn tar(path: impl Into<PathBuf>) -> Self {
        Self(Source::Tar(path.into()))
    }

    /// The same from anywhere, such as a socket. Read by a thread that may block.
    #[must_use]
    pub fn reader(input: impl Read + Send + 'static) -> Self {
        Self(Source::Reader(Box::new(input)))
    }

    /// A directory of the host: all that this user may read of it, on its own file system. Among layers also the whiteouts of an
    /// overlay's upper directory are understood.
    #[must_use]
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self(Source::Directory(path.into()))
    }
}

/// Called while the work goes on.
pub(super) type Told = Arc<dyn Fn(Progress) + Send + Sync>;

/// Makes a root file system of archives or directories, with owners that a container sees as they were meant: what is user 0
/// there is the container's root, what is 1000 its user 1000.
///
/// As root that is true for containers with a user namespace of their own, whose mounts map ids. As an ordinary user it needs a
/// range in /etc/subuid and /etc/subgid; without one everything is the container's root's, and
/// [`UnpackReport::owners_lost`] counts what that changes.
///
/// Nothing is ever written outside of the root: absolute names, `..`, and links that lead outside are refused with the entry named.
/// Devices are left out, and said.
///
/// ```no_run
/// use orangery_runtime::rootfs::{Layer, Unpack};
/// # async fn example() -> Result<(), orangery_runtime::Error> {
/// let made = Unpack::from_tar("alpine.tar").into_dir("/var/lib/me/alpine").await?;
/// assert!(made.rootfs.ends_with("alpine/rootfs"));
/// let image = Unpack::from_layers([Layer::tar("base.tar"), Layer::tar("app.tar")]);
/// # drop(image);
/// # Ok(())
/// # }
/// ```
pub struct Unpack {
    layers: Vec<Layer>,
    /// Several lie over each other: whiteouts are understood.
    layered: bool,
    limits: UnpackLimits,
    told: Option<Told>,
}

impl fmt::Debug for Unpack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpack").field("layers", &self.layers).field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Unpack {
    /// Of one archive. Names that begin with `.wh.` are ordinary ones.
    #[must_use]
    pub fn from_tar(path: impl Into<PathBuf>) -> Self {
        Self::one(Layer::tar(path))
    }

    /// Of one archive, from anywhere.
    #[must_use]
    pub fn from_reader(input: impl Read + Send + 'static) -> Self {
        Self::one(Layer::reader(input))
    }

    /// Of a directory of the host. An ordinary user's own files are the container's root's, those of the range what they are in
    /// a container, and all others keep their numbers.
    #[must_use]
    pub fn from_directory(path: impl Into<PathBuf>) -> Self {
        Self::one(Layer::directory(path))
    }

    /// Of several, the lowest first, as an OCI image has them: `.wh.NAME` takes away what the layers below have under that
    /// name, `.wh..wh..opq` all that they have in that directory.
    #[must_use]
    pub fn from_layers(layers: impl IntoIterator<Item = Layer>) -> Self {
        Self { layered: true, ..Self::of(layers.into_iter().collect()) }
    }

    fn one(layer: Layer) -> Self {
        Self::of(vec![layer])
    }

    fn of(layers: Vec<Layer>) -> Self {
        Self::new(layers, false, UnpackLimits::default(), None)
    }

    pub(super) fn new(layers: Vec<Layer>, layered: bool, limits: UnpackLimits, told: Option<Told>) -> Self {
        Self { layers, layered, limits, told }
    }

    /// How much it may be.
    #[must_use]
    pub fn limits(mut self, limits: UnpackLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Have this called now and then with how far it has come, on the thread that does the work.
    #[must_use]
    pub fn progress(mut self, told: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.told = Some(Arc::new(told));
        self
    }

    /// Make it at `to`, which must not be there; its directory must. The root is `to/rootfs`; `to` is closed to other users,
    /// and [`remove`] removes it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] with the field `entry` for what leads outside, `archive` for what is no archive, `limits.*` for
    /// too much of it, each with the entry's name; [`ErrorKind::Exists`] with the field `to`; `owners` where a file cannot be given
    /// to whom it belongs; of several layers the field begins with `layers[N]`. Nothing is left.
    ///
    /// # Panics
    /// Without a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropped early, the work ends at the next entry, and what was made is removed; that may take a moment. What a kill
    /// leaves is removed by the next for the same `to`, and by [`remove`].
    pub async fn into_dir(self, to: impl AsRef<Path>) -> Result<Unpacked, Error> {
        let to = to.as_ref().to_owned();
        off_thread(move |leave| self.into_dir_blocking(&to, leave).map(|(unpacked, _)| unpacked)).await
    }

    /// The same on this thread, until `leave` says that it is not wanted any more. The directory that comes with it stays locked
    /// as long as it is open.
    pub(super) fn into_dir_blocking(self, to: &Path, leave: &dyn Fn() -> bool) -> Result<(Unpacked, Staging), Error> {
        if self.layers.is_empty() {
            return Err(Error::invalid("layers", "there is no layer"));
        }
        let mut owners = Owners::new();
        let staging = Staging::begin(to, &mut owners)?;
        let made =
            staging.root().and_then(|root| self.fill(root, &staging.dir, &mut owners, leave)).and_then(|report| {
                let text = serde_json::to_vec_pretty(&report);
                let text = text.map_err(|_| Error::new(ErrorKind::System, "the report cannot be written down"))?;
                staging.finish(&text).map(|()| report)
            });
        match made {
            Ok(report) => Ok((Unpacked { rootfs: to.join(staging::ROOT), report }, staging)),
            Err(error) => {
                if let Err(also) = staging.undo(&mut owners) {
                    tracing::warn!(%also, "what was unpacked could not be removed");
                }
                Err(error)
            }
        }
    }

    /// Into this empty directory, which is ours, with another one `beside` it.
    pub(super) fn fill(
        self,
        root: OwnedFd,
        beside: &OwnedFd,
        owners: &mut Owners,
        leave: &dyn Fn() -> bool,
    ) -> Result<UnpackReport, Error> {
        let mut tree = Tree::new(root, beside, owners, self.limits, leave);
        let mut budget = Budget::new(self.limits);
        let mut clock =
            Clock { told: self.told.as_deref(), now: Progress::default(), said: Progress::default(), leave };
        for (index, Layer(source)) in self.layers.into_iter().enumerate() {
            if self.layered {
                tree.next_layer();
            }
            let done = match source {
                Source::Tar(path) => {
                    decode::open(&path).and_then(|input| archive(input, &mut tree, &mut budget, &mut clock))
                }
                Source::Reader(input) => {
                    decode::decoded(input).and_then(|input| archive(input, &mut tree, &mut budget, &mut clock))
                }
                Source::Directory(path) => directory::copy(&path, &mut tree, &mut budget, &mut |more| clock.more(more)),
            };
            done.map_err(|error| of_layer(error, self.layered.then_some(index)))?;
        }
        tree.settle()?;
        clock.now.done = true;
        clock.tell();
        let why = tree.owners.why_single().map(str::to_owned);
        let mut report = std::mem::take(&mut tree.report);
        report.why_owners_lost = why.filter(|_| report.owners_lost > 0);
        Ok(report)
    }
}

/// In the log, what an entry has lost.
pub(super) fn told_of_owners(report: &UnpackReport) {
    for left_out in &report.skipped {
        tracing::info!(entry = left_out.entry, why = left_out.reason.words(), "left out");
    }
    if report.owners_lost > 0 {
        let why = report.why_owners_lost.as_deref().unwrap_or("no container has their ids");
        tracing::warn!(entries = report.owners_lost, why, "entries belong to the container's root now");
    }
}

/// Which of several layers it is about.
fn of_layer(error: Error, index: Option<usize>) -> Error {
    let Some(index) = index else { return error };
    let field = match error.field() {
        Some(field) if field.starts_with("limits.") => return error,
        Some(field) => format!("layers[{index}].{field}"),
        None => format!("layers[{index}]"),
    };
    error.with_field(field)
}

/// Put all of an archive into the tree.
fn archive(
    input: Box<dyn Read + Send>,
    tree: &mut Tree<'_>,
    budget: &mut Budget,
    clock: &mut Clock<'_>,
) -> Result<(), Error> {
    let mut archive = Archive::with(input, std::mem::replace(budget, Budget::new(UnpackLimits::default())));
    while let Some(entry) = archive.next_entry()? {
        let mut read = |buffer: &mut [u8]| archive.read_content(buffer);
        tree.put(&entry, &mut Content { read: &mut read, wrote: &mut |more| clock.more(more) })?;
        clock.now.entries += 1;
        clock.more(0)?;
    }
    archive.drain();
    *budget = archive.budget;
    Ok(())
}

/// Tells how far it has come, not too often.
struct Clock<'a> {
    told: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
    now: Progress,
    said: Progress,
    leave: &'a dyn Fn() -> bool,
}

impl Clock<'_> {
    fn more(&mut self, bytes: u64) -> Result<(), Error> {
        self.now.bytes += bytes;
        if self.now.bytes - self.said.bytes >= 4 << 20 || self.now.entries - self.said.entries >= 500 {
            self.tell();
        }
        match (self.leave)() {
            true => Err(Error::new(ErrorKind::State, "the root file system is not wanted any more")),
            false => Ok(()),
        }
    }

    fn tell(&mut self) {
        self.said = self.now;
        if let Some(told) = self.told {
            told(self.now);
        }
    }
}

/// Remove a directory and all that is in it, without root, whoever of the ids of this user's range it belongs to: what
/// [`Unpack::into_dir`] has made, what it has left when it was killed, or any other tree. No link is followed; memory
/// and descriptors do not grow with the tree. What is gone already is no error.
///
/// # Errors
/// [`ErrorKind::Invalid`] with the field `path` for what is no directory, or a link to one; [`ErrorKind::Permission`] for what
/// belongs to somebody else, named; the operating system's, such as EBUSY for something that is mounted there. What is left is still
/// one tree of that name, and the next removal goes on with it.
///
/// # Panics
/// Without a tokio runtime.
///
/// # Cancel safety
/// Dropped early, it ends at the next file.
pub async fn remove(path: impl AsRef<Path>) -> Result<Removed, Error> {
    let path = path.as_ref().to_owned();
    off_thread(move |leave| {
        let mut owners = Owners::new();
        staging::sweep(&path, &mut owners)?;
        remove::tree(&path, &mut owners, leave)
    })
    .await
}

/// A directory was made by [`Unpack::into_dir`]: its report is in it.
///
/// # Errors
/// [`ErrorKind::NotFound`] where it is not there; [`ErrorKind::Invalid`] with the field `path` where it is something else.
pub fn report_of(path: impl AsRef<Path>) -> Result<UnpackReport, Error> {
    let path = path.as_ref();
    let failed = |error| Error::system(format!("cannot look at {}", path.display()), error).with_field("path");
    let meta = std::fs::symlink_metadata(path).map_err(failed)?;
    let other = || Error::invalid("path", format!("{} was not unpacked by orangery", path.display()));
    if !meta.is_dir() {
        return Err(other());
    }
    let text = File::open(path.join(staging::REPORT)).and_then(|file| {
        let mut text = String::new();
        file.take(16 << 20).read_to_string(&mut text).map(|_| text)
    });
    serde_json::from_str(&text.map_err(|_| other())?).map_err(|_| other())
}

/// On a thread that may block; told when nobody waits any more.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce(&dyn Fn() -> bool) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    struct Wanted(Arc<AtomicBool>);
    impl Drop for Wanted {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let left = Arc::new(AtomicBool::new(false));
    let wanted = Wanted(Arc::clone(&left));
    let span = tracing::Span::current();
    let done = tokio::task::spawn_blocking(move || span.in_scope(|| work(&|| left.load(Ordering::Acquire)))).await;
    drop(wanted);
    done.map_err(|_| Error::new(ErrorKind::System, "the thread that unpacks panicked"))?
}
