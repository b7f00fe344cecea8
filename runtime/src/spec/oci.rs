//! `config.json` of an OCI bundle (runtime-spec 1.x for Linux) as a spec of ours.
//!
//! A field that is known and not supported yet is a refusal that names it, never ignored in silence. The mounts that
//! every bundle lists (/proc, /dev, /dev/pts, /dev/shm, /dev/mqueue, /sys, /sys/fs/cgroup) are made by us anyway and
//! are accepted where they stand. The command is pid 1, as the specification says.

use std::path::{Path, PathBuf};

use oci_spec::runtime as oci;

use super::{
    Access, CapSet, Caps, ContainerSpec, CpuQuota, Mount, MountSource, Network, ProcessSpec, Propagation, Resource,
    Rlimit, Rootfs, Seccomp, User, UserNamespace, WindowSize,
};
use crate::error::{Error, Errors};

/// Collects refusals, each with the path of the field in `config.json`.
struct Refusals(Vec<Error>);

impl Refusals {
    fn add(&mut self, field: &str, why: impl Into<String>) {
        self.0.push(Error::invalid(field, why));
    }

    fn unsupported(&mut self, field: &str, present: bool) {
        if present {
            let what = "this field of config.json is not supported yet";
            self.0.push(Error::new(crate::ErrorKind::Unsupported, what).with_field(field));
        }
    }
}

/// Read a bundle.
///
/// # Errors
/// The file cannot be read or is not valid, or every refusal at once.
pub fn read(bundle: &Path) -> Result<(ContainerSpec, ProcessSpec), Errors> {
    let path = bundle.join("config.json");
    let one = |error: Error| Errors(vec![error.with_field("bundle")]);
    let text =
        std::fs::read(&path).map_err(|error| one(Error::system(format!("cannot read {}", path.display()), error)))?;
    if text.len() > 16 << 20 {
        return Err(one(Error::invalid("bundle", format!("{} is larger than 16 MiB", path.display()))));
    }
    parse(bundle, &text)
}

/// [`read`], of a text that is at hand; `bundle` is what its paths are relative to.
///
/// # Errors
/// As for [`read`].
pub fn parse(bundle: &Path, text: &[u8]) -> Result<(ContainerSpec, ProcessSpec), Errors> {
    let path = bundle.join("config.json");
    let refused = |why: &dyn std::fmt::Display| {
        Errors(vec![Error::invalid("bundle", format!("{} is not a config.json: {why}", path.display()))])
    };
    // serde takes a list for a structure whose fields are all optional.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(refused(&"it does not begin as a JSON object"));
    }
    let spec: oci::Spec = serde_json::from_slice(text).map_err(|error| refused(&error))?;
    convert(bundle, &spec)
}

/// What a bundle says of itself, for who tells of the container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Said {
    /// `ociVersion`.
    pub version: String,
    /// `annotations`.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// That, of a bundle that was [read].
///
/// # Errors
/// It cannot be read any more.
pub fn said(bundle: &Path) -> Result<Said, Error> {
    let path = bundle.join("config.json");
    let failed = |error: oci_spec::OciSpecError| Error::invalid("bundle", format!("{}: {error}", path.display()));
    let spec = oci::Spec::load(&path).map_err(failed)?;
    let annotations = spec.annotations().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Said { version: spec.version().clone(), annotations })
}

fn convert(bundle: &Path, spec: &oci::Spec) -> Result<(ContainerSpec, ProcessSpec), Errors> {
    let mut no = Refusals(Vec::new());
    if !spec.version().starts_with("1.") {
        no.add("ociVersion", format!("{} is not a version 1 of the runtime specification", spec.version()));
    }
    no.unsupported("hooks", spec.hooks().is_some());
    no.unsupported("domainname", spec.domainname().is_some());
    no.unsupported("vm", spec.vm().is_some());
    let mut container = ContainerSpec { without_init: true, plain_root: true, ..ContainerSpec::default() };
    container.hostname.clone_from(spec.hostname());
    root(&mut no, bundle, spec, &mut container);
    mounts(&mut no, bundle, spec, &mut container);
    if let Some(linux) = spec.linux() {
        namespaces(&mut no, linux, &mut container);
        resources(&mut no, linux, &mut container);
        rest_of_linux(&mut no, linux, &mut container);
    }
    let process = spec.process().as_ref().map(|process| convert_process(&mut no, process));
    if process.is_none() {
        no.add("process", "the bundle has no process to run");
    }
    match process {
        Some(process) if no.0.is_empty() => Ok((container, process)),
        _ => Err(Errors(no.0)),
    }
}

