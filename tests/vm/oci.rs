//! `orangery-oci --systemd-cgroup`, in the machine of systemd: as root, and in a user's session. One life, and what systemd says of
//! its unit at each step.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{WaitOptions, geteuid, set_child_subreaper, wait};
use serde_json::{Value, json};

/// In an environment: this program is `orangery-oci`.
pub(crate) const ROLE: &str = "ORANGERY_TEST_OCI";

/// Who calls, and what for.
struct Caller {
    dir: PathBuf,
    user: bool,
    /// The unit's.
    group: PathBuf,
}

const UNIT: &str = "trial-box.scope";

impl Caller {
    fn new() -> Self {
        set_child_subreaper(Some(rustix::process::getpid())).expect("a subreaper");
        let uid = geteuid().as_raw();
        let dir = PathBuf::from(format!("/tmp/oci-{uid}"));
        for part in ["bin", "proc", "dev"] {
            fs::create_dir_all(dir.join("rootfs").join(part)).expect("an image");
        }
        let busybox = dir.join("rootfs/bin/busybox");
        if !busybox.exists() {
            fs::copy("/usr/bin/busybox", &busybox).expect("busybox");
            fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        let slice = match uid {
            0 => "/sys/fs/cgroup/trial.slice".to_owned(),
            uid => format!("/sys/fs/cgroup/user.slice/user-{uid}.slice/user@{uid}.service/trial.slice"),
        };
        Self { dir, user: uid != 0, group: Path::new(&slice).join(UNIT) }
    }

    fn write(&self, change: impl FnOnce(&mut Value)) {
        let kinds = ["pid", "ipc", "uts", "mount", "cgroup"].into_iter().chain(self.user.then_some("user"));
        let namespaces: Vec<Value> = kinds.map(|kind| json!({ "type": kind })).collect();
        let mut config = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 },
                "args": ["/bin/busybox", "sleep", "1000"],
                "cwd": "/",
            },
            "root": { "path": "rootfs" },
            "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
            "annotations": { "org.systemd.property.TimeoutStopSec": "7" },
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": "trial.slice:trial:box",
                "resources": {
                    "memory": { "limit": 64 << 20, "reservation": 16 << 20 },
                    "cpu": { "quota": 50_000, "period": 100_000, "shares": 512, "cpus": "0" },
                    "pids": { "limit": 32 },
                },
            },
        });
        if self.user {
            let uid = geteuid().as_raw();
            let map = json!([{ "containerID": 0, "hostID": uid, "size": 1 }]);
            config["linux"]["uidMappings"] = map.clone();
            config["linux"]["gidMappings"] = map;
        }
        change(&mut config);
        fs::write(self.dir.join("config.json"), config.to_string()).expect("config.json");
    }

    /// Whether it has succeeded, what it has said, and its errors. The container has none of its streams.
    #[expect(clippy::disallowed_methods, reason = "the program that is tried")]
    fn run(&self, line: &[&str]) -> (bool, String, String) {
        let [said, told] = ["said", "told"].map(|name| self.dir.join(name));
        let file = |path: &Path| fs::File::create(path).expect("a file");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.env(ROLE, "1").arg("--systemd-cgroup").arg("--root").arg(self.dir.join("root")).args(line);
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(file(&said)).stderr(file(&told));
        let status = command.status().expect("it runs");
        let read = |path: &Path| fs::read_to_string(path).expect("a file");
        (status.success(), read(&said), read(&told))
    }

    fn well(&self, line: &[&str]) -> String {
        let (well, said, told) = self.run(line);
        assert!(well, "{line:?}: {told}");
        said
    }

    #[expect(clippy::disallowed_methods, reason = "what an administrator calls")]
    fn systemctl(&self, line: &[&str]) -> String {
        let mut command = Command::new("/usr/bin/systemctl");
        let output = command.args(self.user.then_some("--user")).args(line).output().expect("systemctl");
        assert!(output.status.success(), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn properties(&self, names: &[&str]) -> Vec<String> {
        let of = |name: &&str| self.systemctl(&["show", UNIT, "--value", "-p", name]);
        names.iter().map(of).collect()
    }

    fn files(&self, names: &[&str]) -> Vec<String> {
        let of = |name: &&str| {
            fs::read_to_string(self.group.join(name)).map_or_else(|e| e.to_string(), |t| t.trim().to_owned())
        };
        names.iter().map(of).collect()
    }

    fn nothing_is_left(&self) {
        assert!(!self.group.exists(), "{}", self.group.display());
        assert_eq!(self.properties(&["LoadState"]), ["not-found"]);
        assert!(!self.dir.join("root/box").exists());
    }

    fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.well(&["state", "box"])).expect("a state");
        state["status"].as_str().expect("a word").to_owned()
    }
}

