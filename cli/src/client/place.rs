//! Which daemon is meant: the path of its socket, and who said so.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use orangery_daemon::place::default_socket;

use crate::errors::Failure;

/// Names a socket, where no option does.
const VARIABLE: &str = "ORANGERY_SOCKET";

/// The kind of a failure to find anybody there.
pub(super) const NO_DAEMON: &str = "no_daemon";

/// Who said where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Option,
    Variable,
    /// Nobody: it is where daemons are.
    Default,
}

/// The path of a daemon's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    path: PathBuf,
    said: Said,
}

impl Place {
    /// What `--socket` says, or the environment, or where the daemon of this user is.
    pub(crate) fn find(option: Option<&Path>) -> Self {
        Self::of(option, std::env::var_os(VARIABLE))
    }

    fn of(option: Option<&Path>, variable: Option<OsString>) -> Self {
        match (option, variable.filter(|path| !path.is_empty())) {
            (Some(path), _) => Self { path: path.into(), said: Said::Option },
            (None, Some(path)) => Self { path: path.into(), said: Said::Variable },
            (None, None) => Self { path: default_socket(), said: Said::Default },
        }
    }

    /// Nobody has said where: it may have been chosen by who wants to be asked.
    pub(super) fn is_default(&self) -> bool {
        self.said == Said::Default
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Nobody answers there: what was tried, and what to do.
    pub(crate) fn no_daemon(&self, error: &io::Error) -> Failure {
        let path = self.path.display();
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no such socket",
            io::ErrorKind::ConnectionRefused => "the socket is there, and nobody listens at it",
            io::ErrorKind::PermissionDenied => "this user may not connect: the daemon is another user's",
            io::ErrorKind::WouldBlock => "too many others wait for it",
            _ => return Failure::system(format!("no daemon answers at {path}"), error).with_kind(NO_DAEMON),
        };
        let failure = Failure::new(format!("no daemon answers at {path}: {why}"));
        let failure = failure.with_kind(NO_DAEMON).with_errno(error.raw_os_error());
        match self.said {
            Said::Option => failure.with_option("--socket").with_hint(format!("orangery serve --socket {path}")),
            Said::Variable => failure.with_option(VARIABLE).with_hint(format!("orangery serve --socket {path}")),
            Said::Default => {
                failure.with_hint(format!("orangery serve, which makes it; or --socket PATH or {VARIABLE} for another"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_first() {
        let of = |option: Option<&str>, variable: Option<&str>| {
            let Place { path, said } = Place::of(option.map(Path::new), variable.map(Into::into));
            (path, said)
        };
        assert_eq!(of(Some("a"), Some("b")), ("a".into(), Said::Option));
        assert_eq!(of(None, Some("b")), ("b".into(), Said::Variable));
        assert_eq!(of(None, Some("")), (default_socket(), Said::Default));
        assert_eq!(of(None, None), (default_socket(), Said::Default));
    }
}
