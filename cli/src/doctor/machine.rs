//! What the administrator, the distribution or an outer container has set. Read, never changed.

use std::fs;
use std::path::Path;

use orangery::Pasta;
use orangery::runtime::drivers::{Flavour, flavour_of};
use orangery::runtime::ids::subordinate::user::{Extent, Given};
use orangery::runtime::keeper::maps;
use orangery::runtime::{Error as RuntimeError, ErrorKind as RuntimeErrorKind};

use super::{Finding, State};
use crate::outer;

/// Facts beside the probes. `many_ids`: whether more than one id could be used, where that was tried.
pub(super) fn examine(many_ids: Option<bool>) -> Vec<Finding> {
    let mut findings = vec![subordinate_ids(many_ids), pasta(), landlock(), drivers()];
    let masked = outer::masked_proc();
    if !masked.is_empty() {
        findings.push(
            Finding::new("an unmasked /proc", State::Without)
                .detail(masked.join(", "))
                .without("the kernel may refuse a /proc of its own to a sandbox with its own user ids"),
        );
    }
    if cfg!(panic = "abort") {
        findings.push(
            Finding::new("panic = \"unwind\"", State::Without)
                .without("a panic inside ends this whole process; the keeper then kills its containers"),
        );
    }
    findings
}

/// The version decides what can be asked of it; nothing of ours needs it.
fn landlock() -> Finding {
    match orangery::runtime::doctor::landlock() {
        0 => Finding::new("landlock", State::Without)
            .without("rules of landlock (--landlock) are refused, or left out where they are best effort"),
        abi => {
            let later = [(4, "TCP ports", "6.7"), (6, "scopes", "6.12")];
            let lacks: Vec<String> = later
                .iter()
                .filter(|(since, ..)| abi < *since)
                .map(|(_, what, kernel)| format!("no {what} ({kernel})"))
                .collect();
            let detail = [&[format!("ABI {abi}")], &lacks[..]].concat().join(", ");
            Finding::ok("landlock").detail(detail)
        }
    }
}

/// Programs that can make the containers in our place, each asked who it is.
fn drivers() -> Finding {
    let name = "other runtimes";
    let asked = ["crun", "runc", "youki", "orangery-oci"].map(|program| (program, asked(program)));
    let there: Vec<String> = asked
        .iter()
        .filter_map(|(program, flavour)| match flavour {
            Ok(flavour) => Some(flavour.to_string()),
            Err(error) if error.kind() == RuntimeErrorKind::NotFound => None,
            Err(error) => Some(format!("{program} ({})", error.what())),
        })
        .collect();
    let works = asked.iter().any(|(_, flavour)| flavour.is_ok());
    let finding = Finding::new(name, if works { State::Ok } else { State::Without });
    let finding = if there.is_empty() { finding } else { finding.detail(there.join(", ")) };
    if works { finding } else { finding.without("--runtime is refused; nothing of ours needs another one") }
}

