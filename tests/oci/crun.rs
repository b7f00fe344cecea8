//! What crun's callers and its own suite ask of a command line, and runc has not.

use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use orangery_tests::{Scene, wait};

use crate::bundle::bundle;
use crate::caller::{Caller, ROLE, end_of, path, text};

/// Why there is no freezer of version 1.
pub(crate) fn lacks_an_old_freezer() -> Option<&'static str> {
    (!Path::new("/sys/fs/cgroup/freezer/tasks").exists()).then_some("needs a freezer of version 1")
}

/// `--config`: relative to the bundle, or elsewhere, and what it says of paths is the bundle's.
pub(crate) fn a_config_may_have_another_name(scene: &Scene) {
    let caller = Caller::new(scene);
    let made = bundle(scene, "named", &["cat", "/etc/marker"], |_| ());
    fs::create_dir(made.join("below")).expect("a directory");
    fs::rename(made.join("config.json"), made.join("below/other.json")).expect("renamed");
    assert_eq!(caller.good(&["run", "-b", path(&made), "--config", "below/other.json", "named"]), "the image");
    let elsewhere = scene.dir().join("elsewhere.json");
    fs::rename(made.join("below/other.json"), &elsewhere).expect("renamed");
    assert_eq!(caller.good(&["run", "-b", path(&made), "-f", path(&elsewhere), "named"]), "the image");
    let told = caller.bad(&["create", "-b", path(&made), "--config", "none.json", "named"]);
    assert!(told.contains("named/none.json: No such file"), "{told}");
    let log = scene.dir().join("log");
    caller.bad(&["--log", &format!("file:{}", path(&log)), "state", "nobody"]);
    assert!(fs::read_to_string(&log).expect("a log").contains("container does not exist"));
    assert!(caller.bad(&["--log", "syslog:us", "list"]).contains("syslog:us: there are files alone"));
    assert!(caller.bad(&["run", "-b", path(&made), "a/b"]).contains("invalid character `/` in the ID"));
}

/// `delete --regex`: those whose name has it in it, and no other.
pub(crate) fn those_of_a_regular_expression_are_deleted(scene: &Scene) {
    let caller = Caller::new(scene);
    let inits: Vec<_> = ["web-1", "web-2", "base"]
        .into_iter()
        .map(|id| wait::pidfd(caller.create(&bundle(scene, id, &["sleep", "1000"], |_| ()), id, Stdio::null())))
        .collect();
    caller.good(&["start", "web-2"]);
    let told = caller.bad(&["delete", "--regex", "^web-[0-9]$"]);
    assert!(told.contains("cannot delete container web-2 that is not stopped"), "{told}");
    assert_eq!(caller.good(&["list", "-q"]), "base\nweb-2\n", "the other one is deleted all the same");
    caller.good(&["delete", "--force", "--regex", "eb-"]);
    assert_eq!(caller.good(&["list", "-q"]), "base\n");
    caller.good(&["delete", "--regex", "nobody"]);
    assert!(caller.bad(&["delete", "--regex", "("]).contains("is no regular expression"));
    caller.good(&["delete", "base"]);
    for init in &inits {
        end_of(init);
    }
}

