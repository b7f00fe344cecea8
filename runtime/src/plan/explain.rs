//! A plan in words and system calls, decoded from the bytes that the keeper executes.

use std::fmt::Write as _;

use super::encode::Plan;
use super::rootfs::SLAVE;
use super::wire::{self, Op, Step};

/// One step as a person reads it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Line {
    /// Its index; errors and traces name the same.
    pub step: u16,
    /// Operation.
    pub op: &'static str,
    /// What it does, in words.
    pub words: String,
    /// The system calls, in order.
    pub calls: Vec<String>,
    /// The field of the spec that it comes from; empty when it is part of every container.
    pub field: &'static str,
}

/// Every step of `plan`.
#[must_use]
pub fn lines(plan: &Plan) -> Vec<Line> {
    plan.steps()
        .enumerate()
        .map(|(index, step)| Line {
            step: u16::try_from(index).unwrap_or(u16::MAX),
            op: step.op.name(),
            words: words(plan, &step),
            calls: calls(plan, &step),
            field: plan.field(&step),
        })
        .collect()
}

/// How the child is born: the keeper's part of the plan.
#[must_use]
pub fn birth(plan: &Plan) -> String {
    let Some(header) = plan.header() else { return String::new() };
    if header.pidns >= 0 {
        // Of the middle process; the child's is at the step of entering.
        return "clone3(CLONE_PIDFD|CLONE_FILES)".into();
    }
    let joins = header.join.iter().any(|fd| *fd >= 0);
    let mut text = if joins { middle(plan, &header) } else { String::new() };
    let _ = write!(text, "clone3(CLONE_PIDFD|CLONE_FILES|CLONE_CLEAR_SIGHAND{}", namespaces(header.clone));
    if joins {
        text.push_str("|CLONE_PARENT");
    }
    if header.cgroup >= 0 && header.join[usize::from(wire::JOIN_CGROUP)] < 0 {
        text.push_str("|CLONE_INTO_CGROUP");
    }
    text.push(')');
    if header.uid_map != 0 {
        let (uid, gid) = (plan.text(header.uid_map), plan.text(header.gid_map));
        let _ = write!(text, "; uid_map {:?}, gid_map {:?}", uid, gid);
    }
    text
}

/// The process that enters what is joined, which the keeper never does, and clones the child.
fn middle(plan: &Plan, header: &wire::Header) -> String {
    let into = header.cgroup >= 0 && header.join[usize::from(wire::JOIN_CGROUP)] >= 0;
    let first = format!("clone3(CLONE_PIDFD|CLONE_FILES{}); ", if into { "|CLONE_INTO_CGROUP" } else { "" });
    let joined = header.join.iter().zip(wire::JOINABLE).filter(|(fd, _)| **fd >= 0);
    joined.fold(first, |text, (fd, kind)| {
        text + &format!("setns({}, {}); ", slot(plan, *fd), namespaces(kind).trim_start_matches('|'))
    })
}

fn namespaces(flags: u64) -> String {
    const NAMES: [(u64, &str); 8] = [
        (wire::NEWTIME, "NEWTIME"),
        (0x1000_0000, "NEWUSER"),
        (0x0002_0000, "NEWNS"),
        (0x2000_0000, "NEWPID"),
        (0x4000_0000, "NEWNET"),
        (0x0800_0000, "NEWIPC"),
        (0x0400_0000, "NEWUTS"),
        (0x0200_0000, "NEWCGROUP"),
    ];
    NAMES.iter().filter(|(bit, _)| flags & bit != 0).fold(String::new(), |text, (_, name)| text + "|CLONE_" + name)
}

fn mount_flags(flags: u64) -> String {
    const NAMES: [(u64, &str); 4] = [(1, "ro"), (2, "nosuid"), (4, "nodev"), (8, "noexec")];
    let list: Vec<&str> = NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if list.is_empty() { "-".to_owned() } else { list.join(",") }
}

/// A slot, with what came in it.
fn slot(plan: &Plan, slot: i16) -> String {
    match usize::try_from(slot) {
        Ok(index) => match plan.needs().get(index) {
            Some(need) => format!("<{need}>"),
            None => format!("#{slot}"),
        },
        Err(_) => "cwd".to_owned(),
    }
}