fn root(no: &mut Refusals, bundle: &Path, spec: &oci::Spec, container: &mut ContainerSpec) {
    let Some(root) = spec.root() else { return no.add("root", "the bundle has no root") };
    let absolute = std::path::absolute(bundle.join(root.path())).unwrap_or_else(|_| bundle.join(root.path()));
    let access = if root.readonly().unwrap_or(false) { Access::ReadOnly } else { Access::ReadWrite };
    container.rootfs = Rootfs::Dir { path: absolute, access };
}

/// What we make ourselves, by target and type.
const MADE: [(&str, &str); 8] = [
    ("/proc", "proc"),
    ("/dev", "tmpfs"),
    ("/dev/pts", "devpts"),
    ("/dev/shm", "tmpfs"),
    ("/dev/mqueue", "mqueue"),
    ("/sys", "sysfs"),
    ("/sys/fs/cgroup", "cgroup"),
    ("/sys/fs/cgroup", "cgroup2"),
];

fn mounts(no: &mut Refusals, bundle: &Path, spec: &oci::Spec, container: &mut ContainerSpec) {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let target = mount.destination();
        let kind = mount.typ().as_deref().unwrap_or("bind");
        if MADE.iter().any(|(path, made)| Path::new(path) == target.as_path() && *made == kind) {
            container.mqueue |= kind == "mqueue";
            continue;
        }
        match one_mount(bundle, mount, kind) {
            Ok(mount) => container.mounts.push(mount),
            Err(why) => no.add(&format!("mounts[{index}]"), why),
        }
    }
}

fn one_mount(bundle: &Path, mount: &oci::Mount, kind: &str) -> Result<Mount, String> {
    let options: Vec<&str> = mount.options().iter().flatten().map(String::as_str).collect();
    let is_bind = kind == "bind" || kind == "none" || options.iter().any(|option| matches!(*option, "bind" | "rbind"));
    let target = mount.destination();
    let mut made = if is_bind {
        let source = mount.source().clone().ok_or("a bind mount needs a source")?;
        Mount::bind(std::path::absolute(bundle.join(source)).map_err(|error| error.to_string())?, target)
    } else if kind == "tmpfs" {
        Mount::tmpfs(target)
    } else {
        return Err(format!("file systems of type {kind:?} are not supported yet"));
    };
    for option in options {
        match option {
            "ro" => made.read_only = true,
            "noexec" => made.no_exec = true,
            "private" | "rprivate" => made.propagation = Propagation::Private,
            "slave" | "rslave" => made.propagation = Propagation::Slave,
            "shared" | "rshared" => made.propagation = Propagation::Shared,
            "bind" | "rbind" | "rw" | "exec" | "nosuid" | "nodev" | "relatime" => {}
            "strictatime" if !is_bind => {}
            option if !is_bind && option.starts_with("mode=") => {}
            option if !is_bind && option.starts_with("size=") => {
                let size = Some(super::size::parse_size(&option["size=".len()..])?);
                made.source = MountSource::Tmpfs { size };
            }
            option => return Err(format!("the option {option:?} is not supported yet for {kind}")),
        }
    }
    Ok(made)
}