fn asked(program: &str) -> Result<Flavour, RuntimeError> {
    let failed = |error| RuntimeError::system("cannot start the event loop", error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(flavour_of(orangery::Program::new(program)))
}

/// A number below /proc/sys.
pub(super) fn sysctl(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?.trim().parse().ok()
}

/// Why user namespaces fail, as the command that lets them work.
pub(super) fn fix_for_namespaces() -> Option<String> {
    if sysctl("user/max_user_namespaces") == Some(0) {
        return Some("sudo sysctl -w user.max_user_namespaces=15000".into());
    }
    if sysctl("kernel/unprivileged_userns_clone") == Some(0) {
        return Some("sudo sysctl -w kernel.unprivileged_userns_clone=1".into());
    }
    if sysctl("kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return Some("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".into());
    }
    let options =
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined";
    match outer::engine() {
        Some("kubernetes") => Some(
            "in the pod: securityContext: {seccompProfile: {type: Unconfined}, procMount: Unmasked}, hostUsers: false"
                .into(),
        ),
        Some(engine) => Some(format!("{engine} run {options} ...")),
        None => None,
    }
}

/// What makes limits possible.
pub(super) fn fix_for_cgroups() -> Option<String> {
    let read_only = outer::mounts().any(|mount| mount.kind.starts_with("cgroup") && mount.read_only);
    match outer::engine() {
        Some("kubernetes") if read_only => Some("in the pod: securityContext: {privileged: true}".into()),
        Some(engine) if read_only => {
            Some(format!("{engine} run --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw ..."))
        }
        _ if read_only => Some("sudo mount -o remount,rw /sys/fs/cgroup".into()),
        _ if rustix::process::geteuid().is_root() => None,
        _ if Path::new("/run/systemd/system").exists() => {
            Some("systemd-run --user --scope -p Delegate=yes -- orangery run ...".into())
        }
        _ => Some(format!("sudo orangery setup --user {}, once", login(rustix::process::geteuid().as_raw()))),
    }
}

/// Where systemd gives a user's manager some controllers and not all.
pub(super) fn fix_for_controllers() -> Option<&'static str> {
    let managed = Path::new("/run/systemd/system").exists() && !rustix::process::geteuid().is_root();
    managed
        .then_some("sudo systemctl edit user@.service: [Service] Delegate=cpu cpuset io memory pids; then log in anew")
}

/// More than one user id for an ordinary user.
fn subordinate_ids(tried: Option<bool>) -> Finding {
    let name = "user ids";
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Finding::ok(name).detail("root: 65,536 for each container, from 524,288 up");
    }
    let one = Finding::new(name, State::Without)
        .without("one id: --user N is the only user inside, and groups cannot be set");
    let given = match Given::of(uid.as_raw(), rustix::process::getegid().as_raw()) {
        Ok(Some(given)) => given,
        Ok(None) => {
            let who = login(uid.as_raw());
            let fix = fix_for_ids(&who);
            return one.detail(format!("/etc/subuid and /etc/subgid have no range for {who}")).fix(Some(fix));
        }
        Err(error) => return one.detail(error.what()),
    };
    if !maps_ranges() {
        return one.detail("newuidmap and newgidmap are not installed").fix(Some(FIX_FOR_HELPERS));
    }
    let count = |extents: &[Extent]| extents.iter().map(|extent| extent.count).sum::<u32>();
    let (users, groups) = (count(&given.uids), count(&given.gids));
    let given = format!("{users} users and {groups} groups of /etc/subuid and /etc/subgid");
    if tried == Some(false) {
        let why = "could not be mapped: newuidmap and newgidmap have no rights where no_new_privs is set, the bounding set \
                   is empty, or their file system is mounted nosuid";
        return one.detail(format!("{given} {why}"));
    }
    Finding::ok(name).detail(given)
}

/// A network without rights.
fn pasta() -> Finding {
    let name = "network by pasta";
    let none = Finding::new(name, State::Without).without("a sandbox has loopback alone, or the host's network");
    let Some(path) = Pasta::find() else {
        return none.detail("the program pasta is not installed").fix(Some("sudo apt-get install passt"));
    };
    match Pasta::look_for_tun() {
        Ok(()) => Finding::ok(name).detail(path.display().to_string()),
        Err(error) => none.detail(error.what()).fix(Some("sudo modprobe tun && sudo chmod 0666 /dev/net/tun")),
    }
}

/// The command that gives a user more ids.
pub(crate) fn fix_for_ids(user: &str) -> String {
    format!("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}")
}

/// What brings the programs that map them.
pub(crate) const FIX_FOR_HELPERS: &str = "sudo apt-get install uidmap";

/// They are there.
pub(crate) fn maps_ranges() -> bool {
    ["newuidmap", "newgidmap"].into_iter().all(maps::is_installed)
}

/// The name of a user, or the number where it has none.
fn login(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    name.map_or_else(|| uid.to_string(), str::to_owned)
}
