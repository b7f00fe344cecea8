//! What a container must not be able to do. Each attempt runs in a child of its own: one that is killed is seen as
//! minus the signal, and none changes what the next one finds. 0 means that the attempt succeeded.

use std::fs;
use std::path::Path;

use crate::json::object;
use crate::raw::{self, call, nr, text};

const NEWNS: usize = 0x0002_0000;
const NEWUSER: usize = 0x1000_0000;
const NEWNET: usize = 0x4000_0000;

type Attempt = (&'static str, fn() -> i64);

fn io<T>(result: std::io::Result<T>) -> i64 {
    result.map_or_else(|error| -i64::from(error.raw_os_error().unwrap_or(0)), |_| 0)
}

fn open(path: &str, write: bool) -> i64 {
    io(fs::OpenOptions::new().read(!write).write(write).open(path))
}

fn put(path: &str, content: &str) -> i64 {
    use std::io::Write as _;
    io(fs::OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(content.as_bytes())))
}

fn read(path: &str) -> i64 {
    match fs::read(path) {
        // An empty file tells nothing: the kernel answers so where it hides the content.
        Ok(content) if content.is_empty() => -61,
        other => io(other),
    }
}

fn mount(source: &str, target: &str, fs: &str, flags: usize) -> i64 {
    let (source, target, fs) = (text(source), text(target), text(fs));
    call(nr::MOUNT, [source.as_ptr() as usize, target.as_ptr() as usize, fs.as_ptr() as usize, flags, 0, 0])
}

fn path2(number: i64, first: &str, second: &str) -> i64 {
    let (first, second) = (text(first), text(second));
    call(number, [first.as_ptr() as usize, second.as_ptr() as usize, 0, 0, 0, 0])
}

fn ptrace(request: usize, pid: usize) -> i64 {
    call(nr::PTRACE, [request, pid, 0, 0, 0, 0])
}

fn peek_init() -> i64 {
    let mut byte = [0u8; 8];
    let local = [byte.as_mut_ptr() as usize, 8];
    let remote = [0x40_0000usize, 8];
    call(nr::PROCESS_VM_READV, [1, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0])
}

fn steal_fd() -> i64 {
    match call(nr::PIDFD_OPEN, [1, 0, 0, 0, 0, 0]) {
        pidfd if pidfd >= 0 => call(nr::PIDFD_GETFD, [pidfd as usize, 0, 0, 0, 0, 0]),
        refused => refused,
    }
}

fn enter(ns: &str) -> i64 {
    match fs::File::open(format!("/proc/1/ns/{ns}")) {
        Ok(file) => {
            use std::os::fd::AsRawFd as _;
            call(nr::SETNS, [file.as_raw_fd() as usize, 0, 0, 0, 0, 0])
        }
        Err(error) => -i64::from(error.raw_os_error().unwrap_or(0)),
    }
}

fn clone3(flags: usize) -> i64 {
    let args = [flags as u64, 0, 0, 0, 17, 0, 0, 0];
    let pid = call(nr::CLONE3, [args.as_ptr() as usize, 64, 0, 0, 0, 0]);
    if pid == 0 {
        std::process::exit(0);
    }
    pid
}

fn mknod(path: &str, mode: usize, device: usize) -> i64 {
    let path = text(path);
    call(nr::MKNODAT, [-100isize as usize, path.as_ptr() as usize, mode, device, 0, 0])
}

fn raise_nofile() -> i64 {
    let mut limit = [0u64; 2];
    call(nr::PRLIMIT64, [0, 7, 0, limit.as_mut_ptr() as usize, 0, 0]);
    let more = [limit[0], limit[1].saturating_add(1)];
    call(nr::PRLIMIT64, [0, 7, more.as_ptr() as usize, 0, 0, 0])
}

/// The old way out: chroot below, then climb.
fn climb() -> i64 {
    let _ = fs::create_dir("/tmp/jail");
    let jail = text("/tmp/jail");
    let refused = call(nr::CHROOT, [jail.as_ptr() as usize, 0, 0, 0, 0, 0]);
    if refused < 0 {
        return refused;
    }
    for _ in 0..64 {
        let _ = std::env::set_current_dir("..");
    }
    // Where it ends must still be this container: the host has no such file.
    if Path::new("tmp/jail").exists() { -1 } else { 0 }
}