fn namespaces(no: &mut Refusals, linux: &oci::Linux, container: &mut ContainerSpec) {
    use oci::LinuxNamespaceType as Type;
    let list = linux.namespaces().clone().unwrap_or_default();
    for (index, namespace) in list.iter().enumerate() {
        if let Some(path) = namespace.path() {
            join(no, container, &format!("linux.namespaces[{index}].path"), namespace.typ(), path);
        }
    }
    let has = |kind: Type| list.iter().any(|namespace| namespace.typ() == kind);
    no.unsupported("linux.namespaces: time", has(Type::Time));
    for (kind, name) in [(Type::Mount, "mount"), (Type::Pid, "pid"), (Type::Ipc, "ipc"), (Type::Uts, "uts")] {
        if !has(kind) {
            no.add(
                "linux.namespaces",
                format!("a container without a {name} namespace of its own is not supported yet"),
            );
        }
    }
    container.network = if has(Type::Network) { Network::None } else { Network::Host };
    container.user_namespace = if has(Type::User) { UserNamespace::Own } else { UserNamespace::Host };
    let joins_user = list.iter().any(|namespace| namespace.typ() == Type::User && namespace.path().is_some());
    if joins_user && (linux.uid_mappings().is_some() || linux.gid_mappings().is_some()) {
        no.add("linux.uidMappings", "a user namespace that is joined has its ids already");
    }
    let chosen_by_us = |mappings: &Option<Vec<oci::LinuxIdMapping>>, own: u32| {
        mappings.iter().flatten().all(|map| map.container_id() == 0 && map.size() == 1 && map.host_id() == own)
    };
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if !chosen_by_us(linux.uid_mappings(), uid) || !chosen_by_us(linux.gid_mappings(), gid) {
        no.add("linux.uidMappings", "maps other than one's own id at 0 are chosen by us and cannot be given yet");
    }
}

/// An existing namespace instead of a new one.
fn join(no: &mut Refusals, container: &mut ContainerSpec, field: &str, kind: oci::LinuxNamespaceType, path: &Path) {
    use oci::LinuxNamespaceType as Type;
    let kind = match kind {
        Type::Network => "net",
        Type::Ipc => "ipc",
        Type::Uts => "uts",
        Type::Cgroup => "cgroup",
        Type::Pid => "pid",
        Type::User => "user",
        Type::Mount => {
            return no.add(field, "a mount namespace that is joined has its root already, and so has a bundle");
        }
        Type::Time => return,
    };
    if !path.is_absolute() {
        return no.add(field, format!("{} is not an absolute path", path.display()));
    }
    match super::namespaces::open(kind, path) {
        Ok(namespace) => container.join.push(std::sync::Arc::new(namespace)),
        Err(error) => no.0.push(error.with_field(field)),
    }
}

fn resources(no: &mut Refusals, linux: &oci::Linux, container: &mut ContainerSpec) {
    let Some(resources) = linux.resources() else { return };
    let positive = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
    let limits = &mut container.limits;
    if let Some(memory) = resources.memory() {
        limits.memory = positive(memory.limit());
        // OCI counts memory and swap together, we count swap alone.
        limits.memory_swap =
            positive(memory.swap()).zip(limits.memory).map(|(both, memory)| both.saturating_sub(memory));
    }
    if let Some(pids) = resources.pids() {
        limits.pids = positive(Some(pids.limit())).filter(|limit| *limit > 0);
    }
    if let Some(cpu) = resources.cpu() {
        if let Some(quota_us) = positive(cpu.quota()) {
            limits.cpu_quota = Some(CpuQuota { quota_us, period_us: cpu.period().unwrap_or(100_000) });
        }
        limits.cpu_weight = cpu.shares().filter(|shares| *shares > 0).map(weight);
        limits.cpuset_cpus = cpu.cpus().clone().filter(|list| !list.is_empty());
        limits.cpuset_mems = cpu.mems().clone().filter(|list| !list.is_empty());
    }
    no.unsupported("linux.resources.blockIO", resources.block_io().is_some());
    no.unsupported("linux.resources.hugepageLimits", resources.hugepage_limits().is_some());
    no.unsupported("linux.resources.network", resources.network().is_some());
    no.unsupported("linux.resources.rdma", resources.rdma().is_some());
    no.unsupported("linux.resources.unified", resources.unified().is_some());
    let allowed = resources.devices().iter().flatten().any(oci::LinuxDeviceCgroup::allow);
    no.unsupported("linux.resources.devices: allow", allowed);
}

