//! pid 1 of the machine: mounts what a machine has, runs the suites one after the other, takes stock, powers off.
//!
//! Standard output is the first serial line, read by the host; standard error the second, a log.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::mount::{MsFlags, mount};
use orangery_tests::stock;
use rustix::process::{WaitOptions, wait};

use crate::suites::{self, BEGIN, DONE, END, GUEST, Suite, USER};

const V2: &str = "/sys/fs/cgroup";
/// An ext4 file system: one on which 6.1 can map ids.
const EXT4: &str = "/ext4";
/// The second serial line.
pub(crate) const LOG: &str = "/dev/ttyS1";

/// On the kernel's command line, and so in our environment: the user space is systemd's.
pub(crate) const SYSTEMD: &str = "ORANGERY_VM_SYSTEMD";

/// Become systemd.
#[expect(clippy::disallowed_methods, reason = "this is the machine's init")]
pub(crate) fn hand_over() -> ExitCode {
    own_root();
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>).expect("/proc");
    mount(Some("devtmpfs"), "/dev", Some("devtmpfs"), MsFlags::MS_NOSUID, Some("mode=755")).expect("/dev");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let _ = fs::write("/dev/ttyS0", format!("kernel {}\n", release.trim()));
    let error = Command::new("/usr/lib/systemd/systemd").env_remove(SYSTEMD).exec();
    eprintln!("systemd: {error}");
    ExitCode::FAILURE
}

/// Never comes back: the machine is off then.
pub(crate) fn run() -> ExitCode {
    own_root();
    mounts();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("kernel {}", release.trim());
    load();
    for suite in suites::all() {
        println!("\n{BEGIN} {}", suite.name);
        println!("\n{END} {} {}", suite.name, play(&suite));
    }
    println!("\n{BEGIN} machine");
    nothing_is_left();
    println!("\n{END} machine 0\n{DONE}");
    tool(&["sync"]);
    tool(&["poweroff", "-f"]);
    ExitCode::FAILURE
}

/// The kernel refuses to pivot away from the initial root file system, so the machine's root is a bind mount of it.
fn own_root() {
    bind("/", "/new");
    std::env::set_current_dir("/new").expect("the new root");
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).expect("the new root on top");
    nix::unistd::chroot(".").expect("chroot");
    std::env::set_current_dir("/").expect("/");
}

fn bind(from: &str, to: &str) {
    mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("a bind mount");
}

fn mounts() {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let rows = [
        ("devtmpfs", "/dev", MsFlags::MS_NOSUID, Some("mode=755")),
        ("proc", "/proc", safe, None),
        ("sysfs", "/sys", safe, None),
        // As systemd mounts it: namespaces are boundaries.
        ("cgroup2", V2, safe, Some("nsdelegate")),
        ("tmpfs", "/tmp", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=1777")),
        ("tmpfs", "/run", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755")),
    ];
    for (kind, target, flags, data) in rows {
        mount(Some(kind), target, Some(kind), flags, data).unwrap_or_else(|error| panic!("{target}: {error}"));
    }
    let user = format!("/run/user/{}", USER);
    fs::create_dir_all(&user).expect("the user's runtime directory");
    std::os::unix::fs::chown(&user, Some(USER), Some(USER)).expect("its owner");
    fs::set_permissions(&user, fs::Permissions::from_mode(0o700)).expect("its mode");
}

/// Modules, and the ext4 file system.
fn load() {
    let modules = fs::read_dir("/modules").into_iter().flatten().flatten();
    for module in modules {
        tool(&["insmod", &module.path().to_string_lossy()]);
    }
    if Path::new("/ext4.img").exists() {
        tool(&["mount", "-t", "ext4", "-o", "loop", "/ext4.img", EXT4]);
        let _ = fs::set_permissions(EXT4, fs::Permissions::from_mode(0o1777));
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the machine's init")]
fn tool(args: &[&str]) {
    let done = Command::new("/usr/bin/busybox").args(args).status();
    if !done.as_ref().is_ok_and(std::process::ExitStatus::success) {
        eprintln!("busybox {args:?}: {done:?}");
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the machine's init")]
fn play(suite: &Suite) -> String {
    let mut command = Command::new(suite.program());
    command.args(suite.args).env(GUEST, "1").env("PATH", "/usr/bin").stdin(Stdio::null());
    if suite.elsewhere {
        command.env("TMPDIR", EXT4);
    }
    if let Ok(log) = fs::OpenOptions::new().write(true).open(LOG) {
        command.stderr(log);
    }
    if suite.user {
        command.uid(USER).gid(USER).env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"));
    }
    match command.spawn() {
        Ok(child) => reap_until(child.id()),
        Err(error) => format!("not started: {error}"),
    }
}

/// Every orphan comes to us.
fn reap_until(child: u32) -> String {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == child => {
                return match status.exit_status() {
                    Some(code) => code.to_string(),
                    None => format!("signal {}", status.terminating_signal().unwrap_or(0)),
                };
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return format!("lost: {error}"),
        }
    }
}

/// What the suites as a whole left: each trial took its own stock, but not of what had moved to us.
fn nothing_is_left() {
    while wait(WaitOptions::NOHANG).is_ok_and(|ended| ended.is_some()) {}
    let mut left: Vec<String> = stock::descendants(1).iter().map(ToString::to_string).collect();
    let groups = fs::read_dir(V2).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    // The unit test that gives up root cannot remove the group that it gave away.
    left.extend(groups.map(|entry| entry.path().display().to_string()).filter(|path| !path.ends_with("/user")));
    let verdict = if left.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest nothing_is_left ... {verdict}");
    if !left.is_empty() {
        println!("---- nothing_is_left ----");
        left.iter().for_each(|line| println!("left behind: {line}"));
    }
}