fn pairs(plan: &Plan, step: &Step) -> Vec<(String, String)> {
    let mut at = step.t;
    (0..step.n)
        .map_while(|_| {
            let key = plan.text(at);
            at = wire::list_end(plan.bytes(), at, 1)?;
            let value = plan.text(at);
            at = wire::list_end(plan.bytes(), at, 1)?;
            Some((key, value))
        })
        .collect()
}

fn list(plan: &Plan, offset: u32, count: u32) -> Vec<String> {
    let mut at = offset;
    (0..count)
        .map_while(|_| {
            let text = plan.text(at);
            at = wire::list_end(plan.bytes(), at, 1)?;
            Some(text)
        })
        .collect()
}

fn words(plan: &Plan, step: &Step) -> String {
    let (s, a, b) = (plan.text(step.s), slot(plan, step.a), slot(plan, step.b));
    match step.op {
        Op::Wait => "wait at the start gate".into(),
        Op::WaitMaps => "wait until the keeper has written the id maps".into(),
        Op::Setsid => "a session of its own".into(),
        Op::WriteFd if a.starts_with('<') => format!("join {a}"),
        Op::WriteFd => format!("write {s} to {a}"),
        Op::Unshare if step.x == wire::NEWCGROUP => "a cgroup namespace whose root is this container's cgroup".into(),
        Op::Unshare if step.x == wire::NEWTIME => "a time namespace of its own, for now for its children".into(),
        Op::Unshare => "namespaces of its own".into(),
        Op::SetNs if step.x == wire::NEWCGROUP => "join the container's cgroup namespace".into(),
        Op::SetNs => format!("join the namespaces of {a}"),
        Op::Enter => format!("be born beside {a}, in its namespaces"),
        Op::SetGroups => format!("set {} supplementary groups", step.n / 4),
        Op::SetIds => format!("become uid {}, gid {}", step.x, step.y),
        Op::Propagation => format!("make {s} private: no mount travels to the host"),
        Op::OpenTree => format!("copy the mount tree of {s}"),
        Op::CloneTree => format!("copy tree {a}"),
        Op::NewMount => format!("a new {s}"),
        Op::Reconfigure => format!("give what is mounted at {a} other options"),
        Op::MoveMount if s.is_empty() => format!("attach it onto {b}"),
        Op::MoveMount => format!("attach it at {s}"),
        Op::MountAttr if step.z & 0xffff_ffff == SLAVE => {
            format!("set {} on it; later mounts of the host still arrive below it", mount_flags(step.x))
        }
        Op::MountAttr => format!("set {} on it", mount_flags(step.x)),
        Op::Mkdir => format!("make directory {s}"),
        Op::Symlink => format!("link {s} to {}", plan.text(step.t)),
        Op::Mknod => format!("make node {s}"),
        Op::MakeFile => format!("make file {s}"),
        Op::Open => format!("open {s} without leaving the root"),
        Op::Place if step.x == 1 => format!("open the place {s} without leaving the root, a file if it is missing"),
        Op::Place if step.x == 2 => {
            format!("open the place {s} without leaving the root, a directory for everybody if it is missing")
        }
        Op::Place => format!("open the place {s} without leaving the root, a directory if it is missing"),
        Op::CopyUp if step.x & 4 != 0 => format!("give it the mode of {a}"),
        Op::CopyUp => format!("copy what lies at {a} into it"),
        Op::Fchdir => format!("go to {a}"),
        Op::PivotRoot if step.y != 0 => "make it the root above the old one, which stays".into(),
        Op::PivotRoot => "make it the root and let go of the old one".into(),
        Op::Hostname => format!("host name {s}"),
        Op::Domainname => format!("domain name {s}"),
        Op::Loopback => "bring the loopback interface up".into(),
        Op::WriteFile => format!("write {} to {s}", plan.text(step.t)),
        Op::Rlimit => format!("resource limit {}: {} soft, {} hard", step.x, limit(step.y), limit(step.z)),
        Op::Personality => format!("personality {:#x}", step.x),
        Op::IoPriority => format!("i/o priority {} of class {}", step.x & 0x1fff, step.x >> 13),
        Op::Scheduler => "its scheduling policy".into(),
        Op::MemoryPolicy => format!("memory policy {}, flags {:#x}", step.x & 0xfff, step.x & 0xf000),
        Op::Affinity => "the CPUs to run on".into(),
        Op::Umask => format!("umask {:03o}", step.x),
        Op::Chdir => format!("working directory {s}"),
        Op::CapBound => format!("keep in the bounding set: {}", caps(step.x)),
        Op::CapSet => format!("capabilities: {}", caps(step.y)),
        Op::CapAmbient => format!("ambient capabilities: {}", caps(step.x)),
        Op::Prctl if step.x == 38 => "no new privileges, for ever".into(),
        Op::Prctl => format!("prctl {}", step.x),
        Op::Seccomp if step.dst >= 0 => {
            format!("load the system call filter ({} instructions) with a listener", step.n / 8)
        }
        Op::Seccomp => format!("load the system call filter ({} instructions)", step.n / 8),
        Op::Install => format!("{a} becomes descriptor {}", step.x),
        Op::Lift => format!("move {a} out of the way"),
        Op::CloseRange if step.z > 0 => format!("close descriptors {} to {}", step.x, step.z),
        Op::CloseRange => format!("close everything from descriptor {} on at exec", step.x),
        Op::Signals => "unblock all signals".into(),
        Op::Name => format!("name {s}"),
        Op::Ready if step.x == 1 => "tell the supervisor: hooks may run".into(),
        Op::Ready => "tell the supervisor: created".into(),
        Op::Stub if step.a >= 0 => format!("be the stub init: reap, sleep; end with {a} unless it lets go"),
        Op::Stub => "be the stub init: reap, sleep".into(),
        Op::Attend => format!("go on in a child, of which {a} is told how it ends"),
        Op::Guard => format!("be a guard: end with the process of {a}"),
        Op::Exec => format!("run {}", list(plan, wire::pair(step.x).0, wire::pair(step.x).1).join(" ")),
        Op::Find => format!("one of {} must be a program", list(plan, step.s, step.n).join(", ")),
        Op::Close => format!("close {a}"),
        Op::CheckDevice if step.y == 1 => format!("it must be block device {}", device(step.x)),
        Op::CheckDevice => format!("it must be device {}", device(step.x)),
        Op::CheckType if step.y == 1 => "leave it alone if it is a directory".into(),
        Op::CheckType => format!("it must be of type {:#o}", step.x),
        Op::CheckFs => format!("it must be file system {:#x}", step.x),
        Op::Keyring => "a session keyring of its own".into(),
        Op::SendFd => format!("send {b} over {a}, as a {}", purpose(step.x)),
        Op::Socket => format!("make a socket of family {}, type {}", step.x, step.y),
        Op::Quit => "end: this is all that it was for".into(),
        Op::Umount => format!("unmount {s}"),
        Op::Chown if s.is_empty() => format!("give {a} to {}", step.x),
        Op::Chown => format!("give {s} to {}:{}", step.x, step.y),
        Op::OpenPeer => format!("open the terminal behind {a}"),
        Op::WindowSize => format!("it has {} rows of {} columns", step.x, step.y),
        Op::ControllingTerminal => format!("{a} controls the session"),
        Op::Chmod => format!("give {a} the mode {:04o}", step.x),
        Op::SetXattr => format!("set the attribute {s} of {a}"),
        Op::LandlockRuleset => "a set of rules: what none of them allows is refused".into(),
        Op::LandlockPath => format!("allow {:#x} of files at and below {b}", step.x),
        Op::LandlockPort if step.x == 1 => format!("allow TCP port {} to be bound", step.y),
        Op::LandlockPort => format!("allow TCP port {} to be connected to", step.y),
        Op::LandlockRestrict => "the rules hold from here on, for children too".into(),
        Op::Hand => format!("touch files as asked over {a}, until that is closed"),
    }
}

