//! What a container sees beside its root: mounts that the user asked for, and their check.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::check::{Refusals, clean};
use super::listed::{self, IdRanges};
use crate::error::{Error, ErrorKind};

/// Most mounts of one container or process.
const MOST: usize = 64;
/// The same of a bundle, whose list has what is otherwise made by us.
const MOST_LISTED: usize = 128;

/// A mount that the user asked for. No set-user-id file on it means anything (`nosuid`), and no device node on it can be
/// opened (`nodev`) unless it is a [`Mount::device`]; neither can be had otherwise.
///
/// ```
/// use orangery_runtime::spec::{Mount, Propagation};
/// let data = Mount::bind("/srv/data", "/data").read_only().no_exec();
/// assert!(data.read_only && data.no_exec && data.propagation == Propagation::Private);
/// let media = Mount::bind("/media", "/media").propagation(Propagation::Slave);
/// let scratch = Mount::tmpfs("/scratch").no_exec();
/// # assert_ne!(media, scratch);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path inside the container; made if it is missing and the root allows it.
    pub target: PathBuf,
    /// Read-only. Refused for a device, which it would not protect.
    pub read_only: bool,
    /// No program on it can be executed (`noexec`). Interpreters still read scripts from it.
    pub no_exec: bool,
    /// What becomes of the host's later mounts.
    pub propagation: Propagation,
    /// Of a container whose mounts are [listed](super::ContainerSpec::listed): what its options say instead of all of the
    /// above.
    #[serde(default)]
    pub exact: Option<Exact>,
}

/// What the options of a listed mount say, and nothing else: it is neither `nosuid` nor `nodev` unless they do. Attributes are
/// those of mount_setattr(2), `MOUNT_ATTR_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Exact {
    /// Attributes that it gets.
    pub set: u64,
    /// Attributes that are taken away, where its source has them.
    pub clear: u64,
    /// Attributes that it and everything mounted below it get.
    pub set_below: u64,
    /// The same, taken away.
    pub clear_below: u64,
    /// A bind mount without what is mounted below its source.
    pub single: bool,
    /// Changes of propagation in order, as the `MS_*` flags of mount(2).
    pub propagation: Vec<u64>,
    /// A tmpfs that begins with a copy of what lies where it is mounted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub copy_up: bool,
    /// Nothing new: what is mounted there by then gets these attributes in the place of those that it had, and where the source
    /// is a file system with options, that file system gets them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub remount: bool,
    /// A bind mount whose files belong to other ids than on the disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<MountIds>,
}

/// Whose the files of a bind mount are (`MOUNT_ATTR_IDMAP`). Root only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct MountIds {
    /// What id on the disk (inside) is which outside; unset: those of the container's user namespace.
    pub maps: Option<IdRanges>,
    /// Of what is mounted below it too.
    pub below: bool,
}

impl Mount {
    /// `source` at `target`: writable, executable, private.
    #[must_use]
    pub fn new(source: MountSource, target: impl Into<PathBuf>) -> Self {
        let propagation = Propagation::Private;
        Self { source, target: target.into(), read_only: false, no_exec: false, propagation, exact: None }
    }

    /// A file or directory of the host, with what is mounted below it.
    #[must_use]
    pub fn bind(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Self::new(MountSource::Bind(source.into()), target)
    }

    /// An empty file system, as large as the container's disk limit; of another size: [`Mount::new`].
    #[must_use]
    pub fn tmpfs(target: impl Into<PathBuf>) -> Self {
        Self::new(MountSource::Tmpfs { size: None }, target)
    }

    /// A device node of the host, at the same path; at another: set [`Mount::target`].
    #[must_use]
    pub fn device(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self::new(MountSource::Device(path.clone()), path)
    }

    /// Read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Nothing on it can be executed.
    #[must_use]
    pub fn no_exec(mut self) -> Self {
        self.no_exec = true;
        self
    }

    /// What becomes of the host's later mounts. Default: [`Propagation::Private`].
    #[must_use]
    pub fn propagation(mut self, propagation: Propagation) -> Self {
        self.propagation = propagation;
        self
    }
}

/// What a [`Mount`] mounts.
///
/// ```
/// use orangery_runtime::spec::MountSource;
/// let scratch = MountSource::Tmpfs { size: Some(16 << 20) };
/// assert_ne!(scratch, MountSource::Bind("/srv".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MountSource {
    /// A file or directory of the host, with what is mounted below it.
    Bind(PathBuf),
    /// An empty file system of its own.
    Tmpfs {
        /// Largest size in bytes; the container's disk limit if unset.
        size: Option<u64>,
    },
    /// A new instance of a file system of the kernel. In a container whose mounts are [listed](super::ContainerSpec::listed)
    /// alone.
    FileSystem {
        /// Its type, such as `proc`. `cgroup` is whatever the machine has: version 2, or the hierarchies of version 1 that the
        /// container has a group in.
        kind: String,
        /// What the table of mounts calls its source.
        source: String,
        /// Its options that are no attributes of a mount; an empty value is a flag.
        options: Vec<(String, String)>,
    },
    /// A character or block device node of the host. What is mounted in the end is checked to be the device that was seen
    /// when the spec was. Who may open it is up to the node's permissions and its owner outside: where the container has
    /// user ids of its own and the node's file system cannot map them (devtmpfs cannot), everybody inside is "others".
    Device(PathBuf),
}

impl MountSource {
    /// Where it is on the host.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Bind(path) | Self::Device(path) => Some(path),
            Self::Tmpfs { .. } | Self::FileSystem { .. } => None,
        }
    }
}

