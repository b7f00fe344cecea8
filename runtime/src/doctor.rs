//! What this kernel can do, found out by calling it, never by its version: distributions carry features back, and the
//! profiles of outer containers take them away (ENOSYS *or EPERM* there: both mean absent).
//!
//! Called by `orangery doctor`; the runtime itself never asks here, it tries and reports the step that failed. A probe
//! changes nothing: it is made on this process's own descriptors, or with arguments that the kernel must refuse.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, ResolveFlags};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, getpid, pidfd_open};

use crate::sys::probe::{close_range, refusable};

/// `f_type` of pidfs.
pub(crate) const PIDFS: u64 = 0x5049_4446;

/// One primitive of the kernel.
#[derive(Debug)]
#[non_exhaustive]
pub struct Feature {
    /// What it is.
    pub name: &'static str,
    /// The first kernel that has it, for people.
    pub since: &'static str,
    /// What we do where it is absent.
    pub without: &'static str,
    /// No container can be made without it.
    pub required: bool,
    /// What the probe said.
    pub found: io::Result<()>,
}

/// The version of landlock; 0: none. From 4 on it knows ports, from 6 on scopes.
#[must_use]
pub fn landlock() -> u32 {
    crate::sys::probe::landlock()
}

/// Every primitive that can be probed without making a container.
#[must_use]
pub fn features() -> Vec<Feature> {
    const NOTHING: &str = "no container can be made: Linux 5.12 is the oldest that works";
    let required = |name, since, found| Feature { name, since, without: NOTHING, required: true, found };
    let optional = |name, since, without, found| Feature { name, since, without, required: false, found };
    vec![
        required("clone3", "5.3", refusable(libc::SYS_clone3, [0, 0, 0])),
        required("waitid(P_PIDFD)", "5.4", waitid()),
        required("openat2", "5.6", openat2()),
        required("setns(pidfd)", "5.8", setns()),
        required("close_range(CLOEXEC)", "5.11", close_range()),
        required("mount_setattr", "5.12", refusable(libc::SYS_mount_setattr, [-1, 0, 0])),
        required("memfd_create", "3.17", memfd()),
        optional(
            "pidfs",
            "6.9",
            "a process is known by its number and start time, also from one durable supervisor to the next",
            pidfs(),
        ),
        optional(
            "PIDFD_GET_INFO",
            "6.13",
            "only the keeper can tell how a process ended; when it is lost, the exit is unknown",
            this_process().and_then(|pidfd| crate::sys::pidfd_exit_status(pidfd).map(drop)),
        ),
    ]
}

fn this_process() -> io::Result<OwnedFd> {
    Ok(pidfd_open(getpid(), PidfdFlags::empty())?)
}

/// ECHILD: it was understood, and we are not our own child.
fn waitid() -> io::Result<()> {
    let pidfd = this_process()?;
    match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(_) | Err(rustix::io::Errno::CHILD) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn openat2() -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(CWD, ".", flags, Mode::empty(), how)?;
    Ok(())
}

/// Into the host name namespace that we are in. EPERM: it was understood, and we lack the right over it.
fn setns() -> io::Result<()> {
    match nix::sched::setns(this_process()?, nix::sched::CloneFlags::CLONE_NEWUTS) {
        Ok(()) | Err(nix::errno::Errno::EPERM) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// An executable one, as the keeper is started from; `vm.memfd_noexec` forbids it.
fn memfd() -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create("orangery-probe", flags | MemfdFlags::EXEC) {
        // The flag is 6.3; before, every memfd may be executed.
        Err(rustix::io::Errno::INVAL) => drop(rustix::fs::memfd_create("orangery-probe", flags)?),
        made => drop(made?),
    }
    Ok(())
}

pub(crate) fn pidfs() -> io::Result<()> {
    let kind = rustix::fs::fstatfs(this_process()?)?.f_type;
    if u64::try_from(kind).is_ok_and(|kind| kind == PIDFS) {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// Map the ids of a copy of the file system at `path` by the user namespace of the process `pid`. The copy is never
/// attached, and gone when this returns.
///
/// # Errors
/// EINVAL where the file system cannot, EPERM without the rights over it, ENOSYS before 5.12.
pub fn idmapped_mount(path: &Path, pid: i32) -> io::Result<()> {
    let userns = std::fs::File::open(format!("/proc/{pid}/ns/user"))?;
    let tree = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    crate::sys::idmap_tree(&tree, &userns, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_does_not_exist_is_absent() {
        // Far above every table.
        let found = refusable(100_000, [0, 0, 0]).unwrap_err();
        assert!(matches!(found.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)), "{found}");
    }

    #[test]
    fn what_this_kernel_has_is_found() {
        let features = features();
        // Without these the tests of this repository do not run at all.
        for name in ["clone3", "openat2", "waitid(P_PIDFD)"] {
            let feature = features.iter().find(|feature| feature.name == name).unwrap();
            assert!(feature.found.is_ok(), "{feature:?}");
        }
    }
}
