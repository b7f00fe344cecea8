//! How much may be copied, and what was.

use std::path::PathBuf;

/// Bounds of a copy. The tree decides nothing: what passes a bound ends the copy with an error that names the bound and
/// the place.
///
/// ```
/// use orangery::CopyOptions;
/// let small = CopyOptions::default().bytes(1 << 20).entries(100);
/// # let _ = small;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct CopyOptions {
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) depth: usize,
    pub(super) outside_links: bool,
}

impl Default for CopyOptions {
    /// 64 MiB, 10,000 entries, 64 levels; links that lead out of the copy are skipped.
    fn default() -> Self {
        Self { bytes: 64 << 20, entries: 10_000, depth: 64, outside_links: false }
    }
}

impl CopyOptions {
    /// Bytes of all files together. A sparse file counts with its length.
    pub fn bytes(mut self, most: u64) -> Self {
        self.bytes = most;
        self
    }

    /// Names in all directories together, what is skipped included.
    pub fn entries(mut self, most: u64) -> Self {
        self.entries = most;
        self
    }

    /// Directories in one another, at most 1,000: each level takes two descriptors while it is copied.
    pub fn depth(mut self, most: usize) -> Self {
        self.depth = most.min(1000);
        self
    }

    /// Copy every link out as it is, also one that is absolute or climbs out of the copied tree. Whoever follows such a
    /// link afterwards reads what the container chose: only for those who never follow one. Links that are copied in are
    /// always as they were.
    pub fn outside_links(mut self, copy: bool) -> Self {
        self.outside_links = copy;
        self
    }
}

/// What was copied.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let copied: orangery::Copied = container.copy_out("/out", "results", Default::default()).await?;
/// println!("{} files, {} bytes", copied.files, copied.bytes);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// Regular files.
    pub files: u64,
    /// Directories, with the first.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// What was there and was not copied.
    pub skipped: Vec<Skipped>,
}

/// Something that was not copied.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// let copied = container.copy_out("/out", "results", Default::default()).await?;
/// for orangery::Skipped { path, reason, .. } in copied.skipped {
///     println!("{} was left out: {reason:?}", path.display());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// Its path below what was copied.
    pub path: PathBuf,
    /// Why.
    pub reason: SkipReason,
}

/// Why something was not copied.
///
/// ```no_run
/// # async fn f(container: orangery::ContainerHandle) -> Result<(), orangery::Error> {
/// use orangery::SkipReason;
/// let copied = container.copy_out("/out", "results", Default::default()).await?;
/// assert!(!copied.skipped.iter().any(|skipped| skipped.reason == SkipReason::Device));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// A fifo.
    Fifo,
    /// A socket.
    Socket,
    /// A device.
    Device,
    /// It lies in /proc, /sys or another file system that the kernel makes up.
    Pseudo,
    /// A link that would lead out of the copy.
    OutsideLink,
    /// Neither the container's root nor its main process's user may read it.
    Unreadable,
}
