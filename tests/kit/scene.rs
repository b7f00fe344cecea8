//! One trial in its own process: directory, cgroup parent, mount namespace, stock before and after.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use orangery_runtime::native::Options;

use crate::stock::{self, Stock};
use crate::wait;

/// The program that runs inside containers.
static PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/orangery-probe"));

/// Names the trial whose scene a further process of it shares, by process id.
const SHARED: &str = "ORANGERY_TRIAL_SCENE";

/// Where a trial plays.
#[derive(Debug)]
pub struct Scene {
    dir: PathBuf,
    name: &'static str,
    owner: u32,
    parents: Vec<PathBuf>,
    probe: PathBuf,
}

impl Scene {
    /// The trial's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Running as root.
    #[must_use]
    pub fn root(&self) -> bool {
        rustix::process::geteuid().is_root()
    }

    /// A directory of the trial's own, mode 0755, removed afterwards.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where runtimes of this trial keep their instances.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The static probe, outside containers.
    #[must_use]
    pub fn probe(&self) -> &Path {
        &self.probe
    }

    /// The trial's cgroup in each hierarchy; empty for an ordinary user to whom none has been handed over.
    #[must_use]
    pub fn cgroup_parents(&self) -> &[PathBuf] {
        &self.parents
    }

    /// Options for a runtime: state directory and cgroup parent of the trial.
    #[must_use]
    pub fn options(&self) -> Options {
        let mut options = Options::default();
        options.state_dir = Some(self.state_dir());
        if !self.parents.is_empty() {
            options.cgroup_parent = Some(Path::new("/").join(parent_name(self.owner)));
        }
        options
    }

    /// What is there now.
    #[must_use]
    pub fn stock(&self) -> Stock {
        Stock::take(&self.parents, &self.state_dir())
    }

    /// Directories that runtimes of this trial have made in cgroup hierarchies.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        self.stock().cgroups.into_iter().collect()
    }

    /// Let a further process of the trial (the same program, started by it) play in this scene, whose end is ours.
    pub fn share<'c>(&self, process: &'c mut std::process::Command) -> &'c mut std::process::Command {
        process.env(SHARED, self.owner.to_string())
    }

    /// The scene of the process that started us.
    fn shared(name: &'static str, owner: u32) -> Self {
        let parents = hierarchies()
            .into_iter()
            .map(|top| top.join(parent_name(owner)))
            .filter(|parent| parent.is_dir())
            .collect();
        let dir = std::env::temp_dir().join(format!("orangery-trial-{owner}"));
        Self { probe: probe_in(&dir), dir, name, owner, parents }
    }

    fn set(name: &'static str) -> Self {
        let owner = std::process::id();
        let dir = std::env::temp_dir().join(format!("orangery-trial-{owner}"));
        fs::create_dir(&dir).expect("the trial's directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("its mode");
        let probe = put_probe(&dir).expect("the probe");
        Self { dir, name, owner, parents: make_parents(owner), probe }
    }

    fn strike(&self) -> Vec<String> {
        let left = self.parents.iter().filter(|parent| fs::remove_dir(parent).is_err() && parent.exists());
        let left = left.map(|parent| format!("cgroup {} cannot be removed", parent.display())).collect();
        let _ = fs::remove_dir_all(&self.dir);
        left
    }
}

/// The probe beside the test programs, or the one that is built in.
fn probe_in(dir: &Path) -> PathBuf {
    let given = std::env::var_os("ORANGERY_TEST_BIN_DIR").map(|from| Path::new(&from).join("orangery-probe"));
    given.filter(|probe| probe.exists()).unwrap_or_else(|| dir.join("probe"))
}

/// The probe where it is given, or in this directory.
pub(crate) fn put_probe(dir: &Path) -> std::io::Result<PathBuf> {
    let probe = probe_in(dir);
    if !probe.exists() {
        fs::write(&probe, PROBE)?;
        fs::set_permissions(&probe, fs::Permissions::from_mode(0o755))?;
    }
    Ok(probe)
}

