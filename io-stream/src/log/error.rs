//! The error of a log: what was attempted, on which path, and what the system said.

use std::io;
use std::path::{Path, PathBuf};

use crate::cursor::Gone;

/// What kind of failure a [`LogError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum LogErrorKind {
    /// There is a log in that directory already: open it.
    #[error("there is a log already")]
    Exists,
    /// There is no log in that directory.
    #[error("there is no log")]
    Missing,
    /// The state file is none, or of a version that is not known.
    #[error("its state file is damaged or of another version")]
    NotALog,
    /// Another writer has it open.
    #[error("another writer has it open")]
    InUse,
    /// An option is out of its range.
    #[error("an option is out of its range")]
    Option,
    /// An option asks for what this was built without: the feature `zstd`.
    #[error("compression was asked for, and this was built without the feature zstd")]
    Unsupported,
    /// The cursor cannot be resumed at, see [`LogError::gone`].
    #[error("the cursor cannot be resumed at")]
    Gone,
    /// A system call failed.
    #[error("the system refused")]
    Io,
}

/// An operation on a log that failed.
///
/// A full disk is none while a log is written: it is a gap in the log.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}: {kind}", path.display())]
pub struct LogError {
    operation: &'static str,
    path: PathBuf,
    kind: LogErrorKind,
    source: Option<io::Error>,
    gone: Option<Gone>,
}

impl LogError {
    pub(crate) fn new(operation: &'static str, path: &Path, kind: LogErrorKind) -> Self {
        Self { operation, path: path.to_owned(), kind, source: None, gone: None }
    }

    /// A failed system call; the mapper of a `map_err`.
    pub(crate) fn io<E: Into<io::Error>>(operation: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |error| {
            let error = error.into();
            let kind = match error.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => LogErrorKind::NotALog,
                _ => LogErrorKind::Io,
            };
            Self { source: Some(error), ..Self::new(operation, path, kind) }
        }
    }

    pub(crate) fn from_gone(operation: &'static str, path: &Path, gone: Gone) -> Self {
        Self { gone: Some(gone), ..Self::new(operation, path, LogErrorKind::Gone) }
    }

    /// What kind of failure it was.
    pub const fn kind(&self) -> LogErrorKind {
        self.kind
    }

    /// What was attempted, as a phrase: `"open a log in"`.
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// The file or directory that it was about.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the system said, if a system call failed.
    pub const fn io_error(&self) -> Option<&io::Error> {
        self.source.as_ref()
    }

    /// Why a cursor was refused, and the oldest place there is; of a [`LogErrorKind::Gone`].
    pub const fn gone(&self) -> Option<Gone> {
        self.gone
    }
}