fn set_ids(uid: usize) -> i64 {
    call(nr::SETRESUID, [uid, uid, uid, 0, 0, 0])
}

const ATTEMPTS: &[Attempt] = &[
    ("open-own-exe-for-write", || open("/proc/self/exe", true)),
    ("open-init-exe-for-write", || open("/proc/1/exe", true)),
    ("open-init-exe", || open("/proc/1/exe", false)),
    ("list-init-fds", || match fs::read_dir("/proc/1/fd") {
        // Open and empty: there is nothing to take.
        Ok(mut entries) => {
            if entries.next().is_none() {
                -2
            } else {
                0
            }
        }
        Err(error) => -i64::from(error.raw_os_error().unwrap_or(0)),
    }),
    ("read-init-environ", || read("/proc/1/environ")),
    ("read-init-maps", || read("/proc/1/maps")),
    ("open-init-mem", || open("/proc/1/mem", true)),
    ("follow-init-root", || io(fs::read_dir("/proc/1/root/"))),
    ("follow-init-cwd", || io(fs::read_dir("/proc/1/cwd/"))),
    ("ptrace-seize-init", || ptrace(0x4206, 1)),
    ("ptrace-attach-init", || ptrace(16, 1)),
    ("read-init-memory", peek_init),
    ("steal-init-fd", steal_fd),
    ("setns-mnt", || enter("mnt")),
    ("setns-net", || enter("net")),
    ("unshare-user", || call(nr::UNSHARE, [NEWUSER, 0, 0, 0, 0, 0])),
    ("unshare-mnt", || call(nr::UNSHARE, [NEWNS, 0, 0, 0, 0, 0])),
    ("unshare-net", || call(nr::UNSHARE, [NEWNET, 0, 0, 0, 0, 0])),
    ("clone3-user", || clone3(NEWUSER)),
    ("mount-tmpfs", || mount("none", "/tmp", "tmpfs", 0)),
    ("mount-proc", || mount("proc", "/tmp", "proc", 0)),
    ("bind-root", || mount("/", "/tmp", "", 0x1000)),
    ("remount-root-rw", || mount("", "/", "", 0x20 | 0x1000)),
    ("remount-sys-rw", || mount("", "/sys", "", 0x20 | 0x1000)),
    ("umount-proc", || path2(nr::UMOUNT2, "/proc", "")),
    ("umount-mask", || path2(nr::UMOUNT2, "/proc/kcore", "")),
    ("pivot-root", || path2(nr::PIVOT_ROOT, "/tmp", "/tmp")),
    ("climb-out-of-chroot", climb),
    ("open-tree", || call(nr::OPEN_TREE, [-100isize as usize, text("/").as_ptr() as usize, 1, 0, 0, 0])),
    ("fsopen", || call(nr::FSOPEN, [text("tmpfs").as_ptr() as usize, 0, 0, 0, 0, 0])),
    ("mount-setattr", || {
        let attr = [0u64, 1, 0, 0];
        call(nr::MOUNT_SETATTR, [-100isize as usize, text("/").as_ptr() as usize, 0, attr.as_ptr() as usize, 32, 0])
    }),
    ("mknod-block", || mknod("/tmp/disk", 0o060_600, 0xfe00)),
    ("mknod-char", || mknod("/tmp/null", 0o020_600, 0x103)),
    ("tiocsti", || call(nr::IOCTL, [0, 0x5412, text("x").as_ptr() as usize, 0, 0, 0])),
    ("tiocsti-high-bits", || call(nr::IOCTL, [0, 0x1_0000_5412, text("x").as_ptr() as usize, 0, 0, 0])),
    ("tioclinux", || call(nr::IOCTL, [0, 0x541c, text("x").as_ptr() as usize, 0, 0, 0])),
    ("setgroups", || {
        let groups = [0u32];
        call(nr::SETGROUPS, [1, groups.as_ptr() as usize, 0, 0, 0, 0])
    }),
    ("become-unmapped", || set_ids(4_000_000_000)),
    ("keyctl", || call(nr::KEYCTL, [1, 0, 0, 0, 0, 0])),
    ("add-key", || {
        call(
            nr::ADD_KEY,
            [
                text("user").as_ptr() as usize,
                text("x").as_ptr() as usize,
                text("y").as_ptr() as usize,
                1,
                -3isize as usize,
                0,
            ],
        )
    }),
    ("bpf", || call(nr::BPF, [0, 0, 0, 0, 0, 0])),
    ("io-uring", || {
        let params = [0u64; 16];
        call(nr::IO_URING_SETUP, [1, params.as_ptr() as usize, 0, 0, 0, 0])
    }),
    ("userfaultfd", || call(nr::USERFAULTFD, [0; 6])),
    ("perf-event", || {
        let attr = [0u64; 16];
        call(nr::PERF_EVENT_OPEN, [attr.as_ptr() as usize, 0, -1isize as usize, -1isize as usize, 0, 0])
    }),
    ("kexec", || call(nr::KEXEC_LOAD, [0; 6])),
    ("init-module", || call(nr::INIT_MODULE, [0; 6])),
    ("delete-module", || call(nr::DELETE_MODULE, [text("x").as_ptr() as usize, 0, 0, 0, 0, 0])),
    // Magic numbers left wrong on purpose: EINVAL would mean that the call was let through.
    ("reboot", || call(nr::REBOOT, [0; 6])),
    ("swapon", || call(nr::SWAPON, [text("/tmp").as_ptr() as usize, 0, 0, 0, 0, 0])),
    ("syslog", || {
        let mut log = [0u8; 64];
        call(nr::SYSLOG, [3, log.as_mut_ptr() as usize, 64, 0, 0, 0])
    }),
    ("open-by-handle", || {
        let handle = [8u32, 1, 2, 0];
        call(nr::OPEN_BY_HANDLE_AT, [-100isize as usize, handle.as_ptr() as usize, 0, 0, 0, 0])
    }),
    ("sethostname", || call(nr::SETHOSTNAME, [text("x").as_ptr() as usize, 1, 0, 0, 0, 0])),
    ("settimeofday", || {
        let now = [1u64, 0];
        call(nr::SETTIMEOFDAY, [now.as_ptr() as usize, 0, 0, 0, 0, 0])
    }),
    ("acct", || call(nr::ACCT, [text("/tmp/x").as_ptr() as usize, 0, 0, 0, 0, 0])),
    ("packet-socket", || call(nr::SOCKET, [17, 3, 0x300, 0, 0, 0])),
    ("raw-socket", || call(nr::SOCKET, [2, 3, 1, 0, 0, 0])),
    ("vsock", || call(nr::SOCKET, [40, 1, 0, 0, 0, 0])),
    ("raise-nofile", raise_nofile),
    ("sysrq", || put("/proc/sysrq-trigger", "h")),
    ("core-pattern", || put("/proc/sys/kernel/core_pattern", "|/tmp/x")),
    ("modprobe-path", || put("/proc/sys/kernel/modprobe", "/tmp/x")),
    ("uevent-helper", || put("/sys/kernel/uevent_helper", "/tmp/x")),
    ("lower-oom-score", || put("/proc/self/oom_score_adj", "-1000")),
    ("write-usr", || io(fs::write("/usr/orangery-was-here", "x"))),
    ("write-root", || io(fs::write("/orangery-was-here", "x"))),
    ("write-etc", || io(fs::write("/etc/orangery-was-here", "x"))),
    ("write-dev", || io(fs::write("/dev/orangery-was-here", "x"))),
    ("open-kcore", || read("/proc/kcore")),
    ("open-dev-mem", || open("/dev/mem", true)),
    ("open-disk", || open("/dev/vda", true)),
    ("dirty-inheritable", || {
        let head = [0x2008_0522u32, 0];
        let data = [0u32, 0, u32::MAX, 0, 0, u32::MAX];
        call(nr::CAPSET, [head.as_ptr() as usize, data.as_ptr() as usize, 0, 0, 0, 0])
    }),
];

