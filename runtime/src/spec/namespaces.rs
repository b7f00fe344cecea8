//! Existing namespaces that a container is to live in: what each descriptor is, whether it can be joined from here, and
//! what makes no sense beside it. Looks at descriptors and at /proc, changes nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::check::Refusals;
use super::{ContainerSpec, Disk, Network, Rootfs, UserNamespace};
use crate::cgroup::Cgroups;
use crate::error::{Error, ErrorKind};
use crate::plan::Machine;
use crate::plan::idmap::IdMap;
use crate::plan::wire::{JOINABLE, NEWCGROUP, NEWIPC, NEWNET, NEWNS, NEWPID, NEWUSER, NEWUTS};
use crate::sys;

/// What /proc/PID/ns calls the kinds of [`JOINABLE`].
const NAMES: [&str; JOINABLE.len()] = ["net", "ipc", "uts", "cgroup", "pid", "mnt", "time", "user"];

/// A namespace that is joined.
#[derive(Clone, Debug)]
pub struct Joined {
    /// Its kind, as a place in [`JOINABLE`].
    pub place: u16,
    /// Its place in [`ContainerSpec::join`].
    pub index: usize,
    /// Whoever sets the container up may act on it: its user namespace is an ancestor of the owner, or the owner, and the
    /// machine as a whole is not meant.
    pub governed: bool,
    /// The namespace.
    pub namespace: Arc<OwnedFd>,
}

impl Joined {
    /// Its CLONE_NEW* flag.
    #[must_use]
    pub fn kind(&self) -> u64 {
        JOINABLE.get(usize::from(self.place)).copied().unwrap_or(0)
    }

    /// What /proc/PID/ns calls its kind.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAMES.get(usize::from(self.place)).copied().unwrap_or("")
    }

    /// The field of the spec that it comes from.
    #[must_use]
    pub fn field(&self) -> String {
        format!("join[{}]", self.index)
    }
}

/// What /proc/PID/ns calls a kind.
fn name_of(kind: u64) -> String {
    match JOINABLE.iter().position(|joinable| *joinable == kind).and_then(|place| NAMES.get(place)) {
        Some(name) => (*name).to_owned(),
        None => format!("{kind:#x}"),
    }
}

/// Open a namespace for [`ContainerSpec::join`]. `kind` is what `/proc/PID/ns` calls it: `net`, `ipc`, `uts`, `cgroup`,
/// `pid`, `mnt`, `time` or `user`.
///
/// # Errors
/// Another kind; `path` cannot be opened, is no namespace, or is one of another kind.
pub fn open(kind: &str, path: &Path) -> Result<OwnedFd, Error> {
    if !NAMES.contains(&kind) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{kind:?} is no namespace that can be joined: {} are", NAMES.join(", ")),
        ));
    }
    let failed = |error: rustix::io::Errno| Error::system(format!("cannot open {}", path.display()), error);
    // Looked at before it is opened: opening something else may have consequences.
    let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    /// `NSFS_MAGIC`
    const NAMESPACES: u64 = 0x6e73_6673;
    if rustix::fs::fstatfs(&place).map_err(failed)?.f_type.cast_unsigned() != NAMESPACES {
        return Err(Error::new(ErrorKind::Invalid, format!("{} is no namespace", path.display())));
    }
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
    let opened = rustix::fs::open(again, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let found = name_of(sys::namespace_type(&opened).map_err(|error| Error::system("no namespace", error))?);
    if found != kind {
        let what = format!("{} is a namespace of kind {found}, not {kind}", path.display());
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    Ok(opened)
}

/// A namespace of whoever makes the container that it lives in, instead of a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SharedNamespace {
    /// It sees all processes; needs a cgroup of version 2 with `cgroup.kill`.
    Pid,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name and domain name, which it then cannot have of its own.
    Uts,
    /// Control groups are called as they are outside.
    Cgroup,
}

