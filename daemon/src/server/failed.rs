//! Failures become answers: `application/problem+json`.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpResponse, ResponseError};
use orangery::stream::{CursorError, Gone};
use orangery::{Error, ErrorKind};

use crate::wire::{Problem, ProblemKind, Refused};

/// Why a request has no other answer.
#[derive(Debug)]
pub(super) struct Failed(pub(super) Box<Problem>);

pub(super) type Answer = Result<HttpResponse, Failed>;

pub(super) fn failed(kind: ProblemKind, detail: impl Into<String>) -> Failed {
    Problem::new(kind, detail).into()
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl ResponseError for Failed {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        if self.0.retryable {
            answer.insert_header((RETRY_AFTER, "1"));
        }
        if self.0.kind == ProblemKind::Unauthorized {
            answer.insert_header((WWW_AUTHENTICATE, "Bearer"));
        }
        let body = serde_json::to_vec(&*self.0).unwrap_or_default();
        answer.content_type("application/problem+json").body(body)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        problem(&error).into()
    }
}

/// What the library could not do.
#[must_use]
pub fn problem(error: &Error) -> Problem {
    let mut sentences = error.messages();
    let first = sentences.next().unwrap_or_else(|| error.to_string());
    let bare = error.field().and_then(|field| first.strip_prefix(field)?.strip_prefix(": "));
    let mut problem = Problem::new(kind(error), bare.unwrap_or(&first));
    problem.field = error.field().map(key);
    problem.stage = error.stage().map(str::to_owned);
    problem.hint = error.hint().map(str::to_owned);
    problem.retryable = error.retryable();
    problem.also = sentences.map(|detail| Refused { field: None, detail, hint: None }).collect();
    match error.errno() {
        Some(errno) => problem.errno(errno),
        None => problem,
    }
}

/// The library's name of a field as the key of a spec.
fn key(field: &str) -> String {
    let (name, rest) = match field.strip_prefix("limits.") {
        // Of one device: whose name is no key.
        Some(limit) => limit.find('[').map_or((limit, ""), |at| limit.split_at(at)),
        None => field.find(['[', '.']).map_or((field, ""), |at| field.split_at(at)),
    };
    let key = match name {
        "cpu_quota" => "cpus",
        "mounts" if rest.ends_with(".device") => return "device".into(),
        "mounts" => "mount",
        "argv" => "command",
        "cwd" => "workdir",
        "rlimits" => "rlimit",
        "wall" => "timeout",
        "cpu_time" => "timeout-cpu",
        "idle" => "timeout-idle",
        "output" => "output-limit",
        "user_namespace" => "userns",
        "id" => "name",
        other => return other.replace('_', "-") + rest,
    };
    key.to_owned() + rest
}

/// The kernel had no room.
pub(super) fn is_no_room(errno: Option<i32>) -> bool {
    use rustix::io::Errno;
    let all = [Errno::NOSPC, Errno::DQUOT, Errno::NOMEM, Errno::MFILE, Errno::NFILE];
    errno.is_some_and(|errno| all.iter().any(|one| one.raw_os_error() == errno))
}

/// Whose doing it is: what is asked for (4xx), or what this machine is and has (5xx). See docs/decisions/0039.
fn kind(error: &Error) -> ProblemKind {
    match error.kind() {
        // Our own budgets have no errno.
        ErrorKind::Exhausted if error.errno().is_some() => ProblemKind::NoRoom,
        ErrorKind::Creation | ErrorKind::System if is_no_room(error.errno()) => ProblemKind::NoRoom,
        ErrorKind::Invalid | ErrorKind::NotFound => ProblemKind::Invalid,
        ErrorKind::CommandNotFound => ProblemKind::CommandNotFound,
        ErrorKind::CommandNotExecutable => ProblemKind::CommandNotExecutable,
        ErrorKind::Unsupported => ProblemKind::Unsupported,
        ErrorKind::Permission => ProblemKind::Permission,
        ErrorKind::Exhausted => ProblemKind::Exhausted,
        ErrorKind::Exists => ProblemKind::Exists,
        ErrorKind::State => ProblemKind::State,
        ErrorKind::NotReady => ProblemKind::NotReady,
        ErrorKind::Creation => ProblemKind::Creation,
        ErrorKind::Keeper => ProblemKind::Keeper,
        ErrorKind::SupervisorFault => ProblemKind::SupervisorFault,
        ErrorKind::Unkillable => ProblemKind::Unkillable,
        ErrorKind::ShutDown => ProblemKind::ShutDown,
        _ => ProblemKind::System,
    }
}

impl From<CursorError> for Failed {
    fn from(error: CursorError) -> Self {
        Problem::new(ProblemKind::Usage, error.to_string()).field("cursor").into()
    }
}

impl From<Gone> for Failed {
    fn from(gone: Gone) -> Self {
        let mut problem = Problem::new(ProblemKind::Gone, gone.to_string()).field("cursor");
        problem.oldest = Some(gone.oldest.to_string());
        problem.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_keys() {
        for (field, expected) in [
            ("limits.memory", "memory"),
            ("limits.cpu_quota", "cpus"),
            ("limits.cpuset_cpus", "cpuset-cpus"),
            ("limits.io_max[/dev/my_disk]", "io-max[/dev/my_disk]"),
            ("mounts[3].target", "mount[3].target"),
            ("mounts[0].device", "device"),
            ("argv[0]", "command[0]"),
            ("id", "name"),
            ("hostname", "hostname"),
        ] {
            assert_eq!(key(field), expected, "{field}");
        }
    }

    #[test]
    fn the_library_refuses_and_the_answer_says_where() {
        let error = orangery::Sandbox::builder().output(0).memory(1).build().unwrap_err();
        let told = problem(&error);
        assert_eq!((told.status, told.kind), (422, ProblemKind::Invalid));
        assert!(told.field.is_some() && !told.detail.contains(told.field.as_deref().unwrap()), "{told:?}");
    }
}
