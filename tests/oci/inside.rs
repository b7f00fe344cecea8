//! What is done to a container that lives.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use orangery_tests::{Scene, wait};
use serde_json::{Value, json};

use crate::bundle::{bundle, groups_below};
use crate::caller::{Caller, STAYS, all, end_of, path, pipe, text};

pub(crate) fn exec_is_a_further_process(scene: &Scene) {
    let caller = Caller::new(scene);
    let init = caller.staying("further");
    let output =
        caller.run(&["exec", "-e", "MORE=1", "--cwd", "/tmp", "further", "sh", "-c", "echo $WHO $MORE; pwd; exit 9"]);
    let said = (output.status.code(), text(&output.stdout), text(&output.stderr));
    assert_eq!(said, (Some(9), "bundle 1\n/tmp\n".into(), String::new()));
    let ids = caller.good(&["exec", "-u", "1234:77", "further", "id"]);
    assert!(ids.starts_with("uid=1234(builder) gid=77(makers)"), "{ids}");
    let groups = fs::read_to_string("/proc/self/cgroup").expect("ours");
    let its = caller.good(&["exec", "further", "cat", "/proc/self/cgroup"]);
    assert_ne!(groups, its, "it is in the container's groups");

    for (command, why) in [("no-such", "No such file or directory"), ("/etc/marker", "Permission denied")] {
        let output = caller.run(&["exec", "further", command]);
        assert_eq!(output.status.code(), Some(255), "{command}");
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    }
    assert_eq!(caller.run(&["exec", "none", "true"]).status.code(), Some(255));
    assert!(text(&caller.run(&["exec", "further"]).stderr).contains("a command is needed"));
    caller.end("further", &init);
    assert_eq!(caller.run(&["exec", "further", "true"]).status.code(), Some(255));
}

/// As conmon does it: the process is the caller's child, also when it has ended before `exec` has.
pub(crate) fn a_detached_exec_ends_at_its_caller(scene: &Scene) {
    let caller = Caller::new(scene);
    let init = caller.staying("detached");
    let file = scene.dir().join("process.json");
    let process = json!({
        "args": ["sh", "-c", "echo $WHO; exit 3"], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin", "WHO=file"],
    });
    fs::write(&file, process.to_string()).expect("a file");
    let pid_file = scene.dir().join("exec.pid");
    let line = ["exec", "--process", path(&file), "--pid-file", path(&pid_file), "--detach", "detached"];
    let (said, out) = pipe();
    let status = caller.command(&line).stdout(out).status().expect("it runs");
    assert!(status.success());
    let pid: u32 = fs::read_to_string(pid_file).expect("a pid file").parse().expect("a number");
    // A zombie at the latest: nobody but us reaps it.
    assert_eq!(end_of(&wait::pidfd(pid)).exit_status(), Some(3));
    assert_eq!(all(said), "file\n");
    caller.end("detached", &init);
}

pub(crate) fn processes_stand_still_and_go_on(scene: &Scene) {
    let caller = Caller::new(scene);
    let init = caller.staying("still");
    let pids: Vec<i64> = serde_json::from_str(&caller.good(&["ps", "-f", "json", "still"])).expect("JSON");
    assert_eq!(pids, [caller.state("still")["pid"].as_i64().expect("a pid")]);
    assert!(caller.good(&["ps", "still"]).lines().nth(1).expect("a line").ends_with(STAYS));

    assert!(caller.bad(&["resume", "still"]).contains("not paused"));
    assert_eq!(caller.good(&["pause", "still"]), "");
    assert_eq!(caller.status("still"), "paused");
    assert!(caller.bad(&["pause", "still"]).contains("not running"));
    let refused = caller.run(&["exec", "still", "true"]);
    assert!(text(&refused.stderr).contains("paused"), "{}", text(&refused.stderr));
    assert!(caller.bad(&["delete", "still"]).contains("paused"));
    assert_eq!(caller.good(&["resume", "still"]), "");
    assert_eq!(caller.status("still"), "running");
    caller.good(&["exec", "still", "true"]);
    // A frozen one dies of a force.
    caller.good(&["pause", "still"]);
    caller.end("still", &init);

    // One that waits at its gate would not come through it, and dies of a signal all the same.
    let waits = bundle(scene, "waits", &["sleep", "1000"], |_| ());
    let init = wait::pidfd(caller.create(&waits, "waits", Stdio::null()));
    caller.good(&["pause", "waits"]);
    assert!(caller.bad(&["start", "waits"]).contains("paused"));
    caller.good(&["kill", "waits", "KILL"]);
    end_of(&init);
    caller.good(&["delete", "waits"]);
}

