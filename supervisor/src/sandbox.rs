//! A sandbox: what a container is to be, without the command in it. Immutable and cheap to clone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use orangery_runtime::cgroup::{CpuQuota, IoMax, Limits};
use orangery_runtime::network::{NetworkProvider, Pasta};
use orangery_runtime::rootfs::RootfsProvider;
use orangery_runtime::spec::{
    Access, Caps, Disk, Enforcement, Landlock, Mount, MountSource, Network, Rlimit, Rootfs, StagedFile, UserNamespace,
};
use orangery_runtime::{ContainerSpec, Error as RuntimeError};
use serde::{Deserialize, Serialize};

use crate::each::Each;
use crate::error::Error;
use crate::output_limit::{OutputAction, OutputLimit};
use crate::restart::Restart;

/// Description of a sandbox.
///
/// ```
/// use orangery::Sandbox;
/// use std::time::Duration;
/// let judge = Sandbox::builder()
///     .file("/in/main.py", "print(6 * 7)")
///     .memory(256 << 20)
///     .pids(64)
///     .wall(Duration::from_secs(2))
///     .output(1 << 20)
///     .build()?;
/// # Ok::<(), orangery::Error>(())
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sandbox {
    pub(crate) inner: Arc<Description>,
}

/// What the builder fills in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    pub(crate) spec: ContainerSpec,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) wall: Option<Duration>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) output: Option<OutputLimit>,
    pub(crate) drain_grace: Option<Duration>,
    pub(crate) unattended: Option<Duration>,
    pub(crate) ring_bytes: usize,
    pub(crate) keep_files: bool,
    pub(crate) restart: Restart,
    #[serde(default)]
    pub(crate) each: Each,
}

impl Default for Description {
    fn default() -> Self {
        Self {
            spec: ContainerSpec::default(),
            labels: BTreeMap::new(),
            wall: None,
            cpu_time: None,
            idle: None,
            output: None,
            drain_grace: Some(Duration::from_secs(2)),
            unattended: None,
            ring_bytes: 256 << 10,
            keep_files: false,
            restart: Restart::never(),
            each: Each::default(),
        }
    }
}

impl Sandbox {
    /// Start describing one. Without any call it is the host's programs, read-only, in namespaces of their own, without
    /// network.
    pub fn builder() -> SandboxBuilder {
        SandboxBuilder { inner: Description::default(), errors: Vec::new() }
    }

    #[cfg(feature = "oci")]
    pub(crate) fn from_spec(spec: ContainerSpec) -> Self {
        Self { inner: Arc::new(Description { spec, ..Description::default() }) }
    }

    /// The same with another id.
    #[must_use]
    pub fn with_id(&self, id: impl Into<String>) -> Self {
        let mut inner = Description::clone(&self.inner);
        inner.spec.id = id.into();
        Self { inner: Arc::new(inner) }
    }

    #[must_use]
    pub(crate) fn with_drain_grace(&self, grace: Option<Duration>) -> Self {
        let mut inner = Description::clone(&self.inner);
        inner.drain_grace = grace;
        Self { inner: Arc::new(inner) }
    }

    #[must_use]
    pub(crate) fn with_restart(&self, restart: Restart) -> Self {
        let mut inner = Description::clone(&self.inner);
        inner.restart = restart;
        Self { inner: Arc::new(inner) }
    }

    /// The same for a container without a command.
    #[must_use]
    pub(crate) fn idling(&self) -> Self {
        let mut inner = Description::clone(&self.inner);
        inner.spec.idle = true;
        Self { inner: Arc::new(inner) }
    }

    /// The id that a container of this description gets; empty: a random one for each.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.spec.id
    }
}

/// Builds a [`Sandbox`]; refusals are collected and told by [`SandboxBuilder::build`], all at once.
///
/// ```
/// use orangery::{ErrorKind, Sandbox};
/// use std::time::Duration;
/// let refused = Sandbox::builder().wall(Duration::ZERO).output(0).build().unwrap_err();
/// assert_eq!((refused.kind(), refused.field()), (ErrorKind::Invalid, Some("wall")));
/// assert_eq!(refused.messages().count(), 2);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SandboxBuilder {
    pub(crate) inner: Description,
    errors: Vec<RuntimeError>,
}

