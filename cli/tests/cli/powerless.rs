//! An ordinary user whose bounding set is empty, after `orangery setup`: no program that it starts, set-user-id or with
//! capabilities of its file, has a right of the machine's. All of an ordinary life goes without.
#![allow(clippy::disallowed_methods, reason = "the binary under test is started as another user")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::kit::{Ran, binary, copy_program, ran, root};
use crate::{Test, needs};

/// Another one than that of the set-up's own trial, which may run meanwhile.
const USER: &str = "daemon";
const UID: u32 = 1;

pub(crate) fn tests() -> Vec<Test> {
    let freezer = Path::new("/sys/fs/cgroup/freezer/cgroup.procs").exists();
    let setpriv = Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success());
    let lacks =
        (!root() || !freezer || !setpriv).then(|| "needs root, setpriv and cgroup v1 with a freezer".to_owned());
    vec![needs("an_ordinary_life_without_any_capability_of_the_machine", lacks, life)]
}

/// What is undone, whatever happens.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        let dir = tempfile::Builder::new().permissions(mode).tempdir().unwrap();
        copy_program(binary(), dir.path().join("orangery"));
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&run, Some(UID), Some(UID)).unwrap();
        ran(&["setup", "--user", USER]).ended(0);
        Self { dir }
    }

    fn command(&self, args: &[&str]) -> Command {
        let id = UID.to_string();
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            &id,
            "--regid",
            &id,
            "--clear-groups",
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--",
        ]);
        command.arg(self.dir.path().join("orangery")).args(args).env_clear().stdin(Stdio::null());
        let run: PathBuf = self.dir.path().join("run");
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", &run).env("TMPDIR", &run);
        command.env("XDG_RUNTIME_DIR", &run);
        command
    }

    fn ran(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Up and listening.
    fn serve(&self) -> Daemon {
        let mut daemon = self.command(&["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("listening"), "{line}");
        Daemon(daemon)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // In this order: with nobody left there the groups can be taken back.
        let _ = self.command(&["rm", "--force", "a"]).output();
        ran(&["setup", "--user", USER, "--undo"]);
    }
}

struct Daemon(Child);

impl Daemon {
    /// As after a crash; its keeper stays.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// As it is asked to: with nothing of its left.
    fn end(mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }

    fn capabilities(&self) -> Vec<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let sets = status.lines().filter_map(|line| line.strip_prefix("Cap")?.split_whitespace().nth(1));
        sets.map(str::to_owned).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn life() {
    let place = Place::new();
    let limited = place.ran(&["run", "--memory", "16M", "--", "tail", "/dev/zero"]);
    assert_eq!(limited.code, Some(137), "{limited:?}");
    let mut daemon = place.serve();
    assert_eq!(daemon.capabilities(), ["0000000000000000"; 5], "neither now nor ever");
    let script = "echo begun; while :; do sleep 1000 & wait; done";
    let line = ["run", "--detach", "--name", "a", "--memory", "64M", "--pids", "20", "--", "sh", "-c", script];
    place.ran(&line).ended(0);
    // Until it has said so: nothing else waits for that.
    let mut follows = place.command(&["logs", "--follow", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut begun = String::new();
    BufReader::new(follows.stdout.take().unwrap()).read_line(&mut begun).unwrap();
    follows.kill().unwrap();
    follows.wait().unwrap();
    assert_eq!(begun, "begun\n");
    assert_eq!(place.ran(&["exec", "a", "--", "sh", "-c", "id -u; exit 7"]).ended(7).text(), "0\n");
    assert_eq!(place.ran(&["logs", "a"]).ended(0).text(), "begun\n");
    let stats = place.ran(&["stats", "--json", "a"]).ended(0).json();
    assert_eq!((&stats["source"], &stats["memory_limit"]), (&"cgroup".into(), &(64 << 20).into()), "{stats}");
    place.ran(&["pause", "a"]).ended(0);
    let held = place.ran(&["inspect", "--json", "a"]).ended(0).json();
    assert_eq!((&held["state"], &held["paused"]["how"]), (&"paused".into(), &"freeze".into()), "{held}");
    daemon.kill();
    let daemon = place.serve();
    let found = place.ran(&["inspect", "--json", "a"]).ended(0).json();
    assert_eq!((&found["state"], &found["init_pid"]), (&held["state"], &held["init_pid"]), "{found}");
    place.ran(&["resume", "a"]).ended(0);
    place.ran(&["exec", "a", "--", "true"]).ended(0);
    place.ran(&["update", "--memory", "32M", "a"]).ended(0);
    place.ran(&["kill", "a"]).ended(0);
    assert_eq!(place.ran(&["wait", "a"]).code, Some(137));
    place.ran(&["rm", "a"]).ended(0);
    daemon.end();
}