impl SharedNamespace {
    /// Its CLONE_NEW* flag.
    #[must_use]
    pub fn kind(self) -> u64 {
        match self {
            Self::Pid => NEWPID,
            Self::Ipc => NEWIPC,
            Self::Uts => NEWUTS,
            Self::Cgroup => NEWCGROUP,
        }
    }
}

/// A namespace of this kind is shared with whoever makes the container.
pub(super) fn shares(spec: &ContainerSpec, kind: u64) -> bool {
    spec.shared.iter().any(|shared| shared.kind() == kind)
}

/// A namespace of this kind is not new.
pub(super) fn joins(spec: &ContainerSpec, kind: u64) -> bool {
    if shares(spec, kind) {
        return true;
    }
    joins_by_descriptor(spec, kind)
}

/// Every refusal of `join` and of what stands beside it; and the ids of a user namespace that is joined.
pub(super) fn check(
    no: &mut Refusals,
    spec: &ContainerSpec,
    machine: &Machine,
    cgroups: &Cgroups,
) -> (Vec<Joined>, Option<IdMap>) {
    let mut joined = kinds(no, spec);
    let user = joined.iter().find(|one| one.kind() == NEWUSER).map(|one| Arc::clone(&one.namespace));
    for one in &mut joined {
        let governed = match &user {
            Some(user) => above(&one.namespace).any(|owner| Some(owner) == identity(user)),
            None => spec.user_namespace == UserNamespace::Host,
        };
        one.governed = governed && !is_the_initial_cgroup_namespace(one);
        beside(no, spec, one);
        rights(no, one, machine);
    }
    if let Some(pid) = joined.iter().find(|one| one.kind() == NEWPID) {
        check_pid(no, pid, joins(spec, NEWNS), cgroups);
    }
    for shared in &spec.shared {
        beside_shared(no, spec, *shared, &joined, cgroups);
    }
    let ids = joined.iter().find(|one| one.kind() == NEWUSER).and_then(|one| ids(no, one));
    (joined, ids)
}

/// What cannot be where a namespace is shared.
fn beside_shared(no: &mut Refusals, spec: &ContainerSpec, one: SharedNamespace, joined: &[Joined], cgroups: &Cgroups) {
    if joined.iter().any(|joined| joined.kind() == one.kind()) || joins_by_descriptor(spec, NEWNS) {
        no.add("shared", format!("a {} namespace is shared, and another one joined", name_of(one.kind())));
    }
    match one {
        SharedNamespace::Pid if !cgroups.kills() => {
            let why = "only a cgroup of version 2 with cgroup.kill (5.14) could end everything of a container without a pid \
                       namespace";
            no.push(Error::new(ErrorKind::Unsupported, why).with_field("shared"));
        }
        SharedNamespace::Uts if spec.hostname.is_some() || spec.domainname.is_some() => {
            let field = if spec.hostname.is_some() { "hostname" } else { "domainname" };
            no.add(field, "without a uts namespace of its own it would be the host's name that is changed");
        }
        _ => {}
    }
}

/// It is the one that we live in ourselves.
fn is_own(one: &Joined) -> bool {
    let own = rustix::fs::stat(format!("/proc/self/ns/{}", one.name())).ok().map(|stat| (stat.st_dev, stat.st_ino));
    own.is_none() || own == identity(&one.namespace)
}

fn joins_by_descriptor(spec: &ContainerSpec, kind: u64) -> bool {
    spec.join.iter().any(|fd| sys::namespace_type(fd).is_ok_and(|found| found == kind))
}

/// Whoever mounts cgroup2 in this one sets the options of the machine's, `nsdelegate` among them.
fn is_the_initial_cgroup_namespace(one: &Joined) -> bool {
    /// `PROC_CGROUP_INIT_INO`
    const INITIAL: u64 = 0xefff_fffb;
    one.kind() == NEWCGROUP && identity(&one.namespace).is_none_or(|(_, inode)| inode == INITIAL)
}