impl SandboxBuilder {
    /// The container's id, unique in its supervisor. Default: random.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.inner.spec.id = id.into();
        self
    }

    /// What `/` is. Default: [`Rootfs::HostAllowList`].
    pub fn rootfs(mut self, rootfs: Rootfs) -> Self {
        self.inner.spec.rootfs = rootfs;
        self
    }

    /// `/` is this directory, read-only.
    pub fn rootfs_dir(self, path: impl Into<PathBuf>, access: Access) -> Self {
        self.rootfs(Rootfs::Dir { path: path.into(), access })
    }

    /// Show the host's /opt too.
    pub fn host_opt(mut self, show: bool) -> Self {
        self.inner.spec.host_opt = show;
        self
    }

    /// Another mount.
    pub fn mount(mut self, mount: Mount) -> Self {
        self.inner.spec.mounts.push(mount);
        self
    }

    /// A directory or file of the host at `target`, read-only.
    pub fn bind_ro(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.mount(Mount::bind(source, target).read_only())
    }

    /// A directory or file of the host at `target`, writable. Where the supervisor is root, ids are mapped: root of the
    /// container writes as root of the host's disk, set-user-id files included, which are harmless on this mount alone.
    /// Bind what lies on a file system that the host mounts `nosuid`, or what only root can reach.
    pub fn bind_rw(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.mount(Mount::bind(source, target))
    }

    /// An empty file system of at most `size` bytes at `target`.
    pub fn tmpfs(self, target: impl Into<PathBuf>, size: u64) -> Self {
        self.mount(Mount::new(MountSource::Tmpfs { size: Some(size) }, target))
    }

    /// This device node of the host, at the same path; another path: [`SandboxBuilder::mount`] of a [`Mount::device`].
    /// Refused where it is no device, or one that this user can neither read nor write. Inside its permissions hold, with
    /// the container's user ids: see [`MountSource::Device`].
    pub fn device(self, path: impl Into<PathBuf>) -> Self {
        self.mount(Mount::device(path))
    }

    /// A file with this content before the command starts, mode 0644.
    pub fn file(mut self, path: impl Into<PathBuf>, content: impl Into<Bytes>) -> Self {
        let content: Arc<[u8]> = Arc::from(&content.into()[..]);
        self.inner.spec.files.push(StagedFile { path: path.into(), content, mode: 0o644 });
        self
    }

    /// Where user ids come from. Default: [`UserNamespace::Own`].
    pub fn user_namespace(mut self, kind: UserNamespace) -> Self {
        self.inner.spec.user_namespace = kind;
        self
    }

    /// Default: [`Network::None`].
    pub fn network(mut self, network: Network) -> Self {
        self.inner.spec.network = network;
        self
    }

    /// Who wires the network namespace, before the command starts and until everything is removed; see
    /// [`NetworkProvider`]. Default: nobody, it has `lo` alone.
    pub fn network_provider(mut self, provider: Arc<dyn NetworkProvider>) -> Self {
        self.inner.spec.network_provider = Some(provider);
        self
    }

    /// Its network is that of [`Pasta`]: user-mode, for an ordinary user as for root, with ports that lead into it and names
    /// that are resolved. Needs the program `pasta` (package passt). When that ends while the container lives,
    /// [`Kind::NetworkLost`](crate::events::Kind::NetworkLost) tells it.
    ///
    /// ```
    /// use orangery::{Pasta, Publish, Sandbox};
    /// let web = Sandbox::builder().pasta(Pasta::new().publish(Publish::tcp(8080, 80).on([127, 0, 0, 1]))).build()?;
    /// # Ok::<(), orangery::Error>(())
    /// ```
    pub fn pasta(mut self, network: Pasta) -> Self {
        self.inner.spec.pasta = Some(network);
        self
    }

    /// Who prepares `/`, instead of [`SandboxBuilder::rootfs`]; see [`RootfsProvider`].
    pub fn rootfs_provider(mut self, provider: Arc<dyn RootfsProvider>) -> Self {
        self.inner.spec.rootfs_provider = Some(provider);
        self
    }

    /// `/` is made of these directories, which lie over each other, the uppermost first; at most 64.
    pub fn rootfs_layers(self, lower: impl IntoIterator<Item = impl Into<PathBuf>>, access: Access) -> Self {
        self.rootfs(Rootfs::Layers { lower: lower.into_iter().map(Into::into).collect(), access })
    }

    /// Live in this existing namespace instead of a new one; of each kind at most one: network, ipc, uts, cgroup, pid, mount,
    /// user. It stays as it is, and no descriptor of it is kept longer than the making of a container takes.
    ///
    /// - A *user* namespace brings its ids; somebody must live in it meanwhile, so that they can be read.
    /// - In a *pid* namespace the container's first process is an ordinary member, and the kill is the cgroup's: it needs one
    ///   of version 2. Whoever else lives there sees the container's processes, and kills them where its user may.
    /// - A *mount* namespace has its root already: nothing can be said of root, mounts and files, users are given by number.
    ///
    /// The supervisor needs rights over each: root has them over all; an ordinary user's supervisor over those of its own
    /// containers alone.
    pub fn join_namespace(mut self, namespace: impl Into<Arc<std::os::fd::OwnedFd>>) -> Self {
        self.inner.spec.join.push(namespace.into());
        self
    }

    /// Default: the id.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.inner.spec.hostname = Some(name.into());
        self
    }

    /// All cgroup limits at once.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.inner.spec.limits = limits;
        self
    }

    /// What becomes of limits of the cgroup that cannot be had here, now or by a later update. Default: they are refused. With
    /// [`Enforcement::BestEffort`] the container does without them and says so, each by its name and with the reason: in
    /// [`Inspect::unmet`](crate::Inspect::unmet), in the report, as an event and in the log. Two have something in their place,
    /// which is named there too and is weaker: `memory` RLIMIT_AS of each process, `pids` RLIMIT_NPROC of each of its users.
    ///
    /// ```
    /// use orangery::{Enforcement, Sandbox};
    /// let sandbox = Sandbox::builder().memory(64 << 20).enforcement(Enforcement::BestEffort).build()?;
    /// # Ok::<(), orangery::Error>(())
    /// ```
    pub fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.inner.spec.enforcement = enforcement;
        self
    }

    /// Bytes of memory.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.inner.spec.limits.memory = Some(bytes);
        self
    }

    /// Processors, such as 0.5.
    pub fn cpus(mut self, cpus: f64) -> Self {
        match orangery_runtime::spec::size::parse_cpus(&cpus.to_string()) {
            Ok((quota_us, period_us)) => self.inner.spec.limits.cpu_quota = Some(CpuQuota { quota_us, period_us }),
            Err(why) => self.errors.push(RuntimeError::invalid("cpus", why)),
        }
        self
    }

    /// Processes and threads.
    pub fn pids(mut self, count: u64) -> Self {
        self.inner.spec.limits.pids = Some(count);
        self
    }

    /// Share of each disk under contention, 1 to 10000; everybody's is 100. Only disks heed it that are under the scheduler
    /// bfq, or under io.cost of cgroup v2; where none is, it is a limit that cannot be had.
    pub fn io_weight(mut self, weight: u64) -> Self {
        self.inner.spec.limits.io_weight = Some(weight);
        self
    }

    /// Most that goes to and from one device, a second; of several devices, one call each.
    ///
    /// ```
    /// use orangery::{BlockDevice, IoMax, Sandbox};
    /// let disk = BlockDevice::Path("/dev/sda".into());
    /// let sandbox = Sandbox::builder().io_max(IoMax { write_bps: Some(10 << 20), ..IoMax::new(disk) }).build()?;
    /// # Ok::<(), orangery::Error>(())
    /// ```
    pub fn io_max(mut self, most: IoMax) -> Self {
        self.inner.spec.limits.io_max.push(most);
        self
    }

    /// Private writable space. Default: 64 MiB, 16,384 inodes.
    pub fn disk(mut self, disk: Disk) -> Self {
        self.inner.spec.disk = disk;
        self
    }

    /// POSIX message queues at /dev/mqueue. Default: none.
    pub fn mqueue(mut self, show: bool) -> Self {
        self.inner.spec.mqueue = show;
        self
    }

    /// A root of the user's as it is: no private directory lies over it, only /proc, /sys and /dev. Default: private ones.
    pub fn plain_root(mut self, plain: bool) -> Self {
        self.inner.spec.plain_root = plain;
        self
    }

    /// A kernel parameter of the container's own namespaces.
    pub fn sysctl(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.spec.sysctls.insert(key.into(), value.into());
        self
    }

    /// Hide a path.
    pub fn mask(mut self, path: impl Into<PathBuf>) -> Self {
        self.inner.spec.masked_paths.push(path.into());
        self
    }

    /// Make a path read-only.
    pub fn read_only(mut self, path: impl Into<PathBuf>) -> Self {
        self.inner.spec.readonly_paths.push(path.into());
        self
    }

    /// The capabilities of each process in it that has none of its own ([`Command::caps`](crate::Command::caps)).
    pub fn process_caps(mut self, caps: Caps) -> Self {
        self.inner.each.caps = Some(caps);
        self
    }

    /// A resource limit of each process in it that has none of its own on the same resource
    /// ([`Command::rlimit`](crate::Command::rlimit)); of several resources, one call each.
    pub fn process_rlimit(mut self, limit: Rlimit) -> Self {
        self.inner.each.rlimit(limit);
        self
    }

    /// What each process in it that has no such rules of its own may still reach after its start, whatever permissions say: a
    /// further layer by landlock(7), which its children inherit. What this kernel lacks of it is refused, or left out as the rules
    /// say ([`Landlock::enforcement`]). A scope ends at the process itself and its children: a further process is outside of it.
    ///
    /// ```
    /// use orangery::{Landlock, Sandbox};
    /// let rules = Landlock::new().allow("/", "ro").allow("/tmp", "rw").tcp_bind([8080]).tcp_connect([]);
    /// let server = Sandbox::builder().landlock(rules).build()?;
    /// # Ok::<(), orangery::Error>(())
    /// ```
    pub fn landlock(mut self, rules: Landlock) -> Self {
        self.inner.each.landlock = Some(rules);
        self
    }

    /// System calls, by name, that fail with EPERM in each process in it, beside those that its filter refuses anyway; in
    /// place of such a list before.
    ///
    /// ```
    /// use orangery::Sandbox;
    /// let alone = Sandbox::builder().refuse_calls(["socket", "socketpair"]).build()?;
    /// # Ok::<(), orangery::Error>(())
    /// ```
    pub fn refuse_calls(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.inner.each.refused_calls = names.into_iter().map(Into::into).collect();
        self
    }

    /// `false`: the command is pid 1 itself, and feels no signal that it has no handler for. Default: a stub init.
    pub fn init(mut self, stub: bool) -> Self {
        self.inner.spec.without_init = !stub;
        self
    }

    /// An immutable label, for the embedder's own bookkeeping.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.labels.insert(key.into(), value.into());
        self
    }

    /// The whole container is killed this long after its command has started.
    pub fn wall(mut self, limit: Duration) -> Self {
        self.inner.wall = Some(limit);
        self
    }

    /// The whole container is killed when its processes have used this much processor time together, from the start of its
    /// command on. Looked at as its cgroup counts, so that some 20 ms on each processor can be used beyond it; what was used
    /// is in the report, and a command that ended by itself beyond the limit is over it all the same. The main process gets
    /// it as RLIMIT_CPU too, in whole seconds, unless it has such a limit of its own. Without a cgroup that counts, what its
    /// living processes and the children that they have waited for have used is looked up in /proc: weaker, and told as a limit
    /// that is not met ([`Inspect::unmet`](crate::Inspect::unmet), the report, an event).
    pub fn cpu_time(mut self, limit: Duration) -> Self {
        self.inner.cpu_time = Some(limit);
        self
    }

    /// The whole container is killed when its main process, and whoever else has its output, has written nothing for this
    /// long. A pause does not count. Refused by `spawn` when both streams go to descriptors of its own, where nobody here
    /// sees what is written.
    pub fn idle(mut self, limit: Duration) -> Self {
        self.inner.idle = Some(limit);
        self
    }

    /// How long it may live without any handle, once it was detached: it is killed when the last handle has been gone for
    /// that long ([`LimitKind::Unattended`](crate::LimitKind::Unattended)). A handle from
    /// [`Supervisor::container`](crate::Supervisor::container) stops the clock; it begins anew when that is dropped.
    /// Default: for ever.
    pub fn unattended(mut self, limit: Duration) -> Self {
        self.inner.unattended = Some(limit);
        self
    }

    /// A process of it is killed when both its output streams together exceed this many bytes: an [`OutputLimit`] with
    /// [`OutputAction::Kill`].
    pub fn output(self, bytes: u64) -> Self {
        self.output_limit(OutputLimit { bytes, action: OutputAction::Kill })
    }

    /// How much each of its processes may write, and what happens when it writes more. Default: no limit.
    pub fn output_limit(mut self, limit: OutputLimit) -> Self {
        self.inner.output = Some(limit);
        self
    }

    /// How long to wait for the end of the output after the exit, when something else still holds it; `None`: for ever.
    /// Default: 2 s. A terminal is never waited for: what it holds at the exit is its last.
    pub fn drain_grace(mut self, grace: Option<Duration>) -> Self {
        self.inner.drain_grace = grace;
        self
    }

    /// Bytes of output kept for readers that come later, the last ones. Default: 256 KiB. Head and tail of all that was written
    /// are kept by [`Command::run`](crate::Command::run) ([`Command::capture`](crate::Command::capture)) or by a
    /// [`Capture`](crate::stream::Capture) that is fed from [`spawn_with_output`](crate::Command::spawn_with_output), and all of
    /// it by a log: a history with a hole in its middle would have no oldest place for cursors to resume at.
    pub fn ring(mut self, bytes: usize) -> Self {
        self.inner.ring_bytes = bytes;
        self
    }

    /// Keep the container's files after its exit, until it is deleted, its last handle goes or the supervisor is shut
    /// down: for [`copy_out`](crate::ContainerHandle::copy_out) of what it has made. Until then it keeps its id, its place
    /// among the supervisor's containers, two descriptors, and the memory of its private directories; nothing of it runs
    /// and its cgroup is gone. Default: the files go with it, before its report is told.
    pub fn keep_files(mut self, keep: bool) -> Self {
        self.inner.keep_files = keep;
        self
    }

    /// How a command in it is kept running by [`Command::supervise`](crate::Command::supervise); `spawn` and `run` start it
    /// once. Default: [`Restart::never`].
    pub fn restart(mut self, restart: Restart) -> Self {
        self.inner.restart = restart;
        self
    }

    /// The description, with everything checked that does not need the machine; the rest is checked by `spawn`, before
    /// anything is made.
    ///
    /// # Errors
    /// Every refusal at once.
    pub fn build(self) -> Result<Sandbox, Error> {
        let mut errors = self.errors;
        for (field, why) in self.inner.spec.limits.validate() {
            errors.push(RuntimeError::invalid(format!("limits.{field}"), why));
        }
        for (field, zero) in [
            ("wall", self.inner.wall == Some(Duration::ZERO)),
            ("cpu_time", self.inner.cpu_time == Some(Duration::ZERO)),
            ("idle", self.inner.idle == Some(Duration::ZERO)),
            ("unattended", self.inner.unattended == Some(Duration::ZERO)),
        ] {
            if zero {
                errors.push(RuntimeError::invalid(field, "a limit of zero allows nothing"));
            }
        }
        errors.extend(self.inner.output.iter().flat_map(OutputLimit::check));
        if self.inner.keep_files && self.inner.spec.rootfs_provider.is_some() {
            let why = "a provided root is released when the container has ended; nothing of it can be kept";
            errors.push(RuntimeError::invalid("keep_files", why));
        }
        errors.extend(self.inner.restart.check());
        errors.extend(self.inner.each.check());
        Error::all(errors)?;
        Ok(Sandbox { inner: Arc::new(self.inner) })
    }
}
