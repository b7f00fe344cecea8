//! Docker as a caller, where it is installed: its containers are ours, its daemon is the trial's own, in a mount and a network namespace
//! of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use orangery_tests::{Scene, wait};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::caller::{ROLE, path, text};

/// Why it cannot be tried here.
pub(crate) fn lacks() -> Option<&'static str> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&search).any(|dir| dir.join(program).is_file());
    let all = ["dockerd", "docker", "containerd", "containerd-shim-runc-v2", "runc", "unshare", "tar", "ps"];
    (!all.into_iter().all(has)).then_some("needs dockerd, docker, containerd and its shim, runc, unshare, tar and ps")
}

/// It gets the socket that its clients wait at from us, so that nobody has to ask whether it is there. Only its own /run is written to.
const DAEMON: &str = r#"
exec 3<&0 </dev/null
mount -t tmpfs none /run
export LISTEN_FDS=1 LISTEN_PID=$$
exec dockerd --data-root "$DIR/data" --exec-root "$DIR/exec" --pidfile "$DIR/pid" --host fd:// --config-file "$DIR/none" --iptables=false \
  --ip6tables=false --bridge=none --storage-driver vfs --cgroup-parent "$GROUP" --add-runtime "ours=$DIR/runtime" --default-runtime ours
"#;

struct Docker {
    daemon: Child,
    socket: PathBuf,
}

impl Docker {
    #[expect(clippy::disallowed_methods, reason = "the caller that is tried")]
    fn start(scene: &Scene) -> Self {
        let dir = scene.dir().join("docker");
        fs::create_dir(&dir).expect("a directory");
        fs::write(dir.join("none"), "{}").expect("a file");
        let us = std::env::current_exe().expect("us");
        let script = format!("#!/bin/sh\n{ROLE}=1 exec {} \"$@\"\n", path(&us));
        fs::write(dir.join("runtime"), script).expect("a script");
        fs::set_permissions(dir.join("runtime"), fs::Permissions::from_mode(0o755)).expect("its mode");
        let parent =
            scene.cgroup_parents().first().and_then(|parent| parent.file_name()).expect("a cgroup of the trial's");
        let socket = dir.join("socket");
        let listener: OwnedFd = UnixListener::bind(&socket).expect("a socket").into();
        let log = fs::File::create(dir.join("log")).expect("a file");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--net", "sh", "-ec", DAEMON])
            .env("DIR", &dir)
            .env("GROUP", Path::new("/").join(parent));
        command.stdin(Stdio::from(listener)).stdout(log.try_clone().expect("a file")).stderr(log);
        Self { daemon: command.spawn().expect("it starts"), socket }
    }

    #[expect(clippy::disallowed_methods, reason = "the caller that is tried")]
    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(format!("unix://{}", path(&self.socket))).args(line).stdin(Stdio::null());
        command
    }

    fn call(&self, line: &[&str]) -> Output {
        self.command(line).output().expect("docker runs")
    }

    #[track_caller]
    fn good(&self, line: &[&str]) -> String {
        let output = self.call(line);
        assert!(output.status.success(), "{line:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// An image of everything in this directory.
    #[expect(clippy::disallowed_methods, reason = "what is handed to the caller that is tried")]
    fn import(&self, image: &Path) {
        let mut tar = Command::new("tar");
        let mut tar = tar.arg("-C").arg(image).args(["-c", "."]).stdout(Stdio::piped()).spawn().expect("tar runs");
        let packed = tar.stdout.take().expect("its output");
        let output = self.command(&["import", "-", "image"]).stdin(packed).output().expect("docker runs");
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(tar.wait().expect("tar ends").success());
    }

    /// `docker run --rm`, without a network.
    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        self.call(&[&["run", "--rm", "--network", "none"], options, &["image"], command].concat())
    }

    fn end(mut self) {
        let pidfd = wait::pidfd(self.daemon.id());
        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::TERM).expect("it is there");
        let ended = wait::child(&mut self.daemon, Duration::from_secs(20)).expect("waited");
        assert!(ended.is_some(), "dockerd does not end");
        // Its shims have fallen to us.
        while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
    }
}

pub(crate) fn docker_runs_containers(scene: &Scene) {
    let docker = Docker::start(scene);
    docker.import(&scene.image("image"));
    let output = docker.run(&[], &["sh", "-c", "echo hello; exit 42"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(42), "hello\n".into()), "{}", text(&output.stderr));
    // It tells by words of the runtime's why a command did not come to its exec.
    for (program, code) in [("no-such", 127), ("/no/such", 127), ("/etc/passwd", 126), ("/bin", 126)] {
        let output = docker.run(&[], &[program]);
        assert_eq!(output.status.code(), Some(code), "{program}: {}", text(&output.stderr));
    }
    restricted(&docker);
    life(&docker);
    docker.end();
    assert!(scene.cgroups().is_empty(), "{:?}", scene.cgroups());
}

