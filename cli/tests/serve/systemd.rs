//! What systemd does with a daemon: hears of it, and opens its socket.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use std::collections::BTreeMap;
use std::io::{IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::json;

use crate::daemon::{Daemon, PATIENCE, binary, connect, readable};
use crate::{Test, always};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        always("systemd_hears_of_it", hears),
        always("a_socket_that_systemd_opened", activated),
        always("what_systemd_has_kept_comes_back", second_place),
    ]
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

/// As much of systemd as keeps descriptors.
struct Manager {
    socket: UnixDatagram,
    kept: BTreeMap<String, OwnedFd>,
    /// All that were ever kept.
    seen: Vec<String>,
}

impl Manager {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, kept: BTreeMap::new(), seen: Vec::new() }
    }

    /// Whatever is said, until it is as it should be.
    fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let (mut text, mut fds) = ([0; 512], Vec::new());
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let parts = &mut [IoSliceMut::new(&mut text)];
            let got = recvmsg(&self.socket, parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            let text = std::str::from_utf8(&text[..got.bytes]).unwrap();
            let Some(name) = text.lines().find_map(|line| line.strip_prefix("FDNAME=")) else { continue };
            if text.starts_with("FDSTOREREMOVE=1\n") {
                self.kept.remove(name);
            } else {
                assert!(text.starts_with("FDSTORE=1\n") && text.ends_with("\nFDPOLL=0"), "{text}");
                self.seen.push(name.to_owned());
                assert!(self.kept.insert(name.to_owned(), fds.pop().unwrap()).is_none(), "{name} twice");
            }
            assert!(fds.is_empty());
        }
    }

    /// The daemon once more, with all that was kept.
    fn start(&self, dir: tempfile::TempDir) -> Daemon {
        let first = 200;
        let give = |(fd, number): (&OwnedFd, i32)| {
            let copy = fcntl_dupfd_cloexec(fd, number).unwrap();
            assert_eq!(copy.as_raw_fd(), number);
            fcntl_setfd(&copy, FdFlags::empty()).unwrap();
            copy
        };
        let given: Vec<OwnedFd> = self.kept.values().zip(first..).map(give).collect();
        let names: Vec<&str> = self.kept.keys().map(String::as_str).collect();
        let mut command = Command::new("sh");
        command.args(["-c", "LISTEN_PID=$$; export LISTEN_PID; exec \"$@\"", "sh"]).arg(binary());
        command.env("LISTEN_FDS", given.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        command.env("LISTEN_FDS_FIRST_FD", first.to_string());
        Self::of(command, dir)
    }

    fn of(mut command: Command, dir: tempfile::TempDir) -> Daemon {
        command.arg("serve").arg("--state").arg(dir.path().join("state"));
        command.arg("--socket").arg(dir.path().join("own/socket")).env_remove("WATCHDOG_USEC");
        command.env("NOTIFY_SOCKET", dir.path().join("notify")).env("FDSTORE", "64").stdin(Stdio::null());
        Daemon::of_any(&mut command, dir)
    }
}

/// The keeper is the one child of a daemon.
fn keeper(daemon: &Daemon) -> OwnedFd {
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let children: String = threads
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap_or_default())
        .collect();
    let pid = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    pidfd_open(pid, PidfdFlags::empty()).unwrap()
}

/// Daemon and keeper are killed. Whoever connects meanwhile waits, and how a process has ended is known.
fn second_place() {
    let dir = tempfile::tempdir().unwrap();
    let mut manager = Manager::new(&dir.path().join("notify"));
    let mut daemon = Manager::of(Command::new(binary()), dir);
    let (own, a, b) = ("orangery-own", "orangery-process-a-0", "orangery-process-b-0");
    daemon.make("a", "read x; exit 7", json!({ "stdin": "keep" })).json(201);
    daemon.sh("b", "exec sleep 1000").json(201);
    manager.until(|manager| [own, a, b].iter().all(|name| manager.kept.contains_key(*name)));
    daemon.ask("POST", "/v1/containers/b/kill", "").done();
    let over = |manager: &Manager, name: &str| {
        manager.seen.iter().any(|seen| seen == name) && !manager.kept.contains_key(name)
    };
    manager.until(|manager| over(manager, b));
    let keeper = keeper(&daemon);
    daemon.signal(Signal::KILL);
    daemon.ended();
    pidfd_send_signal(&keeper, Signal::KILL).unwrap();
    assert!(readable(&manager.kept[a], PATIENCE), "nobody has its input any more, and it has not ended");
    let mut waiting = connect(&daemon.socket());
    write!(waiting, "GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let dir = std::mem::replace(&mut daemon.dir, tempfile::tempdir().unwrap());
    let daemon = manager.start(dir);
    assert_eq!(crate::client::answer(waiting).json(200)["pid"], daemon.pid());
    let exit = daemon.exit("a");
    // Linux says so from 6.15 on.
    if kernel() >= (6, 15) {
        assert_eq!(exit["exit_code"], 7, "{exit}");
    }
    manager.until(|manager| over(manager, a) && manager.kept.contains_key(own));
    daemon.end();
    manager.until(|manager| manager.kept.is_empty());
}

fn kernel() -> (u32, u32) {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = text.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}