/// cpu.shares (2 to 262,144) as cpu.weight (1 to 10,000), as runc and crun convert them.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn rest_of_linux(no: &mut Refusals, linux: &oci::Linux, container: &mut ContainerSpec) {
    container.sysctls = linux.sysctl().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    let paths = |list: &Option<Vec<String>>| list.iter().flatten().map(PathBuf::from).collect();
    container.masked_paths = paths(linux.masked_paths());
    container.readonly_paths = paths(linux.readonly_paths());
    no.unsupported("linux.seccomp", linux.seccomp().is_some());
    no.unsupported("linux.devices", linux.devices().iter().flatten().next().is_some());
    container.cgroups_path.clone_from(linux.cgroups_path());
    no.unsupported("linux.mountLabel", linux.mount_label().is_some());
    no.unsupported("linux.intelRdt", linux.intel_rdt().is_some());
    no.unsupported("linux.personality", linux.personality().is_some());
    let propagation = linux.rootfs_propagation().as_deref().unwrap_or("private");
    no.unsupported("linux.rootfsPropagation", !matches!(propagation, "" | "private" | "rprivate"));
}

fn convert_process(no: &mut Refusals, process: &oci::Process) -> ProcessSpec {
    no.unsupported("process.apparmorProfile", process.apparmor_profile().is_some());
    no.unsupported("process.selinuxLabel", process.selinux_label().is_some());
    no.unsupported("process.scheduler", process.scheduler().is_some());
    no.unsupported("process.ioPriority", process.io_priority().is_some());
    no.unsupported("process.execCPUAffinity", process.exec_cpu_affinity().is_some());
    let user = process.user();
    no.unsupported("process.user.username", user.username().is_some());
    let split = |entry: &String| {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        (key.into(), value.into())
    };
    let caps = process.capabilities().as_ref().map_or_else(Caps::none, |caps| convert_caps(no, caps));
    let new_privileges = !process.no_new_privileges().unwrap_or(false);
    ProcessSpec {
        argv: process.args().iter().flatten().map(Into::into).collect(),
        env: process.env().iter().flatten().map(split).collect(),
        cwd: Some(process.cwd().clone()),
        user: User::Ids { uid: user.uid(), gid: user.gid() },
        groups: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask(),
        caps: Some(caps),
        new_privileges,
        rlimits: process.rlimits().iter().flatten().filter_map(|limit| convert_rlimit(no, limit)).collect(),
        // A bundle without `linux.seccomp` asks for none.
        seccomp: Seccomp::Unconfined,
        oom_score_adj: process.oom_score_adj(),
        tty: convert_tty(no, process),
        ..ProcessSpec::default()
    }
}

/// A console without a size has the default one, and so has one of 0 by 0: that is how others write "not given".
fn convert_tty(no: &mut Refusals, process: &oci::Process) -> Option<WindowSize> {
    let size = match process.console_size() {
        Some(size) if (size.height(), size.width()) != (0, 0) => {
            match (u16::try_from(size.height()), u16::try_from(size.width())) {
                (Ok(rows), Ok(columns)) if rows > 0 && columns > 0 => WindowSize { rows, columns },
                _ => {
                    no.add("process.consoleSize", "height and width are from 1 to 65535");
                    WindowSize::default()
                }
            }
        }
        _ => WindowSize::default(),
    };
    process.terminal().unwrap_or(false).then_some(size)
}

fn convert_caps(no: &mut Refusals, caps: &oci::LinuxCapabilities) -> Caps {
    let mut set = |field: &str, list: &Option<oci::Capabilities>| {
        list.iter().flatten().fold(CapSet::default(), |all, cap| match CapSet::parse(&cap.to_string()) {
            Ok(cap) => all | cap,
            Err(why) => {
                no.add(&format!("process.capabilities.{field}"), why);
                all
            }
        })
    };
    let mut caps = Caps {
        bounding: set("bounding", caps.bounding()),
        effective: set("effective", caps.effective()),
        permitted: set("permitted", caps.permitted()),
        inheritable: set("inheritable", caps.inheritable()),
        ambient: set("ambient", caps.ambient()),
    };
    // `runc spec` writes ambient capabilities without inheritable ones, which no kernel raises; runc drops them too.
    let possible = caps.ambient.intersection(caps.permitted).intersection(caps.inheritable);
    if possible != caps.ambient {
        tracing::warn!(asked = ?caps.ambient.names(), "ambient capabilities that are not inheritable are dropped");
        caps.ambient = possible;
    }
    caps
}

