//! How a container has its root file system, for who wants to know.

use std::fmt;
use std::path::PathBuf;

/// See [`RootWay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RootKind {
    /// The host's, or parts of it.
    Host,
    /// A directory, mounted.
    Mount,
    /// An overlay over directories.
    Overlay,
    /// A copy of directories, because no overlay could be mounted; it is not bounded by the disk limit.
    Copy,
}

/// How a container has its root file system.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct RootWay {
    /// What it is.
    pub kind: RootKind,
    /// Its mounts map the container's ids, as root's do.
    pub id_mapped: bool,
    /// Why it is no better one, where it is not what was asked for.
    pub why: Option<String>,
}

impl fmt::Display for RootWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RootKind::Host => "host",
            RootKind::Mount => "mount",
            RootKind::Overlay => "overlay",
            RootKind::Copy => "copy",
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
