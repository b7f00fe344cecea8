//! A connection to what listens in the container's network, made there: the socket is a child's of the keeper, so that
//! nothing of the supervisor ever enters that network and nothing of the host's answers in its place.

use std::net::{SocketAddr, TcpStream as StdStream};

use orangery_runtime::Container;
use tokio::net::{TcpSocket, TcpStream};

use super::attempt::Miss;
use crate::container::slot::ContainerSlot;

const INET: u32 = 2;
const INET6: u32 = 10;
/// SOCK_STREAM with SOCK_NONBLOCK.
const STREAM: u32 = 0o4001;

/// # Errors
/// Why there is none.
pub(super) async fn connect(container: &ContainerSlot, to: SocketAddr) -> Result<TcpStream, Miss> {
    let Some(inside) = container.container.get() else { return Err(Miss::Unasked("it does not run".into())) };
    let family = if to.is_ipv4() { INET } else { INET6 };
    let socket = Container::socket(&**inside, family, STREAM).await;
    let socket = socket.map_err(|error| Miss::Unasked(error.to_string()))?;
    let stream = TcpSocket::from_std_stream(StdStream::from(socket)).connect(to).await;
    let stream = stream.map_err(|error| Miss::Failed(format!("no connection to {to}: {error}")))?;
    // Where nobody listens on a port that the kernel also gives to callers, a caller may be given it and reach itself.
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(ours), Ok(theirs)) if ours == theirs => Err(Miss::Failed(format!("no connection to {to}: nobody listens"))),
        _ => Ok(stream),
    }
}
