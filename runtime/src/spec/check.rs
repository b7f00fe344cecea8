//! The only way to a [`CheckedSpec`]: every refusal names its field, all of them at once. Limits are checked before
//! any work starts. Looks at the host (does the root exist? who is `www-data`?) but changes nothing.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::OFlags;

pub(crate) use super::checked::Limited;
pub use super::checked::{CheckedProcess, CheckedSpec};
use super::landlock::Ruleset;
use super::user::{self, NameOrId, Resolved};
use super::{
    Access, Caps, ContainerSpec, Enforcement, Ground, Limits, Network, ProcessSpec, Rootfs, SharedNamespace, User,
    UserNamespace, filters, give, labels, listed, mount, namespaces, placement, rootfs, tty,
};
use crate::cgroup::Cgroups;
use crate::error::{Error, ErrorKind, Errors};
use crate::network::{Pasta, device};
use crate::plan::Machine;
use crate::plan::idmap::IdMap;
use crate::plan::wire::{NEWIPC, NEWNET, NEWNS, NEWTIME, NEWUTS};
use crate::resctrl;

/// Descriptors that one process may be given beside its three: they come in one message of 240, with those
/// of its cgroup, its namespaces and its mounts.
const MAX_PRESERVED: usize = 200;

/// Collects refusals.
#[derive(Default)]
pub(super) struct Refusals(Vec<Error>);

impl Refusals {
    pub(super) fn add(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.0.push(Error::invalid(field, why));
    }

    pub(super) fn push(&mut self, error: Error) {
        self.0.push(error);
    }

    #[cfg(test)]
    pub(super) fn fields(&self) -> Vec<&str> {
        self.0.iter().filter_map(Error::field).collect()
    }

    fn end<T>(self, value: Option<T>) -> Result<T, Errors> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ if self.0.is_empty() => Err(Errors(vec![Error::new(ErrorKind::System, "nothing was checked")])),
            _ => Err(Errors(self.0)),
        }
    }
}

/// Check a container and its main process.
///
/// # Errors
/// All refusals.
pub fn check(
    mut container: ContainerSpec,
    mut main: ProcessSpec,
    machine: &Machine,
    cgroups: &Cgroups,
) -> Result<CheckedSpec, Errors> {
    let mut no = Refusals(Vec::new());
    check_id(&mut no, &container.id, container.listed);
    rootfs::check(&mut no, &container);
    check_network(&mut no, &container, machine);
    let mounts = mount::check(&mut no, &container.mounts, container.listed);
    listed::beside(&mut no, &container, machine, cgroups);
    check_files(&mut no, &container);
    check_names(&mut no, &container);
    if !main.mounts.is_empty() || !main.limits.is_empty() {
        no.add("process", "mounts and limits of the main process are those of its container");
    }
    let limited = settle_limits(&mut no, &mut container, &mut main, machine, cgroups);
    if container.disk.bytes < 64 << 10 || container.disk.inodes < 64 {
        no.add("disk", "the private space needs at least 64 KiB and 64 inodes");
    }
    if container.user_namespace == UserNamespace::Host && !machine.privileged {
        let why = "only root can run a container with the host's user ids";
        no.push(Error::invalid("user_namespace", why).with_hint("ids of its own (the default) need no root"));
    }
    check_idle(&mut no, &container, &mut main);
    check_first_limits(&mut no, &container, &main);
    let process = match check_process(main, &container, None) {
        Ok(process) => Some(process),
        Err(mut errors) => {
            no.0.append(&mut errors.0);
            None
        }
    };
    let (joined, joined_ids) = namespaces::check(&mut no, &container, machine, cgroups);
    let resolv_conf = container.pasta.as_ref().map(|_| Pasta::resolv_conf());
    let checked = process.map(|main| CheckedSpec { container, main, mounts, joined, joined_ids, resolv_conf, limited });
    no.end(checked)
}

/// What has no command is its stub init, and is called so.
fn check_idle(no: &mut Refusals, container: &ContainerSpec, main: &mut ProcessSpec) {
    if !container.idle {
        return;
    }
    if container.without_init {
        no.add("idle", "without a stub init there is nobody who could be idle");
    }
    if !main.argv.is_empty() || main.tty.is_some() {
        no.add("idle", "an idle container has neither a command nor a terminal");
    }
    main.argv = vec!["orangery-init".into()];
}