fn limit(value: u64) -> String {
    if value == u64::MAX { "unlimited".into() } else { value.to_string() }
}

fn caps(set: u64) -> String {
    let names = crate::spec::caps::CapSet(set).names();
    if names.is_empty() { "none".into() } else { names.join(",") }
}

fn purpose(number: u64) -> &'static str {
    u8::try_from(number).ok().and_then(wire::Purpose::from_u8).map_or("?", wire::Purpose::name)
}

fn device(rdev: u64) -> String {
    format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev))
}

/// The system calls of a step, in the order in which the keeper's child makes them.
fn calls(plan: &Plan, step: &Step) -> Vec<String> {
    let (s, a, b) = (plan.text(step.s), slot(plan, step.a), slot(plan, step.b));
    let dst = format!("#{}", step.dst);
    let one = |text: String| vec![text];
    match step.op {
        Op::Wait => one(format!("read({a}, 1)")),
        Op::WaitMaps => one("futex(FUTEX_WAIT)".into()),
        Op::Setsid => one("setsid()".into()),
        Op::WriteFd => one(format!("write({a}, {s:?})")),
        Op::Unshare => one(format!("unshare({})", namespaces(step.x).trim_start_matches('|'))),
        Op::SetNs => one(format!("setns({a}, {})", namespaces(step.x).trim_start_matches('|'))),
        Op::Enter => vec![
            format!("setns({a}, CLONE_NEWPID{})", namespaces(step.x)),
            "clone3({CLONE_PARENT, CLONE_FILES, ...})".into(),
        ],
        Op::SetGroups => one(format!("setgroups({})", step.n / 4)),
        Op::SetIds => vec![
            format!("setresgid({0}, {0}, {0})", step.y),
            format!("setresuid({0}, {0}, {0})", step.x),
            "prctl(PR_SET_PDEATHSIG, 9)".into(),
            "prctl(PR_SET_DUMPABLE, 0)".into(),
        ],
        Op::Propagation => one(format!("mount(NULL, {s:?}, NULL, {:#x})", step.x)),
        Op::OpenTree => one(format!("{dst} = open_tree({a}, {s:?}, {:#x})", step.x)),
        Op::CloneTree => one(format!("{dst} = open_tree({a}, \"\", {:#x})", step.x)),
        Op::NewMount => new_mount(plan, step),
        Op::Reconfigure => reconfigure(plan, step),
        Op::MoveMount => one(format!("move_mount({a}, \"\", {b}, {s:?})")),
        Op::MountAttr => {
            one(format!("mount_setattr({a}, {s:?}, set {:#x}, propagation {:#x})", step.x, step.z & 0xffff_ffff))
        }
        Op::Mkdir => one(format!("mkdirat({a}, {s:?}, {:#o})", step.x)),
        Op::Symlink => one(format!("symlinkat({:?}, {a}, {s:?})", plan.text(step.t))),
        Op::Mknod => one(format!("mknodat({a}, {s:?}, {:#o}, {:#x})", step.x, step.y)),
        Op::MakeFile => make_file(plan, step),
        Op::Open => one(format!("{dst} = openat2({a}, {s:?}, {:#x}, resolve {:#x})", step.x, step.y)),
        Op::Place => vec![
            format!(
                "{dst} = openat2({a}, RESOLVE_IN_ROOT), mkdirat(), readlinkat() and the like, name by name until the end"
            ),
            "fstatfs()".into(),
        ],
        Op::CopyUp => one(format!(
            "openat({a}, \".\"), getdents64(), openat2(RESOLVE_NO_XDEV), sendfile() and the like, name by name until the end"
        )),
        Op::Fchdir => one(format!("fchdir({a})")),
        Op::PivotRoot if step.y != 0 => {
            let moved = (step.y == 2).then_some("move_mount(\".\", \"/\")");
            ["umount2(\"/sys\", MNT_DETACH) until nothing goes", "mount(\"/proc\", \"/sys\", MS_BIND)"]
                .into_iter()
                .chain(moved)
                .chain(["chroot(\".\")", "chdir(\"/\")"])
                .map(str::to_owned)
                .collect()
        }
        Op::PivotRoot => {
            let mut calls = vec!["pivot_root(\".\", \".\")".to_owned()];
            calls.extend((0..step.x).map(|_| "umount2(\".\", MNT_DETACH)".to_owned()));
            calls.push("chdir(\"/\")".into());
            calls
        }
        Op::Hostname => one(format!("sethostname({s:?})")),
        Op::Domainname => one(format!("setdomainname({s:?})")),
        Op::Loopback => {
            vec!["socket(AF_INET)".into(), "ioctl(SIOCGIFFLAGS)".into(), "ioctl(SIOCSIFFLAGS)".into(), "close()".into()]
        }
        Op::WriteFile => {
            vec![format!("openat({a}, {s:?})"), format!("write({:?})", plan.text(step.t)), "close()".into()]
        }
        Op::Rlimit => one(format!("prlimit64({}, {}, {})", step.x, limit(step.y), limit(step.z))),
        Op::Personality => one(format!("personality({:#x})", step.x)),
        Op::IoPriority => one(format!("ioprio_set(IOPRIO_WHO_PROCESS, 0, {:#x})", step.x)),
        Op::Scheduler => one("sched_setattr(0)".into()),
        Op::MemoryPolicy => one(format!("set_mempolicy({:#x})", step.x)),
        Op::Affinity => one("sched_setaffinity(0)".into()),
        Op::Umask => one(format!("umask({:#o})", step.x)),
        Op::Chdir => vec![format!("chdir({s:?})"), "getcwd()".into()],
        Op::CapBound => one("prctl(PR_CAPBSET_DROP) for each of the others".into()),
        Op::CapSet => {
            one(format!("capset(effective {:#x}, permitted {:#x}, inheritable {:#x})", step.x, step.y, step.z))
        }
        Op::CapAmbient => one("prctl(PR_CAP_AMBIENT)".into()),
        Op::Prctl => one(format!("prctl({}, {})", step.x, step.y)),
        Op::Seccomp if step.dst >= 0 => {
            one(format!("{dst} = seccomp(SECCOMP_SET_MODE_FILTER, {} instructions)", step.n / 8))
        }
        Op::Seccomp => one(format!("seccomp(SECCOMP_SET_MODE_FILTER, {} instructions)", step.n / 8)),
        Op::Install => one(format!("dup3({a}, {})", step.x)),
        Op::Lift => one(format!("fcntl({a}, F_DUPFD_CLOEXEC, {})", step.x)),
        Op::CloseRange if step.z > 0 => one(format!("close_range({}, {}, {})", step.x, step.z, step.y)),
        Op::CloseRange => one(format!("close_range({}, ~0, {})", step.x, step.y)),
        Op::Signals => one("rt_sigprocmask(SIG_SETMASK, [])".into()),
        Op::Name => one(format!("prctl(PR_SET_NAME, {s:?})")),
        Op::Ready => one("write(<report pipe>)".into()),
        Op::Stub if step.a >= 0 => vec![
            format!("dup3({a}, 0)"),
            "close_range(1, ~0)".into(),
            "munmap()".into(),
            "fcntl(F_SETOWN)".into(),
            "fcntl(F_SETFL, O_ASYNC)".into(),
            "waitid(), read(0, 1), rt_sigtimedwait(SIGCHLD, SIGIO), ...".into(),
        ],
        Op::Stub => {
            vec!["close_range(0, ~0)".into(), "munmap()".into(), "waitid(), rt_sigtimedwait(SIGCHLD), ...".into()]
        }
        Op::Attend => vec![
            "prctl(PR_SET_CHILD_SUBREAPER, 1)".into(),
            "clone3()".into(),
            "prctl(PR_SET_PDEATHSIG, SIGKILL)".into(),
        ],
        Op::Guard => vec![
            format!("dup3({a}, 0)"),
            "close_range(1, ~0)".into(),
            "munmap()".into(),
            "rt_sigaction(SIGCHLD, SIG_IGN)".into(),
            "ppoll(0, POLLIN)".into(),
        ],
        Op::Exec => list(plan, step.s, step.n).iter().map(|path| format!("execve({path:?})")).collect(),
        Op::Find => list(plan, step.s, step.n)
            .iter()
            .flat_map(|path| {
                [format!("fd = openat({path:?}, O_PATH)"), "fstat(fd)".into(), "faccessat2(fd, X_OK)".into()]
            })
            .collect(),
        Op::Close => one(format!("close({a})")),
        Op::CheckDevice | Op::CheckType => one(format!("fstat({a})")),
        Op::CheckFs => one(format!("fstatfs({a})")),
        Op::Keyring => one("keyctl(KEYCTL_JOIN_SESSION_KEYRING)".into()),
        Op::SendFd => one(format!("sendmsg({a}, SCM_RIGHTS {b})")),
        Op::Umount => one(format!("umount2({s:?}, {})", step.x)),
        Op::Socket => one(format!("{dst} = socket({}, {})", step.x, step.y)),
        Op::Quit => one("exit_group(0)".into()),
        Op::Chown => one(format!("fchownat({a}, {s:?}, {}, {})", step.x, step.y)),
        Op::OpenPeer => {
            vec![format!("ioctl({a}, TIOCSPTLCK, 0)"), format!("{dst} = ioctl({a}, TIOCGPTPEER, {:#x})", step.x)]
        }
        Op::WindowSize => one(format!("ioctl({a}, TIOCSWINSZ, {} {})", step.x, step.y)),
        Op::ControllingTerminal => one(format!("ioctl({a}, TIOCSCTTY, 0)")),
        Op::Chmod => one(format!("fchmod({a}, {:#o})", step.x)),
        Op::SetXattr => one(format!("fsetxattr({a}, {s:?}, {} bytes)", step.n)),
        Op::LandlockRuleset => one(format!(
            "{dst} = landlock_create_ruleset(files {:#x}, network {:#x}, scopes {:#x})",
            step.x, step.y, step.z
        )),
        Op::LandlockPath => {
            vec![format!("fstat({b})"), format!("landlock_add_rule({a}, PATH_BENEATH, {:#x} of {b})", step.x)]
        }
        Op::LandlockPort => one(format!("landlock_add_rule({a}, NET_PORT, {:#x} of {})", step.x, step.y)),
        Op::LandlockRestrict => one(format!("landlock_restrict_self({a})")),
        Op::Hand => vec![
            format!("dup3({a}, 0)"),
            "close_range(1, ~0)".into(),
            "prctl(PR_SET_PDEATHSIG, 9)".into(),
            "ppoll(0), recvmsg(0), openat2() and the like, sendmsg(0), ...".into(),
        ],
    }
}