/// A number that nobody has opened is closed inside as well, and the others stay what they are.
#[expect(clippy::disallowed_methods, reason = "the program that is tried, by a shell that opens files for it")]
pub(crate) fn more_numbers_than_descriptors_are_preserved(scene: &Scene) {
    let caller = Caller::new(scene);
    let made = bundle(scene, "many", &["sh", "-c", "cat <&3; cat <&4; ! cat <&5 2> /dev/null"], |_| ());
    for name in ["three", "four"] {
        fs::write(scene.dir().join(name), format!("{name}\n")).expect("a file");
    }
    let run = |files: &str, listening: Option<&str>| {
        let mut command = Command::new("sh");
        command.args(["-c", &format!(r#"exec "$0" "$@" {files}"#)]).arg(std::env::current_exe().expect("us"));
        command.args(["--root", path(&caller.root), "--log", path(&scene.dir().join("log"))]);
        command.args(["run", "--preserve-fds", "100", "-b", path(&made), "many"]);
        command.env(ROLE, "1").envs(listening.map(|count| ("LISTEN_FDS", count)));
        command.current_dir(scene.dir()).stdin(Stdio::null()).output().expect("it runs")
    };
    for listening in [None, Some("1")] {
        let output = run("3<three 4<four", listening);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), "three\nfour\n");
    }
    let made = bundle(scene, "holes", &["sh", "-c", "cat <&3; cat <&7; cat <&20; ! cat <&4"], |_| ());
    let mut command = Command::new("bash");
    command.args(["-c", r#"exec "$0" "$@" 3<three 7<four 20<three"#]).arg(std::env::current_exe().expect("us"));
    command.args(["--root", path(&caller.root), "run", "--preserve-fds", "40", "-b", path(&made), "holes"]);
    let output = command.env(ROLE, "1").current_dir(scene.dir()).stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success() && text(&output.stdout) == "three\nfour\nthree\n", "{}", text(&output.stderr));
}

/// What a user who is not root may pass on has to be permitted while it is set.
pub(crate) fn who_is_not_root_has_inheritable_capabilities(scene: &Scene) {
    let caller = Caller::new(scene);
    let made = bundle(scene, "inherits", &["busybox", "grep", "^Cap", "/proc/self/status"], |config| {
        config["process"]["user"] = serde_json::json!({ "uid": 1000, "gid": 1000 });
        config["process"]["capabilities"] =
            serde_json::json!({ "bounding": ["CAP_SYS_ADMIN"], "inheritable": ["CAP_SYS_ADMIN"] });
    });
    let said = caller.good(&["run", "-b", path(&made), "inherits"]);
    let sets: Vec<&str> = said.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let (none, one) = ("0000000000000000", "0000000000200000");
    assert_eq!(sets, [one, none, none, one, none], "{said}");
}

/// Who was moved to another freezer of version 1, which is frozen, feels no signal there.
pub(crate) fn one_that_is_frozen_elsewhere_is_deleted(scene: &Scene) {
    let caller = Caller::new(scene);
    let made = bundle(scene, "moved", &["sleep", "1000"], |_| ());
    let pid = caller.create(&made, "moved", Stdio::null());
    let init = wait::pidfd(pid);
    caller.good(&["start", "moved"]);
    let group = crate::bundle::cgroup(scene, "elsewhere");
    let dir = Path::new("/sys/fs/cgroup/freezer").join(group.trim_start_matches('/'));
    fs::create_dir_all(&dir).expect("a group");
    fs::write(dir.join("cgroup.procs"), pid.to_string()).expect("moved");
    fs::write(dir.join("freezer.state"), "FROZEN").expect("frozen");
    caller.good(&["delete", "--force", "moved"]);
    assert_eq!(end_of(&init).terminating_signal(), Some(9));
    wait::removed(&dir);
}

/// `NOTIFY_SOCKET` of the caller's: the container has one of its own, and what it says of being ready is passed on by who waits for that.
pub(crate) fn who_is_ready_says_so_to_the_callers_manager(scene: &Scene) {
    let caller = Caller::new(scene);
    let at = scene.dir().join("manager");
    let manager = UnixDatagram::bind(&at).expect("a socket");
    manager.set_read_timeout(Some(wait::PATIENCE)).expect("a timeout");
    let heard = || {
        let mut message = [0; 64];
        let length = manager.recv(&mut message).expect("a message");
        text(&message[..length])
    };
    let script = "/probe notify STATUS=begins 'X=1\nREADY=1' > /dev/null; [ $NOTIFY_SOCKET = /run/notify/notify.sock ] && \
                  ! busybox touch /run/notify/more 2> /dev/null";
    // In the foreground we are who its manager knows.
    let made = bundle(scene, "foreground", &["sh", "-c", script], |_| ());
    let mut command = caller.command(&["run", "-b", path(&made), "foreground"]);
    let output = command.env("NOTIFY_SOCKET", &at).output().expect("it runs");
    assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
    assert_eq!(heard(), "READY=1");
    // `start` waits for it, and says who goes on.
    let made = bundle(scene, "later", &["sh", "-c", &format!("echo begun; read go; {script}; sleep 1000")], |_| ());
    let (stdin, mut go) = std::io::pipe().expect("a pipe");
    let (begun, stdout) = crate::caller::pipe();
    let file = scene.dir().join("later.pid");
    let mut command = caller.command(&["create", "-b", path(&made), "--pid-file", path(&file), "later"]);
    let made = command.env("NOTIFY_SOCKET", &at).stdin(stdin).stdout(stdout).status().expect("it runs");
    assert!(made.success());
    let pid: u32 = fs::read_to_string(file).expect("a pid file").parse().expect("a number");
    let init = wait::pidfd(pid);
    let mut start = caller.command(&["start", "later"]);
    let mut start = start.env("NOTIFY_SOCKET", &at).spawn().expect("it runs");
    drop(command);
    let mut line = String::new();
    std::io::BufReader::new(begun).read_line(&mut line).expect("its word");
    assert_eq!(line, "begun\n");
    assert!(start.try_wait().expect("asked").is_none(), "nothing was said yet");
    go.write_all(b"go\n").expect("written");
    assert_eq!([heard(), heard(), heard()], ["READY=1".to_owned(), format!("MAINPID={pid}"), "BARRIER=1".to_owned()]);
    let ended = wait::child(&mut start, wait::PATIENCE).expect("waited").expect("it ends");
    assert!(ended.success());
    assert_eq!(caller.good(&["exec", "later", "sh", "-c", "echo \"$NOTIFY_SOCKET\""]), "\n", "it was its command's");
    caller.good(&["delete", "--force", "later"]);
    end_of(&init);
    // One that ends without a word, and a manager that is not there, hold nobody up.
    let made = bundle(scene, "silent", &["true"], |_| ());
    let mut command = caller.command(&["run", "-b", path(&made), "silent"]);
    assert!(command.env("NOTIFY_SOCKET", scene.dir().join("nobody")).status().expect("it runs").success());
}
