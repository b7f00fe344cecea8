//! One request, one connection, one answer.

use std::io;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::refusal;
use super::{Place, Target};
use crate::errors::Failure;

/// The longest document that is read; the longest refusal.
const DOCUMENT: usize = 256 << 20;
const REFUSAL: usize = 1 << 20;

/// Who asks a daemon.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    place: Place,
}

/// Why there is no answer, or no more of it.
#[derive(Debug)]
pub(crate) enum Lost {
    /// Nobody is there, or nobody is there any more: another attempt may find somebody.
    Away(Failure),
    /// It was answered, and the answer is no.
    Refused(Failure),
    /// There is nothing at the place any more that was asked for; and the oldest place where there is.
    Gone(Failure, String),
}

/// The beginning of an answer that is a yes.
#[derive(Debug)]
pub(crate) struct Answer {
    response: Response<Incoming>,
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Away(failure) | Lost::Refused(failure) | Lost::Gone(failure, _) => failure,
        }
    }
}

impl Client {
    pub(crate) const fn new(place: Place) -> Self {
        Self { place }
    }

    pub(crate) fn socket(&self) -> &Path {
        self.place.path()
    }

    /// A document. Asked for once more where the connection broke before the answer: a daemon that is replaced closes those on
    /// which nothing was heard yet.
    pub(crate) async fn get<T: DeserializeOwned>(&self, target: &Target) -> Result<T, Lost> {
        let ask = || self.ask(Method::GET, target, Bytes::new(), &[]);
        let answer = match ask().await {
            Err(Lost::Away(broken)) if broken.kind() == "connection" => match ask().await {
                // Nobody was in its place: the first trouble is the one to be told.
                Err(Lost::Away(_)) => return Err(Lost::Away(broken)),
                answer => answer?,
            },
            answer => answer?,
        };
        answer.document().await
    }

    /// What is asked for is done; its answer.
    pub(crate) async fn post<T: DeserializeOwned>(&self, target: &Target, body: &impl Serialize) -> Result<T, Lost> {
        self.send(Method::POST, target, body, &[]).await?.document().await
    }

    /// What is asked for is done, and there is nothing to say about it.
    pub(crate) async fn delete(&self, target: &Target) -> Result<(), Lost> {
        self.ask(Method::DELETE, target, Bytes::new(), &[]).await.map(drop)
    }

    /// With a document.
    pub(crate) async fn send(
        &self,
        method: Method,
        target: &Target,
        body: &impl Serialize,
        headers: &[(HeaderName, &str)],
    ) -> Result<Answer, Lost> {
        let body = serde_json::to_vec(body).map_err(|error| Lost::Refused(Failure::new(error.to_string())))?;
        self.ask(method, target, body.into(), headers).await
    }

    /// The beginning of an answer; a refusal is read to its end.
    ///
    /// # Cancel safety
    /// The connection is closed; whether the daemon had done what was asked is not known.
    pub(crate) async fn ask(
        &self,
        method: Method,
        target: &Target,
        body: Bytes,
        headers: &[(HeaderName, &str)],
    ) -> Result<Answer, Lost> {
        let request = request(method, target, body, headers).map_err(Lost::Refused)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.connect().await?)).await.map_err(|error| self.broken(&error))?;
        // It ends with the answer, or when nobody reads that any more.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the daemon");
            }
        });
        let response = sender.send_request(request).await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(Answer { response });
        }
        let body = Limited::new(response.into_body(), REFUSAL).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Err(refusal::lost(status, &body))
    }

    /// # Errors
    /// Nobody listens there, or at the place that nobody has named somebody else than this user or root.
    pub(crate) async fn connect(&self) -> Result<UnixStream, Lost> {
        let stream =
            UnixStream::connect(self.socket()).await.map_err(|error| Lost::Away(self.place.no_daemon(&error)))?;
        let own = rustix::process::geteuid().as_raw();
        let is_ours = || stream.peer_cred().is_ok_and(|of| of.uid() == own || of.uid() == 0);
        if self.place.is_default() && !is_ours() {
            let what = format!("another user listens at {}", self.socket().display());
            return Err(Lost::Refused(Failure::new(what).with_hint("--socket, if that is meant")));
        }
        Ok(stream)
    }

    fn broken(&self, error: &hyper::Error) -> Lost {
        let socket = self.socket().display();
        if error.is_parse() {
            let failure = Failure::new(format!("what answers at {socket} is no orangery daemon: {error}"));
            return Lost::Refused(failure.with_kind("protocol"));
        }
        let what = format!("the daemon at {socket} has gone away before it has answered");
        Lost::Away(Failure::new(what).with_kind("connection"))
    }
}

fn request(
    method: Method,
    target: &Target,
    body: Bytes,
    headers: &[(HeaderName, &str)],
) -> Result<Request<Full<Bytes>>, Failure> {
    let mut request = Request::builder()
        .method(method)
        .uri(target.as_str())
        .header(HOST, "orangery")
        .header(USER_AGENT, concat!("orangery/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json, application/problem+json, text/event-stream, */*");
    if !body.is_empty() {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|error| Failure::new(format!("{name}: {error}")))?;
        request = request.header(name, value);
    }
    request.body(Full::new(body)).map_err(|error| Failure::new(format!("cannot ask the daemon: {error}")))
}

impl Answer {
    pub(crate) fn body(self) -> Incoming {
        self.response.into_body()
    }

    /// All of it.
    ///
    /// # Errors
    /// It breaks off, is not what is said in `wire`, or is too long.
    pub(crate) async fn document<T: DeserializeOwned>(self) -> Result<T, Lost> {
        let body = Limited::new(self.response.into_body(), DOCUMENT).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => Lost::Refused(Failure::new("the daemon's answer is longer than can be read")),
            false => {
                Lost::Away(Failure::new(format!("the daemon's answer breaks off: {error}")).with_kind("connection"))
            }
        })?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| {
            let failure = Failure::new(format!("the daemon's answer is not understood: {error}")).with_kind("protocol");
            Lost::Refused(failure.with_hint("a client and a daemon of the same version: orangery --version"))
        })
    }
}

/// What an answer's connection says when it breaks off.
pub(crate) fn broken_off(error: &hyper::Error) -> Lost {
    let cause = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    let why = cause.map_or_else(|| error.to_string(), ToString::to_string);
    Lost::Away(Failure::new(format!("the daemon has gone away: {why}")).with_kind("connection"))
}