/// Its limits are in its files and in its unit, and stay there whatever systemd does.
pub(crate) fn a_life_in_a_unit() {
    let caller = Caller::new();
    caller.write(|_| {});
    caller.well(&["create", "box"]);
    assert_eq!(caller.status(), "created");
    let files = ["memory.max", "memory.low", "cpu.max", "cpu.weight", "pids.max", "cpuset.cpus"];
    let limits = ["67108864", "16777216", "50000 100000", "59", "32", "0"];
    let now = caller.files(&files);
    assert_eq!((&now[..3], &now[4..]), (&limits.map(String::from)[..3], &limits.map(String::from)[4..]), "{now:?}");
    let weight = now[3].clone();
    let known = ["MemoryMax", "MemoryLow", "CPUQuotaPerSecUSec", "CPUWeight", "TasksMax", "AllowedCPUs", "Delegate"];
    let values = ["67108864", "16777216", "500ms", &weight, "32", "0", "yes"];
    assert_eq!(caller.properties(&known), values);
    assert_eq!(
        caller.properties(&["Slice", "TimeoutStopUSec", "Description"]),
        ["trial.slice", "7s", "orangery-oci container box"]
    );
    // The stand-in has gone, and nobody else is in there.
    assert_eq!(caller.files(&["cgroup.procs"])[0].lines().count(), 1);
    caller.systemctl(&["daemon-reload"]);
    assert_eq!(caller.files(&files), now);

    caller.well(&["start", "box"]);
    assert_eq!(caller.status(), "running");
    // It is in its container's cgroup namespace, of which its group is the top.
    assert_eq!(caller.well(&["exec", "box", "/bin/busybox", "cat", "/proc/self/cgroup"]), "0::/\n");
    assert_eq!(caller.well(&["ps", "--format", "json", "box"]).split(',').count(), 1);
    caller.well(&["update", "--memory", "96M", "--cpu-quota", "33333", "--pids-limit", "40", "box"]);
    let changed = ["100663296", "33333 100000", "40"];
    let files = ["memory.max", "cpu.max", "pids.max"];
    assert_eq!(caller.files(&files), changed);
    assert_eq!(caller.properties(&["MemoryMax", "CPUQuotaPerSecUSec", "TasksMax"]), ["100663296", "340ms", "40"]);
    caller.systemctl(&["daemon-reload"]);
    caller.systemctl(&["set-property", "--runtime", UNIT, "MemoryHigh=90M"]);
    assert_eq!(caller.files(&["memory.max", "pids.max"]), ["100663296", "40"]);

    caller.well(&["pause", "box"]);
    assert_eq!((caller.status(), caller.files(&["cgroup.freeze"])), ("paused".into(), vec!["1".into()]));
    caller.well(&["resume", "box"]);
    assert_eq!(caller.status(), "running");
    let events: Value = serde_json::from_str(&caller.well(&["events", "--stats", "box"])).expect("a line");
    assert_eq!(events["data"]["pids"]["limit"], 40, "{events}");
    caller.well(&["delete", "--force", "box"]);
    caller.nothing_is_left();
}

/// One that ends by itself, and one that is stopped by systemd.
pub(crate) fn units_end_either_way() {
    let caller = Caller::new();
    caller.write(|config| config["process"]["args"] = json!(["/bin/busybox", "true"]));
    caller.well(&["run", "box"]);
    caller.nothing_is_left();
    caller.write(|_| {});
    caller.well(&["run", "--detach", "box"]);
    caller.systemctl(&["stop", UNIT]);
    let ended = wait(WaitOptions::empty()).expect("a child").is_some();
    assert!(ended && caller.status() == "stopped");
    caller.well(&["delete", "box"]);
    caller.nothing_is_left();
    // Without a word about its place it is called after itself.
    caller.write(|config| drop(config["linux"].as_object_mut().expect("linux").remove("cgroupsPath")));
    caller.well(&["run", "--detach", "box"]);
    let slice = caller.systemctl(&["show", "orangery-box.scope", "--value", "-p", "Slice"]);
    assert_eq!(slice, if caller.user { "user.slice" } else { "system.slice" });
    caller.well(&["delete", "--force", "box"]);
    assert_eq!(caller.systemctl(&["show", "orangery-box.scope", "--value", "-p", "LoadState"]), "not-found");
}

/// Whatever is refused, by us or by systemd, leaves nothing; and what is another's is left alone.
pub(crate) fn what_fails_leaves_no_unit() {
    let caller = Caller::new();
    let refused = |word: &str| {
        let (well, _, told) = caller.run(&["create", "box"]);
        assert!(!well && told.contains(word), "{word}: {told}");
        caller.nothing_is_left();
    };
    caller.write(|config| config["process"]["args"] = json!(["/bin/nothing"]));
    refused("/bin/nothing");
    caller.write(|config| config["linux"]["cgroupsPath"] = json!("/a/path"));
    refused("linux.cgroupsPath");
    caller.write(|config| config["annotations"]["org.systemd.property.MemoryMax"] = json!("'a text'"));
    refused("systemd gives no trial-box.scope");
    caller.write(|config| config["linux"]["resources"]["cpu"]["mems"] = json!("900"));
    refused("mems");
    caller.write(|_| {});
    caller.well(&["create", "box"]);
    let (well, _, told) = caller.run(&["create", "other"]);
    assert!(!well && told.contains("UnitExists"), "{told}");
    assert_eq!(caller.status(), "created");
    caller.well(&["delete", "--force", "box"]);
    caller.nothing_is_left();
}

