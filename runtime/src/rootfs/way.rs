//! How a container has its root file system, for who wants to know.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::native::serving;

/// How directories become a root that is written to and thrown away ([`Access::Overlay`](crate::spec::Access::Overlay)).
///
/// ```
/// use orangery_runtime::rootfs::Layering;
/// assert_eq!("fuse-overlayfs".parse(), Ok(Layering::FuseOverlayfs));
/// assert!("tarball".parse::<Layering>().is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layering {
    /// An overlay of the kernel's.
    #[default]
    Overlay,
    /// The program `fuse-overlayfs` serves it, a process of ours beside the container, which ends with it. It needs
    /// /dev/fuse.
    FuseOverlayfs,
    /// The directories are copied into memory that the container alone has, bounded by the limit of `disk`.
    Copy,
}

impl Layering {
    /// All of them, in the order in which they are tried.
    pub const ALL: [Self; 3] = [Self::Overlay, Self::FuseOverlayfs, Self::Copy];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::FuseOverlayfs => "fuse-overlayfs",
            Self::Copy => "copy",
        }
    }

    /// Whether it could be had, as far as that can be said beforehand: nothing is mounted.
    ///
    /// # Errors
    /// Of [`FuseOverlayfs`](Self::FuseOverlayfs): the program is not installed, or /dev/fuse is not there or cannot be opened
    /// by this user.
    pub fn look(self) -> Result<(), Error> {
        match self {
            Self::Overlay | Self::Copy => Ok(()),
            Self::FuseOverlayfs => serving::look(),
        }
    }

    /// What a root made so is.
    pub(crate) fn kind(self) -> RootKind {
        match self {
            Self::Overlay => RootKind::Overlay,
            Self::FuseOverlayfs => RootKind::FuseOverlayfs,
            Self::Copy => RootKind::Copy,
        }
    }
}

impl FromStr for Layering {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|way| way.name() == text);
        found.ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl fmt::Display for Layering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// See [`RootWay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RootKind {
    /// The host's, or parts of it.
    Host,
    /// A directory, mounted.
    Mount,
    /// An overlay over directories.
    Overlay,
    /// The same, served by the program of that name, because no overlay could be mounted.
    FuseOverlayfs,
    /// A copy of directories in memory, because neither could be had.
    Copy,
    /// A kind that this version does not know: it was written down by a newer one.
    #[serde(other)]
    Unknown,
}

/// How a container has its root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RootWay {
    /// What it is.
    pub kind: RootKind,
    /// Its mounts map the container's ids, as root's do.
    pub id_mapped: bool,
    /// Why it is no better one, where it is not what was asked for.
    #[serde(default)]
    pub why: Option<String>,
}

impl fmt::Display for RootWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RootKind::Host => "host",
            RootKind::Mount => "mount",
            RootKind::Overlay => Layering::Overlay.name(),
            RootKind::FuseOverlayfs => Layering::FuseOverlayfs.name(),
            RootKind::Copy => Layering::Copy.name(),
            RootKind::Unknown => "unknown",
        })?;
        if self.id_mapped {
            f.write_str(", id-mapped")?;
        }
        self.why.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

/// Where root file systems lie that are made for this user's containers: `/var/lib/orangery/rootfs` of root, else
/// `orangery/rootfs` below `$XDG_DATA_HOME` or `~/.local/share`. `None`: neither variable says.
#[must_use]
pub fn data_dir() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = match rustix::process::geteuid().is_root() {
        // Whatever the environment of who became root says.
        true => PathBuf::from("/var/lib"),
        false => variable("XDG_DATA_HOME").or_else(|| variable("HOME").map(|home| home.join(".local/share")))?,
    };
    Some(data.join("orangery/rootfs"))
}
