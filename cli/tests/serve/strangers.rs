//! Other users, and other machines: they can neither connect nor read; with the token, TCP can.
#![allow(clippy::disallowed_methods, reason = "clients that are processes of other users")]

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Output};

use crate::client::ask;
use crate::daemon::{Daemon, PATIENCE, binary};
use crate::streams::no_curl;
use crate::{Test, always, needs};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        needs("another_user_can_neither_connect_nor_read", no_root().or_else(no_curl), other_user),
        always("what_is_not_ours_alone_is_refused", refused),
        always("tcp_is_for_who_has_the_token", token),
    ]
}

pub(crate) fn no_root() -> Option<String> {
    (!rustix::process::geteuid().is_root()).then(|| "only root can be another user".to_owned())
}

fn as_other(command: &[&str]) -> Output {
    let setpriv = ["--reuid=1001", "--regid=1001", "--clear-groups", "--"];
    Command::new("setpriv").args(setpriv).args(command).output().unwrap()
}

fn other_user() {
    let daemon = Daemon::start();
    daemon.sh("a", "echo secret").json(201);
    daemon.exit("a");
    let socket = daemon.socket();
    let curl = |place: &str| {
        let path = daemon.dir.path().join(place);
        as_other(&["curl", "-sv", "--unix-socket", path.to_str().unwrap(), "http://localhost/v1/containers"])
    };
    fs::set_permissions(daemon.dir.path(), Permissions::from_mode(0o755)).unwrap();
    let denied = |output: Output| String::from_utf8_lossy(&output.stderr).contains("Permission denied");
    assert!(denied(curl("own/socket")), "the directory keeps it out");
    // The keeper's door: whoever comes in there has all that runs.
    assert!(denied(curl("state/supervisor/runtime/door")), "the keeper's door");
    let record = "state/supervisor/containers/a/report.json";
    for place in ["state", "state/serve", "state/serve/logs/a", "state/supervisor/lock", record, "own"] {
        let path = daemon.dir.path().join(place);
        assert!(path.exists() && denied(as_other(&["cat", path.to_str().unwrap()])), "{place} can be read");
    }
    // Whatever somebody does to the directories above them.
    for dir in ["state", "state/serve", "state/supervisor"] {
        ours_alone(&daemon.dir.path().join(dir));
    }
    // Even where somebody has opened all doors the kernel says who it is.
    fs::set_permissions(daemon.dir.path().join("own"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o666)).unwrap();
    let said = String::from_utf8(curl("own/socket").stdout).unwrap();
    assert!(said.contains("\"kind\":\"forbidden\""), "{said}");
    daemon.end();
}

/// Nobody else has rights on anything in this directory.
fn ours_alone(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        assert!(meta.is_symlink() || meta.mode() & 0o077 == 0, "{:?} has mode {:o}", entry.path(), meta.mode());
    }
}

/// Ends at once with 125 and these words.
fn says(options: &[&str], what: &str) {
    // One that is not refused would serve.
    let output = Command::new("timeout").arg("60").arg(binary()).arg("serve").args(options).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.contains(what)), (Some(125), true), "{said}");
    assert!(said.lines().count() <= 3, "{said}");
}

fn refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("open")).unwrap();
    fs::set_permissions(path("open"), Permissions::from_mode(0o755)).unwrap();
    let (state, socket, open) = (path("state"), path("own/socket"), path("open/socket"));
    says(&["--state", &path("open"), "--socket", &socket], "not ours alone");
    says(&["--state", &state, "--socket", &open], "open to others");
    says(&["--state", &state, "--socket", &socket, "--listen", "127.0.0.1:0"], "token-file");
    fs::write(path("token"), "0123456789abcdef0123456789abcdef\n").unwrap();
    fs::set_permissions(path("token"), Permissions::from_mode(0o644)).unwrap();
    let with = |token: &str| ["--state", &state, "--socket", &socket, "--token-file", token].map(str::to_owned);
    let with_token = with(&path("token"));
    let options: Vec<&str> = with_token.iter().map(String::as_str).collect();
    says(&options, "can be read by others");
    fs::set_permissions(path("token"), Permissions::from_mode(0o600)).unwrap();
    fs::write(path("token"), "short").unwrap();
    says(&options, "holds no token");
    let daemon = Daemon::start();
    let (other, taken) = (path("other"), daemon.socket());
    says(&["--state", &other, "--socket", taken.to_str().unwrap()], "another daemon");
    assert_eq!(fs::metadata(daemon.state()).unwrap().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(daemon.socket()).unwrap().mode() & 0o777, 0o600);
    daemon.end();
}

fn token() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    let token = "0123456789abcdef0123456789abcdef";
    fs::write(&file, format!("{token}\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let daemon = Daemon::start_in(dir, &["--listen", "127.0.0.1:0", "--token-file", file.to_str().unwrap()]);
    let (_, address) = daemon.said.trim_end().rsplit_once(" and at ").expect("the port that it was given");
    let address: SocketAddr = address.parse().unwrap();
    let ask = |headers: &[(&str, &str)]| ask(connect(address), "GET", "/v1/containers", headers, "");
    let unknown = ask(&[]);
    assert_eq!(unknown.headers["www-authenticate"], "Bearer");
    assert_eq!(unknown.refusal().1, "unauthorized");
    assert_eq!(ask(&[("Authorization", "Bearer 0123456789abcdef0123456789abcdee")]).refusal().0, 401);
    assert_eq!(ask(&[("Authorization", &format!("Bearer {token}"))]).status, 200);
    assert_eq!(daemon.get("/v1/containers").status, 200);
    daemon.end();
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