/// Each must be a namespace of a kind that can be joined, and the only one of its kind.
fn kinds(no: &mut Refusals, spec: &ContainerSpec) -> Vec<Joined> {
    let mut joined: Vec<Joined> = Vec::new();
    for (index, namespace) in spec.join.iter().enumerate() {
        let field = format!("join[{index}]");
        let kind = match sys::namespace_type(namespace) {
            Ok(kind) => kind,
            Err(error) => {
                let error = Error::system("this descriptor is no namespace", error);
                no.push(error.with_kind(ErrorKind::Invalid).with_field(field));
                continue;
            }
        };
        let Some(place) = (0u16..).zip(JOINABLE).find_map(|(place, have)| (have == kind).then_some(place)) else {
            let why = format!("a {} namespace cannot be joined yet: {} can", name_of(kind), NAMES.join(", "));
            no.push(Error::new(ErrorKind::Unsupported, why).with_field(field));
            continue;
        };
        if joined.iter().any(|have| have.place == place) {
            no.add(field, format!("a second {} namespace", name_of(kind)));
            continue;
        }
        joined.push(Joined { place, index, governed: false, namespace: Arc::clone(namespace) });
    }
    joined
}

/// Device and inode: what a namespace is told from another by.
type Identity = (u64, u64);

fn identity(namespace: impl AsFd) -> Option<Identity> {
    rustix::fs::fstat(namespace).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

/// The user namespace that owns it, and those above that, as far as they are not above our own.
fn above(namespace: &OwnedFd) -> impl Iterator<Item = Identity> {
    let owner = sys::owner_namespace(namespace).ok();
    std::iter::successors(owner, |below| sys::parent_namespace(below).ok()).filter_map(identity)
}

/// The keeper must have rights over it. What cannot be found out here the kernel says when it is joined.
fn rights(no: &mut Refusals, one: &Joined, machine: &Machine) {
    let own = rustix::fs::stat("/proc/self/ns/user").ok().map(|stat| (stat.st_dev, stat.st_ino));
    if one.kind() == NEWUSER && own.is_some() && identity(&one.namespace) == own {
        let why = "this is the supervisor's own user namespace, which nobody can join again";
        no.push(Error::invalid(one.field(), why).with_hint("--userns host stays in it (root only)"));
        return;
    }
    let has = match (sys::owner_namespace(&one.namespace), machine.user_namespace) {
        (Err(error), _) => error.raw_os_error() != Some(libc::EPERM),
        (Ok(_), None) => true,
        (Ok(_), Some(keepers)) => above(&one.namespace).any(|owner| owner == keepers),
    };
    if !has {
        no.push(no_rights(one));
    }
}

/// The keeper may not enter it.
pub(crate) fn no_rights(one: &Joined) -> Error {
    let what =
        format!("this {} namespace belongs to a user namespace in which the supervisor has no rights", one.name());
    Error::new(ErrorKind::Permission, what).with_field(one.field()).with_hint(match one.kind() {
        NEWNET => {
            "an ordinary user's supervisor can join what belongs to its own containers alone; other networks are had by \
             pasta, or by an administrator's plugin"
        }
        _ => "an ordinary user's supervisor can join what belongs to its own containers alone",
    })
}

/// What makes no sense beside it: nothing that exists is changed, and nothing is asked for twice.
fn beside(no: &mut Refusals, spec: &ContainerSpec, one: &Joined) {
    match one.kind() {
        NEWUSER if spec.user_namespace != UserNamespace::Own => {
            no.add("user_namespace", "a user namespace that is joined is neither shared nor the host's");
        }
        NEWNET if spec.network == Network::Host => {
            no.add("network", "a network namespace that is joined is not the host's");
        }
        NEWNET if spec.network_provider.is_some() => {
            no.add("network_provider", "a network namespace that is joined is not the provider's to wire");
        }
        NEWNET if !spec.net_devices.is_empty() && is_own(one) => {
            no.add("net_devices", "the network namespace that is joined is the host's, where they are already");
        }
        NEWNET if spec.sysctls.keys().any(|key| key.starts_with("net.")) && is_own(one) => {
            no.add("sysctls", "the network namespace that is joined is the host's, whose parameters are not changed");
        }
        NEWIPC
            if spec.sysctls.keys().any(|key| !key.starts_with("net.") && key != "kernel.domainname") && is_own(one) =>
        {
            no.add("sysctls", "the ipc namespace that is joined is the host's, whose parameters are not changed");
        }
        NEWUTS if spec.domainname.is_some() && is_own(one) => {
            no.add("domainname", "a uts namespace that is joined has its name already");
        }
        NEWUTS if spec.hostname.is_some() && (!spec.listed || is_own(one)) => {
            no.add("hostname", "a uts namespace that is joined has its name already");
        }
        NEWIPC if spec.mqueue && !one.governed => {
            let why =
                "the container's user namespace has no rights over this ipc namespace, whose queues are to be shown";
            no.push(
                Error::new(ErrorKind::Permission, why).with_field("mqueue").with_hint("join its user namespace too"),
            );
        }
        NEWNS => root_of_another(no, spec),
        _ => {}
    }
}

/// A mount namespace that is joined has its root already, and everything below it.
fn root_of_another(no: &mut Refusals, spec: &ContainerSpec) {
    for (field, given) in [
        ("rootfs", spec.rootfs != Rootfs::default()),
        ("root_mounts", !spec.root_mounts.is_empty()),
        ("rootfs_provider", spec.rootfs_provider.is_some()),
        ("host_opt", spec.host_opt),
        ("mounts", !spec.mounts.is_empty()),
        ("files", !spec.files.is_empty()),
        ("masked_paths", !spec.masked_paths.is_empty()),
        ("readonly_paths", !spec.readonly_paths.is_empty()),
        ("sysctls", !spec.sysctls.is_empty()),
        ("mqueue", spec.mqueue),
        ("disk", spec.disk != Disk::default()),
    ] {
        if given {
            no.add(field, "the mount namespace that is joined has its root already, and is not changed");
        }
    }
}

/// Our first process is not pid 1 there: its end is nobody else's.
fn check_pid(no: &mut Refusals, one: &Joined, with_mounts: bool, cgroups: &Cgroups) {
    let refused = |kind, why: &str| Error::new(kind, why).with_field(one.field());
    if !cgroups.kills() {
        let why = "only a cgroup of version 2 with cgroup.kill (5.14) could end everything of a container that shares its \
                   pid namespace";
        no.push(
            refused(ErrorKind::Unsupported, why)
                .with_hint("run as root, or in a delegated cgroup (systemd-run --user --scope -p Delegate=yes)"),
        );
    }
    // Before 6.11 nobody can ask; then the clone says it.
    if sys::pid_namespace_init(&one.namespace).is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH)) {
        no.push(ended(one));
    }
    if !with_mounts && !one.governed {
        let why = "the container's user namespace has no rights over this pid namespace, whose /proc is to be mounted";
        no.push(
            refused(ErrorKind::Permission, why)
                .with_hint("join its user namespace too, or its mount namespace; root may also use --userns host"),
        );
    }
}

/// A pid namespace in which nobody can be born any more.
pub(crate) fn ended(one: &Joined) -> Error {
    let what = "this pid namespace has ended: its pid 1 is gone, and the kernel lets nobody be born in it any more";
    Error::new(ErrorKind::State, what).with_field(one.field())
}

/// The ids of the user namespace, as one of those who live in it has them.
fn ids(no: &mut Refusals, one: &Joined) -> Option<IdMap> {
    crate::ids::joined::of(&one.namespace).map_err(|error| no.push(error.with_field(one.field()))).ok()
}
