//! Running the binary and reading what it said.
#![allow(clippy::disallowed_methods, reason = "the tests start the binary under test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// Copy a program that is to be executed, by a process of its own: a child of another trial, not yet at its exec, would hold a file
/// that we have written ourselves open for writing (ETXTBSY).
pub(crate) fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let copied = Command::new("cp").arg(from.as_ref()).arg(to.as_ref()).status().unwrap();
    assert!(copied.success());
}

/// What one run said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It ended so, without a word of ours.
    #[track_caller]
    pub(crate) fn ended(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let Output { status, stdout, stderr } = output;
        Self { code: status.code(), out: stdout, err: String::from_utf8_lossy(&stderr).into_owned() }
    }
}

/// The binary.
pub(crate) fn binary() -> PathBuf {
    match std::env::var_os("ORANGERY_TEST_BIN_DIR") {
        Some(dir) => Path::new(&dir).join("orangery"),
        None => env!("CARGO_BIN_EXE_orangery").into(),
    }
}

pub(crate) fn orangery(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// Run it to its end.
pub(crate) fn ran(args: &[&str]) -> Ran {
    orangery(args).output().unwrap().into()
}

/// `orangery run OPTIONS -- sh -c SCRIPT`.
pub(crate) fn sh(options: &[&str], script: &str) -> Ran {
    ran(&line(options, script))
}

fn line<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["run"], options, &["--", "sh", "-c", script]].concat()
}

/// Run it with this input.
pub(crate) fn fed(args: &[&str], input: &[u8]) -> Ran {
    let mut child = orangery(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A command that does not read is none of ours.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().unwrap().into()
    })
}

/// One that runs, up to the line `ready` of its output.
pub(crate) struct Running {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// `script` must say `ready`.
    pub(crate) fn start(options: &[&str], script: &str) -> Self {
        Self::of(orangery(&line(options, script)), "ready")
    }

    /// Its first line is this.
    pub(crate) fn of(command: Command, said: &str) -> Self {
        let mut running = Self::silent(command);
        let first = running.said();
        if first != said {
            running.child.kill().unwrap();
            panic!("{first:?}: {:?}", Ran::from(running.child.wait_with_output().unwrap()));
        }
        running
    }

    /// Whatever it says.
    pub(crate) fn silent(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        // Our child, and not reaped: the number is its own.
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// The next line that it says.
    pub(crate) fn said(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end_matches('\n').to_owned()
    }

    /// The end of its input, and then its own.
    pub(crate) fn end(mut self) -> Ran {
        drop(self.child.stdin.take());
        let mut out = Vec::new();
        self.out.read_to_end(&mut out).unwrap();
        let output = self.child.wait_with_output().unwrap();
        Ran { out, ..output.into() }
    }
}

/// A directory that a read-only root can be made of.
pub(crate) fn empty_root() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["proc", "sys", "dev", "tmp", "run"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    dir
}

pub(crate) fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the doctor says, once.
pub(crate) fn doctor() -> &'static Value {
    static DOCTOR: OnceLock<Value> = OnceLock::new();
    DOCTOR.get_or_init(|| ran(&["doctor", "--json"]).json())
}

/// Why a feature cannot be used here, if so.
pub(crate) fn lacks(name: &str) -> Option<String> {
    let findings = doctor()["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["name"] == name)?;
    let why = || format!("{name}: {}", found["detail"].as_str().unwrap_or("absent"));
    (found["state"] != "ok").then(why)
}