/// Every attempt: 0, minus the errno, or minus 1000 minus the signal that ended it.
pub fn attack() {
    let results: Vec<(String, String)> =
        ATTEMPTS.iter().map(|(name, attempt)| ((*name).to_owned(), alone(*attempt).to_string())).collect();
    println!("{}", object(results));
}

fn alone(attempt: fn() -> i64) -> i64 {
    match raw::clone_process() {
        0 => std::process::exit(match attempt() {
            refused if refused < 0 => i32::try_from(-refused).unwrap_or(255).min(255),
            _ => 0,
        }),
        pid if pid < 0 => i64::from(pid),
        pid => match raw::wait(pid) {
            status if status & 0x7f == 0 => -i64::from(status >> 8 & 0xff),
            status => -1000 - i64::from(status & 0x7f),
        },
    }
}

/// Try to write each file below `top` and to make a directory in each directory.
pub fn write_below(top: &str) {
    let mut found = Vec::new();
    walk(Path::new(top), 0, &mut found);
    println!("{}", object(found.into_iter().map(|(path, result)| (path, result.to_string()))));
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<(String, i64)>) {
    let new = dir.join("orangery-was-here");
    found.push((new.to_string_lossy().into_owned(), io(fs::create_dir(&new))));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < 4 => walk(&path, depth + 1, found),
            Ok(kind) if kind.is_file() => {
                found.push((path.to_string_lossy().into_owned(), open(&path.to_string_lossy(), true)))
            }
            _ => {}
        }
    }
}

