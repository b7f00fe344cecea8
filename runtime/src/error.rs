//! What can go wrong, told so that the reader knows which field or step, what was tried, and why it failed.

use std::fmt;
use std::io;

/// The class of an [`Error`]. Decides what a caller does about it; see [`Error::retryable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The spec is refused: [`Error::field`] names the field.
    Invalid,
    /// Something that the spec names does not exist (a root file system, a user, a mount source).
    NotFound,
    /// The command does not exist in the container.
    CommandNotFound,
    /// The command exists and cannot be executed.
    CommandNotExecutable,
    /// This machine, its kernel or its administrator does not allow it.
    Unsupported,
    /// Rights are missing.
    Permission,
    /// A budget is spent: processes, descriptors, memory, containers.
    Exhausted,
    /// The id is taken.
    Exists,
    /// The container or process is not in a state for this.
    State,
    /// A step of the creation failed; [`Error::stage`] and [`Error::errno`] say which and why.
    Creation,
    /// The keeper is gone or does not speak our protocol.
    Keeper,
    /// The operating system refused something that is not the caller's doing.
    System,
}

/// An error of the runtime layer. `Display` is one sentence without its source; the chain is joined at the rim.
#[derive(Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    what: String,
    field: Option<String>,
    stage: Option<String>,
    errno: Option<i32>,
    hint: Option<String>,
}

impl Error {
    /// An error of this kind; `what` says what was attempted.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        let inner = Inner { kind, what: what.into(), field: None, stage: None, errno: None, hint: None };
        Self { inner: Box::new(inner) }
    }

    /// A refused field of the spec.
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, why).with_field(field)
    }

    /// A failed system operation; the kind follows from the errno.
    pub fn system(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let errno = error.into().raw_os_error();
        let kind = match errno {
            Some(libc::EPERM | libc::EACCES | libc::EROFS) => ErrorKind::Permission,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOSPC | libc::EAGAIN) => ErrorKind::Exhausted,
            Some(libc::ENOENT | libc::ENOTDIR) => ErrorKind::NotFound,
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => ErrorKind::Unsupported,
            _ => ErrorKind::System,
        };
        Self::new(kind, what).with_errno(errno)
    }

    /// Replace the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.inner.kind = kind;
        self
    }

    /// Name the field of the spec.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.inner.field = Some(field.into());
        self
    }

    /// Name the stage or step.
    #[must_use]
    pub fn with_stage(mut self, stage: impl Into<String>) -> Self {
        self.inner.stage = Some(stage.into());
        self
    }

    /// Keep the error number.
    #[must_use]
    pub fn with_errno(mut self, errno: Option<i32>) -> Self {
        self.inner.errno = errno;
        self
    }

    /// Say what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// With why it came to this, before what was attempted.
    #[must_use]
    pub(crate) fn because(mut self, why: &str) -> Self {
        self.inner.what = format!("{why}; {}", self.inner.what);
        self
    }

    /// The class.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// What was attempted, without field, stage and errno.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.inner.what
    }

    /// The field of the spec that it comes from, such as `mounts[2].dst`.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.inner.field.as_deref()
    }

    /// The stage of the creation, such as `step 12 move-mount`.
    #[must_use]
    pub fn stage(&self) -> Option<&str> {
        self.inner.stage.as_deref()
    }

    /// The error number, if the kernel said one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.inner.errno
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The same call may succeed later without a change.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self.inner.kind, ErrorKind::Exhausted | ErrorKind::Keeper)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(field) = &self.inner.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.inner.what)?;
        if let Some(stage) = &self.inner.stage {
            write!(f, " ({stage})")?;
        }
        if let Some(errno) = self.inner.errno {
            write!(f, ": {}", io::Error::from_raw_os_error(errno))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("what", &self.inner.what)
            .field("field", &self.inner.field)
            .field("stage", &self.inner.stage)
            .field("errno", &self.inner.errno)
            .field("hint", &self.inner.hint)
            .finish()
    }
}

impl std::error::Error for Error {}

/// Several refusals at once: `check` looks at the whole spec before it says no.
#[derive(Clone, Debug)]
pub struct Errors(pub Vec<Error>);

impl Errors {
    /// The first of them, with what the others say in its words: for callers that can give one only.
    pub(crate) fn into_one(mut self) -> Error {
        if self.0.is_empty() {
            return Error::new(ErrorKind::System, "refused without a reason");
        }
        let mut first = self.0.remove(0);
        if !self.0.is_empty() {
            first.inner.what = format!("{} (also refused: {self})", first.inner.what);
        }
        first
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