/// podman as it is installed, with systemd as its manager of cgroups, and ours as its runtime.
struct Podman {
    caller: Caller,
    runtime: PathBuf,
}

impl Podman {
    fn new() -> Self {
        let caller = Caller::new();
        let runtime = caller.dir.join("runtime");
        fs::write(&runtime, format!("#!/bin/sh\n{ROLE}=1 exec /suites/vm \"$@\"\n")).expect("a script");
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).expect("its mode");
        Self { caller, runtime }
    }

    /// Its exit code, what it has said, and its errors.
    #[expect(clippy::disallowed_methods, reason = "the caller that is tried")]
    fn call(&self, line: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new("/usr/bin/podman");
        for (option, name) in [("--root", "podman"), ("--runroot", "runroot"), ("--tmpdir", "tmpdir")] {
            command.arg(option).arg(self.caller.dir.join(name));
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "systemd", "--events-backend", "none"]);
        command.arg("--runtime").arg(&self.runtime).args(line).stdin(Stdio::null());
        let output = command.output().expect("podman");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    #[track_caller]
    fn good(&self, line: &[&str]) -> String {
        let (code, said, told) = self.call(line);
        assert_eq!(code, Some(0), "{line:?}: {told}");
        said.trim().to_owned()
    }

    fn run(&self, options: &[&str], command: &[&str]) -> (Option<i32>, String, String) {
        let rootfs = self.caller.dir.join("rootfs");
        let mut line =
            vec!["run", "--network", "none", "--security-opt", "seccomp=unconfined", "--log-driver", "k8s-file"];
        line.extend(options);
        line.extend(["--rootfs", rootfs.to_str().expect("a path"), "/bin/busybox"]);
        line.extend(command);
        self.call(&line)
    }
}

/// The unit is where podman wants it, with its limits, and goes with the container.
pub(crate) fn podman_has_its_containers_in_units() {
    let podman = Podman::new();
    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let options = ["--detach", "--name", "stays", "--memory", "64m", "--pids-limit", "32"];
    let (code, said, told) = podman.run(&options, &["sh", "-c", script]);
    assert_eq!(code, Some(0), "{told}");
    let unit = format!("libpod-{}.scope", said.trim());
    let show = |name: &str| podman.caller.systemctl(&["show", &unit, "--value", "-p", name]);
    let slice = if podman.caller.user { "user.slice" } else { "machine.slice" };
    assert_eq!(["Slice", "MemoryMax", "TasksMax"].map(show), [slice, "67108864", "32"]);
    let group = show("ControlGroup");
    assert_eq!(podman.good(&["inspect", "--format", "{{.State.CgroupPath}}", "stays"]), group);
    let pid = podman.good(&["inspect", "--format", "{{.State.Pid}}", "stays"]);
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its group");
    assert!(groups.trim().starts_with(&format!("0::{group}")), "{groups} is not in {group}");

    assert_eq!(podman.good(&["exec", "stays", "/bin/busybox", "echo", "inside"]), "inside");
    assert_eq!(podman.call(&["exec", "stays", "/bin/busybox", "sh", "-c", "exit 5"]).0, Some(5));
    podman.good(&["pause", "stays"]);
    assert_eq!(podman.good(&["inspect", "--format", "{{.State.Status}}", "stays"]), "paused");
    podman.good(&["unpause", "stays"]);
    podman.good(&["stop", "--time", "100", "stays"]);
    assert_eq!(podman.good(&["inspect", "--format", "{{.State.ExitCode}}", "stays"]), "3");
    assert!(podman.good(&["logs", "stays"]).ends_with("bye"));
    podman.good(&["rm", "stays"]);
    assert_eq!(show("LoadState"), "not-found");

    // In a slice of somebody else's, and in the group of podman's own caller.
    let (code, said, told) =
        podman.run(&["--rm", "--cgroup-parent", "trial.slice"], &["sh", "-c", "echo hello; exit 42"]);
    assert_eq!((code, said.as_str()), (Some(42), "hello\n"), "{told}");
    let (code, said, told) = podman.run(&["--rm", "--cgroups", "split"], &["echo", "split"]);
    assert_eq!((code, said.as_str()), (Some(0), "split\n"), "{told}");
    let (code, _, told) =
        podman.run(&["--rm", "--memory", "16m"], &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    assert_eq!(code, Some(137), "{told}");
    let left = podman.caller.systemctl(&["list-units", "--all", "--plain", "--no-legend", "libpod-*"]);
    assert_eq!(left, "");
}
