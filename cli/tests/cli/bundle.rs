//! OCI bundles: one that runs as its config.json says, and what is wrong with others.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use serde_json::{Value, json};

use crate::kit::{Ran, copy_program, lacks, ran, root};
use crate::refusals::short;
use crate::{Test, always, needs};

const BUSYBOX: &str = "/usr/bin/busybox";

pub(crate) fn tests() -> Vec<Test> {
    let busybox = || (!is_static(Path::new(BUSYBOX))).then(|| format!("needs a static {BUSYBOX}"));
    let limits = || busybox().or_else(|| lacks("--memory"));
    let root_only = || busybox().or_else(|| (!root()).then(|| "needs root".to_owned()));
    vec![
        needs("a_bundle_runs_as_its_config_says", busybox(), runs),
        needs("a_bundle_without_a_user_namespace", root_only(), without_user_namespace),
        needs("a_bundle_in_namespaces_that_exist", root_only(), joined),
        needs("a_bundle_with_a_terminal", busybox(), with_a_terminal),
        needs("the_limits_of_a_bundle", limits(), limited),
        needs("a_bundle_with_a_command_that_is_not_there", busybox(), no_command),
        always("fields_of_a_bundle_that_are_refused_are_named", refused_fields),
        always("what_a_bundle_says_is_not_said_twice", said_twice),
        always("a_config_json_that_is_none", no_config),
    ]
}

fn is_static(program: &Path) -> bool {
    fs::read(program).is_ok_and(|elf| !elf.windows(6).any(|bytes| bytes == b"/ld-li" || bytes == b"ld-mus"))
}

/// A bundle with busybox in its root; `data/here` beside it.
fn bundle() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["proc", "sys", "dev", "tmp", "bin", "work", "data", "scratch"] {
        fs::create_dir_all(dir.path().join("rootfs").join(name)).unwrap();
    }
    fs::create_dir(dir.path().join("data")).unwrap();
    fs::write(dir.path().join("data/here"), "text\n").unwrap();
    let program = dir.path().join("rootfs/bin/busybox");
    if Path::new(BUSYBOX).exists() {
        copy_program(BUSYBOX, &program);
    }
    for applet in ["sh", "id", "cat", "touch", "hostname", "dd"] {
        symlink("busybox", dir.path().join("rootfs/bin").join(applet)).unwrap();
    }
    dir
}

/// A config.json for whoever runs this, with a user namespace.
fn config(args: &[&str]) -> Value {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "fruit",
        "process": {
            "user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin", "A=b=c"], "cwd": "/work",
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 64, "soft": 64}],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "bind", "source": "data", "options": ["rbind", "ro"]},
            {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=1m"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        ],
        "linux": {
            "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
                {"type": "user"}],
            "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": gid, "size": 1}],
        },
    })
}

/// Run it, with a state directory of its own, which must be empty afterwards.
fn run(dir: &Path, config: &Value) -> Ran {
    write_and_run(dir, config.to_string().as_bytes())
}

fn write_and_run(dir: &Path, config: &[u8]) -> Ran {
    fs::write(dir.join("config.json"), config).unwrap();
    run_there(dir)
}

fn run_there(dir: &Path) -> Ran {
    let state = dir.join("state");
    let ran = ran(&["run", "--state-dir", state.to_str().unwrap(), "--bundle", dir.to_str().unwrap()]);
    let left: Vec<_> = fs::read_dir(&state).into_iter().flatten().flatten().collect();
    assert!(left.is_empty(), "state is left: {left:?}");
    ran
}

const LOOK: &str = "id -u; id -g; pwd; echo $A; hostname; ulimit -n; echo $$; cat /data/here
    touch /data/x 2>/dev/null || echo data is read-only
    touch /here 2>/dev/null || echo root is read-only
    touch /scratch/y && echo scratch is writable
    dd if=/dev/zero of=/scratch/z bs=64k count=32 2>/dev/null || echo and bounded
    exit 7";

const SEEN: &str =
    "/work\nb=c\nfruit\n64\n1\ntext\ndata is read-only\nroot is read-only\nscratch is writable\nand bounded\n";