fn convert_rlimit(no: &mut Refusals, limit: &oci::PosixRlimit) -> Option<Rlimit> {
    let made = Resource::from_name(&limit.typ().to_string())
        .and_then(|resource| Rlimit::new(resource, limit.soft(), limit.hard()));
    made.map_err(|why| no.add("process.rlimits", why)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(json: &str) -> Result<(ContainerSpec, ProcessSpec), Errors> {
        convert(Path::new("/bundle"), &serde_json::from_str(json).unwrap())
    }

    const SMALL: &str = r#"{"ociVersion":"1.0.2","root":{"path":"rootfs","readonly":true},
        "process":{"user":{"uid":0,"gid":0},"args":["sh"],"env":["PATH=/bin","A=b=c"],"cwd":"/","noNewPrivileges":true,
            "rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}],
            "capabilities":{"bounding":["CAP_KILL"],"effective":["CAP_KILL"],"permitted":["CAP_KILL"]}},
        "mounts":[{"destination":"/proc","type":"proc","source":"proc"},
            {"destination":"/dev/mqueue","type":"mqueue","source":"mqueue","options":["nosuid"]},
            {"destination":"/data","type":"bind","source":"data","options":["rbind","ro","noexec","rslave"]},
            {"destination":"/run","type":"tmpfs","source":"tmpfs","options":["nosuid","nodev","noexec","size=1m"]}],
        "linux":{"namespaces":[{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}],
            "resources":{"devices":[{"allow":false,"access":"rwm"}],"memory":{"limit":1048576,"swap":2097152}},
            "maskedPaths":["/proc/kcore"]}}"#;

    #[test]
    fn an_ordinary_bundle_is_understood() {
        let (container, process) = from(SMALL).unwrap();
        assert_eq!(container.rootfs, Rootfs::Dir { path: "/bundle/rootfs".into(), access: Access::ReadOnly });
        assert!(container.mqueue && container.without_init && container.plain_root);
        let data = Mount::bind("/bundle/data", "/data").read_only().no_exec().propagation(Propagation::Slave);
        let run = Mount::new(MountSource::Tmpfs { size: Some(1 << 20) }, "/run").no_exec();
        assert_eq!(container.mounts, [data, run]);
        assert_eq!((container.limits.memory, container.limits.memory_swap), (Some(1 << 20), Some(1 << 20)));
        assert_eq!((container.network, container.user_namespace), (Network::None, UserNamespace::Host));
        assert_eq!(process.env[1], ("A".into(), "b=c".into()));
        assert_eq!(process.caps.unwrap().effective.names(), ["CAP_KILL"]);
    }

    #[test]
    fn every_unsupported_field_is_named_at_once() {
        let json = SMALL
            .replace(r#""linux":{"#, r#""hooks":{},"domainname":"d","linux":{"mountLabel":"x","#)
            .replace(r#""cwd":"/""#, r#""cwd":"/","apparmorProfile":"p","consoleSize":{"height":0,"width":80}"#);
        let errors = from(&json).unwrap_err();
        let fields: Vec<_> = errors.0.iter().filter_map(Error::field).collect();
        assert_eq!(
            fields,
            ["hooks", "domainname", "linux.mountLabel", "process.apparmorProfile", "process.consoleSize"]
        );
    }

    #[test]
    fn a_terminal_has_the_size_of_the_console() {
        let tty = |text: &str| from(&SMALL.replace(r#""cwd":"/""#, &format!(r#""cwd":"/",{text}"#))).unwrap().1.tty;
        assert_eq!(tty(r#""terminal":true"#), Some(WindowSize::default()));
        assert_eq!(tty(r#""terminal":true,"consoleSize":{"height":0,"width":0}"#), Some(WindowSize::default()));
        let size = r#""consoleSize":{"height":5,"width":7}"#;
        assert_eq!(tty(&format!(r#""terminal":true,{size}"#)), Some(WindowSize { rows: 5, columns: 7 }));
        assert_eq!(tty(size), None, "without a terminal it is ignored");
    }

    #[test]
    fn shares_become_weights() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 39, 10_000]);
    }
}
