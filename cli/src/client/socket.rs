//! The WebSocket of somebody who is attached to a process.

use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{Client, Lost, Target, refusal};
use crate::errors::Failure;

/// One that is open.
pub(crate) type Socket = WebSocketStream<UnixStream>;
/// What goes through it.
pub(crate) type Frame = Message;

impl Client {
    /// Open one.
    pub(crate) async fn attach(&self, target: &Target) -> Result<Socket, Lost> {
        let stream = self.connect().await?;
        let request =
            format!("ws://orangery{}", target.as_str()).into_client_request().map_err(|error| lost(&error))?;
        match client_async(request, stream).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                Err(refusal::lost(answer.status(), body))
            }
            Err(error) => Err(lost(&error)),
        }
    }
}

/// Why a socket is open no longer.
pub(crate) fn lost(error: &Error) -> Lost {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) => away(),
        Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => away(),
        Error::Protocol(tokio_tungstenite::tungstenite::error::ProtocolError::HandshakeIncomplete) => away(),
        other => Lost::Refused(Failure::new(format!("the daemon is not understood: {other}")).with_kind("protocol")),
    }
}

/// It was closed, without a word.
pub(crate) fn away() -> Lost {
    Lost::Away(Failure::new("the daemon has gone away").with_kind("connection"))
}
