//! Containers, made and watched: what no single call can tell.

use std::os::fd::OwnedFd;
use std::path::Path;

use orangery::runtime::rootfs::Layering;
use orangery::runtime::{doctor, sys};
use orangery::{Access, ContainerHandle, Error, ErrorKind, Rootfs, Sandbox, Stdin, Supervisor};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::machine::fix_for_namespaces;
use super::{Finding, State};
use crate::outer;

/// A whole container, and what can be seen beside it while it lives and after it has ended.
pub(super) fn examine(supervisor: &Supervisor) -> Vec<Finding> {
    // `cat` waits for the end of its input, which is ours to give.
    let container = match supervisor.command("cat").stdin(Stdin::Piped).spawn_blocking() {
        Ok(container) => container,
        Err(error) => return vec![refused("a sandbox with the defaults", &error)],
    };
    let mut findings = vec![
        Finding::ok("a sandbox with the defaults")
            .detail("made and run: seven namespaces, id maps, tmpfs, proc, sysfs, devpts, pivot_root, seccomp"),
    ];
    findings.extend(version_2(&container));
    findings.extend(idmap(&container));
    let init = container.inspect().init_pid.and_then(Pid::from_raw);
    let pidfd = init.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    drop(container.stdin());
    let ended = container.wait_blocking();
    findings.extend(pidfd.map(exit_record));
    if let Err(error) = ended {
        findings.push(refused("the end of a sandbox", &error));
    }
    findings.extend(layering());
    findings.push(groups(supervisor));
    findings
}

/// Whether a process can have other groups than its user's, which it can where more than one id is mapped.
pub(super) const GROUPS: &str = "supplementary groups";

/// `setgroups` is denied in a user namespace that an ordinary user maps alone: the kernel must not let anybody drop a group
/// that keeps it out of a file. So what the user has stays with every process inside.
fn groups(supervisor: &Supervisor) -> Finding {
    let name = GROUPS;
    match supervisor.command("true").groups([1]).run_blocking() {
        Ok(_) => Finding::ok(name).detail("a process has those that are asked for, and no others"),
        Err(error) => {
            let own = rustix::process::getgroups().unwrap_or_default();
            let kept: Vec<_> = own
                .into_iter()
                .filter(|group| *group != rustix::process::getegid())
                .map(|group| group.to_string())
                .collect();
            let stay = match kept.as_slice() {
                [] => "none can be asked for".to_owned(),
                kept => format!(
                    "none can be asked for, and processes keep those of this user (shown as 65534 inside): {}; \
                     what a group of these may read of a --mount they may read too",
                    kept.join(", ")
                ),
            };
            Finding::new(name, State::Without).detail(error.to_string()).without(stay)
        }
    }
}

/// A sandbox that could not be made.
pub(super) fn refused(name: &str, error: &Error) -> Finding {
    let masked = outer::masked_proc();
    let proc = error.stage().is_some_and(|stage| stage.contains("mount")) && !masked.is_empty();
    let fix = if proc {
        outer::fix_for_proc()
    } else if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Permission | ErrorKind::Exhausted) {
        fix_for_namespaces()
    } else {
        None
    };
    let fix = fix.or_else(|| error.hint().map(str::to_owned));
    let detail = match proc {
        true => format!("{error}; /proc is masked outside, at {}", masked.join(", ")),
        false => error.to_string(),
    };
    Finding::new(name, State::Broken).detail(detail).fix(fix)
}

/// What the container's cgroup of version 2 offers.
fn version_2(container: &ContainerHandle) -> [Finding; 2] {
    let (birth, kill) = ("CLONE_INTO_CGROUP", "cgroup.kill");
    let mode = container.inspect().cgroup_mode.unwrap_or_default();
    if mode != "v2" && mode != "hybrid" {
        let absent = |name| Finding::new(name, State::Without).detail("no cgroup of version 2 is used here");
        return [
            absent(birth).without("a process joins its groups itself before anything of the user's runs"),
            absent(kill).without("the kill is the pid namespace's: its init dies, and every process with it"),
        ];
    }
    let dir = outer::cgroup2_of(container.pid());
    let found = dir.is_some_and(|dir| dir.join(kill).exists());
    let killer = match found {
        true => Finding::ok(kill),
        false => Finding::new(kill, State::Without)
            .detail("Linux 5.14 has it")
            .without("the group is frozen and each process killed by its pidfd, until none is left"),
    };
    // The container lives: it was born there.
    [Finding::ok(birth), killer]
}

