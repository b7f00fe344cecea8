//! A daemon under test.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::client::{Answer, ask};
use crate::family::descendants;

/// Long enough for anything on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The binary.
pub(crate) fn binary() -> PathBuf {
    match std::env::var_os("ORANGERY_TEST_BIN_DIR") {
        Some(dir) => Path::new(&dir).join("orangery"),
        None => env!("CARGO_BIN_EXE_orangery").into(),
    }
}

/// One daemon. Dropped, it is killed.
pub(crate) struct Daemon {
    child: Child,
    pidfd: OwnedFd,
    /// The line that says that it can be used.
    pub(crate) said: String,
    pub(crate) dir: tempfile::TempDir,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options)
    }

    /// Up to the line that says that it can be used.
    pub(crate) fn start_in(dir: tempfile::TempDir, options: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.arg("serve").arg("--state").arg(dir.path().join("state"));
        command.arg("--socket").arg(dir.path().join("own/socket")).args(options);
        Self::of(command, dir)
    }

    pub(crate) fn of(mut command: Command, dir: tempfile::TempDir) -> Self {
        command.env_remove("RUST_LOG").env_remove("NOTIFY_SOCKET").env_remove("ORANGERY_SOCKET");
        Self::of_any(command.stdin(Stdio::null()), dir)
    }

    /// With the environment as it is.
    pub(crate) fn of_any(command: &mut Command, dir: tempfile::TempDir) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with("listening at "), "{said:?}");
        Self { child, pidfd, said, dir }
    }

    /// Killed, unless it has ended, and another one in its place.
    pub(crate) fn again(mut self) -> Self {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = self.child.wait();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        Self::start_in(dir, &[])
    }

    /// Another one takes over, and this one ends by itself.
    pub(crate) fn succeeded(mut self, command: &mut Command) -> Self {
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        let next = Self::of_any(command, dir);
        assert_eq!(self.ended().code(), Some(0));
        next
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("own/socket")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn connect(&self) -> UnixStream {
        connect(&self.socket())
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(&self, method: &str, target: &str, body: &str) -> Answer {
        ask(self.connect(), method, target, &[], body)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, "")
    }

    /// Make and start a container of this shell script.
    pub(crate) fn sh(&self, name: &str, script: &str) -> Answer {
        self.make(name, script, serde_json::json!({}))
    }

    /// The same, with more in its body.
    pub(crate) fn make(&self, name: &str, script: &str, more: serde_json::Value) -> Answer {
        let mut body = serde_json::json!({ "name": name, "spec": { "command": ["sh", "-c", script] } });
        for (key, value) in more.as_object().unwrap() {
            match key.as_str() {
                "spec" => body["spec"].as_object_mut().unwrap().extend(value.as_object().unwrap().clone()),
                _ => body[key] = value.clone(),
            }
        }
        self.ask("POST", "/v1/containers", &body.to_string())
    }

    /// How it ended.
    pub(crate) fn exit(&self, name: &str) -> serde_json::Value {
        let waited = self.get(&format!("/v1/containers/{name}/wait?timeout=60s")).json(200);
        assert_eq!(waited["done"], true, "{waited}");
        waited["exit"].clone()
    }

    /// How many descriptors it holds.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).unwrap();
    }

    /// Its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        assert!(readable(&self.pidfd, PATIENCE), "the daemon is still there");
        self.child.wait().unwrap()
    }

    /// Everything is deleted, then TERM: it ends well, and nothing of it is left but its state directory.
    pub(crate) fn end(mut self) {
        for container in self.get("/v1/containers").json(200)["containers"].as_array().unwrap() {
            let name = container["name"].as_str().unwrap();
            self.ask("DELETE", &format!("/v1/containers/{name}?force=true"), "").done();
        }
        let processes: Vec<OwnedFd> = descendants(self.pid().cast_signed());
        self.signal(Signal::TERM);
        assert_eq!(self.ended().code(), Some(0));
        for process in &processes {
            assert!(readable(process, PATIENCE), "a process is left");
        }
        assert!(!self.socket().exists(), "the socket is left");
    }
}

impl Drop for Daemon {
    /// Of a trial that has failed: its containers would outlive it.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let family: Vec<OwnedFd> = descendants(self.pid().cast_signed());
        for process in family.iter().chain([&self.pidfd]) {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

pub(crate) fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A descriptor becomes readable (a pidfd: its process has ended), or the time is over.
pub(crate) fn readable(fd: impl std::os::fd::AsFd, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap() == 1
}
