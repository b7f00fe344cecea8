//! What a process sees of itself and of the world.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::json::{list, object, string};
use crate::raw::{call, nr};

/// Everything, and each of `paths`.
pub fn see(paths: &[String]) {
    // Listed before this program opens anything of its own.
    let fds = descriptors();
    let items = [
        ("fds", fds),
        ("pid", std::process::id().to_string()),
        ("sid", call(nr::GETSID, [0; 6]).to_string()),
        ("status", status()),
        ("ns", links("/proc/self/ns")),
        ("mountinfo", lines("/proc/self/mountinfo")),
        ("limits", lines("/proc/self/limits")),
        ("cgroup", lines("/proc/self/cgroup")),
        ("cwd", std::env::current_dir().map_or_else(errno, |cwd| string(cwd.as_os_str().as_encoded_bytes()))),
        ("hostname", string(read("/proc/sys/kernel/hostname").trim_end())),
        ("oom_score_adj", string(read("/proc/self/oom_score_adj").trim_end())),
        ("interfaces", interfaces()),
        (
            "env",
            list(std::env::vars_os().map(|(k, v)| string([k.as_encoded_bytes(), b"=", v.as_encoded_bytes()].concat()))),
        ),
        ("argv", list(std::env::args_os().map(|arg| string(arg.as_encoded_bytes())))),
        ("root", entries(Path::new("/"))),
        ("dev", object(names("/dev").into_iter().map(|name| (name.clone(), one(&format!("/dev/{name}")))))),
        ("paths", object(paths.iter().map(|path| (path.clone(), one(path))))),
    ];
    println!("{}", object(items.into_iter().map(|(key, value)| (key.to_owned(), value))));
}

/// [`see`], and what only a closer look shows; then it waits until its input ends, so that others can look from outside.
pub fn look(paths: &[String]) {
    let asked = |number, first| call(number, [first, 0, 0, 0, 0, 0]).to_string();
    let items = [
        ("domainname", string(read("/proc/sys/kernel/domainname").trim_end())),
        ("personality", asked(nr::PERSONALITY, 0xffff_ffff)),
        ("scheduler", asked(nr::SCHED_GETSCHEDULER, 0)),
        ("priority", asked(nr::GETPRIORITY, 0)),
        ("io_priority", call(nr::IOPRIO_GET, [1, 0, 0, 0, 0, 0]).to_string()),
        ("opens", object(names("/dev").into_iter().map(|name| (name.clone(), opens(&format!("/dev/{name}")))))),
        ("writes", object(paths.iter().map(|path| (path.clone(), may_write(path))))),
    ];
    println!("{}", object(items.into_iter().map(|(key, value)| (key.to_owned(), value))));
    see(paths);
    let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
}

/// 0, or minus the errno, of a node that is opened for both.
fn opens(path: &str) -> String {
    use std::os::unix::fs::OpenOptionsExt as _;
    const NONBLOCK: i32 = 0o4000;
    match fs::metadata(path) {
        Ok(meta) if meta.is_dir() || meta.is_file() => "0".to_owned(),
        _ => {
            let opened = fs::OpenOptions::new().read(true).write(true).custom_flags(NONBLOCK).open(path);
            opened.map_or_else(errno, |_| "0".to_owned())
        }
    }
}

/// 0, or minus the errno.
fn may_write(path: &str) -> String {
    let path = crate::raw::text(path);
    call(nr::FACCESSAT, [-100isize as usize, path.as_ptr() as usize, 2, 0, 0, 0]).to_string()
}

fn read(path: &str) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn lines(path: &str) -> String {
    list(read(path).lines().map(string))
}

fn errno(error: std::io::Error) -> String {
    (-error.raw_os_error().unwrap_or(0)).to_string()
}

fn names(dir: &str) -> Vec<String> {
    let read = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = read.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn entries(dir: &Path) -> String {
    match fs::read_dir(dir) {
        Ok(_) => list(names(&dir.to_string_lossy()).iter().map(string)),
        Err(error) => errno(error),
    }
}

fn links(dir: &str) -> String {
    let target = |name: &String| {
        let target = fs::read_link(format!("{dir}/{name}")).unwrap_or_default();
        string(target.as_os_str().as_encoded_bytes())
    };
    object(names(dir).into_iter().map(|name| (name.clone(), target(&name))))
}

/// The listing's own descriptor is left out: it is the one whose target is the listed directory.
fn descriptors() -> String {
    let own = format!("/proc/{}/fd", std::process::id());
    let target = |name: &String| fs::read_link(format!("/proc/self/fd/{name}")).unwrap_or_default();
    let all = names("/proc/self/fd").into_iter().map(|name| (target(&name), name));
    let others = all.filter(|(target, _)| *target != Path::new(&own) && !target.as_os_str().is_empty());
    object(others.map(|(target, name)| (name, string(target.as_os_str().as_encoded_bytes()))))
}

fn status() -> String {
    let text = read("/proc/self/status");
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    object(pairs.map(|(key, value)| (key.to_owned(), string(value.trim()))))
}

fn interfaces() -> String {
    let flags = |name: &String| read(&format!("/sys/class/net/{name}/flags")).trim().to_owned();
    object(names("/sys/class/net").into_iter().map(|name| (name.clone(), string(flags(&name)))))
}

/// Kind, owner, mode, and what reading it gives: names, the first bytes, or minus the errno.
fn one(path: &str) -> String {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => return object([("missing".to_owned(), errno(error))]),
    };
    let kind = meta.file_type();
    let (kind, content) = if kind.is_dir() {
        ("dir", entries(Path::new(path)))
    } else if kind.is_symlink() {
        ("link", string(fs::read_link(path).unwrap_or_default().as_os_str().as_encoded_bytes()))
    } else if kind.is_file() {
        ("file", first_bytes(path))
    } else if kind.is_char_device() {
        ("char", string(format!("{}:{}", meta.rdev() >> 8 & 0xfff, meta.rdev() & 0xff)))
    } else {
        ("other", "null".to_owned())
    };
    object([
        ("kind".to_owned(), string(kind)),
        ("mode".to_owned(), string(format!("{:o}", meta.mode() & 0o7777))),
        ("uid".to_owned(), meta.uid().to_string()),
        ("gid".to_owned(), meta.gid().to_string()),
        ("content".to_owned(), content),
    ])
}

fn first_bytes(path: &str) -> String {
    use std::io::Read as _;
    let mut text = Vec::new();
    match fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut text)) {
        Ok(_) => string(text),
        Err(error) => errno(error),
    }
}
