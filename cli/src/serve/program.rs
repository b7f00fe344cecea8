//! The program of this process: where it lies, whether what lies there now could go on in its place, and becoming that.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::env;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::execve;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use super::able::Able;

/// A program has so long to say what it is able to.
const PATIENCE: Duration = Duration::from_secs(10);
/// And says it in so many bytes.
const SAID: u64 = 1 << 16;
/// Where descriptors are put for the next program; those below may be in use.
const FIRST: RawFd = 64;

/// How this process was started.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    name: OsString,
    args: Vec<OsString>,
}

impl Program {
    /// Of this process; to be called before anybody has replaced the file.
    pub(super) fn of_this() -> Self {
        let mut args = env::args_os();
        let name = args.next().unwrap_or_default();
        let path = path(Path::new(&name)).unwrap_or_else(|| PathBuf::from(&name));
        Self { path, name, args: args.collect() }
    }

    /// What lies at the path by now can go on in our place.
    ///
    /// # Errors
    /// It cannot, in words.
    ///
    /// # Cancel safety
    /// It is killed.
    pub(super) async fn check(&self) -> Result<(), String> {
        let path = self.path.display();
        let mut asked = Asked::start(self).map_err(|error| format!("{path} cannot be run: {error}"))?;
        let told = tokio::time::timeout(PATIENCE, asked.told()).await;
        let (out, err) = told.map_err(|_| format!("{path} has not answered within {} s", PATIENCE.as_secs()))?;
        let last = err.lines().next().unwrap_or("it says nothing");
        let able: Able = serde_json::from_str(&out).map_err(|_| format!("{path} cannot take over: {last}"))?;
        able.can_follow().map_err(|why| format!("{path} cannot take over: {why}"))?;
        tracing::info!(%path, version = able.version(), "it can take over");
        Ok(())
    }

    /// Become that program, which finds these descriptors as sd_listen_fds(3) does. Comes back only with the reason why not, and
    /// has changed nothing then.
    pub(super) fn become_it(&self, lent: &[(&str, BorrowedFd<'_>)]) -> io::Error {
        let (first, row) = match row(lent) {
            Ok(row) => row,
            Err(error) => return error,
        };
        let names: Vec<&str> = lent.iter().map(|(name, _)| *name).collect();
        let told = [
            ("LISTEN_PID", std::process::id().to_string()),
            ("LISTEN_FDS", row.len().to_string()),
            ("LISTEN_FDNAMES", names.join(":")),
            ("LISTEN_FDS_FIRST_FD", first.to_string()),
        ];
        let Err(error) = self.exec(&row, told);
        error
    }

    /// `told`: in the environment, in the place of what an earlier program was told.
    fn exec(&self, row: &[OwnedFd], told: [(&str, String); 4]) -> io::Result<Infallible> {
        let told = told.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let all: BTreeMap<OsString, OsString> = env::vars_os().chain(told).collect();
        let all = all.iter().map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
        let environment = all.collect::<Result<Vec<_>, _>>()?;
        let args = std::iter::once(&self.name).chain(&self.args).map(|arg| CString::new(arg.as_bytes()));
        let args = args.collect::<Result<Vec<_>, _>>()?;
        let path = CString::new(self.path.as_os_str().as_bytes())?;
        row.iter().try_for_each(|fd| fcntl_setfd(fd, FdFlags::empty()))?;
        // Not the standard library's, which stops ignoring SIGPIPE first: where the program cannot be run, the next pipe that
        // nobody reads would end us.
        Ok(execve(&path, &args, &environment)?)
    }
}

/// Where the program lies, as it was started: a link is followed anew by the next one. `None` where nobody knows.
fn path(name: &Path) -> Option<PathBuf> {
    let real = env::current_exe().ok()?;
    let is_it = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == real);
    let typed = match name.components().count() {
        0 => None,
        1 if !name.as_os_str().as_encoded_bytes().contains(&b'/') => {
            let places = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&places).map(|place| place.join(name)).find(is_it)
        }
        _ => Some(name.to_owned()),
    };
    let typed = typed.and_then(|path| std::path::absolute(path).ok());
    Some(typed.filter(is_it).unwrap_or(real))
}