/// Only where there are rights over a file system: root's.
fn idmap(container: &ContainerHandle) -> Option<Finding> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let name = "id-mapped mounts";
    let dir = std::env::temp_dir();
    let finding = match doctor::idmapped_mount(&dir, container.pid()) {
        Ok(()) => Finding::ok(name).detail(format!("tried on {}", dir.display())),
        Err(error) => Finding::new(name, State::Without)
            .detail(format!("on {}: {error}", dir.display()))
            .without("a --rootfs or --mount there belongs to nobody inside; --userns host shows it as it is"),
    };
    Some(finding)
}

/// The kernel's own record of an exit, for when the keeper is lost. It is there once the process is reaped, which the
/// pidfd tells by hanging up.
fn exit_record(pidfd: OwnedFd) -> Finding {
    let name = "PIDFD_GET_INFO with the exit";
    let patience = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::HUP)], Some(&patience));
    let absent = match sys::pidfd_exit_status(&pidfd) {
        Ok(Some(_)) => return Finding::ok(name),
        Ok(None) => "no exit is told; Linux 6.15 has it".to_owned(),
        Err(error) => format!("{error}; Linux 6.15 has it"),
    };
    Finding::new(name, State::Without)
        .detail(absent)
        .without("when the keeper is killed the exits of its containers are unknown, but to `orangery serve`, which is their next parent")
}

/// An empty directory below a throw-away layer: everything works when the only thing missing is the command.
fn layering() -> Vec<Finding> {
    let (overlay, fuse) = ("overlay (--writable)", "fuse-overlayfs (--writable)");
    let dir = std::env::temp_dir().join(format!("orangery-doctor-{}", std::process::id()));
    if let Err(error) = std::fs::create_dir(&dir) {
        return vec![Finding::new(overlay, State::Without).detail(format!("not tried: {}: {error}", dir.display()))];
    }
    let tried = [Layering::Overlay, Layering::FuseOverlayfs].map(|way| tried(way, &dir));
    let _ = std::fs::remove_dir(&dir);
    let [by_kernel, by_program] = tried;
    let copy = "--writable is a copy in memory, which --disk bounds as a whole";
    let first = match (&by_kernel, &by_program) {
        (Ok(()), _) => Finding::ok(overlay),
        (Err(error), Ok(())) => {
            let without = "--writable is served by fuse-overlayfs, a process beside each such container";
            Finding::new(overlay, State::Without).detail(error.to_string()).without(without)
        }
        (Err(error), Err(_)) => Finding::new(overlay, State::Without).detail(error.to_string()).without(copy),
    };
    let second = match by_program {
        Ok(()) => Finding::ok(fuse).detail("takes the place of an overlay where there can be none"),
        Err(error) => {
            let without = if by_kernel.is_ok() { "nothing: overlays can be mounted" } else { copy };
            let fix = error.hint().map(str::to_owned);
            Finding::new(fuse, State::Without).detail(error.to_string()).without(without).fix(fix)
        }
    };
    vec![first, second]
}

/// A whole container, of a supervisor that may make its root in this way alone.
fn tried(way: Layering, dir: &Path) -> Result<(), Error> {
    let supervisor = Supervisor::builder().shards(1).layering([way]).build()?;
    let rootfs = Rootfs::Dir { path: dir.to_path_buf(), access: Access::Overlay };
    let sandbox = Sandbox::builder().rootfs(rootfs).build()?;
    let done = supervisor.command("/none").sandbox(&sandbox).run_blocking();
    supervisor.shutdown_blocking();
    match done {
        Err(error) if error.kind() == ErrorKind::CommandNotFound => Ok(()),
        done => done.map(drop),
    }
}