fn restricted(docker: &Docker) {
    let options = [
        "--memory",
        "32m",
        "--cpus",
        "0.5",
        "--pids-limit",
        "50",
        "--read-only",
        "--tmpfs",
        "/tmp:mode=1777",
        "--user",
        "33:44",
        "--cap-drop",
        "all",
        "--security-opt",
        "no-new-privileges",
        "--ulimit",
        "nofile=100:200",
        "--hostname",
        "box",
        "--oom-score-adj",
        "500",
    ];
    let script = "id -u; id -g; cat /proc/self/status | busybox grep -E '^(CapEff|NoNewPrivs|Seccomp):'; cat /proc/self/oom_score_adj
        busybox hostname; ulimit -n; busybox touch /tmp/here && busybox touch /there";
    let output = docker.run(&options, &["sh", "-c", script]);
    let told = text(&output.stderr);
    let wanted = "33\n44\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n500\nbox\n100\n";
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), wanted), "{told}");
    assert!(told.contains("/there") && !told.contains("/tmp/here"), "{told}");
    let output = docker.run(&["--tty"], &["sh", "-c", "tty"]);
    assert_eq!(text(&output.stdout), "/dev/pts/0\r\n", "{}", text(&output.stderr));
    hungry(docker);
}

/// Whoever looks for the kernel's kill begins with that when `start` is over, and tells of an end beside it: so the container waits for
/// the one, and outlives what is killed in it until the other is told.
fn hungry(docker: &Docker) {
    let script = "while [ ! -e /go ]; do sleep 0.1; done; busybox dd if=/dev/zero of=/dev/null bs=64M count=1; code=$?
        while [ ! -e /end ]; do sleep 0.1; done; exit $code";
    let line =
        ["run", "--detach", "--network", "none", "--memory", "16m", "--name", "hungry", "image", "sh", "-c", script];
    docker.good(&line);
    let events = ["events", "--since", "0", "--filter", "container=hungry", "--filter", "event=oom"];
    let mut events = docker.command(&events).stdout(Stdio::piped()).spawn().expect("docker runs");
    docker.good(&["exec", "hungry", "busybox", "touch", "/go"]);
    let mut told = String::new();
    BufReader::new(events.stdout.take().expect("its output")).read_line(&mut told).expect("a line");
    assert!(told.contains("container oom"), "{told}");
    events.kill().expect("it waits for more");
    events.wait().expect("ended");
    docker.good(&["exec", "hungry", "busybox", "touch", "/end"]);
    assert_eq!(docker.good(&["wait", "hungry"]), "137\n");
    assert_eq!(
        docker.good(&["inspect", "--format", "{{.State.OOMKilled}} {{.State.ExitCode}}", "hungry"]),
        "true 137\n"
    );
    docker.good(&["rm", "hungry"]);
}

fn life(docker: &Docker) {
    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let output = docker.call(&["run", "--detach", "--name", "stays", "--network", "none", "image", "sh", "-c", script]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(docker.good(&["exec", "stays", "sh", "-c", "echo inside"]), "inside\n");
    assert_eq!(docker.call(&["exec", "stays", "sh", "-c", "exit 5"]).status.code(), Some(5));
    assert_eq!(docker.call(&["exec", "stays", "/etc/passwd"]).status.code(), Some(126));
    assert!(docker.good(&["top", "stays"]).contains("trap"));
    docker.good(&["pause", "stays"]);
    assert_eq!(docker.good(&["inspect", "--format", "{{.State.Status}}", "stays"]), "paused\n");
    docker.good(&["unpause", "stays"]);
    docker.good(&["update", "--memory", "64m", "--memory-swap", "64m", "--pids-limit", "33", "stays"]);
    let counters = docker.good(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "stays"]);
    assert!(counters.ends_with("/ 64MiB\n"), "{counters}");
    docker.good(&["stop", "--time", "100", "stays"]);
    assert_eq!(docker.good(&["inspect", "--format", "{{.State.ExitCode}}", "stays"]), "3\n");
    assert!(docker.good(&["logs", "stays"]).ends_with("bye\n"));
    docker.good(&["rm", "stays"]);
}