/// Duplicates with numbers one after the other, and the first of these.
fn row(lent: &[(&str, BorrowedFd<'_>)]) -> io::Result<(RawFd, Vec<OwnedFd>)> {
    let mut first = FIRST;
    'anew: loop {
        let mut row = Vec::new();
        for ((_, fd), wanted) in lent.iter().zip(first..) {
            let copy = fcntl_dupfd_cloexec(fd, wanted)?;
            if copy.as_raw_fd() != wanted {
                // That number is free, and everything up to it is not.
                first = copy.as_raw_fd();
                continue 'anew;
            }
            row.push(copy);
        }
        return Ok((first, row));
    }
}

/// A program that is asked what it is able to; it is not left running.
struct Asked {
    child: Child,
    out: Receiver,
    err: Receiver,
}

impl Asked {
    #[expect(clippy::disallowed_methods, reason = "the program that this process may become, asked before it does")]
    fn start(program: &Program) -> io::Result<Self> {
        let ((out, for_out), (err, for_err)) = (io::pipe()?, io::pipe()?);
        let (out, err) = (Receiver::from_owned_fd(out.into())?, Receiver::from_owned_fd(err.into())?);
        let mut command = Command::new(&program.path);
        command
            .arg0(&program.name)
            .args(&program.args)
            .arg("--check")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_PID");
        let child = command.stdin(Stdio::null()).stdout(for_out).stderr(for_err).spawn()?;
        Ok(Self { child, out, err })
    }

    /// All that it says, to the end of both.
    async fn told(&mut self) -> (String, String) {
        let (out, err) = tokio::join!(all(&mut self.out), all(&mut self.err));
        (out, err)
    }
}

async fn all(from: &mut Receiver) -> String {
    let mut said = Vec::new();
    // What was cut off is no answer.
    let _ = from.take(SAID).read_to_end(&mut said).await;
    String::from_utf8_lossy(&said).into_owned()
}

impl Drop for Asked {
    fn drop(&mut self) {
        // It has ended, or is to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn descriptors_stand_in_a_row() {
        let (one, other) = io::pipe().unwrap();
        let lent = [("a", one.as_fd()), ("b", other.as_fd())];
        let (first, held) = row(&lent).unwrap();
        assert!(first >= FIRST);
        let (next, _held) = row(&lent).unwrap();
        assert!(next > first + 1, "{next} {first}");
        // One free place is too narrow for two.
        drop(held.into_iter().next());
        let (third, row) = row(&lent).unwrap();
        assert_eq!(row.iter().map(OwnedFd::as_raw_fd).collect::<Vec<_>>(), [third, third + 1]);
    }

    #[test]
    fn it_lies_where_it_was_started() {
        let real = env::current_exe().unwrap();
        assert_eq!(path(Path::new("/no/such/program")), Some(real.clone()));
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert_eq!(path(&link), Some(link));
    }

    fn program(text: &str, run: impl AsyncFnOnce(Program)) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(Program { path, name: "x".into(), args: vec!["serve".into()] }));
    }

    #[test]
    fn a_program_that_cannot_follow_is_refused_in_words() {
        for (text, what) in [
            ("", "cannot be run"),
            ("#!/bin/sh\nexit 1\n", "says nothing"),
            ("#!/bin/sh\necho no such option >&2; exit 2\n", "no such option"),
            ("#!/bin/sh\necho '{\"schema\":1,\"version\":\"9.9\",\"keeper\":9999}'\n", "version 9999"),
        ] {
            program(text, async |program| {
                let why = program.check().await.unwrap_err();
                assert!(why.contains(what), "{why}");
            });
        }
    }
}
