//! Other ways to run the same container, where they are installed.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use serde_json::json;

use crate::bare::Bare;
use crate::case::{Case, Fixture, Root};

/// A program that runs one container and ends with it.
#[derive(Debug)]
pub struct Peer {
    /// How it is called in tables.
    pub name: &'static str,
    /// Its first line of `--version`.
    pub version: String,
    program: PathBuf,
    kind: Kind,
    /// Starts it where no cgroup2 is mounted.
    launcher: Option<Mutex<Bare>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bwrap,
    Oci,
    Ours,
}

/// All that are installed, and words for those that are not.
#[must_use]
pub fn installed(cli: Option<&Path>) -> (Vec<Peer>, Option<String>) {
    let mut peers = Vec::new();
    let mut missing = Vec::new();
    for (name, package, kind) in
        [("bwrap", "bubblewrap", Kind::Bwrap), ("crun", "crun", Kind::Oci), ("runc", "runc", Kind::Oci)]
    {
        match version(Path::new(name)) {
            Some(version) => peers.push(Peer { name, version, program: name.into(), kind, launcher: None }),
            None => missing.push(package),
        }
    }
    if let Some(cli) = cli {
        let version = version(cli).unwrap_or_default();
        peers.insert(
            0,
            Peer { name: "orangery run", version, program: cli.to_path_buf(), kind: Kind::Ours, launcher: None },
        );
    }
    let hint = (!missing.is_empty()).then(|| format!("not installed: {0}; apt-get install {0}", missing.join(" ")));
    (peers, hint)
}

#[expect(clippy::disallowed_methods, reason = "peers are started as a shell would start them")]
fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).lines().next()?.to_owned())
}

impl Peer {
    /// It can run such a container.
    #[must_use]
    pub fn can(&self, case: Case) -> bool {
        case.root == Root::Dir
    }

    /// Prepare its bundle, if it wants one.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn prepare(&self, fixture: &Fixture, case: Case) -> anyhow::Result<()> {
        if self.kind == Kind::Oci {
            let bundle = bundle(fixture, case);
            fs::create_dir_all(&bundle)?;
            fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&config(fixture, case))?)?;
        }
        Ok(())
    }

    /// Try again where the cgroup2 of a hybrid is not mounted: crun 1.8 refuses hybrids. What it is compared with is not
    /// touched.
    ///
    /// # Errors
    /// This is no hybrid, or the launcher does not start.
    pub fn without_v2(&mut self, fixture: &Fixture) -> anyhow::Result<()> {
        let unified = Path::new("/sys/fs/cgroup/unified");
        if self.kind != Kind::Oci || self.launcher.is_some() || !unified.join("cgroup.procs").exists() {
            bail!("no hybrid");
        }
        self.launcher = Some(Mutex::new(Bare::launcher(fixture, unified)?));
        self.version.push_str(" (in a mount namespace without the cgroup2 of this hybrid)");
        Ok(())
    }

    fn arguments(&self, fixture: &Fixture, case: Case, number: usize) -> Vec<OsString> {
        let mut words = Words::default();
        match self.kind {
            Kind::Bwrap => bwrap(&mut words, fixture, case),
            Kind::Oci => {
                words.add(["run", "--bundle"]).add([bundle(fixture, case)]);
                words.add([format!("orangery-bench-{}-{number}", std::process::id())]);
            }
            Kind::Ours => {
                words.add(["run", "--rootfs"]).add([fixture.root()]);
                words.add(["--network", if case.network { "none" } else { "host" }, "--", "/bin/true"]);
            }
        }
        words.0
    }

    /// Run one container from the start of the program to its end.
    ///
    /// # Errors
    /// It did not succeed.
    #[expect(clippy::disallowed_methods, reason = "peers are started as a shell would start them")]
    pub fn run(&self, fixture: &Fixture, case: Case, number: usize, quiet: bool) -> anyhow::Result<Duration> {
        let arguments = self.arguments(fixture, case, number);
        if let Some(launcher) = &self.launcher {
            let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
            let mut launcher = launcher.lock().unwrap_or_else(PoisonError::into_inner);
            let took = launcher.ask(&format!("run {} {}", self.program.display(), words.join(" ")))?;
            return if took == 0 { Err(anyhow!("{} failed", self.name)) } else { Ok(Duration::from_nanos(took)) };
        }
        let mut command = Command::new(&self.program);
        command.args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if quiet {
            command.stderr(Stdio::null());
        }
        let began = Instant::now();
        let status = command.status().with_context(|| format!("cannot run {}", self.name))?;
        let took = began.elapsed();
        if !status.success() {
            bail!("{} failed: {status}", self.name);
        }
        Ok(took)
    }
}

/// Arguments of a program.
#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn add<W: Into<OsString>>(&mut self, words: impl IntoIterator<Item = W>) -> &mut Self {
        self.0.extend(words.into_iter().map(Into::into));
        self
    }
}

fn bwrap(command: &mut Words, fixture: &Fixture, case: Case) {
    command.add(["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup"]);
    if case.network {
        command.add(["--unshare-net"]);
    }
    command.add(["--uid", "0", "--gid", "0", "--hostname", "bench", "--clearenv", "--new-session"]);
    command.add(["--ro-bind"]).add([fixture.root()]).add(["/"]);
    command.add([
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--ro-bind",
        "/sys",
        "/sys",
        "--tmpfs",
        "/tmp",
        "--tmpfs",
        "/run",
    ]);
    command.add(["/bin/true"]);
}

fn bundle(fixture: &Fixture, case: Case) -> PathBuf {
    fixture.dir().join(if case.network { "bundle-net" } else { "bundle" })
}

/// The same container as an OCI bundle. Device rules and rlimits are left out, so that old builds run everywhere.
fn config(fixture: &Fixture, case: Case) -> serde_json::Value {
    let mut namespaces: Vec<_> =
        ["pid", "ipc", "uts", "mount", "cgroup", "user"].map(|kind| json!({"type": kind})).into();
    if case.network {
        namespaces.push(json!({"type": "network"}));
    }
    let mount = |at: &str, kind: &str, options: &[&str]| json!({"destination": at, "type": kind, "source": kind, "options": options});
    let sys = if case.network {
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    } else {
        json!({"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "ro", "nosuid", "noexec", "nodev"]})
    };
    let caps = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
    ];
    let ids = json!([{"containerID": 0, "hostID": 524_288, "size": 65_536}]);
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": ["/bin/true"], "cwd": "/", "noNewPrivileges": true,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm"],
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        },
        "root": {"path": fixture.root(), "readonly": true},
        "hostname": "bench",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/tmp", "tmpfs", &["nosuid", "nodev", "mode=1777", "size=65536k"]),
            mount("/run", "tmpfs", &["nosuid", "nodev", "mode=755", "size=65536k"]),
            sys,
        ],
        "linux": {
            "namespaces": namespaces, "uidMappings": ids, "gidMappings": ids,
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/scsi", "/proc/interrupts"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
