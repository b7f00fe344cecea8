//! What a plan depends on beside the spec: the machine and what the runtime has allotted. Plain data, so that
//! planning stays pure; [`HostLayout::read`] is the only function here that looks at the host.

use std::fs;
use std::path::{Path, PathBuf};

use super::encode::Need;
pub use super::idmap::IdMap;
use crate::rootfs::Layering;

/// Facts about machine and keeper that hold for all containers of a supervisor.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The keeper has the capabilities of the host's user namespace.
    pub privileged: bool,
    /// That user namespace has every id: nodes that are made in it are devices, and what the host has mounted can be changed in it.
    pub whole: bool,
    /// The keeper can enter a container's pid namespace and come back.
    pub enters_pidns: bool,
    /// RLIMIT_NOFILE of the caller (soft, hard): each child gets it back.
    pub nofile: (u64, u64),
    /// Which of the host's directories the allow-list shows.
    pub host: HostLayout,
    /// A cgroup2 file system exists on this machine.
    pub cgroup2: bool,
    /// The hierarchies of cgroup version 1, as /proc/self/cgroup calls them: `cpu,cpuacct`, `name=systemd`.
    pub cgroup1: Vec<String>,
    /// The user namespace of a keeper that is not `privileged`: device and inode.
    pub user_namespace: Option<(u64, u64)>,
    /// RLIMIT_NPROC counts a user's processes in each user namespace apart (5.14).
    pub counts_by_namespace: bool,
}

/// What was allotted to one container.
#[derive(Clone, Debug, Default)]
pub struct Allotment {
    /// Its id maps; `None`: no user namespace of its own.
    pub ids: Option<IdMap>,
    /// It is born in a cgroup v2.
    pub cgroup: bool,
    /// How many v1 `tasks` files it writes itself into.
    pub tasks: u16,
    /// The controllers of version 1 that it has a group of.
    pub legacy: Vec<&'static str>,
    /// Mount trees that the supervisor prepared: [`Need::Layer`] and [`Need::Bind`].
    pub trees: Vec<Need>,
    /// Its stub ends with the supervisor, unless that lets it go.
    pub tied: bool,
    /// Whoever makes it goes before it is started: the gate is the last thing before its exec, so that all that can be
    /// refused is told to who makes it, and nothing ties it to anybody any more when it says that it is ready.
    pub leaves: bool,
    /// How its root is made, where that is written to and thrown away. For a copy [`Need::Layer`] 0 is what it lies in.
    pub layering: Layering,
}

/// One entry of the allow-list, as this host has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostEntry {
    /// Shown at the same path.
    Directory(String),
    /// A file shown at the same path.
    File(String),
    /// The same symbolic link.
    Link(String, String),
}

/// The allow-list of the default root file system, as this host has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostLayout {
    /// Entries in the order in which they are made.
    pub entries: Vec<HostEntry>,
    /// /opt exists.
    pub opt: bool,
    /// Device nodes that exist, with their device numbers.
    pub devices: Vec<(String, u64)>,
    /// Secrets that exist and that `--host-root` masks.
    pub secrets: Vec<(String, bool)>,
    /// The file that /etc/resolv.conf is in the end.
    pub resolv_conf: Option<PathBuf>,
}

/// Top-level names of the allow-list.
const TOP: [&str; 9] = ["usr", "nix", "bin", "sbin", "lib", "lib64", "lib32", "libx32", "lib/modules"];
/// What of the host's /etc is shown. Nothing in it may be secret or belong to a service.
pub const ETC: [&str; 16] = [
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "alternatives",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates.conf",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "nsswitch.conf",
    "localtime",
    "timezone",
    "mime.types",
    "services",
    "protocols",
    "host.conf",
];
/// Read by root only on a sane host; masked under `--host-root`.
const SECRETS: [&str; 12] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/ssh",
    "/etc/krb5.keytab",
    "/etc/wireguard",
    "/etc/NetworkManager/system-connections",
    "/etc/security/opasswd",
];
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

impl HostLayout {
    /// Look at the host. What is missing is left out.
    #[must_use]
    pub fn read() -> Self {
        let mut entries: Vec<_> = TOP[..8].iter().filter_map(|name| entry(&format!("/{name}"))).collect();
        entries.extend(ETC.iter().filter_map(|name| entry(&format!("/etc/{name}"))));
        let devices = DEVICES
            .iter()
            .filter(|(name, ..)| Path::new("/dev").join(name).exists())
            .map(|(name, major, minor)| ((*name).to_owned(), rustix::fs::makedev(*major, *minor)))
            .collect();
        // Where a link leads is what must be hidden.
        let secret = |path: &&str| {
            let path = fs::canonicalize(path).ok()?;
            Some((path.to_str()?.to_owned(), fs::metadata(&path).ok()?.is_dir()))
        };
        let secrets = SECRETS.iter().filter_map(secret).collect();
        let resolv_conf = fs::canonicalize("/etc/resolv.conf").ok();
        Self { entries, opt: Path::new("/opt").is_dir(), devices, secrets, resolv_conf }
    }
}

fn entry(path: &str) -> Option<HostEntry> {
    let meta = fs::symlink_metadata(path).ok()?;
    if meta.is_symlink() {
        let target = fs::read_link(path).ok()?;
        return Some(HostEntry::Link(path.to_owned(), target.to_str()?.to_owned()));
    }
    if meta.is_dir() { Some(HostEntry::Directory(path.to_owned())) } else { Some(HostEntry::File(path.to_owned())) }
}
