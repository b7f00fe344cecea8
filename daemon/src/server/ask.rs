//! What a request says: its query and its body, read with bounds, refused by field.

use std::time::Duration;

use actix_web::web::{Bytes, BytesMut, Payload, Query};
use actix_web::{FromRequest, HttpRequest, dev};
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::failed::{Failed, failed};
use crate::wire::{Problem, ProblemKind};

/// The largest body: a spec with the files that it brings along.
pub(super) const LARGEST: usize = 8 << 20;
/// A body is there after this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A body, whole.
#[derive(Debug)]
pub(super) struct Body(pub(super) Bytes);

impl FromRequest for Body {
    type Error = Failed;
    type Future = LocalBoxFuture<'static, Result<Self, Failed>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let payload = Payload::from_request(request, payload);
        Box::pin(async move {
            let mut payload = payload.await.map_err(|error| failed(ProblemKind::Usage, error.to_string()))?;
            match tokio::time::timeout(PATIENCE, whole(&mut payload)).await {
                Ok(body) => body.map(Self),
                Err(_) => Err(failed(ProblemKind::Timeout, "the body did not come in time")),
            }
        })
    }
}

async fn whole(payload: &mut Payload) -> Result<Bytes, Failed> {
    let mut body = BytesMut::new();
    while let Some(part) = payload.next().await {
        let part = part.map_err(|error| failed(ProblemKind::Usage, error.to_string()))?;
        if body.len() + part.len() > LARGEST {
            let why = format!("a body is no longer than {} MiB", LARGEST >> 20);
            return Err(failed(ProblemKind::TooLarge, why));
        }
        body.extend_from_slice(&part);
    }
    Ok(body.freeze())
}

impl Body {
    /// What it says; an empty one is `{}`.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Failed> {
        let text: &[u8] = if self.0.is_empty() { b"{}" } else { &self.0 };
        let mut json = serde_json::Deserializer::from_slice(text);
        let read = serde_path_to_error::deserialize(&mut json);
        let said = read.map_err(|error| {
            let (field, error) = (error.path().to_string(), error.into_inner());
            match error.classify() {
                serde_json::error::Category::Data => {
                    let field = named(field, &error.to_string());
                    Failed::from(Problem::new(ProblemKind::Invalid, error.to_string()).field(field))
                }
                _ => failed(ProblemKind::Usage, format!("this is no JSON: {error}")),
            }
        })?;
        json.end().map_err(|error| failed(ProblemKind::Usage, format!("this is no JSON: {error}")))?;
        Ok(said)
    }
}

/// The path of what is wrong; of a field that is unknown or missing its own, which the path does not have.
fn named(path: String, what: &str) -> String {
    let path = if path == "." { String::new() } else { path };
    let missing = what.strip_prefix("missing field `");
    let Some((field, _)) = missing.and_then(|rest| rest.split_once('`')) else { return path };
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// What the query says. A parameter that may be there several times is a list of `T`'s.
pub(super) fn query<T: DeserializeOwned>(request: &HttpRequest, lists: &[&str]) -> Result<T, Failed> {
    let pairs = Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|error| failed(ProblemKind::Usage, format!("the query: {error}")))?;
    let mut said = Map::new();
    for (key, value) in pairs.into_inner() {
        match lists.contains(&key.as_str()) {
            true => {
                if let Value::Array(list) = said.entry(key).or_insert_with(|| Value::Array(Vec::new())) {
                    list.push(Value::String(value));
                }
            }
            false if said.contains_key(&key) => {
                return Err(Problem::new(ProblemKind::Usage, "this is there twice").field(key).into());
            }
            false => drop(said.insert(key, Value::String(value))),
        }
    }
    serde_path_to_error::deserialize(Value::Object(said)).map_err(|error| {
        let (field, what) = (error.path().to_string(), error.into_inner().to_string());
        let unknown = what.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
        let field = unknown.map_or_else(|| named(field, &what), |(name, _)| name.to_owned());
        Problem::new(ProblemKind::Usage, what).field(field).into()
    })
}

/// A parameter of a query that is `true` or `false`.
pub(super) fn flag(field: &str, value: Option<&str>, default: bool) -> Result<bool, Failed> {
    match value {
        None => Ok(default),
        Some("true" | "1" | "") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(other) => Err(parameter(field, format!("{other:?} is neither true nor false"))),
    }
}

/// A parameter of a query is refused.
pub(super) fn parameter(field: &str, why: impl Into<String>) -> Failed {
    Problem::new(ProblemKind::Usage, why).field(field).into()
}

/// A field of a body is refused.
pub(super) fn invalid(field: &str, why: impl Into<String>) -> Failed {
    Problem::new(ProblemKind::Invalid, why).field(field).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Create, Exec, Update};

    fn refused<T: DeserializeOwned>(text: &'static str) -> Problem {
        match Body(Bytes::from_static(text.as_bytes())).read::<T>() {
            Err(failed) => *failed.0,
            Ok(_) => Problem::new(ProblemKind::Unknown, "it was taken"),
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let of = |problem: Problem| (problem.status, problem.field.unwrap_or_default());
        assert_eq!(of(refused::<Create>("{")), (400, String::new()));
        assert_eq!(of(refused::<Create>("[]")), (422, String::new()));
        assert_eq!(of(refused::<Create>("{} {}")), (422, "spec".into()));
        assert_eq!(of(refused::<Create>(r#"{"spec":{}} x"#)), (400, String::new()));
        assert_eq!(of(refused::<Create>(r#"{"spec":{},"nmae":"x"}"#)), (422, "nmae".into()));
        assert_eq!(of(refused::<Create>(r#"{"spec":[]}"#)), (422, "spec".into()));
        assert_eq!(
            of(refused::<Create>(r#"{"spec":{},"files":[{"path":"/a"},{"path":3}]}"#)),
            (422, "files[1].path".into())
        );
        assert_eq!(of(refused::<Create>(r#"{"spec":{},"stdin":"maybe"}"#)), (422, "stdin".into()));
        assert_eq!(of(refused::<Exec>(r#"{"command":["a",3]}"#)), (422, "command[1]".into()));
        assert_eq!(of(refused::<Update>(r#"{"cpu-weight":"x"}"#)), (422, "cpu-weight".into()));
        assert_eq!(refused::<Exec>(r#"{"command":["a"]}"#).kind, ProblemKind::Unknown);
    }
}
