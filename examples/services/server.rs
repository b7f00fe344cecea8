//! One of the example servers, and what runs in it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use orangery_tests::{scene, stock, wait};
use rustix::process::{Signal, pidfd_send_signal};

use crate::client::{self, Response};

/// A running example.
pub(crate) struct Server {
    process: Child,
    address: SocketAddr,
}

/// A process of a container, with the directories of its cgroups.
#[derive(Debug)]
pub(crate) struct Process {
    process: stock::Process,
    pidfd: OwnedFd,
    cgroups: Vec<PathBuf>,
}

/// The example's program: beside this one, or where it was copied for another user.
pub(crate) fn program(example: &str) -> PathBuf {
    let found = match std::env::var_os("ORANGERY_TEST_BIN_DIR") {
        Some(dir) => PathBuf::from(dir).join(example),
        None => std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples").join(example),
    };
    assert!(found.exists(), "{} is not built: cargo test -p orangery-examples builds it", found.display());
    found
}

impl Server {
    pub(crate) fn start(example: &str) -> Self {
        Self::start_with(example, &[])
    }

    /// With what follows its address.
    #[expect(clippy::disallowed_methods, reason = "the example under test")]
    pub(crate) fn start_with(example: &str, more: &[&str]) -> Self {
        let mut command = Command::new(program(example));
        command.arg("127.0.0.1:0").args(more).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let address = said.trim_end().strip_prefix("listening on ").expect("its address").parse().unwrap();
        Self { process, address }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many it holds.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id())).unwrap().count()
    }

    pub(crate) fn raw(&self, request: &[u8]) -> Response {
        client::ask(self.address, request)
    }

    /// Does not wait for the answer.
    pub(crate) fn ask_only(&self, request: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request).unwrap();
        stream
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Response {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
        self.raw(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn post(&self, path: &str, script: &str) -> Response {
        self.ask("POST", path, script.as_bytes())
    }

    /// All processes of containers: what the server has started but its keeper.
    pub(crate) fn containers(&self) -> Vec<Process> {
        let all = stock::descendants(self.process.id()).into_iter();
        all.filter(|process| process.name != "orangery-keeper" && process.state != 'Z')
            .filter_map(|process| {
                let pidfd = wait::try_pidfd(process.pid)?;
                let cgroups = cgroups(process.pid);
                Some(Process { process, pidfd, cgroups })
            })
            .collect()
    }

    /// SIGINT, as a terminal sends it; nothing of it is left. Its pidfd, which says that it has ended.
    pub(crate) fn end(self) -> OwnedFd {
        self.end_by(Signal::INT)
    }

    pub(crate) fn end_by(mut self, signal: Signal) -> OwnedFd {
        let pidfd = wait::pidfd(self.process.id());
        let all: Vec<OwnedFd> =
            stock::descendants(self.process.id()).into_iter().filter_map(|one| wait::try_pidfd(one.pid)).collect();
        pidfd_send_signal(&pidfd, signal).unwrap();
        let status = wait::child(&mut self.process, wait::PATIENCE).unwrap();
        assert!(status.is_some_and(|status| status.success()), "{status:?}");
        all.iter().for_each(|pidfd| wait::gone(pidfd, "a process of the server"));
        pidfd
    }
}

/// The container's own directories: where the path has an instance of ours in it.
fn cgroups(pid: u32) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let paths: Vec<&str> = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
    let ours = paths.into_iter().filter(|path| path.contains("orangery"));
    let places = ours.flat_map(|path| scene::hierarchies().into_iter().map(move |top| top.join(&path[1..])));
    places.filter(|place| place.is_dir()).collect()
}

impl Process {
    pub(crate) fn is(&self, other: &Process) -> bool {
        self.process.pid == other.process.pid
    }

    pub(crate) fn alive(&self) -> bool {
        !wait::readable(&self.pidfd, std::time::Duration::ZERO)
    }

    /// It ends, and its cgroups are removed.
    pub(crate) fn gone(&self) {
        wait::gone(&self.pidfd, &self.process.to_string());
        let until = std::time::Instant::now() + wait::PATIENCE;
        while let Some(left) = self.cgroups.iter().find(|dir| dir.exists()) {
            assert!(std::time::Instant::now() < until, "{} is left", left.display());
            std::thread::yield_now();
        }
    }
}