fn options(plan: &Plan, step: &Step) -> Vec<String> {
    let option = |(key, value): (String, String)| match value.as_str() {
        "" => format!("fsconfig(FSCONFIG_SET_FLAG, {key:?})"),
        _ => format!("fsconfig(FSCONFIG_SET_STRING, {key:?}, {value:?})"),
    };
    pairs(plan, step).into_iter().map(option).collect()
}

fn reconfigure(plan: &Plan, step: &Step) -> Vec<String> {
    let mut calls = vec![format!("fspick({})", slot(plan, step.a))];
    calls.extend(options(plan, step));
    calls.extend(["fsconfig(FSCONFIG_CMD_RECONFIGURE)".into(), "close()".into()]);
    calls
}

fn new_mount(plan: &Plan, step: &Step) -> Vec<String> {
    let mut calls = vec![format!("fsopen({:?})", plan.text(step.s))];
    calls.extend(options(plan, step));
    if step.a >= 0 {
        calls.push(format!("fsconfig(FSCONFIG_SET_STRING, \"fd\", number of {})", slot(plan, step.a)));
    }
    calls.push("fsconfig(FSCONFIG_CMD_CREATE)".into());
    calls.push(format!("#{} = fsmount({})", step.dst, mount_flags(step.x)));
    calls.push("close()".into());
    calls
}

fn make_file(plan: &Plan, step: &Step) -> Vec<String> {
    let mut calls =
        vec![format!("openat({}, {:?}, O_CREAT|O_EXCL, {:#o})", slot(plan, step.a), plan.text(step.s), step.x)];
    if step.b >= 0 {
        calls.push(format!("sendfile({}) until the end", slot(plan, step.b)));
    } else if step.t != 0 {
        calls.push(format!("write({} bytes)", plan.text(step.t).len()));
    }
    calls.push("close()".into());
    calls
}
