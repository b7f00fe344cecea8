//! containerd as a caller, where it is installed: its shim's containers are ours, its daemon is the trial's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
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
    let all = ["containerd", "ctr", "containerd-shim-runc-v2"].into_iter().all(has);
    (!all).then_some("needs containerd, ctr and containerd-shim-runc-v2")
}

struct Containerd {
    daemon: Child,
    socket: PathBuf,
    runtime: PathBuf,
    image: PathBuf,
    group: String,
}

impl Containerd {
    /// It serves when this returns.
    #[expect(clippy::disallowed_methods, reason = "the caller that is tried")]
    fn start(scene: &Scene) -> Self {
        let dir = scene.dir().join("containerd");
        fs::create_dir(&dir).expect("a directory");
        let (socket, config) = (dir.join("socket"), dir.join("config.toml"));
        let lines = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {:?}\n",
            dir.join("root"),
            dir.join("state"),
            socket
        );
        fs::write(&config, lines).expect("a file");
        let us = std::env::current_exe().expect("us");
        let runtime = dir.join("runtime");
        let script = format!("#!/bin/sh\n{ROLE}=1 exec {} \"$@\"\n", path(&us));
        fs::write(&runtime, script).expect("a script");
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).expect("its mode");
        let log = fs::File::create(dir.join("log")).expect("a file");
        let mut command = Command::new("containerd");
        command.arg("--config").arg(&config).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        let daemon = command.spawn().expect("it starts");
        let parent =
            scene.cgroup_parents().first().and_then(|parent| parent.file_name()).expect("a cgroup of the trial's");
        let group = Path::new("/").join(parent).display().to_string();
        let all = Self { daemon, socket, runtime, image: scene.image("image"), group };
        // ctr waits for the daemon itself, up to its time-out.
        let output = all.call(&["--connect-timeout", "20s", "version"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        all
    }

    /// Whatever daemon a shim is of, it asks the runtime for containers of its namespace in one place of the machine's.
    fn name(&self) -> &str {
        self.group.trim_start_matches('/')
    }

    #[expect(clippy::disallowed_methods, reason = "the caller that is tried")]
    fn call(&self, line: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(["--namespace", self.name()]).args(line).stdin(Stdio::null());
        command.output().expect("ctr runs")
    }

    #[track_caller]
    fn good(&self, line: &[&str]) -> String {
        let output = self.call(line);
        assert!(output.status.success(), "{line:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn run(&self, options: &[&str], id: &str, command: &[&str]) -> Output {
        let group = format!("{}/{id}", self.group);
        let mut line = vec!["run", "--runc-binary", path(&self.runtime), "--cgroup", &group];
        line.extend(options);
        line.extend(["--rootfs", path(&self.image), id]);
        line.extend(command);
        self.call(&line)
    }

    fn end(mut self) {
        let pidfd = wait::pidfd(self.daemon.id());
        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::TERM).expect("it is there");
        let _ = fs::remove_dir(Path::new("/run/containerd/runc").join(self.name()));
        let ended = wait::child(&mut self.daemon, Duration::from_secs(20)).expect("waited");
        assert!(ended.is_some(), "containerd does not end");
        // Its shims have fallen to us.
        while waitid(WaitId::All, WaitIdOptions::EXITED).is_ok() {}
    }
}

pub(crate) fn containerd_runs_containers(scene: &Scene) {
    let containerd = Containerd::start(scene);
    let output = containerd.run(&["--rm"], "short", &["sh", "-c", "echo hello; exit 42"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(42), "hello\n".into()), "{}", text(&output.stderr));
    let output = containerd.run(&["--rm"], "missing", &["no-such-program"]);
    assert!(!output.status.success() && text(&output.stderr).contains("no-such-program"), "{}", text(&output.stderr));

    let output = containerd.run(&["--detach"], "stays", &["sleep", "1000"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let task = |line: &[&str]| containerd.good(&[&["task"], line].concat());
    assert!(task(&["list"]).lines().any(|line| line.starts_with("stays") && line.ends_with("RUNNING")));
    let exec = containerd.call(&[
        "task",
        "exec",
        "--exec-id",
        "further",
        "stays",
        "sh",
        "-c",
        "echo inside >/further; exit 5",
    ]);
    // ctr does not wait for the output of an exec that has ended.
    let wrote = fs::read_to_string(containerd.image.join("further")).expect("what it wrote");
    assert_eq!((exec.status.code(), wrote.as_str()), (Some(5), "inside\n"), "{}", text(&exec.stderr));
    task(&["pause", "stays"]);
    assert!(task(&["list"]).contains("PAUSED"));
    task(&["resume", "stays"]);
    assert!(task(&["metrics", "stays"]).contains("memory"));
    // It is told how the container ended.
    let output = containerd.call(&["task", "rm", "--force", "stays"]);
    assert!(output.status.success() || output.status.code() == Some(137), "{}", text(&output.stderr));
    containerd.good(&["container", "rm", "stays"]);
    assert_eq!(containerd.good(&["container", "list", "--quiet"]), "");
    containerd.end();
    assert!(scene.cgroups().is_empty(), "{:?}", scene.cgroups());
}
