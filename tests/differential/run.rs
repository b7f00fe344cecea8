//! One configuration carried out by one runtime.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use orangery_tests::{Scene, wait};
use serde_json::Value;

use crate::config::{self, Here};
use crate::observe::{self, Seen};
use crate::pairs::Case;

/// Tells this program that it is `orangery-oci`.
pub(crate) const ROLE: &str = "ORANGERY_TEST_OCI";
/// Longer than any of them takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who carries it out.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    pub(crate) name: &'static str,
    /// In front of the command.
    program: Vec<String>,
}

impl Runtime {
    pub(crate) fn ours() -> Self {
        Self { name: "ours", program: vec![std::env::current_exe().expect("us").display().to_string()] }
    }

    /// Those that are installed. crun takes no hierarchy of version 2 beside those of version 1, and does not see it here.
    pub(crate) fn others() -> Vec<Self> {
        let search = std::env::var_os("PATH").unwrap_or_default();
        let has = |program: &str| std::env::split_paths(&search).any(|dir| dir.join(program).is_file());
        let mut all = Vec::new();
        if has("runc") {
            all.push(Self { name: "runc", program: vec!["runc".to_owned()] });
        }
        if has("crun") {
            let hybrid = "! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; exec crun \"$@\"";
            let words = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", hybrid, "crun"];
            all.push(Self { name: "crun", program: words.map(str::to_owned).to_vec() });
        }
        all
    }

    #[expect(clippy::disallowed_methods, reason = "what is compared")]
    fn command(&self, root: &Path) -> Command {
        let mut command = Command::new(&self.program[0]);
        command.env(ROLE, "1").args(&self.program[1..]).arg("--root").arg(root);
        command
    }

    /// Carry it out.
    pub(crate) fn carry_out(&self, scene: &Scene, case: &Case) -> Seen {
        let id = format!("{}-{}", self.name, case.number);
        let bundle = scene.dir().join(&id);
        image(scene, &bundle);
        let parent =
            scene.cgroup_parents().first().and_then(|parent| parent.file_name()).expect("a cgroup of the trial's");
        let cgroup = format!("/{}/{id}", parent.display());
        let here = Here { bundle: bundle.to_str().expect("UTF-8"), cgroup: &cgroup };
        let mut config = config::plain(here);
        case.variants.iter().for_each(|variant| (variant.change)(&mut config, here));
        fs::write(bundle.join("config.json"), config.to_string()).expect("config.json");

        let root = scene.dir().join(format!("state-{}", self.name));
        let ended = self.run(scene, &root, &bundle, &id);
        let mut seen = observe::flat(&ended, here);
        let left = root.join(&id);
        let groups = scene.cgroup_parents().iter().map(|parent| parent.join(&id));
        for path in groups.chain([left]).filter(|path| path.exists()) {
            seen.insert("left behind".to_owned(), path.display().to_string().replace(&id, "ID"));
        }
        if ended.report.len() == 2 {
            made(&bundle.join("rootfs"), "", &mut seen);
        }
        if seen.contains_key("left behind") {
            let _ = self.command(&root).args(["delete", "--force", &id]).output();
            // The next one does not find what this one has left.
            scene.cgroup_parents().iter().for_each(|parent| drop(fs::remove_dir(parent.join(&id))));
        }
        let _ = fs::remove_dir_all(&bundle);
        seen
    }

    fn run(&self, scene: &Scene, root: &Path, bundle: &Path, id: &str) -> Ended {
        let told = bundle.join("told");
        let mut command = self.command(root);
        command.args(["run", "--bundle"]).arg(bundle).arg(id);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(fs::File::create(&told).expect("a file"));
        let mut child = command.spawn().expect("it starts");
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut report = Vec::new();
        // Two lines, or the end.
        for _ in 0..2 {
            let mut line = String::new();
            if (said.buffer().is_empty() && !wait::readable(said.get_ref(), PATIENCE))
                || said.read_line(&mut line).is_err()
            {
                break;
            }
            report.extend(serde_json::from_str::<Value>(&line).ok());
        }
        let groups = if report.is_empty() { Vec::new() } else { group_files(scene, id) };
        drop(child.stdin.take());
        let status = wait::child(&mut child, PATIENCE).expect("waited");
        let code = match status {
            Some(status) => {
                status.signal().map_or_else(|| format!("{:?}", status.code()), |signal| format!("signal {signal}"))
            }
            None => "it hangs".to_owned(),
        };
        Ended { code, report, groups, told: fs::read_to_string(&told).unwrap_or_default() }
    }
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: String,
    pub(crate) report: Vec<Value>,
    pub(crate) groups: Vec<(String, String)>,
    pub(crate) told: String,
}

/// Limits, as the kernel has them.
fn group_files(scene: &Scene, id: &str) -> Vec<(String, String)> {
    const FILES: [&str; 14] = [
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.max",
        "memory.swap.max",
        "pids.max",
        "cpu.shares",
        "cpu.weight",
        "cpu.cfs_quota_us",
        "cpu.cfs_period_us",
        "cpu.max",
        "cpuset.cpus",
        "cpuset.mems",
        "blkio.weight",
        "io.weight",
    ];
    let mut found = Vec::new();
    for parent in scene.cgroup_parents() {
        for file in FILES {
            if let Ok(text) = fs::read_to_string(parent.join(id).join(file)) {
                found.push((file.to_owned(), text.trim().to_owned()));
            }
        }
    }
    found
}

/// The bundle's directory, with a root file system whose programs are links to those of the trial.
fn image(scene: &Scene, bundle: &Path) {
    let rootfs = bundle.join("rootfs");
    for dir in ["etc", "proc", "sys", "dev", "tmp", "run", "var"] {
        fs::create_dir_all(rootfs.join(dir)).expect("a directory of the image");
    }
    fs::create_dir(bundle.join("data")).expect("a directory");
    fs::write(bundle.join("data/file"), "of the host").expect("a file");
    fs::hard_link(scene.probe(), rootfs.join("probe")).expect("the probe");
    fs::write(rootfs.join("etc/marker"), "the image").expect("marker");
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("passwd");
    symlink("marker", rootfs.join("etc/link")).expect("a link");
    symlink("../run", rootfs.join("var/run")).expect("a link");
}

/// What there is in the root file system afterwards: what was made for mounts stays.
fn made(dir: &Path, name: &str, seen: &mut Seen) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let name = format!("{name}/{}", path.file_name().unwrap_or_default().display());
        seen.insert(format!("made {name}"), format!("{:o} {}:{}", meta.permissions().mode(), meta.uid(), meta.gid()));
        if meta.is_dir() {
            made(&path, &name, seen);
        }
    }
}
