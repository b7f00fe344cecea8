//! The client's half of the daemon: what it asks, what it makes of answers, and that it outlives connections.

pub(crate) mod fake;
mod proxy;
mod real;
mod refusals;
mod sessions;
mod streams;
mod typed;

use std::path::PathBuf;

use crate::Test;
use crate::kit::{Ran, ran};

pub(crate) fn tests() -> Vec<Test> {
    [refusals::tests(), streams::tests(), sessions::tests(), typed::tests(), real::tests()]
        .into_iter()
        .flatten()
        .collect()
}

/// A directory with room for a socket.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        // A daemon has no socket where others could reach it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        Self { dir: tempfile::Builder::new().permissions(mode).tempdir().unwrap() }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The arguments, and behind the subcommand the socket.
    pub(crate) fn line(&self, args: &[&str]) -> Vec<String> {
        let (subcommand, rest) = args.split_first().unwrap();
        let socket = format!("--socket={}", self.socket().display());
        [&[(*subcommand).to_owned(), socket], &rest.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>()[..]]
            .concat()
    }

    pub(crate) fn ran(&self, args: &[&str]) -> Ran {
        let line = self.line(args);
        ran(&line.iter().map(String::as_str).collect::<Vec<_>>())
    }
}