/// Which way later mounts travel between the host's directory and a bind mount of it.
///
/// ```
/// use orangery_runtime::spec::Propagation;
/// assert_eq!(Propagation::default(), Propagation::Private);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Propagation {
    /// Neither way: what is mounted on the host afterwards does not appear, what is unmounted stays.
    #[default]
    Private,
    /// What the host mounts and unmounts below it happens inside as well; nothing travels back. Of a bind mount whose
    /// source lies on a shared mount (as systemd makes them all) or on a slave. What arrives has the flags that the host
    /// gave it, not those of this mount.
    Slave,
    /// Both ways. Always refused: what a container mounts would appear on the host.
    Shared,
}

/// What the check has seen of a mount's source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// It is no directory.
    pub is_file: bool,
    /// The device that it is, where it must be one.
    pub device: Option<Device>,
}

/// A device of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub rdev: u64,
    /// A block device; else a character device.
    pub block: bool,
}

/// Refuse what cannot be; what was seen of each, in order.
pub(super) fn check(no: &mut Refusals, mounts: &[Mount], listed: bool) -> Vec<Seen> {
    let most = if listed { MOST_LISTED } else { MOST };
    if mounts.len() > most {
        no.add("mounts", format!("{} mounts are asked for; {most} are possible", mounts.len()));
    }
    let one = |(index, mount)| {
        let field = format!("mounts[{index}]");
        if listed { listed::check(no, mount, &field) } else { one(no, mount, &field) }
    };
    mounts.iter().enumerate().map(one).collect()
}

fn one(no: &mut Refusals, mount: &Mount, field: &str) -> Seen {
    if mount.exact.is_some() || matches!(mount.source, MountSource::FileSystem { .. }) {
        no.add(field, "a mount with options of its own is one of a container whose mounts are listed");
    }
    if let Err(why) = clean(&mount.target) {
        no.add(format!("{field}.target"), why);
    } else if mount.target == Path::new("/") {
        no.add(format!("{field}.target"), "the root itself is chosen by rootfs, not by a mount");
    }
    if mount.read_only && matches!(mount.source, MountSource::Device(_)) {
        no.add(format!("{field}.read_only"), "a read-only mount does not keep anybody from writing to a device");
    }
    if let Err(error) = check_propagation(mount) {
        no.push(error.with_field(format!("{field}.propagation")));
    }
    let seen = match &mount.source {
        MountSource::Tmpfs { .. } | MountSource::FileSystem { .. } => Ok(Seen::default()),
        MountSource::Bind(path) => look(path).map(|meta| Seen { is_file: !meta.is_dir(), device: None }),
        MountSource::Device(path) => device(path).map(|device| Seen { is_file: true, device: Some(device) }),
    };
    seen.unwrap_or_else(|error| {
        let part = if matches!(mount.source, MountSource::Device(_)) { "device" } else { "source" };
        no.push(error.with_field(format!("{field}.{part}")));
        Seen::default()
    })
}

pub(super) fn look(path: &Path) -> Result<Metadata, Error> {
    clean(path).map_err(|why| Error::invalid("", why))?;
    std::fs::metadata(path).map_err(|error| {
        let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
        let kind = if denied { ErrorKind::Permission } else { ErrorKind::NotFound };
        Error::system(format!("cannot use {} as the source of a mount", path.display()), error).with_kind(kind)
    })
}

/// A device node that somebody like us may open: an ordinary user's container has no more rights than its user.
pub(super) fn device(path: &Path) -> Result<Device, Error> {
    let meta = look(path)?;
    let kind = meta.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(Error::invalid("", format!("{} is no device node", path.display())));
    }
    let may = |what| rustix::fs::accessat(CWD, path, what, AtFlags::EACCESS).is_ok();
    if !may(rustix::fs::Access::READ_OK) && !may(rustix::fs::Access::WRITE_OK) {
        let why = format!("this user may neither read nor write {}", path.display());
        return Err(Error::new(ErrorKind::Permission, why).with_hint("join the group that the node belongs to"));
    }
    Ok(Device { rdev: meta.rdev(), block: kind.is_block_device() })
}

fn check_propagation(mount: &Mount) -> Result<(), Error> {
    match (mount.propagation, &mount.source) {
        (Propagation::Private, _) => Ok(()),
        (Propagation::Shared, _) => {
            let why = "what a container mounts would appear on the host";
            Err(Error::invalid("", why).with_hint("slave lets the host's later mounts appear inside"))
        }
        // What is wrong with the path is told by its own check.
        (Propagation::Slave, MountSource::Bind(path)) => match travels(path) {
            Ok(true) | Err(_) => Ok(()),
            Ok(false) => {
                let why = format!("{} lies on a private mount, from which no later mount travels", path.display());
                Err(Error::invalid("", why).with_hint("mount --make-shared makes it one from which they do"))
            }
        },
        (Propagation::Slave, _) => Err(Error::invalid("", "only a bind mount has mounts of the host below it")),
    }
}

/// Mounts made below `path` from now on reach a copy of its mount: it is shared, or a slave itself.
fn travels(path: &Path) -> std::io::Result<bool> {
    use std::os::fd::AsRawFd as _;
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", place.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim).unwrap_or_default();
    let mounts = std::fs::read("/proc/thread-self/mountinfo")?;
    let mounts = String::from_utf8_lossy(&mounts);
    // Number, parent, device, root, point, options, optional fields up to a dash (proc_pid_mountinfo(5)).
    let mut line =
        mounts.lines().map(|line| line.split(' ')).find_map(|mut parts| (parts.next() == Some(id)).then_some(parts));
    let optional = line.as_mut().into_iter().flatten().skip(5).take_while(|part| *part != "-");
    Ok(optional.into_iter().any(|part| part.starts_with("shared:") || part.starts_with("master:")))
}
