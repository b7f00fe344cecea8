//! podman as a caller, where it is installed: its containers are ours.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use orangery_tests::{Scene, victim};

use crate::caller::{ROLE, path, text};

/// Why it cannot be tried here.
pub(crate) fn lacks() -> Option<&'static str> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&search).any(|dir| dir.join(program).is_file());
    (!has("podman") || !has("conmon")).then_some("needs podman and conmon")
}

struct Podman<'a> {
    scene: &'a Scene,
    runtime: PathBuf,
    image: PathBuf,
}

impl<'a> Podman<'a> {
    fn new(scene: &'a Scene) -> Self {
        let runtime = scene.dir().join("runtime");
        let us = std::env::current_exe().expect("us");
        let script = format!("#!/bin/sh\n{ROLE}=1 exec {} --root {} \"$@\"\n", path(&us), path(&scene.state_dir()));
        fs::write(&runtime, script).expect("a script");
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).expect("its mode");
        Self { scene, runtime, image: scene.image("image") }
    }

    /// With all that it writes down in the trial's directory.
    #[expect(clippy::disallowed_methods, reason = "the caller that is tried")]
    fn call(&self, line: &[&str]) -> Output {
        let dir = |name: &str| self.scene.dir().join("podman").join(name);
        let mut command = Command::new("podman");
        for (option, value) in [("--root", dir("root")), ("--runroot", dir("run")), ("--tmpdir", dir("tmp"))] {
            command.arg(option).arg(value);
        }
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.arg("--runtime").arg(&self.runtime).args(line);
        command.stdin(Stdio::null()).output().expect("podman runs")
    }

    #[track_caller]
    fn good(&self, line: &[&str]) -> String {
        let output = self.call(line);
        assert!(output.status.success(), "{line:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// `podman run` of the image, with what this machine lets it have.
    fn run(&self, options: &[&str], command: &[&str]) -> Output {
        let parent = self.scene.cgroup_parents().first().and_then(|parent| parent.file_name());
        let parent = Path::new("/").join(parent.expect("a cgroup of the trial's"));
        let limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000"];
        let mut line = vec!["run", "--network", "none", "--cgroup-parent", path(&parent)];
        line.extend(["--security-opt", "seccomp=unconfined"]);
        line.extend(limits);
        line.extend(options);
        line.extend(["--rootfs", path(&self.image)]);
        line.extend(command);
        self.call(&line)
    }
}

pub(crate) fn podman_runs_containers(scene: &Scene) {
    let podman = Podman::new(scene);
    let output = podman.run(&["--rm"], &["sh", "-c", "echo hello; exit 42"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(42), "hello\n".into()), "{}", text(&output.stderr));
    assert_eq!(podman.run(&["--rm"], &["no-such-program"]).status.code(), Some(127));

    // What podman says with a tmpfs: it is to begin with what the image has there.
    fs::create_dir(podman.image.join("lay")).expect("a directory");
    fs::write(podman.image.join("lay/here"), "copied\n").expect("a file");
    let output = podman.run(&["--rm", "--tmpfs", "/lay", "--memory-reservation", "8m"], &["cat", "/lay/here"]);
    assert_eq!(text(&output.stdout), "copied\n", "{}", text(&output.stderr));

    let script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let output = podman.run(&["--detach", "--name", "stays"], &["sh", "-c", script]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(podman.good(&["exec", "stays", "sh", "-c", "echo inside"]), "inside\n");
    assert_eq!(podman.call(&["exec", "stays", "sh", "-c", "exit 5"]).status.code(), Some(5));
    podman.good(&["stop", "--time", "50", "stays"]);
    assert_eq!(podman.good(&["inspect", "--format", "{{.State.ExitCode}}", "stays"]), "3\n");
    assert!(podman.good(&["logs", "stays"]).ends_with("bye\n"));
    podman.good(&["rm", "stays"]);
    // conmon and what it had started to clean up are ours, as a subreaper.
    while rustix::process::waitid(rustix::process::WaitId::All, rustix::process::WaitIdOptions::EXITED).is_ok() {}
    victim::reap_adopted();
    for group in scene.cgroups() {
        // podman's own, for what it does not name after us.
        let _ = fs::remove_dir(group);
    }
}

/// Why an ordinary user cannot try it here.
pub(crate) fn lacks_without_root() -> Option<&'static str> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&search).any(|dir| dir.join(program).is_file());
    let all = ["newuidmap", "setpriv", "unshare"].into_iter().all(has);
    lacks().or_else(|| (!all).then_some("needs newuidmap, setpriv and unshare"))
}

/// Root lays other users and ranges over the machine's, in a mount namespace of its own, and is an ordinary one from then on. What podman leaves
/// alive there to hold its user namespace ends with `system migrate`.
const WITHOUT_ROOT: &str = r#"
cd "$DIR"; mkdir home run; chown -R 54321:54321 home run image
for file in passwd subuid subgid; do cp "/etc/$file" "$file"; done
echo "trial:x:54321:54321::$DIR/home:/bin/sh" >>passwd
for file in subuid subgid; do echo 54321:700000:65536 >"$file"; done
for file in passwd subuid subgid; do mount --bind "$file" "/etc/$file"; done
exec setpriv --reuid 54321 --regid 54321 --clear-groups env -i PATH="$PATH" HOME="$DIR/home" XDG_RUNTIME_DIR="$DIR/run" DIR="$DIR" sh -c '
podman() {
  command podman --root "$DIR/home/s" --runroot "$DIR/run/s" --tmpdir "$DIR/run/t" --storage-driver vfs --cgroup-manager cgroupfs \
    --events-backend none --runtime "$DIR/runtime" "$@"
}
podman run --rm --network none --rootfs "$DIR/image" sh -c "id -u; tr -s \" \" </proc/self/uid_map; exit 3"; echo "run $?"
podman run --rm --network none --user 33:44 --rootfs "$DIR/image" sh -c "echo \$(id -u):\$(id -g)"; podman run --rm --network none --rootfs "$DIR/image" none; echo "none $?"
podman run -d --name stays --network none --rootfs "$DIR/image" sh -c "echo begins; exec sleep 1000" >/dev/null
podman exec stays sh -c "echo inside; exit 4"; echo "exec $?"
podman stop -t 0 stays >/dev/null; podman logs stays; podman inspect --format "{{.State.ExitCode}}" stays; podman rm stays >/dev/null
podman system migrate'
"#;

#[expect(clippy::disallowed_methods, reason = "the caller that is tried")]
pub(crate) fn podman_without_root_runs_containers(scene: &Scene) {
    let dir = scene.dir();
    let us = fs::read(std::env::current_exe().expect("us")).expect("our program");
    for (name, text) in [
        ("program", us),
        (
            "runtime",
            // Where it writes down what there is, is its own to know: the machine's /run is not this user's.
            format!("#!/bin/sh\n{ROLE}=1 exec {}/program \"$@\"\n", path(dir)).into_bytes(),
        ),
    ] {
        fs::write(dir.join(name), text).expect("a program");
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("its mode");
    scene.image("image");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", WITHOUT_ROOT]).env("DIR", dir).stdin(Stdio::null());
    let output = command.output().expect("it runs");
    let wanted =
        ["0", " 0 54321 1", " 1 700000 65536", "run 3", "33:44", "none 127", "inside", "exec 4", "begins", "137"];
    let said = text(&output.stdout);
    let said: Vec<_> = said.lines().collect();
    assert_eq!(said, wanted, "{}", text(&output.stderr));
    while rustix::process::waitid(rustix::process::WaitId::All, rustix::process::WaitIdOptions::EXITED).is_ok() {}
    victim::reap_adopted();
}