fn runs() {
    let dir = bundle();
    let ran = run(dir.path(), &config(&["sh", "-c", LOOK]));
    assert_eq!(ran.ended(7).text(), format!("0\n0\n{SEEN}"));
    assert_eq!(ran.err, "");
    assert!(!dir.path().join("data/x").exists() && !dir.path().join("rootfs/here").exists());
    let mut writable = config(&["sh", "-c", "echo new > /data/new; echo new > /new"]);
    writable["root"]["readonly"] = false.into();
    writable["mounts"][1]["options"] = json!(["rbind"]);
    run(dir.path(), &writable).ended(0);
    for file in ["data/new", "rootfs/new"] {
        assert_eq!(fs::read(dir.path().join(file)).unwrap(), b"new\n", "{file}");
    }
}

/// Where the bundle asks for none the ids are the host's, and another user is just that one.
fn without_user_namespace() {
    let dir = bundle();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut other = config(&["sh", "-c", LOOK]);
    for field in ["uidMappings", "gidMappings"] {
        other["linux"].as_object_mut().unwrap().remove(field);
    }
    other["linux"]["namespaces"].as_array_mut().unwrap().pop();
    other["process"]["user"] = json!({"uid": 1234, "gid": 4321, "additionalGids": [77]});
    // A mount of ours belongs to root: what it allows is not this test's matter.
    other["mounts"][2]["options"] = json!(["size=1m", "mode=1777"]);
    let ran = run(dir.path(), &other);
    assert_eq!(ran.ended(7).text(), format!("1234\n4321\n{SEEN}"), "{}", ran.err);
    other["process"]["args"] = json!(["id", "-G"]);
    assert_eq!(run(dir.path(), &other).ended(0).text(), "4321 77\n");
}

/// Of this process, by path.
fn joined() {
    let dir = bundle();
    let mut joins = config(&["hostname"]);
    joins.as_object_mut().unwrap().remove("hostname");
    for (index, kind) in [(2, "ipc"), (3, "uts"), (4, "net")] {
        joins["linux"]["namespaces"][index]["path"] = format!("/proc/self/ns/{kind}").into();
    }
    let ours = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(run(dir.path(), &joins).ended(0).text(), ours);
    joins["hostname"] = "fruit".into();
    assert!(short(&run(dir.path(), &joins)).contains("hostname"));
}

/// As large as it says where we have no window.
fn with_a_terminal() {
    let dir = bundle();
    let mut config = config(&["sh", "-c", "busybox tty; busybox stty size; echo console > /dev/console"]);
    config["process"]["terminal"] = true.into();
    config["process"]["consoleSize"] = json!({"height": 5, "width": 7});
    assert_eq!(run(dir.path(), &config).ended(0).text(), "/dev/pts/0\r\n5 7\r\nconsole\r\n");
}