/// Run one trial in this process.
pub(crate) fn play(name: &'static str, run: fn(&Scene)) -> ExitCode {
    if let Some(owner) = std::env::var(SHARED).ok().and_then(|text| text.parse().ok()) {
        run(&Scene::shared(name, owner));
        return ExitCode::SUCCESS;
    }
    rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)).expect("a subreaper");
    if rustix::process::geteuid().is_root() {
        own_mounts();
    }
    let scene = Scene::set(name);
    let before = scene.stock();
    let passed = catch_unwind(AssertUnwindSafe(|| run(&scene))).is_ok();
    let mut left = before.left_over(&scene.stock());
    if !left.is_empty() {
        end_descendants(std::process::id());
        remove_parents(std::process::id());
    }
    left.extend(scene.strike());
    for line in &left {
        eprintln!("left behind: {line}");
    }
    if passed && left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A failed trial does not leave its rest to the next one: kill all that it has started, and reap what is ours.
pub fn end_descendants(of: u32) {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let own = of == std::process::id();
    for _ in 0..100 {
        let mut all = stock::descendants(of);
        // Those of another process are dead when only that one has to reap them.
        all.retain(|process| own || process.state != 'Z');
        if all.is_empty() {
            return;
        }
        let pidfds: Vec<_> = all.iter().filter_map(|process| wait::try_pidfd(process.pid)).collect();
        pidfds.iter().for_each(wait::kill);
        // Children only; the others fall to us and are seen in the next round.
        while own
            && waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG).is_ok_and(|ended| ended.is_some())
        {
        }
        if let Some(pidfd) = pidfds.first() {
            wait::readable(pidfd, std::time::Duration::from_millis(100));
        }
    }
}

/// A mount namespace in which everything is *shared*: the least favourable one, in which a mount that a container's
/// child does not keep to itself travels to us and is seen in the stock.
fn own_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private");
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).expect("shared");
}

/// Below the top of a hierarchy: an ordinary user's in what `orangery setup` has handed over.
fn parent_name(pid: u32) -> PathBuf {
    let uid = rustix::process::geteuid();
    let handed = if uid.is_root() { String::new() } else { format!("orangery-user-{uid}") };
    Path::new(&handed).join(format!("trial-{pid}"))
}

/// Where cgroup hierarchies are mounted.
#[must_use]
pub fn hierarchies() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroup = |line: &&str| line.split(" - ").nth(1).is_some_and(|tail| tail.starts_with("cgroup"));
    text.lines().filter(cgroup).filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// A cgroup of the trial's own in each hierarchy, where this user may make one.
pub(crate) fn make_parents(pid: u32) -> Vec<PathBuf> {
    let root = rustix::process::geteuid().is_root();
    hierarchies()
        .into_iter()
        .filter(|top| root || is_usable(top))
        .filter_map(|top| {
            let parent = top.join(parent_name(pid));
            let above = parent.parent().unwrap_or(&top);
            for controller in ["+memory", "+pids", "+cpu", "+cpuset", "+io"] {
                let _ = fs::write(above.join("cgroup.subtree_control"), controller);
            }
            fs::create_dir(&parent).ok()?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(text) = fs::read_to_string(above.join(file)) {
                    let _ = fs::write(parent.join(file), text);
                }
            }
            Some(parent)
        })
        .collect()
}

/// What has been handed over to an ordinary user of this hierarchy can be used. On v2 the kernel lets nobody into a group that
/// lies in another delegated tree than its own.
fn is_usable(top: &Path) -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let inside = format!("0::/orangery-user-{}/", rustix::process::geteuid());
    top.join("tasks").exists() || own.lines().any(|line| line.starts_with(&inside))
}

/// The cgroup parents of a trial that could not clean up itself: kill, then remove.
pub(crate) fn remove_parents(pid: u32) {
    for top in hierarchies() {
        let parent = top.join(parent_name(pid));
        let _ = fs::write(parent.join("cgroup.kill"), "1");
        for _ in 0..100 {
            remove_below(&parent);
            if fs::remove_dir(&parent).is_ok() || !parent.exists() {
                break;
            }
            let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
            let _ = rustix::event::poll(&mut [], Some(&pause));
        }
    }
    let _ = fs::remove_dir_all(std::env::temp_dir().join(format!("orangery-trial-{pid}")));
}

fn remove_below(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
            let _ = fs::remove_dir(entry.path());
        }
    }
}