/// An interface is in one namespace. One that is joined is looked at with the others.
fn check_net_devices(no: &mut Refusals, spec: &ContainerSpec, machine: &Machine) {
    if spec.network == Network::Host {
        no.add("net_devices", "an interface is given to a network namespace that is not the host's, and it has none");
    }
    if !machine.privileged {
        let why = "only root can give an interface of the host's away";
        no.push(Error::new(ErrorKind::Unsupported, why).with_field("net_devices"));
    }
    for (name, called) in &spec.net_devices {
        let same = || spec.net_devices.values().filter(|other| *other == called).count();
        let twice = !device::is_numbered(called) && same() > 1;
        if device::wrong_name(name) || device::wrong_new_name(called) || called == "lo" || twice {
            no.add(format!("net_devices[{name}]"), format!("{called:?} is no name for one interface: 1 to 15 bytes"));
        }
    }
}

/// Whoever wires a network needs one that is the container's own.
fn check_network(no: &mut Refusals, spec: &ContainerSpec, machine: &Machine) {
    if spec.network_provider.is_some() && spec.network == Network::Host {
        no.add("network_provider", "the host's network is not the provider's to wire: it needs network none");
    }
    if !spec.net_devices.is_empty() {
        check_net_devices(no, spec, machine);
    }
    let Some(pasta) = &spec.pasta else { return };
    if spec.network == Network::Host || namespaces::joins(spec, NEWNET) {
        no.add("pasta", "pasta wires a network of the container's own, neither the host's nor one that is joined");
    }
    if spec.network_provider.is_some() {
        no.add("pasta", "a network is wired by pasta or by another provider, not by both");
    }
    if spec.user_namespace == UserNamespace::Host {
        let why = "pasta has no rights but those of a user namespace of the container's own";
        no.push(Error::new(ErrorKind::Unsupported, why).with_field("pasta"));
    }
    pasta.refusals().into_iter().for_each(|refused| no.push(refused));
}

/// Of a bundle it is what other runtimes take; of ours it is told from an option and from what is hidden.
fn check_id(no: &mut Refusals, id: &str, listed: bool) {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') || listed && c == '+';
    let begins = |id: &str| match listed {
        true => !matches!(id, "." | ".."),
        false => id.starts_with(|c: char| c.is_ascii_alphanumeric()),
    };
    if id.is_empty() || id.len() > 128 || !id.chars().all(good) || !begins(id) {
        let rule = match listed {
            true => "1 to 128 of A-Z a-z 0-9 . _ + -, but neither . nor ..",
            false => "1 to 128 of A-Z a-z 0-9 . _ -, the first a letter or digit",
        };
        no.add("id", format!("{id:?} is no container id: {rule}"));
    }
}

/// An absolute path without `..`, NUL or newline.
pub(super) fn clean(path: &Path) -> Result<(), String> {
    if !path.is_absolute() {
        return Err(format!("{} is not an absolute path", path.display()));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("{} contains '..'", path.display()));
    }
    if path.as_os_str().as_bytes().iter().any(|byte| *byte == 0 || *byte == b'\n') {
        return Err("a path contains a NUL or a newline".into());
    }
    Ok(())
}

/// Where files can be staged; `None`: anywhere.
fn staging(rootfs: &Rootfs) -> Option<&'static [&'static str]> {
    match rootfs.access() {
        None if *rootfs == Rootfs::HostRoot => Some(&["/tmp", "/run", "/root"]),
        None | Some(Access::Overlay) => None,
        Some(Access::ReadOnly) => Some(&["/tmp", "/run"]),
        Some(Access::ReadWrite) => Some(&["/run"]),
    }
}

fn check_files(no: &mut Refusals, spec: &ContainerSpec) {
    let total: usize = spec.files.iter().map(|file| file.content.len()).sum();
    if total as u64 > spec.disk.bytes {
        no.add("files", format!("{total} bytes are staged, the disk limit is {} bytes", spec.disk.bytes));
    }
    if spec.files.len() > 32 {
        no.add("files", format!("{} files are staged; 32 are possible before the start", spec.files.len()));
    }
    for (index, file) in spec.files.iter().enumerate() {
        let field = format!("files[{index}].path");
        if let Err(why) = clean(&file.path) {
            no.add(field, why);
        } else if ["/proc", "/sys", "/dev"].iter().any(|dir| file.path.starts_with(dir)) {
            no.add(field, format!("{} lies in a directory that is not ours to write", file.path.display()));
        } else if let Some(places) =
            staging(&spec.rootfs).filter(|places| !places.iter().any(|dir| file.path.starts_with(dir)))
        {
            let places = places.join(", ");
            no.add(field, format!("{} is not below {places}, where this root is private", file.path.display()));
        }
        if file.mode & !0o777 != 0 {
            no.add(format!("files[{index}].mode"), format!("{:o} has more than permission bits", file.mode));
        }
    }
}