fn limited() {
    let dir = bundle();
    // Its one buffer has 64 MiB.
    let mut greedy = config(&["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    greedy["linux"]["resources"] = json!({"memory": {"limit": 16 << 20, "swap": 16 << 20}});
    run(dir.path(), &greedy).ended(137);
}

fn no_command() {
    let dir = bundle();
    run(dir.path(), &config(&["no-such-command"])).ended(127);
    run(dir.path(), &config(&["/data"])).ended(126);
}

/// Each alone, by the name that it has in the file.
fn refused_fields() {
    let dir = bundle();
    let cases = [
        ("hooks", "/hooks", json!({"prestart": [{"path": "/bin/true"}]})),
        ("ociVersion", "/ociVersion", json!("2.0.0")),
        ("root", "/root", Value::Null),
        ("process", "/process", Value::Null),
        ("process.consoleSize", "/process/consoleSize", json!({"height": 70_000, "width": 80})),
        ("process.user.username", "/process/user/username", json!("p")),
        (
            "mounts[5]",
            "/mounts/5",
            json!({"destination": "/data", "type": "bind", "source": "/", "options": ["size=1"]}),
        ),
        ("mounts", "/mounts/5", json!({"destination": "/data", "type": "no-such-type", "source": "x"})),
        (
            "linux.seccomp.syscalls[0]",
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_KILL"}]}),
        ),
        ("linux.devices[0]", "/linux/devices", json!([{"path": "/dev/x", "type": "a", "major": 1, "minor": 3}])),
        ("linux.cgroupsPath", "/linux/cgroupsPath", json!("/x")),
        ("linux.rootfsPropagation", "/linux/rootfsPropagation", json!("sharing")),
        ("linux.gidMappings", "/linux/gidMappings", Value::Null),
        ("linux.namespaces[0].path", "/linux/namespaces/0/path", json!("/proc/self/ns/mnt")),
        ("linux.namespaces[1].path", "/linux/namespaces/1/path", json!("/proc/self/ns/net")),
        ("linux.namespaces[2].path", "/linux/namespaces/2/path", json!("/dev/null")),
        ("linux.namespaces[3].path", "/linux/namespaces/3/path", json!("self/ns/uts")),
        ("linux.uidMappings", "/linux/namespaces/5/path", json!("/proc/self/ns/user")),
        ("linux.resources.unified", "/linux/resources", json!({"unified": {"memory/high": "1"}})),
    ];
    for (field, pointer, value) in cases {
        let mut wrong = config(&["true"]);
        put(&mut wrong, pointer, value);
        let ran = run(dir.path(), &wrong);
        assert!(short(&ran).contains(field), "{field}: {}", ran.err);
    }
    let mut missing = config(&["true"]);
    missing["root"]["path"] = "no-such-rootfs".into();
    assert!(short(&run(dir.path(), &missing)).contains("no-such-rootfs"));
}

/// An option that config.json has a word on is refused beside it, not ignored.
fn said_twice() {
    let dir = bundle();
    fs::write(dir.path().join("config.json"), config(&["true"]).to_string()).unwrap();
    let path = dir.path().to_str().unwrap();
    for option in [
        "--memory=64M",
        "--pids=3",
        "--nofile=9",
        "--mount=type=tmpfs,dst=/x",
        "--network=host",
        "--network=none",
        "--userns=own",
        "--hostname=h",
        "--env=A=b",
        "--user=0",
        "--workdir=/",
        "--rw",
        "--label=a=b",
        "--no-init",
        "--output-limit=1M",
        "--disk=1M",
        "--join=net=/proc/self/ns/net",
    ] {
        let ran = ran(&["run", "--bundle", path, option]);
        let (name, text) = (option.split('=').next().unwrap(), short(&ran));
        assert!(text.contains(name) && text.contains("--bundle"), "{option}: {text}");
    }
    let both = ran(&["run", "--bundle", path, "--", "true"]);
    assert!(short(&both).contains("--bundle"), "{}", both.err);
}

fn put(config: &mut Value, pointer: &str, value: Value) {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Array(list) => list.push(value),
        Value::Object(object) if value.is_null() => drop(object.remove(name)),
        other => other[name] = value,
    }
}

fn no_config() {
    let dir = bundle();
    let mut texts: Vec<Vec<u8>> =
        ["", "null", "[]", "5", "{", "{\"ociVersion\": \"1.0.2\",", "[1, 2", "\u{feff}{}", "{\"ociVersion\": 1}"]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
    texts.push(b"\xff\xfe\x00".to_vec());
    texts.push(vec![b'['; 100_000]);
    for (pointer, value) in [
        ("/process", json!(5)),
        ("/process/args", json!("sh -c true")),
        ("/process/user", json!({"uid": "root", "gid": 0})),
        ("/process/user", json!({"uid": -1, "gid": 0})),
        ("/process/cwd", json!(["/"])),
        ("/process/rlimits", json!([{"type": "RLIMIT_NOTHING", "hard": 1, "soft": 1}])),
        ("/mounts", json!({"destination": "/x"})),
        ("/linux/namespaces", json!([{"type": "space"}])),
        ("/linux/resources", json!({"memory": {"limit": "64M"}})),
    ] {
        let mut wrong = config(&["true"]);
        put(&mut wrong, pointer, value);
        texts.push(wrong.to_string().into_bytes());
    }
    for text in texts {
        let ran = write_and_run(dir.path(), &text);
        let said = String::from_utf8_lossy(&text[..text.len().min(200)]).into_owned();
        assert!(short(&ran).contains("config.json"), "{said}: {}", ran.err);
    }
    fs::remove_file(dir.path().join("config.json")).unwrap();
    fs::create_dir(dir.path().join("config.json")).unwrap();
    assert!(short(&run_there(dir.path())).contains("config.json"));
}
