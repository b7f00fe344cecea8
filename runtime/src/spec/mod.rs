//! What the user asked for. (1) in the way of the data: [`check`](check::check) turns it into a [`CheckedSpec`].
//!
//! Plain data without behaviour: a builder, the command line and OCI's `config.json` all write it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::cgroup::{BlockDevice, CpuQuota, DeviceKind, DeviceRule, IoMax, IoWeight, Limits, Other};
use crate::network::{NetworkProvider, Pasta};
pub use crate::resctrl::Rdt;
use crate::rootfs::RootfsProvider;

pub mod caps;
pub mod check;
mod checked;
mod clocks;
mod enforcement;
mod filters;
mod hooks;
pub mod io;
pub(crate) mod labels;
pub mod landlock;
mod listed;
mod mount;
pub mod namespaces;
#[cfg(feature = "oci")]
pub mod oci;
pub(crate) mod overlay;
pub(crate) mod placement;
mod recordable;
pub mod rlimit;
mod rootfs;
mod scheduler;
pub mod size;
mod text;
mod tty;
pub mod user;

pub use caps::{CapSet, Caps};
pub use check::CheckedSpec;
pub use clocks::{ClockOffset, TimeOffsets};
pub use enforcement::{Enforcement, Fallback, UnmetLimit};
pub(crate) use enforcement::{Ground, give};
pub use hooks::{Hook, HookKind, Hooks};
pub use landlock::{Landlock, PathAccess, PathRule};
pub(crate) use listed::makes_nodes;
pub use listed::{DeviceNode, IdRange, IdRanges, NodeKind};
pub use mount::{Device, Exact, Mount, MountIds, MountSource, Propagation, Seen};
pub use namespaces::SharedNamespace;
pub use placement::MemoryPolicy;
pub use rlimit::{Resource, Rlimit};
pub use scheduler::Scheduler;
pub use tty::WindowSize;

/// What a container's `/` is.
///
/// ```
/// use orangery_runtime::spec::{Access, Rootfs};
/// let image = Rootfs::Dir { path: "/srv/image".into(), access: Access::Overlay };
/// assert_ne!(image, Rootfs::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rootfs {
    /// An allow-list of the host on a fresh tmpfs: /usr, /nix, /bin, /sbin, /lib*, a made /etc; all read-only.
    #[default]
    HostAllowList,
    /// All of the host's `/`, read-only, with root-only secrets masked.
    HostRoot,
    /// This directory.
    Dir {
        /// Path on the host.
        path: PathBuf,
        /// What the container may do to it.
        access: Access,
    },
    /// Directories that lie over each other (overlayfs): a name is what the uppermost layer that has it says, whiteouts and
    /// opaque directories included.
    Layers {
        /// Paths on the host, the uppermost first; at most [`Rootfs::MAX_LAYERS`].
        lower: Vec<PathBuf>,
        /// What the container may do to them; [`Access::ReadWrite`] needs a single layer.
        access: Access,
    },
}

impl Rootfs {
    /// Most layers of a root file system.
    pub const MAX_LAYERS: usize = 64;

    /// The directories of the host that it is made of, the uppermost first; none where we build it ourselves.
    #[must_use]
    pub fn directories(&self) -> &[PathBuf] {
        match self {
            Self::HostAllowList | Self::HostRoot => &[],
            Self::Dir { path, .. } => std::slice::from_ref(path),
            Self::Layers { lower, .. } => lower,
        }
    }

    /// What the container may do to a root of the user's own; `None`: it is the host's.
    #[must_use]
    pub fn access(&self) -> Option<Access> {
        match self {
            Self::HostAllowList | Self::HostRoot => None,
            Self::Dir { access, .. } | Self::Layers { access, .. } => Some(*access),
        }
    }
}

/// What a container may do to its root directory.
///
/// ```
/// use orangery_runtime::spec::Access;
/// assert_eq!(Access::default(), Access::ReadOnly);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read it.
    #[default]
    ReadOnly,
    /// Write into an overlay that is thrown away.
    Overlay,
    /// Write to the directory itself.
    ReadWrite,
}

/// Where a container's user ids come from.
///
/// ```
/// use orangery_runtime::spec::UserNamespace;
/// assert_eq!(UserNamespace::default(), UserNamespace::Own);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UserNamespace {
    /// A range of its own (root: from root's entries in /etc/subuid and /etc/subgid, from 524288 up without any), or the
    /// user's own id (anybody else).
    #[default]
    Own,
    /// One range for all containers of this supervisor that ask for it.
    Shared,
    /// No user namespace: ids are the host's. Root only.
    Host,
}

