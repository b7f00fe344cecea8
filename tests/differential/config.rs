//! What a config.json is made of: a plain one, and axes of variants, each a small change to it.

use serde_json::{Value, json};

/// What a variant may name, for it is another one in each run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Here<'a> {
    /// The directory of the bundle.
    pub(crate) bundle: &'a str,
    /// The container's group.
    pub(crate) cgroup: &'a str,
}

/// One change. What is refused, or ends before it says anything, is tried alone: two reasons say less than one.
#[derive(Clone, Copy)]
pub(crate) struct Variant {
    pub(crate) axis: &'static str,
    pub(crate) name: &'static str,
    pub(crate) alone: bool,
    pub(crate) change: fn(&mut Value, Here<'_>),
}

/// Files and directories that the probe looks at.
const LOOKED_AT: [&str; 22] = [
    "/data",
    "/run",
    "/tmp",
    "/var/run",
    "/etc",
    "/etc/marker",
    "/etc/link",
    "/new",
    "/deep",
    "/proc/kcore",
    "/proc/keys",
    "/proc/sys",
    "/sys/firmware",
    "/dev/shm",
    "/dev/mqueue",
    "/dev/sub/node",
    "/proc/sys/kernel/shm_rmid_forced",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/fs/mqueue/msg_max",
    "/proc/sys/net/ipv4/ping_group_range",
    "/etc/file-target",
];

/// What runc's `spec` writes, with the probe as its command.
pub(crate) fn plain(here: Here<'_>) -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let tmpfs = |at: &str, options: &[&str]| json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options });
    let args: Vec<&str> = ["/probe", "look"].into_iter().chain(LOOKED_AT).collect();
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": args,
            "env": ["PATH=/usr/bin:/bin", "TERM=xterm", "HOME=/root"],
            "cwd": "/",
            "capabilities": { "bounding": caps, "effective": caps, "permitted": caps },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": false },
        "hostname": "differs",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            tmpfs("/dev", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            tmpfs("/dev/shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "cgroupsPath": here.cgroup,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" },
            ],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/irq"],
        },
    })
}

fn without(config: &mut Value, pointer: &str, key: &str) {
    if let Some(object) = config.pointer_mut(pointer).and_then(Value::as_object_mut) {
        object.remove(key);
    }
}

fn list<'a>(config: &'a mut Value, pointer: &str) -> &'a mut Vec<Value> {
    config.pointer_mut(pointer).and_then(Value::as_array_mut).expect("a list")
}

fn no_namespace(config: &mut Value, kind: &str) {
    list(config, "/linux/namespaces").retain(|namespace| namespace["type"] != kind);
}

fn namespace(config: &mut Value, kind: &str, path: Option<&str>) {
    no_namespace(config, kind);
    let mut entry = json!({ "type": kind });
    if let Some(path) = path {
        entry["path"] = path.into();
    }
    list(config, "/linux/namespaces").push(entry);
}

fn mount(config: &mut Value, at: &str, kind: &str, source: &str, options: &[&str]) {
    list(config, "/mounts").push(json!({ "destination": at, "type": kind, "source": source, "options": options }));
}

fn no_mount(config: &mut Value, at: &str) {
    list(config, "/mounts").retain(|mount| mount["destination"] != at);
}

/// All ids of a range of the host's, and files that are theirs.
fn user(config: &mut Value) {
    namespace(config, "user", None);
    let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    config["linux"]["uidMappings"] = map.clone();
    config["linux"]["gidMappings"] = map;
}

fn caps(config: &mut Value, sets: &[&str], names: &[&str]) {
    let sets = sets.iter().map(|set| ((*set).to_owned(), json!(names))).collect::<serde_json::Map<_, _>>();
    config["process"]["capabilities"] = sets.into();
}

fn filter(config: &mut Value, action: &str, more: &Value) {
    let mut rule = json!({ "names": ["getsid"], "action": action });
    if let (Value::Object(rule), Value::Object(more)) = (&mut rule, more) {
        rule.extend(more.clone());
    }
    config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"], "syscalls": [rule] });
}