pub(crate) fn limits_and_counters(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "limited", &["sleep", "1000"], |config| {
        config["linux"]["resources"] = json!({ "pids": { "limit": 40 }, "memory": { "limit": 64 << 20 } });
    });
    let init = wait::pidfd(caller.create(&bundle, "limited", Stdio::null()));
    caller.good(&["start", "limited"]);
    let stats = || -> Value { serde_json::from_str(&caller.good(&["events", "--stats", "limited"])).expect("JSON") };
    let first = stats();
    assert_eq!((first["type"].as_str(), first["id"].as_str()), (Some("stats"), Some("limited")));
    assert_eq!(first["data"]["pids"]["limit"].as_u64(), Some(40));
    assert_eq!(first["data"]["memory"]["usage"]["limit"].as_u64(), Some(64 << 20));
    assert!(first["data"]["cpu"]["usage"]["total"].is_u64(), "{first}");
    assert_eq!(caller.good(&["update", "--pids-limit", "20", "limited"]), "");
    let file = scene.dir().join("resources.json");
    fs::write(&file, json!({ "memory": { "limit": 32 << 20 } }).to_string()).expect("a file");
    assert_eq!(caller.good(&["update", "limited", "--resources", path(&file)]), "");
    let then = stats();
    assert_eq!(then["data"]["pids"]["limit"].as_u64(), Some(20));
    assert_eq!(then["data"]["memory"]["usage"]["limit"].as_u64(), Some(32 << 20));
    assert_eq!(caller.good(&["update", "limited"]), "", "what is not asked for is no error");
    assert_eq!(caller.good(&["update", "--pids-limit", "-1", "limited"]), "");
    let lifted = stats();
    assert!(lifted["data"]["pids"]["limit"].as_u64().is_none_or(|limit| limit >= 4 << 20), "{lifted}");
    caller.end("limited", &init);
}

/// Whoever listens hears it before the end, however seldom he looks.
pub(crate) fn an_oom_kill_that_ends_a_container_is_told(scene: &Scene) {
    let caller = Caller::new(scene);
    let bundle = bundle(scene, "hungry", &["sh", "-c", "x=x; while :; do x=$x$x; done"], |config| {
        config["linux"]["resources"] = json!({ "memory": { "limit": 16 << 20 } });
    });
    let init = wait::pidfd(caller.create(&bundle, "hungry", Stdio::null()));
    let (said, out) = pipe();
    let mut events = caller.command(&["events", "--interval", "1000s", "hungry"]).stdout(out).spawn().expect("it runs");
    let mut lines = BufReader::new(said).lines();
    let first = lines.next().expect("a line").expect("read");
    assert!(first.contains("\"stats\""), "{first}");
    caller.good(&["start", "hungry"]);
    assert_eq!(end_of(&init).terminating_signal(), Some(9));
    let rest: Vec<String> = lines.map(|line| line.expect("read")).collect();
    assert_eq!(rest, [r#"{"type":"oom","id":"hungry"}"#]);
    assert!(wait::child(&mut events, wait::PATIENCE).expect("waited").expect("in time").success());
    caller.good(&["delete", "hungry"]);
}

/// The master of its terminal goes to who listens, for the first process and for a further one.
pub(crate) fn terminals_go_over_a_socket(scene: &Scene) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
    let caller = Caller::new(scene);
    let place = scene.dir().join("console");
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
    bind(&socket, &SocketAddrUnix::new(&place).expect("a path")).expect("bound");
    listen(&socket, 4).expect("listening");
    let bundle = bundle(scene, "terminal", &["sh", "-c", "test -t 0 && echo terminal; exec sleep 1000"], |config| {
        config["process"]["terminal"] = true.into();
    });
    assert!(caller.bad(&["create", "-b", path(&bundle), "terminal"]).contains("--console-socket"));
    let pid_file = scene.dir().join("terminal.pid");
    let line =
        ["create", "-b", path(&bundle), "--console-socket", path(&place), "--pid-file", path(&pid_file), "terminal"];
    caller.good(&line);
    let init = wait::pidfd(fs::read_to_string(pid_file).expect("a pid file").parse().expect("a number"));
    let master = received(&socket);
    caller.good(&["start", "terminal"]);
    assert_eq!(line_of(&master), "terminal\r\n");
    let pid_file = scene.dir().join("further.pid");
    let line = ["exec", "-t", "-d", "--console-socket", path(&place), "--pid-file", path(&pid_file), "terminal"];
    caller.good(&[&line[..], &["sh", "-c", "test -t 1 && echo further"]].concat());
    let further = wait::pidfd(fs::read_to_string(pid_file).expect("a pid file").parse().expect("a number"));
    // Until it has ended, or it would be hung up.
    let master = received(&socket);
    assert_eq!(line_of(&master), "further\r\n");
    let line = ["exec", "--pidfd-socket", path(&place), "terminal", "true"];
    let told = std::thread::scope(|scope| {
        let exec = scope.spawn(|| caller.run(&line));
        // Whatever it is, it can be waited for as a process.
        let pidfd = received(&socket);
        wait::gone(&pidfd, "what was started");
        exec.join().expect("it runs")
    });
    assert!(told.status.success(), "{}", text(&told.stderr));
    // A pid namespace does not end before whose parent is outside has been reaped there: by us.
    assert_eq!(end_of(&further).exit_status(), Some(0));
    caller.end("terminal", &init);
}

fn received(socket: &OwnedFd) -> OwnedFd {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, accept, recvmsg};
    use std::mem::MaybeUninit;
    let peer = accept(socket).expect("a peer");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut name = [0; 64];
    let mut buffers = [std::io::IoSliceMut::new(&mut name)];
    let got = recvmsg(&peer, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).expect("a message");
    assert!(got.bytes > 0);
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    fds.flatten().next().expect("a descriptor")
}

