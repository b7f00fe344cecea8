//! The commands as an ordinary user calls them, with the file that `spec --rootless` writes: with one id, and with a range.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use orangery_tests::{Scene, wait};
use serde_json::{Value, json};

use crate::caller::{ROLE, end_of, path, text};

/// Who that is.
const USER: &str = "54321";

/// Root lays other users and ranges over the machine's, in a mount namespace of its own, and is an ordinary user from then on.
const BECOME: &str = r#"
for file in passwd subuid subgid; do [ ! -e "$DIR/$file" ] || mount --bind "$DIR/$file" "/etc/$file" || exit 99; done
exec setpriv --reuid 54321 --regid 54321 --clear-groups env -i PATH="$PATH" HOME="$DIR/home" XDG_RUNTIME_DIR="$DIR/home" "$@""#;

fn has(program: &str) -> bool {
    let search = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&search).any(|dir| dir.join(program).is_file())
}

/// Why it cannot be tried here.
pub(crate) fn lacks() -> Option<&'static str> {
    (!["setpriv", "unshare"].into_iter().all(has)).then_some("needs setpriv and unshare")
}

/// The same of a range.
pub(crate) fn lacks_a_range() -> Option<&'static str> {
    let all = has("newuidmap") && ["/etc/subuid", "/etc/subgid"].into_iter().all(|file| Path::new(file).exists());
    lacks().or_else(|| (!all).then_some("needs newuidmap, /etc/subuid and /etc/subgid"))
}

/// The program, called by that user.
struct User<'a> {
    scene: &'a Scene,
    bundle: PathBuf,
    ranges: bool,
}

impl<'a> User<'a> {
    fn new(scene: &'a Scene, ranges: bool) -> Self {
        let dir = scene.dir();
        fs::copy(std::env::current_exe().expect("us"), dir.join("program")).expect("a program");
        for open in [dir.to_path_buf(), dir.join("program")] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        let image = scene.image("bundle/rootfs");
        fs::create_dir(dir.join("home")).expect("a directory");
        let passwd = fs::read_to_string("/etc/passwd").expect("users");
        let user = format!("{passwd}\ntrial:x:{USER}:{USER}::{}:/bin/sh\n", path(&dir.join("home")));
        fs::write(dir.join("passwd"), user).expect("users");
        for file in ["subuid", "subgid"].into_iter().filter(|_| ranges) {
            fs::write(dir.join(file), format!("{USER}:700000:65536\n")).expect("ranges");
        }
        let bundle = image.parent().expect("a parent").to_path_buf();
        let user = User { scene, bundle, ranges };
        user.owns(&[path(&user.bundle), path(&dir.join("home"))]);
        user
    }

    #[expect(clippy::disallowed_methods, reason = "what lies there is given away as a whole")]
    fn owns(&self, paths: &[&str]) {
        let status = Command::new("chown").args(["-R", &format!("{USER}:{USER}")]).args(paths).status();
        assert!(status.expect("it runs").success());
    }

