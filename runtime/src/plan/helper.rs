//! Plans of a program that a container needs beside it (`native/helper.rs`): here that which keeps its network going, in
//! `server.rs` that which serves its root. Each is two processes: a *guard*, which is pid 1 of a namespace of its own and
//! ends with the container's pid 1, and in that namespace the *helper*. So the kernel itself ends the helper with the
//! container, whoever of supervisor and keeper is there to see it. Nobody in the container sees either of them, and both have
//! no rights but those of the container's user namespace, beside the host's network and files (docs/decisions/0051).

use std::ffi::{OsStr, OsString};

use super::encode::{Builder, Need, Plan, Slot};
use super::idmap::IdMap;
use super::wire::{NEWPID, NEWUSER, Op};

/// CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID: in the container's
/// user namespace, to make an interface in its network and to shut itself in.
const CAPS: u64 = 1 << 10 | 1 << 12 | 1 << 13 | 1 << 19 | 1 << 21 | 1 << 7 | 1 << 6;

/// RLIMIT_NOFILE.
const NOFILE: u64 = 7;

fn begin(field: &'static str, needs: &[Need]) -> (Builder, Slot) {
    let mut b = Builder::new(needs);
    b.field(field);
    let of = b.received(Need::Init).unwrap_or(Slot::CWD);
    (b, of)
}

/// Become the first user of the user namespace of the process behind `of`, where that has one of its own.
pub(super) fn enter(b: &mut Builder, of: Slot, ids: Option<&IdMap>) {
    if ids.is_none_or(|ids| !ids.deny_setgroups) {
        b.set_groups(&[]);
    }
    if let Some(ids) = ids {
        b.on(Op::SetNs, of, NEWUSER);
        let (uid, gid) = ids.first_ids();
        b.op(Op::SetIds, uid.into(), gid.into(), 0);
    }
    b.op(Op::Setsid, 0, 0, 0);
    b.op(Op::Keyring, 0, 0, 0);
}

/// The guard of the container of this pid 1 ([`Need::Init`]), with these ids. It is called `name`, and there for `field`.
#[must_use]
pub fn guard(field: &'static str, name: &str, ids: Option<&IdMap>) -> Plan {
    let (mut b, init) = begin(field, &[Need::Init]);
    b.clone_flags(NEWPID);
    enter(&mut b, init, ids);
    b.op(Op::CapSet, 0, 0, 0);
    // PR_SET_NO_NEW_PRIVS
    b.op(Op::Prctl, 38, 1, 0);
    b.on_path(Op::Name, Slot::CWD, name, 0);
    b.op(Op::Ready, 0, 0, 0);
    b.on(Op::Guard, init, 0);
    b.finish()
}

/// The network's helper beside its guard ([`Need::Init`]): the first of `programs` that can be executed, with three descriptors.
#[must_use]
pub fn helper(ids: &IdMap, nofile: (u64, u64), programs: &[OsString], argv: &[OsString]) -> Plan {
    let (mut b, guard) = begin("network", &[Need::Init, Need::Stdio(0), Need::Stdio(1), Need::Stdio(2)]);
    b.born_beside(guard, 0);
    enter(&mut b, guard, Some(ids));
    let argv: Vec<&OsStr> = argv.iter().map(OsString::as_os_str).collect();
    finish(b, CAPS, nofile, programs, &argv)
}

/// Give up all rights but `caps`, and become the first of `programs` that can be executed.
pub(super) fn finish(mut b: Builder, caps: u64, nofile: (u64, u64), programs: &[OsString], argv: &[&OsStr]) -> Plan {
    b.op(Op::CapBound, caps, 0, 0);
    // Also where the container's first user is not its root, whom an exec leaves his capabilities.
    b.op(Op::CapSet, caps, caps, caps);
    b.op(Op::CapAmbient, caps, 0, 0);
    b.op(Op::Prctl, 38, 1, 0);
    b.op(Op::Umask, 0o077, 0, 0);
    for n in 0..3 {
        let stdio = b.received(Need::Stdio(n)).unwrap_or(Slot::CWD);
        b.on(Op::Install, stdio, n.into());
    }
    // CLOSE_RANGE_CLOEXEC
    b.op(Op::CloseRange, 3, 4, 0);
    b.op(Op::Rlimit, NOFILE, nofile.0, nofile.1);
    b.op(Op::Signals, 0, 0, 0);
    let programs: Vec<&OsStr> = programs.iter().map(OsString::as_os_str).collect();
    b.exec(&programs, argv, &[OsStr::new("PATH=/usr/sbin:/usr/bin:/sbin:/bin")]);
    b.finish()
}
