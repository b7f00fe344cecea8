//! Who answers what the filter of a container asks, at a socket.

use std::io::{BufRead as _, BufReader, IoSliceMut, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Stdio};

use orangery_runtime::seccomp::{Answer, Listener};
use orangery_tests::victim::reap_adopted;
use orangery_tests::{Scene, wait};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::{Value, json};

use crate::bundle::bundle;
use crate::caller::{Caller, end_of, path, pipe, text};

fn asking(agent: Option<&Path>) -> Value {
    let mut filter = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    if let Some(agent) = agent {
        filter["listenerPath"] = path(agent).into();
        filter["listenerMetadata"] = "what it is for".into();
    }
    filter
}

/// The next who comes: what is said, and the listener.
fn heard(agent: &UnixListener) -> (Value, OwnedFd) {
    let (mut peer, _) = agent.accept().expect("somebody comes");
    let (mut said, listener) = received(&peer);
    // The rest, until it has gone.
    peer.read_to_end(&mut said).expect("read");
    (serde_json::from_slice(&said).expect("JSON"), listener)
}

fn received(peer: &UnixStream) -> (Vec<u8>, OwnedFd) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut said = vec![0; 65_536];
    let got = recvmsg(peer, &mut [IoSliceMut::new(&mut said)], &mut control, RecvFlags::CMSG_CLOEXEC);
    said.truncate(got.expect("a message").bytes);
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    (said, fds.flatten().next().expect("a descriptor"))
}

/// One question is answered by EDQUOT.
fn refuse_one(scene: &Scene, listener: OwnedFd) {
    scene.block_on(async {
        let mut listener = Listener::new(listener).expect("watched");
        let asked = wait::soon("a question", listener.next()).await.expect("heard").expect("a question");
        assert!(listener.answer(asked.id, Answer::Errno(122)).expect("answered"));
    });
}

#[track_caller]
fn says(said: &Value, pid: u64, init: u64, status: &str) {
    assert_eq!(said["ociVersion"].as_str(), Some("1.0.2"), "{said}");
    assert_eq!(said["fds"], json!(["seccompFd"]));
    assert_eq!(said["metadata"].as_str(), Some("what it is for"));
    assert_eq!((said["pid"].as_u64(), said["state"]["pid"].as_u64()), (Some(pid), Some(init)));
    assert_eq!((said["state"]["id"].as_str(), said["state"]["status"].as_str()), (Some("asks"), Some(status)));
}

fn quota(output: std::process::Output) {
    assert!(text(&output.stderr).contains("Disk quota exceeded"), "{}", text(&output.stderr));
}

pub(crate) fn an_agent_answers_what_a_filter_asks(scene: &Scene) {
    let caller = Caller::new(scene);
    let place = scene.dir().join("agent");
    let agent = UnixListener::bind(&place).expect("listening");
    let bundle = bundle(scene, "asks", &["sh", "-c", "mkdir /tmp/x 2> /said; echo done; exec sleep 1000"], |config| {
        config["linux"]["seccomp"] = asking(Some(&place));
        config["root"]["readonly"] = false.into();
    });
    let (said_by_it, out) = pipe();
    let pid = caller.create(&bundle, "asks", out);
    let (init, number) = (wait::pidfd(pid), u64::from(pid));
    let (said, listener) = heard(&agent);
    says(&said, number, number, "creating");
    caller.good(&["start", "asks"]);
    refuse_one(scene, listener);
    let mut line = String::new();
    BufReader::new(said_by_it).read_line(&mut line).expect("a line");
    assert_eq!(line, "done\n");
    let first = std::fs::read_to_string(bundle.join("rootfs/said")).expect("its words");
    assert!(first.contains("Disk quota exceeded"), "{first}");

    // One more has a listener of its own.
    let pid_file = scene.dir().join("further.pid");
    let mut further = caller.command(&["exec", "--pid-file", path(&pid_file), "asks", "sh", "-c", "mkdir /tmp/y"]);
    let further: Child = further.stderr(Stdio::piped()).spawn().expect("it runs");
    let (said, listener) = heard(&agent);
    let its = said["pid"].as_u64().expect("a pid");
    assert_ne!(its, number);
    says(&said, its, number, "running");
    refuse_one(scene, listener);
    quota(further.wait_with_output().expect("waited"));
    assert_eq!(std::fs::read_to_string(pid_file).expect("a pid file"), its.to_string());
    caller.good(&["delete", "--force", "asks"]);
    end_of(&init);
}

/// Nobody there, nowhere to go, or nothing that could be asked in time.
pub(crate) fn without_an_agent_nothing_is_made(scene: &Scene) {
    let caller = Caller::new(scene);
    std::fs::create_dir_all(scene.state_dir()).expect("the state directory");
    let before = scene.stock();
    let nobody = scene.dir().join("nobody");
    let metadata = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "lost" });
    let mut everything = asking(Some(&nobody));
    everything["defaultAction"] = "SCMP_ACT_NOTIFY".into();
    for (filter, why) in [
        (asking(None), "linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs one"),
        (asking(Some(&nobody)), "failed to connect with seccomp agent: linux.seccomp.listenerPath"),
        (metadata, "listenerMetadata"),
        (asking(Some(Path::new("relative"))), "linux.seccomp.listenerPath"),
        (everything, "SCMP_ACT_NOTIFY cannot be used for the"),
    ] {
        let bundle = bundle(scene, "lonely", &["true"], |config| config["linux"]["seccomp"] = filter);
        let told = caller.bad(&["create", "-b", path(&bundle), "lonely"]);
        assert!(told.contains(why), "{why}: {told}");
        reap_adopted();
        std::fs::remove_dir_all(bundle).expect("gone");
        let left = before.left_over(&scene.stock());
        assert!(left.is_empty(), "{why}: {left:?}");
    }
}

/// The hook asks, and nobody says anything.
pub(crate) fn a_hook_whose_agent_does_not_answer_is_killed_in_time(scene: &Scene) {
    let caller = Caller::new(scene);
    let place = scene.dir().join("agent");
    let agent = UnixListener::bind(&place).expect("listening");
    let bundle = bundle(scene, "asks", &["true"], |config| {
        config["linux"]["seccomp"] = asking(Some(&place));
        config["hooks"]["startContainer"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "mkdir /tmp/x"], "env": ["PATH=/bin"], "timeout": 5 }]);
    });
    let init = wait::pidfd(caller.create(&bundle, "asks", Stdio::null()));
    let (_, first) = heard(&agent);
    let told = caller.bad(&["start", "asks"]);
    assert!(told.contains("startContainer hook #0: hook ran past specified timeout of 5s"), "{told}");
    end_of(&init);
    drop((first, heard(&agent)));
    caller.good(&["delete", "asks"]);
}