/// One line from a terminal.
fn line_of(master: &OwnedFd) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        match rustix::io::read(master, &mut byte) {
            Ok(1) => line.push(byte[0]),
            other => panic!("{other:?} after {}", text(&line)),
        }
    }
    text(&line)
}

pub(crate) fn what_it_tells_of_itself(scene: &Scene) {
    let caller = Caller::new(scene);
    assert!(caller.good(&["--version"]).starts_with("orangery-oci version "));
    let features: Value = serde_json::from_str(&caller.good(&["features"])).expect("JSON");
    let seccomp = &features["linux"]["seccomp"];
    let length = |name: &str| seccomp[name].as_array().expect("a list").len();
    assert_eq!(["actions", "operators", "knownFlags", "supportedFlags"].map(length), [9, 7, 4, 4]);
    assert!(features["linux"]["namespaces"].as_array().expect("a list").len() >= 6);
    for rootless in [false, true] {
        let bundle = scene.dir().join(format!("template-{rootless}"));
        fs::create_dir(&bundle).expect("a directory");
        let line = ["spec", "--bundle", path(&bundle), "--rootless"];
        assert_eq!(caller.good(if rootless { &line } else { &line[..3] }), "");
        assert!(caller.bad(&line).contains("exists. Remove it first"));
        let config: Value =
            serde_json::from_slice(&fs::read(bundle.join("config.json")).expect("a file")).expect("JSON");
        assert_eq!(config["process"]["args"], json!(["sh"]));
    }
    // What is written is what can be read.
    let image = scene.image("template-false/rootfs");
    let file = image.with_file_name("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = json!(["echo", "from the template"]);
    config["linux"]["cgroupsPath"] = crate::bundle::cgroup(scene, "template").into();
    fs::write(&file, config.to_string()).expect("written");
    let bundle = image.parent().expect("a parent").to_path_buf();
    assert_eq!(caller.good(&["run", "-b", path(&bundle), "template"]), "from the template\n");
}

/// In groups below the container's that are there, of all hierarchies or of one.
pub(crate) fn an_exec_is_in_the_group_that_it_asks_for(scene: &Scene) {
    let caller = Caller::new(scene);
    let init = caller.staying("spots");
    let groups = scene.cgroups();
    let line = |options: &[&str]| {
        let mut line = vec!["exec"];
        line.extend(options);
        line.extend(["spots", "cat", "/proc/self/cgroup"]);
        caller.run(&line)
    };
    let none = line(&["--cgroup", "below"]);
    assert_eq!(none.status.code(), Some(255), "there is none: {}", text(&none.stdout));
    groups_below(scene);
    let outside = line(&["--cgroup", "../x"]);
    assert!(text(&outside.stderr).contains("must not contain"), "{}", text(&outside.stderr));
    assert!(text(&line(&["--cgroup", "nonsense:below"]).stderr).contains("no hierarchy"));
    let count = |said: &str| said.lines().filter(|line| line.ends_with("/below")).count();
    let all = line(&["--cgroup", "/below"]);
    assert_eq!(count(&text(&all.stdout)), groups.len(), "{}{}", text(&all.stdout), text(&all.stderr));
    if groups.iter().any(|group| group.join("memory.limit_in_bytes").exists()) {
        let one = text(&line(&["--cgroup", "memory:below"]).stdout);
        let its = one.lines().find(|line| line.contains(":memory:")).expect("a line");
        assert!(count(&one) == 1 && its.ends_with("/below"), "{one}");
    }
    caller.end("spots", &init);
}