fn device(config: &mut Value, path: &str, more: &Value) {
    let mut device = json!({ "path": path, "type": "c", "major": 10, "minor": 229 });
    if let (Value::Object(device), Value::Object(more)) = (&mut device, more) {
        device.extend(more.clone());
    }
    config["linux"]["devices"] = json!([device]);
}

fn rlimits(config: &mut Value, limits: &[(&str, u64, u64)]) {
    config["process"]["rlimits"] =
        limits.iter().map(|(kind, soft, hard)| json!({ "type": kind, "soft": soft, "hard": hard })).collect();
}

macro_rules! variants {
    ($($axis:literal: $($mark:ident $name:literal $change:expr;)+)+) => {
        /// All of them.
        pub(crate) const VARIANTS: &[Variant] = &[$($(
            Variant { axis: $axis, name: $name, alone: variants!($mark), change: $change },
        )+)+];
    };
    (good) => { false };
    (alone) => { true };
    (broken) => { true };
}

variants! {
    "namespaces":
    good "no-pid" |c, _| no_namespace(c, "pid");
    good "no-network" |c, _| no_namespace(c, "network");
    good "no-ipc" |c, _| { no_namespace(c, "ipc"); no_mount(c, "/dev/mqueue"); };
    good "no-uts" |c, _| { no_namespace(c, "uts"); without(c, "", "hostname"); };
    good "cgroup" |c, _| namespace(c, "cgroup", None);
    good "user" |c, _| user(c);
    good "user-and-cgroup" |c, _| { user(c); namespace(c, "cgroup", None); };
    good "network-by-path" |c, _| namespace(c, "network", Some("/proc/self/ns/net"));
    good "ipc-by-path" |c, _| namespace(c, "ipc", Some("/proc/self/ns/ipc"));
    good "path-empty" |c, _| namespace(c, "network", Some(""));
    broken "no-uts-but-a-hostname" |c, _| no_namespace(c, "uts");
    broken "no-mount" |c, _| no_namespace(c, "mount");
    broken "twice" |c, _| list(c, "/linux/namespaces").push(json!({ "type": "pid" }));
    broken "unknown" |c, _| namespace(c, "dream", None);
    broken "path-missing" |c, _| namespace(c, "network", Some("/proc/self/ns/no-such"));
    broken "path-of-another-kind" |c, _| namespace(c, "network", Some("/proc/self/ns/uts"));
    broken "path-no-namespace" |c, _| namespace(c, "network", Some("/dev/null"));
    broken "user-without-maps" |c, _| namespace(c, "user", None);
    broken "maps-without-user" |c, _| c["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    broken "maps-overlap" |c, _| {
        user(c);
        list(c, "/linux/uidMappings").push(json!({ "containerID": 10, "hostID": 300_000, "size": 5 }));
    };
    broken "map-of-nothing" |c, _| { user(c); c["linux"]["uidMappings"][0]["size"] = json!(0); };

    "mounts":
    good "tmpfs" |c, _| mount(c, "/run", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec", "size=64k", "mode=711"]);
    good "tmpfs-uid" |c, _| mount(c, "/run", "tmpfs", "fs", &["uid=7", "gid=8", "nr_inodes=100", "noatime"]);
    good "bind" |c, h| mount(c, "/data", "bind", &format!("{}/data", h.bundle), &["bind"]);
    good "bind-without-type" |c, h| {
        list(c, "/mounts").push(json!({ "destination": "/data", "source": format!("{}/data", h.bundle), "options": ["bind"] }));
    };
    good "bind-none" |c, h| mount(c, "/data", "none", &format!("{}/data", h.bundle), &["rbind", "rw"]);
    good "bind-ro" |c, h| mount(c, "/data", "bind", &format!("{}/data", h.bundle), &["rbind", "ro", "nosuid"]);
    good "bind-flags" |c, h| mount(c, "/data", "bind", &format!("{}/data", h.bundle), &["bind", "nodev", "noexec", "noatime"]);
    good "bind-ro-rw" |c, h| mount(c, "/data", "bind", &format!("{}/data", h.bundle), &["bind", "ro", "rw"]);
    good "bind-relative-source" |c, _| mount(c, "/data", "bind", "data", &["bind", "ro"]);
    good "bind-relatime" |c, h| mount(c, "/data", "bind", &format!("{}/data", h.bundle), &["bind", "nodiratime", "strictatime"]);
    good "bind-file" |c, h| mount(c, "/etc/marker", "bind", &format!("{}/data/file", h.bundle), &["bind", "ro"]);
    good "bind-file-missing-target" |c, h| mount(c, "/etc/file-target", "bind", &format!("{}/data/file", h.bundle), &["bind"]);
    good "bind-deep" |c, h| mount(c, "/deep/er/place", "bind", &format!("{}/data", h.bundle), &["bind"]);
    good "bind-shared" |c, h| mount(c, "/data", "bind", &format!("{}/data", h.bundle), &["rbind", "rshared"]);
    good "bind-slave" |c, h| mount(c, "/data", "bind", &format!("{}/data", h.bundle), &["rbind", "rslave"]);
    good "bind-unbindable" |c, h| mount(c, "/data", "bind", &format!("{}/data", h.bundle), &["bind", "unbindable"]);
    good "bind-rro" |c, h| mount(c, "/data", "bind", &format!("{}/data", h.bundle), &["rbind", "rro"]);
    good "over-a-link" |c, _| mount(c, "/var/run", "tmpfs", "tmpfs", &["size=64k"]);
    good "twice-at-one-place" |c, _| {
        mount(c, "/run", "tmpfs", "one", &["size=64k"]);
        mount(c, "/run", "tmpfs", "two", &["size=128k"]);
    };
    good "relative-target" |c, _| mount(c, "run", "tmpfs", "tmpfs", &["size=64k"]);
    good "target-up" |c, _| mount(c, "/tmp/../../run", "tmpfs", "tmpfs", &["size=64k"]);
    good "no-dev" |c, _| list(c, "/mounts").retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with("/dev")));
    good "no-sys" |c, _| no_mount(c, "/sys");
    good "no-shm-no-mqueue" |c, _| { no_mount(c, "/dev/shm"); no_mount(c, "/dev/mqueue"); };
    good "sys-rw" |c, _| { no_mount(c, "/sys"); mount(c, "/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev"]); };
    good "proc-options" |c, _| c["mounts"][0]["options"] = json!(["nosuid", "noexec", "nodev", "hidepid=2"]);
    good "cgroup" |c, _| mount(c, "/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    good "dev-ro" |c, _| c["mounts"][1]["options"] = json!(["nosuid", "mode=755", "ro"]);
    broken "source-missing" |c, _| mount(c, "/data", "bind", "/no/such/source", &["bind"]);
    broken "kind-unknown" |c, _| mount(c, "/run", "dreamfs", "dreamfs", &[]);
    broken "option-unknown" |c, _| mount(c, "/run", "tmpfs", "tmpfs", &["dream=1"]);
    broken "below-proc" |c, h| mount(c, "/proc/self", "bind", &format!("{}/data", h.bundle), &["bind"]);
    broken "on-proc" |c, h| mount(c, "/proc", "bind", &format!("{}/data", h.bundle), &["bind"]);
    broken "file-over-directory" |c, h| mount(c, "/etc", "bind", &format!("{}/data/file", h.bundle), &["bind"]);
    broken "directory-over-file" |c, h| mount(c, "/etc/marker", "bind", &format!("{}/data", h.bundle), &["bind"]);
    broken "no-target" |c, _| list(c, "/mounts").push(json!({ "type": "tmpfs", "source": "tmpfs" }));
    broken "no-source" |c, _| list(c, "/mounts").push(json!({ "destination": "/data", "options": ["bind"] }));

    "root":
    good "readonly" |c, _| c["root"]["readonly"] = json!(true);
    good "absolute" |c, h| c["root"]["path"] = format!("{}/rootfs", h.bundle).into();
    good "slash" |c, _| c["root"]["path"] = "./rootfs/".into();
    good "no-readonly" |c, _| without(c, "/root", "readonly");
    broken "missing" |c, _| c["root"]["path"] = "no-such".into();
    broken "a-file" |c, _| c["root"]["path"] = "config.json".into();
    broken "empty" |c, _| c["root"]["path"] = "".into();

    "propagation":
    good "private" |c, _| c["linux"]["rootfsPropagation"] = "private".into();
    good "slave" |c, _| c["linux"]["rootfsPropagation"] = "slave".into();
    good "rslave" |c, _| c["linux"]["rootfsPropagation"] = "rslave".into();
    good "shared" |c, _| c["linux"]["rootfsPropagation"] = "shared".into();
    good "unbindable" |c, _| c["linux"]["rootfsPropagation"] = "unbindable".into();
    good "empty" |c, _| c["linux"]["rootfsPropagation"] = "".into();
    broken "unknown" |c, _| c["linux"]["rootfsPropagation"] = "sideways".into();

    "name":
    good "none" |c, _| without(c, "", "hostname");
    good "empty" |c, _| c["hostname"] = "".into();
    good "longest" |c, _| c["hostname"] = "h".repeat(64).into();
    good "domain" |c, _| c["domainname"] = "example.org".into();
    broken "too-long" |c, _| c["hostname"] = "h".repeat(65).into();

    "sysctl":
    good "ipc" |c, _| c["linux"]["sysctl"] = json!({ "kernel.shm_rmid_forced": "1", "kernel.msgmax": "65535" });
    good "network" |c, _| c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "net.ipv4.ping_group_range": "0 9" });
    good "mqueue" |c, _| c["linux"]["sysctl"] = json!({ "fs.mqueue.msg_max": "20" });
    broken "of-the-host" |c, _| c["linux"]["sysctl"] = json!({ "kernel.pid_max": "65536" });
    broken "host-vm" |c, _| c["linux"]["sysctl"] = json!({ "vm.swappiness": "60" });
    broken "unknown" |c, _| c["linux"]["sysctl"] = json!({ "net.dream": "1" });
    broken "wrong-value" |c, _| c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "dream" });
    broken "of-the-hosts-network" |c, _| {
        no_namespace(c, "network");
        c["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1" });
    };
    broken "of-the-hosts-ipc" |c, _| {
        no_namespace(c, "ipc");
        no_mount(c, "/dev/mqueue");
        c["linux"]["sysctl"] = json!({ "kernel.msgmax": "8192" });
    };

    "cwd":
    good "tmp" |c, _| c["process"]["cwd"] = "/tmp".into();
    good "missing" |c, _| c["process"]["cwd"] = "/new/place".into();
    good "link" |c, _| c["process"]["cwd"] = "/var/run".into();
    broken "relative" |c, _| c["process"]["cwd"] = "tmp".into();
    broken "empty" |c, _| c["process"]["cwd"] = "".into();
    broken "a-file" |c, _| c["process"]["cwd"] = "/etc/marker".into();
    broken "none" |c, _| without(c, "/process", "cwd");

    "user":
    good "ordinary" |c, _| c["process"]["user"] = json!({ "uid": 1234, "gid": 4321 });
    good "groups" |c, _| c["process"]["user"] = json!({ "uid": 1234, "gid": 4321, "additionalGids": [77, 5, 4321] });
    good "root-with-groups" |c, _| c["process"]["user"] = json!({ "uid": 0, "gid": 0, "additionalGids": [10, 11] });
    good "umask" |c, _| c["process"]["user"]["umask"] = json!(0o27);
    good "umask-0" |c, _| c["process"]["user"]["umask"] = json!(0);
    broken "negative" |c, _| c["process"]["user"]["uid"] = json!(-1);
    broken "not-mapped" |c, _| { user(c); c["process"]["user"]["uid"] = json!(70_000); };
    broken "group-not-mapped" |c, _| { user(c); c["process"]["user"]["additionalGids"] = json!([70_000]); };

    "privileges":
    good "may-be-new" |c, _| c["process"]["noNewPrivileges"] = json!(false);
    good "not-said" |c, _| without(c, "/process", "noNewPrivileges");

    "oom":
    good "0" |c, _| c["process"]["oomScoreAdj"] = json!(0);
    good "500" |c, _| c["process"]["oomScoreAdj"] = json!(500);
    broken "too-much" |c, _| c["process"]["oomScoreAdj"] = json!(1001);
    broken "too-little" |c, _| c["process"]["oomScoreAdj"] = json!(-1001);

    "seccomp":
    good "errno" |c, _| filter(c, "SCMP_ACT_ERRNO", &json!({ "errnoRet": 99 }));
    good "errno-0" |c, _| filter(c, "SCMP_ACT_ERRNO", &json!({ "errnoRet": 0 }));
    good "errno-not-said" |c, _| filter(c, "SCMP_ACT_ERRNO", &json!({}));
    good "log" |c, _| filter(c, "SCMP_ACT_LOG", &json!({}));
    good "argument-meets" |c, _| {
        filter(c, "SCMP_ACT_ERRNO", &json!({ "errnoRet": 98, "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] }));
    };
    good "argument-differs" |c, _| {
        filter(c, "SCMP_ACT_ERRNO", &json!({ "errnoRet": 98, "args": [{ "index": 0, "value": 5, "op": "SCMP_CMP_GE" }] }));
    };
    good "argument-masked" |c, _| {
        let args = json!([{ "index": 0, "value": 6, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }]);
        filter(c, "SCMP_ACT_ERRNO", &json!({ "errnoRet": 97, "args": args }));
    };
    good "unknown-name" |c, _| filter(c, "SCMP_ACT_ERRNO", &json!({ "names": ["no_such_call", "getsid"], "errnoRet": 96 }));
    good "flags" |c, _| {
        filter(c, "SCMP_ACT_ERRNO", &json!({ "errnoRet": 99 }));
        c["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    };
    good "no-architectures" |c, _| {
        filter(c, "SCMP_ACT_ERRNO", &json!({ "errnoRet": 99 }));
        without(c, "/linux/seccomp", "architectures");
    };
    good "with-privileges" |c, _| {
        filter(c, "SCMP_ACT_ERRNO", &json!({ "errnoRet": 99 }));
        c["process"]["noNewPrivileges"] = json!(false);
    };
    good "empty" |c, _| c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
    alone "kill-process" |c, _| filter(c, "SCMP_ACT_KILL_PROCESS", &json!({}));
    alone "trap" |c, _| filter(c, "SCMP_ACT_TRAP", &json!({}));
    broken "action-unknown" |c, _| filter(c, "SCMP_ACT_DREAM", &json!({}));
    broken "default-unknown" |c, _| c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_DREAM" });
    broken "operator-unknown" |c, _| {
        filter(c, "SCMP_ACT_ERRNO", &json!({ "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_DREAM" }] }));
    };
    broken "argument-seven" |c, _| {
        filter(c, "SCMP_ACT_ERRNO", &json!({ "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] }));
    };
    broken "architecture-unknown" |c, _| {
        filter(c, "SCMP_ACT_ERRNO", &json!({}));
        c["linux"]["seccomp"]["architectures"] = json!(["SCMP_ARCH_DREAM"]);
    };
    broken "flag-unknown" |c, _| {
        filter(c, "SCMP_ACT_ERRNO", &json!({}));
        c["linux"]["seccomp"]["flags"] = json!(["SECCOMP_FILTER_FLAG_DREAM"]);
    };

    "capabilities":
    good "none" |c, _| without(c, "/process", "capabilities");
    good "empty" |c, _| caps(c, &["bounding", "effective", "permitted", "inheritable", "ambient"], &[]);
    good "bounding" |c, _| caps(c, &["bounding"], &["CAP_CHOWN", "CAP_KILL"]);
    good "more" |c, _| caps(c, &["bounding", "effective", "permitted"], &["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
    good "inheritable" |c, _| caps(c, &["bounding", "effective", "permitted", "inheritable"], &["CAP_KILL", "CAP_NET_RAW"]);
    good "ambient" |c, _| {
        caps(c, &["bounding", "effective", "permitted", "inheritable", "ambient"], &["CAP_KILL", "CAP_NET_RAW"]);
        c["process"]["user"] = json!({ "uid": 1234, "gid": 4321 });
    };
    good "unknown" |c, _| caps(c, &["bounding", "effective", "permitted"], &["CAP_KILL", "CAP_DREAM"]);
    broken "no-list" |c, _| c["process"]["capabilities"]["bounding"] = "CAP_KILL".into();
    broken "effective-not-permitted" |c, _| caps(c, &["bounding", "effective"], &["CAP_KILL"]);

    "rlimits":
    good "none" |c, _| without(c, "/process", "rlimits");
    good "several" |c, _| rlimits(c, &[("RLIMIT_NOFILE", 100, 200), ("RLIMIT_CORE", 0, 0), ("RLIMIT_FSIZE", 1 << 30, 1 << 31)]);
    good "stack" |c, _| rlimits(c, &[("RLIMIT_STACK", 1 << 20, 1 << 24), ("RLIMIT_AS", 1 << 33, 1 << 34)]);
    good "endless" |c, _| rlimits(c, &[("RLIMIT_CPU", u64::MAX, u64::MAX)]);
    broken "twice" |c, _| rlimits(c, &[("RLIMIT_NOFILE", 100, 200), ("RLIMIT_NOFILE", 100, 200)]);
    broken "unknown" |c, _| rlimits(c, &[("RLIMIT_DREAM", 1, 1)]);
    broken "soft-above-hard" |c, _| rlimits(c, &[("RLIMIT_NOFILE", 200, 100)]);

    "devices":
    good "one" |c, _| device(c, "/dev/fuse", &json!({}));
    good "mode-and-owner" |c, _| device(c, "/dev/fuse", &json!({ "fileMode": 0o640, "uid": 7, "gid": 8 }));
    good "deep" |c, _| device(c, "/dev/sub/node", &json!({ "fileMode": 0o600 }));
    good "u" |c, _| device(c, "/dev/fuse", &json!({ "type": "u" }));
    good "block" |c, _| device(c, "/dev/disk", &json!({ "type": "b", "major": 7, "minor": 9, "fileMode": 0o660 }));
    good "fifo" |c, _| device(c, "/dev/fifo", &json!({ "type": "p", "fileMode": 0o622 }));
    good "a-default-one" |c, _| device(c, "/dev/null", &json!({ "major": 1, "minor": 3, "fileMode": 0o600 }));
    broken "kind-unknown" |c, _| device(c, "/dev/fuse", &json!({ "type": "x" }));
    broken "kind-any" |c, _| device(c, "/dev/fuse", &json!({ "type": "a" }));
    broken "no-kind" |c, _| c["linux"]["devices"] = json!([{ "path": "/dev/fuse", "major": 10, "minor": 229 }]);
    broken "no-path" |c, _| c["linux"]["devices"] = json!([{ "type": "c", "major": 10, "minor": 229 }]);

    "rules":
    good "none" |c, _| without(c, "/linux", "resources");
    good "empty" |c, _| c["linux"]["resources"]["devices"] = json!([]);
    good "all" |c, _| c["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "rwm" }]);
    good "fuse" |c, _| {
        device(c, "/dev/fuse", &json!({}));
        c["linux"]["resources"]["devices"] =
            json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }]);
    };
    good "fuse-denied" |c, _| device(c, "/dev/fuse", &json!({}));
    good "fuse-denied-last" |c, _| {
        c["linux"]["resources"]["devices"] =
            json!([{ "allow": true, "access": "rwm" }, { "allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm" }]);
        device(c, "/dev/fuse", &json!({}));
    };
    broken "access-unknown" |c, _| c["linux"]["resources"]["devices"] = json!([{ "allow": true, "access": "z" }]);

    "masked":
    good "none" |c, _| without(c, "/linux", "maskedPaths");
    good "of-the-image" |c, _| c["linux"]["maskedPaths"] = json!(["/etc/marker", "/tmp"]);
    good "missing" |c, _| c["linux"]["maskedPaths"] = json!(["/no/such/path", "/proc/no-such"]);
    good "a-link" |c, _| c["linux"]["maskedPaths"] = json!(["/etc/link"]);

    "readonly":
    good "none" |c, _| without(c, "/linux", "readonlyPaths");
    good "of-the-image" |c, _| c["linux"]["readonlyPaths"] = json!(["/etc", "/tmp", "/no/such"]);
    good "a-file" |c, _| c["linux"]["readonlyPaths"] = json!(["/etc/marker"]);

    "limits":
    good "memory" |c, _| c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20 });
    good "memory-none" |c, _| c["linux"]["resources"]["memory"] = json!({ "limit": -1 });
    good "memory-and-swap" |c, _| c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "swap": 128 << 20 });
    good "pids" |c, _| c["linux"]["resources"]["pids"] = json!({ "limit": 50 });
    good "pids-none" |c, _| c["linux"]["resources"]["pids"] = json!({ "limit": -1 });
    good "pids-0" |c, _| c["linux"]["resources"]["pids"] = json!({ "limit": 0 });
    good "shares" |c, _| c["linux"]["resources"]["cpu"] = json!({ "shares": 512 });
    good "quota" |c, _| c["linux"]["resources"]["cpu"] = json!({ "quota": 50_000, "period": 100_000 });
    good "quota-none" |c, _| c["linux"]["resources"]["cpu"] = json!({ "quota": -1 });
    good "quota-alone" |c, _| c["linux"]["resources"]["cpu"] = json!({ "quota": 20_000 });
    good "cpus" |c, _| c["linux"]["resources"]["cpu"] = json!({ "cpus": "0", "mems": "0" });
    broken "quota-too-small" |c, _| c["linux"]["resources"]["cpu"] = json!({ "quota": 5, "period": 100_000 });
    broken "no-such-cpu" |c, _| c["linux"]["resources"]["cpu"] = json!({ "cpus": "4095" });
    broken "cpus-nonsense" |c, _| c["linux"]["resources"]["cpu"] = json!({ "cpus": "dream" });
    broken "swap-below-memory" |c, _| c["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "swap": 32 << 20 });
    broken "negative-shares" |c, _| c["linux"]["resources"]["cpu"] = json!({ "shares": -5 });

    "process":
    good "env-twice" |c, _| c["process"]["env"] = json!(["A=1", "A=2", "HOME=/", "PATH=/bin"]);
    broken "env-without-equals" |c, _| c["process"]["env"] = json!(["ALONE", "HOME=/", "PATH=/bin"]);
    good "search" |c, _| { c["process"]["args"][0] = "probe".into(); c["process"]["env"] = json!(["PATH=/no:/", "HOME=/"]); };
    good "relative" |c, _| c["process"]["args"][0] = "./probe".into();
    good "annotations" |c, _| c["annotations"] = json!({ "org.example": "", "a": "b" });
    good "unknown-keys" |c, _| { c["dream"] = json!({}); c["linux"]["dream"] = json!([]); c["process"]["dream"] = json!(1); };
    good "console-size" |c, _| c["process"]["consoleSize"] = json!({ "height": 24, "width": 80 });
    good "no-hooks" |c, _| c["hooks"] = json!({});
    broken "no-args" |c, _| c["process"]["args"] = json!([]);
    broken "args-missing" |c, _| without(c, "/process", "args");
    broken "program-missing" |c, _| c["process"]["args"] = json!(["/no/such/program"]);
    broken "program-not-found" |c, _| c["process"]["args"] = json!(["no-such-program"]);
    broken "program-is-no-program" |c, _| c["process"]["args"] = json!(["/etc/marker"]);
    broken "program-is-a-directory" |c, _| c["process"]["args"] = json!(["/etc"]);
    broken "args-no-list" |c, _| c["process"]["args"] = "/probe".into();
    broken "missing" |c, _| without(c, "", "process");

    "whole":
    good "1.0.0" |c, _| c["ociVersion"] = "1.0.0".into();
    good "1.1.0-rc.1" |c, _| c["ociVersion"] = "1.1.0-rc.1".into();
    broken "2.0.0" |c, _| c["ociVersion"] = "2.0.0".into();
    broken "version-nonsense" |c, _| c["ociVersion"] = "dream".into();
    broken "no-version" |c, _| without(c, "", "ociVersion");
    broken "no-root" |c, _| without(c, "", "root");
    broken "no-linux" |c, _| without(c, "", "linux");
    broken "mounts-no-list" |c, _| c["mounts"] = json!({});
    broken "a-list" |c, _| *c = json!([]);
    broken "null" |c, _| *c = Value::Null;
}