    #[expect(clippy::disallowed_methods, reason = "the program that is tried")]
    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", BECOME, "sh", &format!("{ROLE}=1")]);
        command.arg(self.scene.dir().join("program")).args(line).env("DIR", self.scene.dir());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, line: &[&str]) -> Output {
        self.command(line).output().expect("it runs")
    }

    #[track_caller]
    fn good(&self, line: &[&str]) -> String {
        let output = self.run(line);
        assert!(output.status.success(), "{line:?}: {:?}: {}", output.status, text(&output.stderr));
        text(&output.stdout)
    }

    /// It fails; what it tells.
    #[track_caller]
    fn bad(&self, line: &[&str]) -> String {
        let output = self.run(line);
        assert!(!output.status.success(), "{line:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// A bundle of `spec --rootless`, with this command; `change` makes something else of it.
    fn bundle(&self, args: &[&str], change: impl FnOnce(&mut Value)) {
        let file = self.bundle.join("config.json");
        let _ = fs::remove_file(&file);
        self.good(&["spec", "--rootless", "--bundle", path(&self.bundle)]);
        let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(args);
        if self.ranges {
            for maps in ["uidMappings", "gidMappings"] {
                let more = json!({ "containerID": 1, "hostID": 700_000, "size": 65_536 });
                config["linux"][maps].as_array_mut().expect("a list").push(more);
            }
        }
        change(&mut config);
        fs::write(&file, config.to_string()).expect("written");
    }

    /// `create` or `run --detach`, whose process has our streams longer than the command: its pidfd.
    #[track_caller]
    fn left(&self, line: &[&str]) -> OwnedFd {
        let file = self.scene.dir().join("home/pid");
        let line = [line, &["--bundle", path(&self.bundle), "--pid-file", path(&file)]].concat();
        let told = fs::File::create(self.scene.dir().join("told")).expect("a file");
        let status = self.command(&line).stdout(Stdio::null()).stderr(told).status().expect("it runs");
        let told = fs::read_to_string(self.scene.dir().join("told")).expect("its words");
        assert!(status.success(), "{line:?}: {told}");
        wait::pidfd(fs::read_to_string(file).expect("a pid file").parse().expect("a number"))
    }

    fn status(&self, id: &str) -> String {
        let state: Value = serde_json::from_str(&self.good(&["state", id])).expect("JSON");
        state["status"].as_str().expect("a status").to_owned()
    }
}

pub(crate) fn an_ordinary_user_with_one_id(scene: &Scene) {
    let user = User::new(scene, false);
    life(&user);
    user.bundle(&["sleep", "1000"], |_| ());
    let init = user.left(&["run", "--detach", "one"]);
    assert!(user.bad(&["exec", "--user", "5:6", "one", "id"]).contains("not mapped in this container"));
    user.good(&["delete", "--force", "one"]);
    end_of(&init);
}

pub(crate) fn an_ordinary_user_with_a_range(scene: &Scene) {
    let user = User::new(scene, true);
    life(&user);
    user.bundle(&["sleep", "1000"], |_| ());
    let init = user.left(&["run", "--detach", "range"]);
    assert_eq!(user.good(&["exec", "--user", "5:6", "range", "sh", "-c", "id -u; id -g"]), "5\n6\n");
    user.good(&["delete", "--force", "range"]);
    end_of(&init);
    user.bundle(&["sh", "-c", "id -u; id -g"], |config| config["process"]["user"] = json!({ "uid": 5, "gid": 6 }));
    assert_eq!(user.good(&["run", "--bundle", path(&user.bundle), "other"]), "5\n6\n");
}

fn life(user: &User<'_>) {
    let bundle = path(&user.bundle);
    user.bundle(&["sh", "-c", "echo $(id -u); exit 7"], |_| ());
    let output = user.run(&["run", "--bundle", bundle, "runs"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), "0\n".into()), "{}", text(&output.stderr));

    // A hook of a start is a further process as well.
    user.bundle(&["sleep", "1000"], |config| {
        config["hooks"] =
            json!({ "startContainer": [{ "path": "/bin/true" }], "poststart": [{ "path": "/bin/true" }] });
    });
    let init = user.left(&["create", "lives"]);
    assert_eq!(user.status("lives"), "created");
    assert_eq!(user.good(&["exec", "lives", "id", "-u"]), "0\n", "before the start too");
    user.good(&["start", "lives"]);
    assert_eq!(user.status("lives"), "running");
    assert_eq!(user.run(&["exec", "lives", "sh", "-c", "exit 5"]).status.code(), Some(5));
    assert_eq!(user.run(&["exec", "lives", "no-such-program"]).status.code(), Some(255));
    assert!(user.good(&["exec", "lives", "busybox", "ps"]).contains("sleep 1000"), "in its pid namespace");
    let pid_file = user.scene.dir().join("home/further");
    let line = ["exec", "--detach", "--pid-file", path(&pid_file), "lives", "sh", "-c", "exit 3"];
    assert!(user.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs").success());
    let further = fs::read_to_string(&pid_file).expect("a pid file").parse().expect("a number");
    assert_eq!(end_of(&wait::pidfd(further)).exit_status(), Some(3));

    // Without rights over cgroups there is none of its own, and what needs one says so. Its processes are those in its pid namespace.
    for line in [&["pause"][..], &["events", "--stats"], &["update", "--pids-limit", "9"]] {
        let told = user.bad(&[line, &["lives"]].concat());
        assert!(
            told.contains("a cgroup of the container's own") && told.contains("--systemd-cgroup"),
            "{line:?}: {told}"
        );
    }
    let line = ["exec", "--detach", "--pid-file", path(&pid_file), "lives", "sleep", "1000"];
    assert!(user.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("it runs").success());
    let further: u32 = fs::read_to_string(&pid_file).expect("a pid file").parse().expect("a number");
    let ended = wait::pidfd(further);
    let mut pids: Vec<u32> = serde_json::from_str(&user.good(&["ps", "--format", "json", "lives"])).expect("numbers");
    pids.retain(|pid| *pid != further);
    assert_eq!(pids.len(), 1, "the other one is its first");
    // The first of a pid namespace feels no signal from outside that it has not asked for, but for KILL and STOP.
    user.good(&["kill", "--all", "lives", "0"]);
    user.good(&["kill", "--all", "lives", "USR1"]);
    assert_eq!(end_of(&ended).terminating_signal(), Some(10));
    assert_eq!(user.status("lives"), "running");
    assert!(user.bad(&["resume", "lives"]).contains("not paused"));
    assert!(user.bad(&["delete", "lives"]).contains("not stopped"));
    assert_eq!(user.good(&["list", "--quiet"]), "lives\n");
    assert!(user.good(&["list"]).contains("trial"), "whose it is");
    user.good(&["kill", "lives", "KILL"]);
    assert_eq!(end_of(&init).terminating_signal(), Some(9));
    assert_eq!(user.status("lives"), "stopped");
    user.good(&["delete", "lives"]);
    assert!(user.bad(&["state", "lives"]).contains("does not exist"));

    user.bundle(&["true"], |config| config["linux"]["resources"] = json!({ "pids": { "limit": 9 } }));
    let told = user.bad(&["run", "--bundle", bundle, "limited"]);
    assert!(told.contains("limits.pids") && told.contains("no rights over cgroups"), "{told}");
    user.bundle(&["true"], |_| ());
    let told = user.bad(&["--rootless=false", "run", "--bundle", bundle, "strict"]);
    assert!(told.contains("ermission denied"), "{told}");
    user.good(&["--cgroup-manager", "disabled", "run", "--bundle", bundle, "without"]);
    assert_eq!(user.good(&["list", "--quiet"]), "", "nothing is left of any");
}
