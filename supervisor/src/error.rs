//! The one error of the public surface.

use std::fmt;

use orangery_runtime as runtime;

use crate::admission::BudgetUse;
use crate::unkillable::Unkillable;

/// What went wrong, for programs that must decide. With the HTTP status that a service would answer.
///
/// | kind | HTTP |
/// |---|---|
/// | `Invalid`, `CommandNotFound`, `CommandNotExecutable`, `NotFound` | 422 |
/// | `Exists`, `State` | 409 |
/// | `Exhausted` | 429 |
/// | `Permission` | 403 |
/// | `Unsupported` | 501 |
/// | `Creation`, `Keeper`, `System`, `SupervisorFault`, `Unkillable` | 500 |
/// | `NotReady`, `ShutDown` | 503 |
///
/// ```
/// use orangery::{ErrorKind, Sandbox};
/// let refused = Sandbox::builder().output(0).build().unwrap_err();
/// let status = match refused.kind() {
///     ErrorKind::Invalid => 422,
///     ErrorKind::Exhausted => 429,
///     _ => 500,
/// };
/// assert_eq!(status, 422);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The description is refused; [`Error::field`] names the field.
    Invalid,
    /// Something that the description names does not exist.
    NotFound,
    /// The command does not exist in the container.
    CommandNotFound,
    /// The command exists and cannot be executed.
    CommandNotExecutable,
    /// This machine, its kernel or its administrator does not allow it.
    Unsupported,
    /// Rights are missing.
    Permission,
    /// A budget is spent; the message says which.
    Exhausted,
    /// The id is taken.
    Exists,
    /// Not in a state for this: ended, paused, taken.
    State,
    /// It ran, and was not ready in time or ended before it was.
    NotReady,
    /// A step of the creation failed; [`Error::stage`] says which.
    Creation,
    /// The keeper is gone.
    Keeper,
    /// The operating system refused something that is not the caller's doing.
    System,
    /// An actor of ours panicked with this request in hand.
    SupervisorFault,
    /// It was killed and does not end; what is left is named, see [`Unkillable`](crate::Unkillable).
    Unkillable,
    /// The supervisor was shut down.
    ShutDown,
}

/// An error of this library: "we could not". A command that fails or hits a limit is a [`Report`](crate::Report).
///
/// ```no_run
/// # async fn f(supervisor: orangery::Supervisor) -> Result<(), orangery::Error> {
/// if let Err(error) = supervisor.command("no-such-program").run().await {
///     println!("{error}; field {:?}, what to do: {:?}", error.field(), error.hint());
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Error {
    errors: Vec<runtime::Error>,
    kind: ErrorKind,
    spent: Option<BudgetUse>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        let inner = runtime::Error::new(runtime::ErrorKind::System, what);
        Self { errors: vec![inner], kind, spent: None }
    }

    pub(crate) fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        runtime::Error::invalid(field, why).into()
    }

    pub(crate) fn all(errors: Vec<runtime::Error>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(runtime::Errors(errors).into()) }
    }

    pub(crate) fn shut_down() -> Self {
        Self::new(ErrorKind::ShutDown, "the supervisor is shut down")
    }

    pub(crate) fn lost_request() -> Self {
        Self::new(
            ErrorKind::SupervisorFault,
            "the request was lost: its actor failed or the supervisor is shutting down",
        )
    }

    /// What was to end has outlived its kill.
    pub(crate) fn unkillable(left: Option<&Unkillable>) -> Self {
        let what = left.map_or_else(|| "it was killed and does not end".to_owned(), ToString::to_string);
        Self::new(ErrorKind::Unkillable, what)
    }

    /// What was being made was not wanted any more.
    pub(crate) fn given_up() -> Self {
        Self::new(ErrorKind::State, "it was given up before it had started")
    }

    /// There was room at last, and its turn had not come.
    pub(crate) fn too_late(patience: std::time::Duration) -> Self {
        let what = format!("its turn did not come within {patience:?}: others of the same caller were before it");
        let error = runtime::Error::new(runtime::ErrorKind::Exhausted, what).with_field("creations");
        error.with_hint("wait longer, or raise `SupervisorBuilder::max_creations`").into()
    }

    /// A name that cannot be given twice.
    pub(crate) fn taken(what: &str, id: &str) -> Self {
        let what = format!("a {what} with the id {id:?} exists");
        runtime::Error::new(runtime::ErrorKind::Exists, what).with_field("id").into()
    }

    /// The same call cannot succeed unless somebody changes something.
    pub(crate) fn is_final(&self) -> bool {
        use ErrorKind::{CommandNotExecutable, CommandNotFound, Invalid, NotFound, Permission, ShutDown, Unsupported};
        matches!(
            self.kind,
            Invalid | NotFound | CommandNotFound | CommandNotExecutable | Unsupported | Permission | ShutDown
        )
    }

    fn first(&self) -> Option<&runtime::Error> {
        self.errors.first()
    }

    /// The class of the first refusal.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The field of the description, such as `mounts[0].target`.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.first()?.field()
    }

    /// Where in the creation, such as `step 12 move-mount`.
    #[must_use]
    pub fn stage(&self) -> Option<&str> {
        self.first()?.stage()
    }

    /// The kernel's error number.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.first()?.errno()
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.first()?.hint()
    }

    pub(crate) fn with_spent(mut self, spent: BudgetUse) -> Self {
        self.spent = Some(spent);
        self
    }

    /// The budget of the supervisor that is spent, how much of it is taken and how much there is; [`Error::hint`] says what to
    /// do. `None` where another thing is exhausted, such as the kernel's.
    #[must_use]
    pub fn spent(&self) -> Option<BudgetUse> {
        self.spent
    }

    /// The same call may succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Exhausted | ErrorKind::Keeper | ErrorKind::SupervisorFault)
    }

    /// Every refusal, one sentence each.
    pub fn messages(&self) -> impl Iterator<Item = String> + '_ {
        self.errors.iter().map(ToString::to_string)
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        runtime::Errors(vec![error]).into()
    }
}

impl From<runtime::Errors> for Error {
    fn from(errors: runtime::Errors) -> Self {
        let kind = errors.0.first().map_or(ErrorKind::System, |error| kind_of(error.kind()));
        Self { errors: errors.0, kind, spent: None }
    }
}

fn kind_of(kind: runtime::ErrorKind) -> ErrorKind {
    match kind {
        runtime::ErrorKind::Invalid => ErrorKind::Invalid,
        runtime::ErrorKind::NotFound => ErrorKind::NotFound,
        runtime::ErrorKind::CommandNotFound => ErrorKind::CommandNotFound,
        runtime::ErrorKind::CommandNotExecutable => ErrorKind::CommandNotExecutable,
        runtime::ErrorKind::Unsupported => ErrorKind::Unsupported,
        runtime::ErrorKind::Permission => ErrorKind::Permission,
        runtime::ErrorKind::Exhausted => ErrorKind::Exhausted,
        runtime::ErrorKind::Exists => ErrorKind::Exists,
        runtime::ErrorKind::State => ErrorKind::State,
        runtime::ErrorKind::Creation => ErrorKind::Creation,
        runtime::ErrorKind::Keeper => ErrorKind::Keeper,
        _ => ErrorKind::System,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.kind).field("errors", &self.errors).finish()
    }
}

impl std::error::Error for Error {}
