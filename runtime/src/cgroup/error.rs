//! What can go wrong with a cgroup: one opaque error that keeps what was attempted, where, and for which field.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

/// A refused or failed cgroup operation.
///
/// `Display` names operation, path, field and reason; the system's own error is only in [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[error("{}", self.text())]
pub struct CgroupError {
    operation: &'static str,
    path: PathBuf,
    field: Option<Cow<'static, str>>,
    reason: Option<String>,
    source: Option<io::Error>,
}

impl CgroupError {
    /// A failed system call.
    pub(super) fn sys(operation: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> CgroupError {
        CgroupError { operation, path: path.into(), field: None, reason: None, source: Some(source.into()) }
    }

    /// A refusal of ours, with no system call behind it.
    pub(super) fn refused(operation: &'static str, path: impl Into<PathBuf>, reason: impl Into<String>) -> CgroupError {
        CgroupError { operation, path: path.into(), field: None, reason: Some(reason.into()), source: None }
    }

    pub(super) fn with_field(mut self, field: impl Into<Cow<'static, str>>) -> CgroupError {
        self.field = Some(field.into());
        self
    }

    /// Adds to the reasons.
    pub(super) fn with_reason(mut self, reason: impl Into<String>) -> CgroupError {
        self.reason = Some(match self.reason.take() {
            Some(first) => format!("{first}; {}", reason.into()),
            None => reason.into(),
        });
        self
    }

    /// What was attempted, as a verb: "make", "write", "remove".
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The file or directory it was attempted on, for people; never to be opened again.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why, where that is not the system's error alone.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The field of [`Limits`](super::Limits) (or of the request) that is to blame, when there is one.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The system's error number; `None` for a refusal of ours.
    pub fn errno(&self) -> Option<i32> {
        self.source.as_ref().and_then(io::Error::raw_os_error)
    }

    /// The group still holds a process or a child group: await [`wait_empty`](super::Group::wait_empty) and try again.
    pub fn is_busy(&self) -> bool {
        matches!(self.errno(), Some(libc::EBUSY | libc::ENOTEMPTY))
    }

    /// We lack the right (EACCES, EPERM), or the mount is read-only.
    pub fn is_permission(&self) -> bool {
        matches!(self.errno(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
    }

    /// A group of that name is there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// The group is gone (removed by somebody else, or before).
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV))
    }

    /// A bounded wait ran out.
    pub fn is_timeout(&self) -> bool {
        self.errno() == Some(libc::ETIMEDOUT)
    }

    /// This machine or mode cannot do it (no freezer, no cgroup at all).
    pub fn is_unsupported(&self) -> bool {
        self.errno() == Some(libc::EOPNOTSUPP)
    }

    fn text(&self) -> String {
        let mut text = format!("cannot {} {}", self.operation, self.path.display());
        if let Some(field) = &self.field {
            text.push_str(&format!(" (for {field})"));
        }
        if let Some(reason) = &self.reason {
            text.push_str(&format!(": {reason}"));
        }
        text
    }
}

/// `ETIMEDOUT` for a wait of ours that ran out.
pub(super) fn timed_out(operation: &'static str, path: impl Into<PathBuf>, reason: &str) -> CgroupError {
    CgroupError::sys(operation, path, io::Error::from_raw_os_error(libc::ETIMEDOUT)).with_reason(reason)
}

/// `EOPNOTSUPP` for what this mode cannot do.
pub(super) fn unsupported(operation: &'static str, path: impl Into<PathBuf>, reason: impl Into<String>) -> CgroupError {
    CgroupError::sys(operation, path, io::Error::from_raw_os_error(libc::EOPNOTSUPP)).with_reason(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn display_is_without_its_source() {
        let error = CgroupError::sys("write", "/x/memory.max", rustix::io::Errno::BUSY).with_field("memory");
        assert_eq!(error.to_string(), "cannot write /x/memory.max (for memory)");
        assert!(error.is_busy() && !error.is_permission());
        assert!(error.source().is_some());
        assert!(CgroupError::sys("make", "/x", rustix::io::Errno::ROFS).is_permission());
        assert_eq!(CgroupError::refused("make", "/x", "no").errno(), None);
    }
}
