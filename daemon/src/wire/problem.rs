//! Why not: `application/problem+json` (RFC 9457).

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request was refused or has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Problem {
    /// `urn:orangery:problem:` and the kind.
    #[serde(rename = "type")]
    pub urn: String,
    /// What the status means.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// One sentence.
    pub detail: String,
    /// What went wrong, for programs.
    pub kind: ProblemKind,
    /// The field of the body, or the parameter of the query, that it is about.
    #[serde(default)]
    pub field: Option<String>,
    /// Where in a creation, such as `container step 12: mount`.
    #[serde(default)]
    pub stage: Option<String>,
    /// The kernel's error number.
    #[serde(default)]
    pub errno: Option<i32>,
    /// The same in words.
    #[serde(default)]
    pub errno_text: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// The same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// Further refusals of the same request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Refused>,
    /// Where a stream can be read from, when the cursor is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
}

impl Problem {
    /// One that says this.
    #[must_use]
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self {
            urn: format!("urn:orangery:problem:{}", kind.name()),
            title: kind.name().replace('_', " "),
            status: kind.status(),
            detail: detail.into(),
            kind,
            field: None,
            stage: None,
            errno: None,
            errno_text: None,
            hint: None,
            retryable: false,
            also: Vec::new(),
            oldest: None,
        }
    }

    /// The same, as another kind.
    #[must_use]
    pub fn of_kind(self, kind: ProblemKind) -> Self {
        let Self { urn, title, status, .. } = Self::new(kind, "");
        Self { urn, title, status, kind, ..self }
    }

    /// About this field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into()).filter(|field: &String| !field.is_empty());
        self
    }

    /// With what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// With the kernel's error number, and its words.
    #[must_use]
    pub fn errno(mut self, errno: i32) -> Self {
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        self.errno_text = Some(text.split(" (os error").next().unwrap_or_default().to_owned());
        self.errno = Some(errno);
        self
    }

    /// All of these refusals of a body; `None` when there is none.
    #[must_use]
    pub fn refused(refusals: Vec<Refused>) -> Option<Self> {
        let mut all = refusals.into_iter();
        let first = all.next()?;
        let mut problem = Self::new(ProblemKind::Invalid, first.detail);
        (problem.field, problem.hint, problem.also) = (first.field, first.hint, all.collect());
        Some(problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}

impl std::error::Error for Problem {}

/// A further refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
pub struct Refused {
    /// What it is about.
    pub field: Option<String>,
    /// One sentence.
    pub detail: String,
    /// What is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal, $status:literal;)+) => {
        /// What went wrong, and with which status that is answered.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum ProblemKind {
            $($(#[doc = $doc])+ $kind,)+
            /// A kind that this version does not know.
            #[serde(other)]
            Unknown,
        }

        impl ProblemKind {
            /// Its name, as in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                    Self::Unknown => "unknown",
                }
            }

            /// The kind of this name; [`Unknown`](Self::Unknown): there is none.
            #[must_use]
            pub fn by_name(name: &str) -> Self {
                match name {
                    $($name => Self::$kind,)+
                    _ => Self::Unknown,
                }
            }

            /// The status that it is answered with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self {
                    $(Self::$kind => $status,)+
                    Self::Unknown => 500,
                }
            }
        }
    };
}

kinds! {
    /// The request itself is wrong: its query, its headers, or no JSON.
    Usage = "usage", 400;
    /// The token is missing or wrong.
    Unauthorized = "unauthorized", 401;
    /// Another user.
    Forbidden = "forbidden", 403;
    /// There is no such thing.
    NotFound = "not_found", 404;
    /// Not by this method.
    Method = "method", 405;
    /// The request did not come in time.
    Timeout = "timeout", 408;
    /// The name is taken.
    Exists = "exists", 409;
    /// Not in a state for this.
    State = "state", 409;
    /// What the cursor names is not there any more, or never was.
    Gone = "gone", 410;
    /// The body is too large.
    TooLarge = "too_large", 413;
    /// The body is refused; the field says where.
    Invalid = "invalid", 422;
    /// The command does not exist in the container.
    CommandNotFound = "command_not_found", 422;
    /// The command exists and cannot be executed.
    CommandNotExecutable = "command_not_executable", 422;
    /// The idempotency key was used with another body.
    Idempotency = "idempotency", 422;
    /// A budget is spent.
    Exhausted = "exhausted", 429;
    /// The operating system refused something that is not the caller's doing.
    System = "system", 500;
    /// Rights are missing on this machine.
    Permission = "permission", 500;
    /// A step of the creation failed; the stage says which.
    Creation = "creation", 500;
    /// A failure of our own.
    SupervisorFault = "supervisor_fault", 500;
    /// It was killed and does not end.
    Unkillable = "unkillable", 500;
    /// This machine does not allow it.
    Unsupported = "unsupported", 501;
    /// The keeper is gone.
    Keeper = "keeper", 503;
    /// The daemon goes.
    ShutDown = "shut_down", 503;
    /// It was not ready in time, or has ended before it was.
    NotReady = "not_ready", 504;
    /// The machine has no room for it: on its disk, in its memory, of descriptors or processes.
    NoRoom = "no_room", 507;
}
