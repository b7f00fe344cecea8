//! An answer that is no: `application/problem+json` (RFC 9457) becomes what the user reads.

use hyper::StatusCode;
use orangery_daemon::wire::{Problem, ProblemKind, Refused};

use super::Lost;
use crate::errors::{Failure, without_numbers};

/// What a body says; of one that says nothing, what its status does.
pub(super) fn lost(status: StatusCode, body: &[u8]) -> Lost {
    let Ok(problem) = serde_json::from_slice::<Problem>(body) else {
        let failure = Failure::new(format!("the daemon answers {status}, and nothing that is understood"));
        return Lost::Refused(failure.with_kind("protocol"));
    };
    let oldest = problem.oldest.clone();
    let away = matches!(problem.kind, ProblemKind::Keeper | ProblemKind::ShutDown);
    let failure = failure(problem);
    match oldest {
        Some(oldest) => Lost::Gone(failure, oldest),
        // Who is about to go, or has just come.
        None if away => Lost::Away(failure),
        None => Lost::Refused(failure),
    }
}

/// The same, as every failure of ours is told.
pub(crate) fn failure(problem: Problem) -> Failure {
    let also = problem.also.into_iter().map(|Refused { field, detail, .. }| {
        without_numbers(&field.map_or_else(|| detail.clone(), |field| format!("{field}: {detail}")))
    });
    let failure = Failure::new(without_numbers(&problem.detail))
        .with_kind(problem.kind.name())
        .with_errno(problem.errno)
        .with_place(problem.field, problem.stage)
        .with_also(also.collect())
        .with_exit_code(match problem.kind {
            ProblemKind::CommandNotFound => 127,
            ProblemKind::CommandNotExecutable => 126,
            _ => 125,
        });
    match (problem.hint, problem.kind) {
        (Some(hint), _) => failure.with_hint(hint),
        (None, ProblemKind::NotFound) => failure.with_hint("orangery ps --all, which has all names"),
        (None, ProblemKind::Exhausted) => failure.with_hint("the same again, later"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_daemon_refuses_is_told_as_our_own_refusals_are() {
        let body = r#"{"type":"urn:orangery:problem:invalid","title":"Unprocessable Content","status":422,
            "detail":"64Q is no size (os error 22)","kind":"invalid","field":"memory","hint":"64M","later":1,
            "also":[{"field":"cpus","detail":"none"},{"field":null,"detail":"and more"}]}"#;
        let Lost::Refused(failure) = lost(StatusCode::UNPROCESSABLE_ENTITY, body.as_bytes()) else { panic!() };
        let told: serde_json::Value = serde_json::from_str(&failure.json().unwrap()).unwrap();
        let told = &told["error"];
        assert_eq!((&told["what"], &told["kind"]), (&"64Q is no size".into(), &"invalid".into()));
        assert_eq!(told["also"], serde_json::json!(["cpus: none", "and more"]));
        assert_eq!((&told["field"], &told["hint"], &told["exit_code"]), (&"memory".into(), &"64M".into(), &125.into()));
    }

    #[test]
    fn who_may_come_back_and_what_has_gone() {
        let of = |kind: &str, more: &str| {
            let body = format!(r#"{{"type":"","title":"","status":1,"detail":"d","kind":"{kind}"{more}}}"#);
            lost(StatusCode::SERVICE_UNAVAILABLE, body.as_bytes())
        };
        assert!(matches!(of("shut_down", ""), Lost::Away(_)));
        assert!(matches!(of("exhausted", ""), Lost::Refused(_)));
        assert!(matches!(of("of_tomorrow", ""), Lost::Refused(_)));
        assert!(matches!(of("gone", r#","oldest":"c""#), Lost::Gone(_, oldest) if oldest == "c"));
        assert!(matches!(lost(StatusCode::BAD_GATEWAY, b"<html>"), Lost::Refused(_)));
        let Lost::Refused(failure) = of("command_not_found", "") else { panic!() };
        assert_eq!(failure.exit_code(), 127);
    }
}