/// Until standard input ends, look at every other process: a program of the supervisor's that can be opened, or memory
/// that can be seen, while it is on its way into the container.
pub fn spy() {
    println!("ready");
    let end = std::thread::spawn(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
    let (mut looked, mut helpers, mut opened) = (0u64, 0u64, Vec::new());
    while !end.is_finished() {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if !pid.bytes().all(|byte| byte.is_ascii_digit()) || pid == std::process::id().to_string() {
                continue;
            }
            looked += 1;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            helpers += u64::from(name.starts_with("orangery-keep"));
            look(&pid, &mut opened);
        }
    }
    let opened = crate::json::list(opened.iter().map(crate::json::string));
    println!(
        "{}",
        object([
            ("looked".to_owned(), looked.to_string()),
            ("helpers".to_owned(), helpers.to_string()),
            ("opened".to_owned(), opened)
        ])
    );
}

/// What is opened is judged by what it is afterwards: the process may have become an ordinary one meanwhile.
fn look(pid: &str, opened: &mut Vec<String>) {
    use std::os::fd::AsRawFd as _;
    if let Ok(exe) = fs::File::open(format!("/proc/{pid}/exe")) {
        let what = fs::read_link(format!("/proc/self/fd/{}", exe.as_raw_fd())).unwrap_or_default();
        if what.to_string_lossy().contains("orangery-keeper") {
            opened.push(format!("exe of {pid}: {}", what.display()));
        }
    }
    if let Ok(maps) = fs::read_to_string(format!("/proc/{pid}/maps")) {
        if maps.contains("orangery-keeper") {
            opened.push(format!("maps of {pid}"));
        }
    }
}

/// Until standard input ends, look for a file of the host's through whoever comes into the container: through its root, its working
/// directory and every descriptor, from its beginning to its end. Its number is said when it has been looked at once.
pub fn peek(rest: &[String]) {
    let secret = rest.first().map(String::as_str).unwrap_or_default();
    let end = std::thread::spawn(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
    println!("ready");
    // That thread has a number as well.
    let (mut next, mut early, mut found) = (std::process::id() + 2, 0u64, Vec::new());
    while !end.is_finished() {
        let dir = format!("/proc/{next}");
        let mut looked = false;
        while Path::new(&dir).exists() && !end.is_finished() {
            let name = fs::read_to_string(format!("{dir}/comm")).unwrap_or_default();
            through(&dir, secret, &mut found);
            if !looked {
                early += u64::from(name.starts_with("orangery-keep"));
                println!("{next}");
            }
            looked = true;
        }
        next += u32::from(looked);
    }
    let found = crate::json::list(found.iter().map(crate::json::string));
    println!("{}", object([("early".to_owned(), early.to_string()), ("found".to_owned(), found)]));
}

fn through(dir: &str, secret: &str, found: &mut Vec<String>) {
    let fds = fs::read_dir(format!("{dir}/fd")).into_iter().flatten().flatten();
    let fds = fds.map(|fd| fd.path().to_string_lossy().into_owned());
    for way in fds.chain(["root", "cwd"].map(|name| format!("{dir}/{name}"))) {
        let path = format!("{way}{}{secret}", "/..".repeat(12));
        if !found.contains(&path) && fs::read_to_string(&path).is_ok_and(|text| text.starts_with("secret")) {
            found.push(path);
        }
    }
}
