//! What systemd does with a daemon: hears of it, and opens its socket.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE, binary, connect};
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![always("systemd_hears_of_it", hears), always("a_socket_that_systemd_opened", activated)]
}

fn hears() {
    let dir = tempfile::tempdir().unwrap();
    let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let said = || {
        let mut text = [0; 64];
        let length = notify.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    let mut command = Command::new(binary());
    command
        .arg("serve")
        .arg("--state")
        .arg(dir.path().join("state"))
        .arg("--socket")
        .arg(dir.path().join("own/socket"));
    command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("WATCHDOG_USEC", "30000").stdin(Stdio::null());
    let mut daemon = Daemon::of_any(&mut command, dir);
    assert_eq!(said(), "READY=1");
    assert_eq!((said(), said()), ("WATCHDOG=1".into(), "WATCHDOG=1".into()));
    daemon.signal(Signal::TERM);
    let last = std::iter::from_fn(|| Some(said())).find(|text| text != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(daemon.ended().code(), Some(0));
}

fn activated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("given");
    let listener = UnixListener::bind(&path).unwrap();
    // As systemd does it: the socket is descriptor 3.
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1; export LISTEN_PID LISTEN_FDS; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(binary()).arg("serve").arg("--state").arg(dir.path().join("state"));
    command.stdin(OwnedFd::from(listener)).env_remove("ORANGERY_SOCKET").env_remove("NOTIFY_SOCKET");
    let mut daemon = Daemon::of_any(&mut command, dir);
    let answer = crate::client::ask(connect(&path), "GET", "/v1/health", &[], "");
    assert_eq!(answer.json(200)["status"], "ok");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(path.exists(), "it was not ours to remove");
}
