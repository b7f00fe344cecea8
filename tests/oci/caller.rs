//! Who calls `orangery-oci`: this trial, which is a subreaper as conmon is.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use orangery_tests::{Scene, wait};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use serde_json::Value;

use crate::bundle::bundle;

/// Tells this program that it is `orangery-oci`.
pub(crate) const ROLE: &str = "ORANGERY_TEST_OCI";

/// The command of one that stays, as ps shows it.
pub(crate) const STAYS: &str = "/probe deaf";

/// It is, in this process.
pub(crate) fn is_the_program() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// The program, with a `--root` of the trial's.
pub(crate) struct Caller<'a> {
    pub(crate) scene: &'a Scene,
    pub(crate) root: PathBuf,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(scene: &'a Scene) -> Self {
        Self { scene, root: scene.state_dir() }
    }

    #[expect(clippy::disallowed_methods, reason = "the program that is tried")]
    pub(crate) fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(std::env::current_exe().expect("us"));
        command.env(ROLE, "1").arg("--root").arg(&self.root).args(line).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, line: &[&str]) -> Output {
        self.command(line).output().expect("it runs")
    }

    /// It succeeds and says nothing on standard error; what it says.
    #[track_caller]
    pub(crate) fn good(&self, line: &[&str]) -> String {
        let output = self.run(line);
        let (said, told) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success() && told.is_empty(), "{line:?}: {:?}: {told}", output.status);
        said
    }

    /// It fails with 1; what it tells.
    #[track_caller]
    pub(crate) fn bad(&self, line: &[&str]) -> String {
        let output = self.run(line);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{line:?}: {}", text(&output.stdout));
        text(&output.stderr)
    }

    /// `create` with its output into `out`; the pid that it has written.
    #[track_caller]
    pub(crate) fn create(&self, bundle: &Path, id: &str, out: impl Into<Stdio>) -> u32 {
        let file = self.scene.dir().join(format!("{id}.pid"));
        let mut command = self.command(&["create", "--bundle", path(bundle), "--pid-file", path(&file), id]);
        // The container has it as well, and longer.
        let told = file.with_extension("stderr");
        let stderr = File::create(&told).expect("a file");
        let status = command.stdout(out).stderr(stderr).status().expect("it runs");
        let told = std::fs::read_to_string(told).expect("its words");
        assert!(status.success() && told.is_empty(), "{told}");
        std::fs::read_to_string(file).expect("a pid file").parse().expect("a number")
    }

    /// One that runs until it is ended. `start` returns before its command has its own name in /proc; when that has said a word it has.
    #[track_caller]
    pub(crate) fn staying(&self, id: &str) -> OwnedFd {
        let words: Vec<&str> = STAYS.split(' ').collect();
        let bundle = bundle(self.scene, id, &words, |_| ());
        let (said, out) = pipe();
        let init = wait::pidfd(self.create(&bundle, id, out));
        self.good(&["start", id]);
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        init
    }

    #[track_caller]
    pub(crate) fn end(&self, id: &str, init: &OwnedFd) {
        self.good(&["delete", "--force", id]);
        end_of(init);
    }

    #[track_caller]
    pub(crate) fn state(&self, id: &str) -> Value {
        serde_json::from_str(&self.good(&["state", id])).expect("JSON")
    }

    #[track_caller]
    pub(crate) fn status(&self, id: &str) -> String {
        self.state(id)["status"].as_str().expect("a status").to_owned()
    }
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A pipe, its reading end first.
pub(crate) fn pipe() -> (File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe");
    (File::from(read), write)
}

/// All of a pipe, when nobody writes any more.
pub(crate) fn all(mut pipe: impl Read) -> String {
    let mut said = String::new();
    pipe.read_to_string(&mut said).expect("read");
    said
}

/// Who has fallen to us ends, and we are told how.
pub(crate) fn end_of(pidfd: &OwnedFd) -> WaitIdStatus {
    wait::gone(pidfd, "the container's first process");
    waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED).expect("our child").expect("ended")
}