/// A container's network.
///
/// ```
/// use orangery_runtime::spec::Network;
/// assert_eq!(Network::default(), Network::None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// A network namespace with nothing but `lo`, which is up.
    #[default]
    None,
    /// The host's.
    Host,
}

/// A file that is there before the command starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Absolute path inside the container, below a writable place (/tmp, /run, /home, /root, /var, /in).
    pub path: PathBuf,
    /// Its content.
    #[serde(with = "text::content")]
    pub content: Arc<[u8]>,
    /// Its permission bits.
    pub mode: u32,
}

/// Size of the container's private writable space (all tmpfs of it and a throw-away upper layer together).
///
/// ```
/// use orangery_runtime::spec::Disk;
/// let half = Disk { bytes: 32 << 20, ..Disk::default() };
/// assert_eq!(half.inodes, 16_384);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Bytes.
    pub bytes: u64,
    /// Files and directories.
    pub inodes: u64,
}

impl Default for Disk {
    /// 64 MiB and 16,384 inodes: an unsized tmpfs would give an ordinary user half of the machine's memory.
    fn default() -> Self {
        Self { bytes: 64 << 20, inodes: 16_384 }
    }
}

/// A sandbox: everything but the processes in it.
///
/// By serde all of it can be written down that is not in [`ContainerSpec::unrecordable`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ContainerSpec {
    /// Name, unique in its supervisor: `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
    pub id: String,
    /// What `/` is.
    pub rootfs: Rootfs,
    /// Detached mounts, the uppermost first, that are the layers of [`Rootfs::Layers`] instead of its directories.
    #[serde(skip)]
    pub root_mounts: Vec<Arc<OwnedFd>>,
    /// Who prepares `/` instead of [`ContainerSpec::rootfs`].
    #[serde(skip)]
    pub rootfs_provider: Option<Arc<dyn RootfsProvider>>,
    /// With the allow-list: show the host's /opt too.
    pub host_opt: bool,
    /// Further mounts, in order.
    pub mounts: Vec<Mount>,
    /// Files staged before the start.
    pub files: Vec<StagedFile>,
    /// User ids.
    pub user_namespace: UserNamespace,
    /// Network.
    pub network: Network,
    /// Who wires the container's own network namespace.
    #[serde(skip)]
    pub network_provider: Option<Arc<dyn NetworkProvider>>,
    /// Its network is pasta's.
    pub pasta: Option<Pasta>,
    /// Host name; the id if unset.
    pub hostname: Option<String>,
    /// cgroup limits.
    pub limits: Limits,
    /// What becomes of those that cannot be had.
    pub enforcement: Enforcement,
    /// Private writable space.
    pub disk: Disk,
    /// Interfaces of the host's that are the container's from its creation on, and what they are called there; with a network namespace
    /// that is not the host's. Root only. What is left of them is where the kernel leaves it when that namespace goes: a physical one is the
    /// host's again.
    pub net_devices: BTreeMap<String, String>,
    /// Existing namespaces to live in, by descriptor, at most one of each kind; each replaces a new one and stays as it is.
    /// Of a pid namespace the container's first process is an ordinary member; beside a mount namespace nothing can be said
    /// of the root. See `docs/decisions/`, "Existing namespaces are joined by a middle process".
    #[serde(skip)]
    pub join: Vec<Arc<OwnedFd>>,
    /// Namespaces that it shares with whoever makes it, instead of new ones.
    pub shared: Vec<SharedNamespace>,
    /// Kernel parameters of the container's own namespaces, such as `net.ipv4.ip_forward`.
    pub sysctls: BTreeMap<String, String>,
    /// Paths hidden behind an empty file or directory, beside the default ones.
    pub masked_paths: Vec<PathBuf>,
    /// Paths made read-only.
    pub readonly_paths: Vec<PathBuf>,
    /// The command is pid 1 itself, without the stub init.
    pub without_init: bool,
    /// No command: its main process is the stub init, which sleeps until it is killed. For a container that waits to be
    /// exec'd in.
    pub idle: bool,
    /// No private directories over a root of the user's: it is shown as it is, with our /proc, /sys and /dev.
    pub plain_root: bool,
    /// POSIX message queues at /dev/mqueue.
    pub mqueue: bool,
    /// What an OCI bundle says and nothing else: the mounts are those of the list in its order, /proc, /sys and what is in /dev
    /// among them, the masked paths are those that are given, and `/` has no attribute but being read-only. Beside the list
    /// there are the devices that the specification promises. Of a [`Rootfs::Dir`] that is read or written.
    pub listed: bool,
    /// NIS domain name, of a container with a uts namespace of its own.
    pub domainname: Option<String>,
    /// Device nodes, of a container whose mounts are listed.
    pub devices: Vec<DeviceNode>,
    /// Which devices it may open and make, whatever nodes it has; the last rule that is about one decides, and where there are
    /// rules nothing else is allowed. None: what its user may. Root only, with a cgroup of version 2.
    pub device_rules: Vec<DeviceRule>,
    /// Without the rights or the cgroup for these rules it is done without them.
    pub device_rules_if_possible: bool,
    /// The ids of a user namespace of its own, instead of ours; files of the root belong to whom they belong.
    pub id_maps: Option<IdRanges>,
    /// A time namespace of its own, with these clocks.
    pub time: Option<TimeOffsets>,
    /// SELinux's label of the file systems that are mounted for it, of a container whose mounts are listed.
    pub mount_label: Option<String>,
    /// Propagation of `/` inside, as the `MS_*` flags of mount(2); 0: private.
    pub root_propagation: u64,
    /// The root is put upon the host's and entered by `chroot(2)`, for a host that runs from an initramfs, where `pivot_root(2)` cannot be. Who has
    /// CAP_SYS_CHROOT inside can go back to what lies below. Of a container whose mounts are listed.
    pub no_pivot: bool,
    /// Its share of caches and memory bandwidth: for [`single`](crate::native::single), as the next one.
    pub intel_rdt: Option<Rdt>,
    /// Where a bundle wants its cgroup (`linux.cgroupsPath`, as it stands): for [`single`](crate::native::single), whose
    /// containers lie nowhere else. A supervisor's lie below its own group.
    pub cgroups_path: Option<PathBuf>,
    /// Programs that run at points of its life: for [`single`](crate::native::single). A supervisor refuses them.
    pub hooks: Hooks,
    /// Who answers what the filters of its processes ask: for [`single`](crate::native::single), as above.
    pub filter_listener: Option<FilterListener>,
}

