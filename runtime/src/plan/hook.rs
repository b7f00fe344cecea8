//! The plan of a program that a bundle has run while its container is made, or beside it (`spec::Hook`): outside, as whoever makes
//! the container; or in the container's namespaces while its first process waits for that, where the host's files are still those
//! of the host. A `startContainer` hook is neither, but a further process of the container.

use std::ffi::OsStr;
use std::path::Path;

use super::container;
use super::encode::{Builder, Need, Plan, Slot};
use super::machine::Machine;
use super::process::{CGROUP_NAMESPACE, Joining, beside, enter};
use super::wire::Op;
use crate::spec::Hook;

/// RLIMIT_NOFILE.
const NOFILE: u64 = 7;

const STDIO: [Need; 3] = [Need::Stdio(0), Need::Stdio(1), Need::Stdio(2)];

/// By whoever makes the container.
#[must_use]
pub fn outside(hook: &Hook, cwd: &Path, machine: &Machine) -> Plan {
    let mut b = Builder::new(&STDIO);
    b.field("hooks");
    finish(b, hook, cwd, machine)
}

/// In the namespaces of the container, as its first user and with all rights there; a part of its cgroup.
#[must_use]
pub fn inside(hook: &Hook, cwd: &Path, joining: &Joining, machine: &Machine) -> Plan {
    let mut needs = vec![Need::Init];
    needs.extend(joining.cgroup.then_some(Need::Cgroup));
    needs.extend((0..joining.tasks).map(Need::Tasks));
    needs.extend(joining.enters_cgroups_last(machine).then_some(CGROUP_NAMESPACE));
    needs.extend(STDIO);
    let mut b = Builder::new(&needs);
    beside(&mut b, joining, machine);
    if let Some(cgroup) = b.received(Need::Cgroup) {
        b.born_in(cgroup);
    }
    container::cgroup(&mut b, joining.tasks);
    b.field("hooks");
    enter(&mut b, joining, machine);
    if let Some(ids) = &joining.ids {
        if !ids.deny_setgroups {
            b.set_groups(&[]);
        }
        let (uid, gid) = ids.first_ids();
        b.op(Op::SetIds, uid.into(), gid.into(), 0);
    }
    finish(b, hook, cwd, machine)
}

fn finish(mut b: Builder, hook: &Hook, cwd: &Path, machine: &Machine) -> Plan {
    b.field("hooks");
    // A group of its own, which is killed with it.
    b.op(Op::Setsid, 0, 0, 0);
    b.on_path(Op::Chdir, Slot::CWD, cwd, 0);
    b.op(Op::Umask, 0o022, 0, 0);
    for (n, need) in STDIO.into_iter().enumerate() {
        let stdio = b.received(need).unwrap_or(Slot::CWD);
        b.on(Op::Install, stdio, n as u64);
    }
    // CLOSE_RANGE_CLOEXEC
    b.op(Op::CloseRange, 3, 4, 0);
    b.op(Op::Rlimit, NOFILE, machine.nofile.0, machine.nofile.1);
    b.op(Op::Signals, 0, 0, 0);
    let path = hook.path.as_os_str();
    let args: Vec<&OsStr> = hook.args.iter().map(OsStr::new).collect();
    let env: Vec<&OsStr> = hook.env.iter().flatten().map(OsStr::new).collect();
    let args = if args.is_empty() { vec![path] } else { args };
    // Nobody waits for it when its parent, the keeper, was killed.
    b.exec_tied(&[path], &args, &env);
    b.finish()
}