fn check_names(no: &mut Refusals, spec: &ContainerSpec) {
    if let Some(name) = &spec.hostname {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if name.is_empty() || name.len() > 64 || !name.chars().all(good) {
            no.add("hostname", format!("{name:?} is no host name: 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
    }
    if let Some(rdt) = &spec.intel_rdt {
        if let Some(why) = rdt.wrong() {
            no.add("intel_rdt", why);
        }
        if resctrl::mounted().is_none() {
            let why = "resctrl is not mounted on this machine, or its processor has none";
            no.push(Error::new(ErrorKind::Unsupported, why).with_field("intel_rdt"));
        }
    }
    if let Some(why) = spec.time.as_ref().and_then(super::TimeOffsets::wrong) {
        no.add("time", why);
    }
    if spec.time.is_some() && namespaces::joins(spec, NEWTIME) {
        no.add("time", "a time namespace that is joined has its clocks already");
    }
    for (key, value) in &spec.sysctls {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') || spec.listed && c == '/';
        let ipc = ["kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue."].iter().any(|start| key.starts_with(start));
        // Of a network or an ipc namespace that exists, a bundle says what shall be in it; of the host's nobody does.
        let net = spec.network == Network::None && (spec.listed || !namespaces::joins(spec, NEWNET));
        let ours = key.starts_with("net.") && net
            || ipc && (!namespaces::joins(spec, NEWIPC) || spec.listed && !spec.shared.contains(&SharedNamespace::Ipc))
            || spec.listed && key == "kernel.domainname" && !namespaces::joins(spec, NEWUTS);
        let strays = key.contains("..") || key.contains("//") || key.starts_with(['.', '/']);
        if strays {
            no.add("sysctls", format!("{key:?} is no kernel parameter: it contains an invalid path"));
        } else if !key.chars().all(good) {
            no.add("sysctls", format!("{key:?} is no kernel parameter"));
        } else if key == "kernel.domainname" && spec.domainname.as_ref().is_some_and(|name| name != value) {
            no.add("sysctls", format!("{key} is another name than domainname says"));
        } else if !ours {
            no.add("sysctls", format!("{key} is not a parameter of namespaces that are the container's own"));
        }
        if value.bytes().any(|byte| byte == 0 || byte == b'\n') || value.is_empty() {
            no.add("sysctls", format!("the value of {key} is empty or contains a NUL or a newline"));
        }
    }
    for (field, paths) in [("masked_paths", &spec.masked_paths), ("readonly_paths", &spec.readonly_paths)] {
        for path in paths {
            if let Err(why) = clean(path) {
                no.add(field, why);
            } else if path.to_str().is_none() || path == Path::new("/") {
                no.add(field, format!("{} cannot be used here", path.display()));
            }
        }
    }
}

/// Every limit that cannot be had is refused; or, where the spec says so, the container does without.
fn settle_limits(
    no: &mut Refusals,
    container: &mut ContainerSpec,
    main: &mut ProcessSpec,
    machine: &Machine,
    cgroups: &Cgroups,
) -> Limited {
    let ground = Ground::of(container, machine.counts_by_namespace);
    let mut limited = Limited { asked: container.limits.clone(), ground, unmet: Vec::new() };
    if container.enforcement == Enforcement::Required {
        check_limits(no, &container.limits, cgroups);
        return limited;
    }
    // What is nonsense anywhere is refused all the same.
    let wrong = container.limits.validate();
    wrong.into_iter().for_each(|(field, why)| no.add(format!("limits.{field}"), why));
    // One that is taken away may be what another one needs: v1 has swap with memory alone.
    let mut settled = false;
    while !settled {
        settled = true;
        for (field, why) in cgroups.supports(&container.limits) {
            settled &= !container.limits.clear(&field);
            limited.unmet.push(ground.unmet(&field, why, &limited.asked));
        }
    }
    give(main, &mut limited.unmet);
    limited
}

const DO_WITHOUT: &str = "run without the limit, or with `best-effort` limits";
const DELEGATE: &str = "run without the limit, with `best-effort` limits, as root, or in a delegated cgroup (systemd-run --user --scope -p Delegate=yes, which has what the administrator gives user@.service: docs/rootless.md; or once, as root: orangery setup --user NAME)";

fn check_limits(no: &mut Refusals, limits: &Limits, cgroups: &Cgroups) {
    for (field, why) in limits.validate() {
        no.add(format!("limits.{field}"), why);
    }
    if !limits.is_empty() {
        for (field, why) in cgroups.supports(limits) {
            let hint = if cgroups.has_controller_of(limits, &field) { DO_WITHOUT } else { DELEGATE };
            let error = Error::new(ErrorKind::Unsupported, why);
            no.0.push(error.with_field(format!("limits.{field}")).with_hint(hint));
        }
    }
}

/// Check a further process of a container that runs, with its own mounts and limits. `root` is the container's root
/// directory.
///
/// # Errors
/// All refusals.
pub fn check_further(
    spec: ProcessSpec,
    container: &ContainerSpec,
    root: Option<BorrowedFd<'_>>,
    machine: &Machine,
    cgroups: &Cgroups,
) -> Result<CheckedProcess, Errors> {
    let mut no = Refusals(Vec::new());
    let mounts = mount::check(&mut no, &spec.mounts, false);
    if !machine.enters_pidns {
        for (index, _) in spec.mounts.iter().enumerate().filter(|(_, mount)| mount.source.path().is_some()) {
            let why = "an ordinary user may not take files of the host into a container that is there already";
            no.0.push(
                Error::new(ErrorKind::Unsupported, why)
                    .with_field(format!("mounts[{index}].source"))
                    .with_hint("mount it into the container when that is made, or copy the files in"),
            );
        }
    }
    check_limits(&mut no, &spec.limits, cgroups);
    match check_process(spec, container, root) {
        Ok(process) => no.end(Some(CheckedProcess { mounts, ..process })),
        Err(mut errors) => {
            no.0.append(&mut errors.0);
            no.end(None)
        }
    }
}

/// Check one process. `root` is the container's root directory when it runs already; before, names are looked up in
/// the root directory of the spec.
///
/// # Errors
/// All refusals.
pub fn check_process(
    spec: ProcessSpec,
    container: &ContainerSpec,
    root: Option<BorrowedFd<'_>>,
) -> Result<CheckedProcess, Errors> {
    let mut no = Refusals(Vec::new());
    check_strings(&mut no, &spec);
    tty::check(&mut no, &spec);
    let resolved = resolve_user(&spec.user, container, root);
    let resolved = match resolved {
        Ok(resolved) => Some(resolved),
        Err(why) => {
            no.add("user", why);
            None
        }
    };
    for (index, limit) in spec.rlimits.iter().enumerate() {
        if limit.soft > limit.hard {
            no.add(
                format!("rlimits[{index}]"),
                format!("{}: the soft limit is above the hard one", limit.resource.name()),
            );
        }
        if let Err(why) = may_raise(limit) {
            let error = Error::invalid(format!("rlimits[{index}]"), why);
            no.push(error.with_hint(
                "the administrator raises it: limits.conf(5) for a log-in, Limit...= for a unit of systemd",
            ));
        }
    }
    placement::check(&mut no, &spec);
    let labels = labels::check(&mut no, &spec);
    if spec.umask.is_some_and(|umask| umask > 0o777) {
        no.add("umask", "more than permission bits");
    }
    if let Some(score) = spec.oom_score_adj {
        check_oom_score(&mut no, score);
    }
    if spec.preserved.len() > MAX_PRESERVED {
        let why = format!("{} descriptors are preserved; {MAX_PRESERVED} are possible", spec.preserved.len());
        no.add("preserved", why);
    }
    let at = &spec.preserved_at;
    if !at.is_empty() && (at.len() != spec.preserved.len() || at.first() < Some(&3) || !at.is_sorted_by(|a, b| a < b)) {
        no.add("preserved_at", "it is no number above 2 for each of `preserved`, in their order");
    }
    let caps = check_caps(&mut no, &spec, resolved.as_ref());
    let bounding = caps.map_or(super::caps::CapSet::EMPTY, |caps| caps.bounding);
    let filter = filters::compile(&spec, bounding).unwrap_or_else(|why| {
        no.add("filters", why);
        None
    });
    let landlock = check_landlock(&mut no, &spec);
    let groups = resolved.as_ref().map(|user| merged(&user.groups, &spec.groups));
    let checked = resolved.zip(caps).zip(groups);
    let checked = checked.map(|((user, caps), groups)| CheckedProcess {
        spec,
        ids: (user.uid, user.gid),
        groups,
        caps,
        filter,
        labels,
        landlock,
        mounts: Vec::new(),
    });
    no.end(checked)
}

/// By what this kernel has.
fn check_landlock(no: &mut Refusals, spec: &ProcessSpec) -> Option<Ruleset> {
    let asked = spec.landlock.as_ref().filter(|asked| !asked.is_empty())?;
    let checked = asked.check(crate::sys::probe::landlock(), spec.new_privileges);
    checked.map_err(|errors| errors.into_iter().for_each(|error| no.push(error))).ok()
}

fn merged(of_user: &[u32], asked: &[u32]) -> Vec<u32> {
    let mut all = of_user.to_vec();
    all.extend(asked.iter().filter(|group| !of_user.contains(group)));
    all
}

fn check_strings(no: &mut Refusals, spec: &ProcessSpec) {
    let nul = |text: &OsStr| text.as_bytes().contains(&0);
    match spec.argv.first() {
        None => no.add("argv", "no command is given"),
        Some(program) if program.is_empty() => no.add("argv[0]", "the command is empty"),
        Some(_) => {}
    }
    for (index, arg) in spec.argv.iter().enumerate() {
        if nul(arg) {
            no.add(format!("argv[{index}]"), "contains a NUL");
        }
        if arg.len() >= 128 << 10 {
            no.add(format!("argv[{index}]"), "longer than 128 KiB, which the kernel refuses");
        }
    }
    for (key, value) in &spec.env {
        if key.is_empty() || key.as_bytes().contains(&b'=') || nul(key) || nul(value) {
            no.add(
                "env",
                format!("{} is no environment variable: a name without '=' and NUL is needed", key.display()),
            );
        }
    }
    let size: usize = spec.argv.iter().map(|arg| arg.len() + 9).sum::<usize>()
        + spec.env.iter().map(|(key, value)| key.len() + value.len() + 10).sum::<usize>();
    if size > 2 << 20 {
        no.add("argv", format!("arguments and environment take {size} bytes; 2 MiB are possible"));
    }
    if let Some(Err(why)) = spec.cwd.as_deref().map(clean) {
        no.add("cwd", why);
    }
}

/// Without CAP_SYS_RESOURCE even root may not raise a hard limit; say so before anything is made.
fn may_raise(limit: &super::Rlimit) -> Result<(), String> {
    let now = limit.resource.current();
    if limit.hard > now.1 && !crate::sys::has_capability(24) {
        let wanted = match limit.hard {
            super::rlimit::INFINITY => "unlimited".to_owned(),
            number => number.to_string(),
        };
        let (name, most) = (limit.resource.name(), now.1);
        return Err(format!("{name}: {wanted} is above the hard limit {most} and this process lacks CAP_SYS_RESOURCE"));
    }
    Ok(())
}

/// A command that is pid 1 itself is born into its user namespace, in which nobody may raise a hard limit. Every other
/// process gets its limits before it enters.
fn check_first_limits(no: &mut Refusals, container: &ContainerSpec, main: &ProcessSpec) {
    let able = crate::sys::has_capability(24);
    if !container.without_init || container.user_namespace == UserNamespace::Host || !able {
        // Without the capability the limits are refused one by one, whoever asks.
        return;
    }
    for (index, limit) in main.rlimits.iter().enumerate() {
        let now = limit.resource.current().1;
        if limit.hard > now {
            no.0.push(
                Error::invalid(
                    format!("rlimits[{index}]"),
                    format!("{}: {} is above the hard limit {now}", limit.resource.name(), limit.hard),
                )
                .with_hint("run the command under the init, or with the host's user ids"),
            );
        }
    }
}

fn check_oom_score(no: &mut Refusals, score: i32) {
    if !(-1000..=1000).contains(&score) {
        return no.add("oom_score_adj", format!("{score} is not between -1000 and 1000"));
    }
    // The kernel counts from the least that a privileged process has given us, which is nowhere to be read: 0 unless somebody has
    // lowered it. Who has raised its own since, as containerd's shim does, may give less than that.
    let now = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse::<i32>().ok());
    if now.is_some_and(|now| score < now.min(0)) && !crate::sys::has_capability(24) {
        let why = format!("{score} is below ours and 0, and this process lacks CAP_SYS_RESOURCE");
        no.push(Error::invalid("oom_score_adj", why).with_hint("a score that is ours or higher"));
    }
}

fn check_caps(no: &mut Refusals, spec: &ProcessSpec, user: Option<&Resolved>) -> Option<Caps> {
    let caps = match (&spec.caps, user) {
        (Some(caps), _) => *caps,
        (None, Some(user)) if user.uid == 0 => Caps::default_root(),
        (None, _) => Caps::none(),
    };
    for why in caps.validate() {
        no.add("caps", why);
    }
    // LOG, SPEC_ALLOW, WAIT_KILLABLE_RECV
    if spec.filter_flags & !(2 | 4 | 0x20) != 0 {
        no.add("filter_flags", format!("{:#x} are no flags that can be given", spec.filter_flags));
    }
    Some(caps)
}

/// Who a process runs as: numbers as they are, names from the container's own /etc.
fn resolve_user(user: &User, container: &ContainerSpec, root: Option<BorrowedFd<'_>>) -> Result<Resolved, String> {
    let name = match user {
        User::Root => return Ok(Resolved { uid: 0, gid: 0, groups: Vec::new(), home: None }),
        User::Ids { uid, gid } if *uid == u32::MAX || *gid == u32::MAX => {
            return Err(format!("{} is no id", u32::MAX));
        }
        User::Ids { uid, gid } => return Ok(Resolved { uid: *uid, gid: *gid, groups: Vec::new(), home: None }),
        User::Name(name) => name,
    };
    let request = user::parse_user(name)?;
    if root.is_none() && namespaces::joins(container, NEWNS) {
        // Nobody is in there yet who could look.
        return by_number(&request).ok_or_else(|| {
            format!(
                "{name:?} cannot be looked up in a mount namespace that is joined: give the numbers of user and group"
            )
        });
    }
    let (passwd, group) = match (root, &container.rootfs) {
        (Some(root), _) => (read_inside(root, "etc/passwd"), read_inside(root, "etc/group")),
        (None, Rootfs::Dir { .. } | Rootfs::Layers { .. }) => {
            let layers = rootfs::open(container);
            (rootfs::read(&layers, "etc/passwd"), rootfs::read(&layers, "etc/group"))
        }
        (None, Rootfs::HostRoot) => (std::fs::read("/etc/passwd").ok(), std::fs::read("/etc/group").ok()),
        // The made /etc has these two, and the user that is asked for by number.
        (None, Rootfs::HostAllowList) => (
            Some(
                b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n".to_vec(),
            ),
            None,
        ),
    };
    user::resolve(&request, passwd.as_deref(), group.as_deref())
}

fn by_number(request: &user::UserRequest) -> Option<Resolved> {
    match (&request.user, &request.group) {
        (NameOrId::Id(uid), Some(NameOrId::Id(gid))) => {
            Some(Resolved { uid: *uid, gid: *gid, groups: Vec::new(), home: None })
        }
        _ => None,
    }
}

/// A file of a tree that may be hostile: links stay inside, size is bounded.
pub(crate) fn read_inside(root: impl AsFd, path: &str) -> Option<Vec<u8>> {
    use std::io::Read as _;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = crate::sys::open_inside(root, Path::new(path), flags).ok()?;
    if !rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file).ok()?.st_mode).is_file() {
        return None;
    }
    let mut text = Vec::new();
    std::fs::File::from(file).take(4 << 20).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The ids of a process must exist in the container's map.
///
/// # Errors
/// A refusal that names the field.
pub fn check_mapped(process: &CheckedProcess, ids: Option<&IdMap>) -> Result<(), Error> {
    let Some(ids) = ids else { return Ok(()) };
    let (uid, gid) = process.ids;
    let refused = |field: &str, why: String| {
        let error = Error::invalid(field, why);
        if !ids.uid.is_single() {
            return Err(error);
        }
        Err(error
            .with_hint("an ordinary user without ids in /etc/subuid and /etc/subgid has one; `orangery doctor` says what is missing"))
    };
    if !ids.uid.has(uid) || !ids.gid.has(gid) {
        return refused("user", format!("uid {uid}, gid {gid} are not mapped in this container"));
    }
    if ids.deny_setgroups && !process.groups.is_empty() {
        return refused("groups", "supplementary groups cannot be set in this user namespace".into());
    }
    match process.groups.iter().find(|group| !ids.gid.has(**group)) {
        Some(group) => refused("groups", format!("gid {group} is not mapped in this container")),
        None => Ok(()),
    }
}