/// Who is sent the listener of a filter that asks, over a unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct FilterListener {
    /// Where it listens.
    pub path: PathBuf,
    /// What it is told beside the container's state.
    pub metadata: String,
}

/// Where a standard stream of a process comes from or goes to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Stdio {
    /// /dev/null.
    #[default]
    Null,
    /// A pipe whose other end the supervisor gets.
    Piped,
    /// This descriptor.
    #[serde(skip)]
    Fd(Arc<OwnedFd>),
}

/// Who a process runs as.
///
/// ```
/// use orangery_runtime::spec::User;
/// assert_ne!(User::Ids { uid: 1000, gid: 1000 }, User::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum User {
    /// uid 0 and gid 0 of the container.
    #[default]
    Root,
    /// These ids of the container.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// A name in the container's /etc/passwd, or a number as text.
    Name(String),
}

/// Which system calls a process may make.
///
/// ```
/// use orangery_runtime::spec::Seccomp;
/// assert_eq!(Seccomp::default(), Seccomp::Default);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Seccomp {
    /// Our default profile.
    #[default]
    Default,
    /// No filter.
    Unconfined,
}

/// One process of a container.
///
/// By serde all of it can be written down that is not in [`ProcessSpec::unrecordable`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ProcessSpec {
    /// Program and arguments; a program without `/` is looked for in PATH *inside* the container.
    #[serde(with = "text::words")]
    pub argv: Vec<OsString>,
    /// The file that is executed, where the first of `argv` is a name alone.
    pub program: Option<PathBuf>,
    /// Environment, complete: nothing is inherited.
    #[serde(with = "text::pairs")]
    pub env: Vec<(OsString, OsString)>,
    /// Absolute working directory; `/` if unset.
    pub cwd: Option<PathBuf>,
    /// User and group.
    pub user: User,
    /// Supplementary groups of the container.
    pub groups: Vec<u32>,
    /// File mode creation mask; 0o022 if unset.
    pub umask: Option<u32>,
    /// Capabilities; the default set for uid 0, none for others, if unset.
    pub caps: Option<Caps>,
    /// May gain privileges by set-user-id programs. Default no.
    pub new_privileges: bool,
    /// Resource limits; others stay the supervisor's caller's.
    pub rlimits: Vec<Rlimit>,
    /// System call filter.
    pub seccomp: Seccomp,
    /// Further filters, merged with it into one: the most severe answer of all stands. One that asks
    /// ([`Action::Notify`](crate::seccomp::Action::Notify)) makes [`Started::listener`](crate::Started::listener).
    pub filters: Vec<crate::seccomp::Filter>,
    /// How its filter is loaded: `SECCOMP_FILTER_FLAG_*` of seccomp(2), of which LOG, SPEC_ALLOW and WAIT_KILLABLE_RECV can be
    /// given.
    pub filter_flags: u64,
    /// What it may still reach after its start, beside what permissions say.
    pub landlock: Option<Landlock>,
    /// Its execution domain (personality(2)): `PER_LINUX` or `PER_LINUX32`.
    pub personality: Option<u32>,
    /// Where it gets memory, where that is not as of whoever makes it.
    pub memory_policy: Option<MemoryPolicy>,
    /// Of a further process: the CPUs that it runs on before it comes into the container's cgroup of version 1, as `0-3,6`. Into one of
    /// version 2 it is born, and has then been nowhere else.
    pub cpus_before: Option<String>,
    /// Of a further process: the CPUs that it runs on.
    pub cpus: Option<String>,
    /// Its AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// Its SELinux label.
    pub selinux_label: Option<String>,
    /// Its i/o priority, as ioprio_set(2) takes it: class << 13 | level.
    pub io_priority: Option<u16>,
    /// Its scheduling policy, where it is not that of whoever makes it.
    pub scheduler: Option<Scheduler>,
    /// `-1000..=1000`; never below what the supervisor may set.
    pub oom_score_adj: Option<i32>,
    /// Standard input.
    pub stdin: Stdio,
    /// Standard output.
    pub stdout: Stdio,
    /// Standard error.
    pub stderr: Stdio,
    /// A pseudoterminal of its own, in the container's devpts: it is all three standard streams and controls the process's
    /// session; the main process's is /dev/console too. Of the streams only [`ProcessSpec::stdin`] may then be
    /// [`Stdio::Piped`], which makes no difference here.
    pub tty: Option<WindowSize>,
    /// It has no session keyring of its own, but that of the keeper: empty, and shared with what else has none. A key less for its
    /// user, of whom the kernel counts 200 by default.
    pub shares_keyring: bool,
    /// Further descriptors, 200 at most, given the numbers 3, 4, ... in this order.
    #[serde(skip)]
    pub preserved: Vec<Arc<OwnedFd>>,
    /// Other numbers for them, one each, every one above that before it; what lies between is closed.
    #[serde(skip)]
    pub preserved_at: Vec<u16>,
    /// Of a further process only: mounts that it and its children alone see, in order.
    pub mounts: Vec<Mount>,
    /// Of a further process only: limits of its own, below the container's.
    pub limits: Limits,
    /// What the keeper holds of it, so that a further supervisor can have it ([`durable`](crate::durable)).
    #[serde(skip)]
    pub hold: Option<Hold>,
}

/// What of a process is held for a further supervisor: its end, and our ends of its standard streams.
#[derive(Clone, Debug)]
pub struct Hold {
    /// What it is found under, written down before the process is asked for: 1 to [`Hold::LABEL`] bytes that no other process
    /// of this supervisor has.
    pub label: Vec<u8>,
    /// Where its output goes while there is no supervisor; that of its terminal, where it has one. Without it a pipe
    /// that is full holds up who writes.
    pub stdout: Option<LogFile>,
    /// The same of its standard error.
    pub stderr: Option<LogFile>,
}

impl Hold {
    /// Longest label.
    pub const LABEL: usize = 32;

    /// Without a place for what is written.
    #[must_use]
    pub fn new(label: impl Into<Vec<u8>>) -> Self {
        Self { label: label.into(), stdout: None, stderr: None }
    }
}

/// A regular file, opened for writing and without `O_APPEND`, that an output is emptied into: from its end, whoever has
/// written that.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// The file.
    pub file: Arc<OwnedFd>,
    /// Largest size; what comes after that is counted and gone.
    pub most: u64,
}
