//! A network by an administrator's plugin: a privileged program of its own behind a unix socket, which is given the namespace's
//! descriptor and wires it. A connection is one container's network, and what was made for it goes with the connection,
//! however either side ends.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    SocketAddrUnix, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::message::PluginMessage as Message;
use super::{NetworkLink, NetworkProperties, NetworkProvider};
use crate::BoxFuture;
use crate::error::{Error, ErrorKind};

/// So long one answer may take; then the connection is given up, which takes back what the plugin has made.
const PATIENCE: Duration = Duration::from_secs(10);

/// Networks by the plugin that listens at a socket (SOCK_SEQPACKET); `docs/network-plugin.md` is what is spoken there. What the
/// plugin understands as properties is its own.
///
/// What it has made for a container ends with the supervisor, because the connection does: a durable supervisor refuses it, as it
/// does every provider of yours.
///
/// ```no_run
/// use orangery_runtime::network::NetworkPlugin;
/// let bridge = NetworkPlugin::new("/run/orangery-network.sock").property("pool", "blue");
/// ```
#[derive(Clone, Debug)]
pub struct NetworkPlugin {
    socket: PathBuf,
    properties: NetworkProperties,
    attached: Arc<Mutex<HashMap<String, Attached>>>,
}

/// The network of one container.
#[derive(Clone, Debug)]
struct Attached {
    connection: Arc<AsyncFd<OwnedFd>>,
    told: NetworkProperties,
}

impl NetworkPlugin {
    /// By the plugin behind this socket.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), properties: NetworkProperties::new(), attached: Arc::default() }
    }

    /// One more property that each attach asks for.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    fn attached(&self) -> MutexGuard<'_, HashMap<String, Attached>> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, container: &str) -> Option<Attached> {
        self.attached().get(container).cloned()
    }
}

impl NetworkProvider for NetworkPlugin {
    fn attach(&self, link: Arc<NetworkLink>) -> BoxFuture<Result<(), Error>> {
        let plugin = self.clone();
        Box::pin(async move {
            let connection = Arc::new(connect(&plugin.socket)?);
            let mut message = Message::new("attach").with("container", link.container());
            message.entries.extend(plugin.properties.clone());
            let told = ask(&connection, &message, Some(link.namespace())).await?;
            plugin.attached().insert(link.container().to_owned(), Attached { connection, told });
            Ok(())
        })
    }

    fn change(&self, link: Arc<NetworkLink>, to: NetworkProperties) -> BoxFuture<Result<(), Error>> {
        let plugin = self.clone();
        Box::pin(async move {
            let none = || Error::new(ErrorKind::State, "the network is not attached").with_field("network");
            let Attached { connection, .. } = plugin.of(link.container()).ok_or_else(none)?;
            let told = ask(&connection, &Message { verb: "change".into(), entries: to }, None).await?;
            if let Some(attached) = plugin.attached().get_mut(link.container()) {
                attached.told = told;
            }
            Ok(())
        })
    }

    fn describe(&self, link: &NetworkLink) -> NetworkProperties {
        let Some(Attached { connection, told }) = self.of(link.container()) else { return NetworkProperties::new() };
        let mut all = told;
        all.insert("kind".into(), "plugin".into());
        // Nothing comes unasked, so that the end of the connection is all that can be there.
        let mut byte = [0u8];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let gone = matches!(rustix::net::recv(&*connection, &mut byte[..], flags), Ok((0, _)));
        all.insert("state".into(), if gone { "the plugin is gone" } else { "up" }.into());
        all
    }

    fn detach(&self, link: Arc<NetworkLink>) -> BoxFuture<()> {
        let attached = self.attached().remove(link.container());
        Box::pin(async move {
            // Whose answer says that it is taken back; whatever it is, the end of the connection says it again.
            if let Some(Attached { connection, .. }) = attached
                && let Err(error) = ask(&connection, &Message::new("detach"), None).await
            {
                tracing::debug!(container = link.container(), %error, "the network plugin did not say that it has detached");
            }
        })
    }
}

fn connect(path: &Path) -> Result<AsyncFd<OwnedFd>, Error> {
    let what = || format!("cannot reach the network plugin at {}", path.display());
    let failed = |error: rustix::io::Errno| {
        let failed = Error::system(what(), error);
        match error {
            rustix::io::Errno::CONNREFUSED => failed.with_hint("nobody listens there: is it running?"),
            _ => failed,
        }
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed)?;
    let address = SocketAddrUnix::new(path).map_err(failed)?;
    rustix::net::connect(&socket, &address).map_err(failed)?;
    crate::sys::watch(socket, Interest::READABLE).map_err(|error| Error::system(what(), error))
}

/// One question, one answer.
async fn ask(
    connection: &AsyncFd<OwnedFd>,
    message: &Message,
    namespace: Option<BorrowedFd<'_>>,
) -> Result<NetworkProperties, Error> {
    let bytes = message.encode().map_err(|why| Error::invalid("network_provider", why))?;
    let lost = |error: rustix::io::Errno| Error::system("the network plugin cannot be asked", error);
    send(connection.get_ref(), &bytes, namespace).map_err(lost)?;
    let answer = tokio::time::timeout(PATIENCE, hear(connection)).await;
    let late = || Error::new(ErrorKind::System, format!("the network plugin has not answered within {PATIENCE:?}"));
    let answer = answer.map_err(|_| late())??;
    match answer.verb.as_str() {
        "ok" => Ok(answer.entries),
        "no" => Err(refusal(&answer)),
        other => Err(Error::new(ErrorKind::System, format!("the network plugin has answered {other:?}"))),
    }
}

fn send(socket: &OwnedFd, bytes: &[u8], namespace: Option<BorrowedFd<'_>>) -> rustix::io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = namespace.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).map(drop)
}

async fn hear(connection: &AsyncFd<OwnedFd>) -> Result<Message, Error> {
    let failed = |error: std::io::Error| Error::system("the network plugin cannot be heard", error);
    loop {
        let mut ready = connection.readable().await.map_err(failed)?;
        match ready.try_io(|socket| Ok(receive(socket.get_ref().as_fd())?)) {
            Ok(Ok(Some(message))) => {
                return message
                    .map_err(|why| Error::new(ErrorKind::System, format!("the network plugin's answer: {why}")));
            }
            Ok(Ok(None)) => return Err(Error::new(ErrorKind::System, "the network plugin has hung up")),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(failed(error)),
            Err(_would_block) => {}
        }
    }
}

/// What has come; `None`: the end. Descriptors that nobody asked for are closed by the kernel.
fn receive(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<Result<Message, String>>> {
    let mut buffer = [0u8; Message::MOST];
    let mut control = RecvAncillaryBuffer::new(&mut []);
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::DONTWAIT)?;
    if got.bytes == 0 {
        return Ok(None);
    }
    if got.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Some(Err(format!("it has more than {} bytes", Message::MOST))));
    }
    Ok(Some(Message::decode(buffer.get(..got.bytes).unwrap_or_default())))
}

/// The plugin's own words.
fn refusal(answer: &Message) -> Error {
    let entry = |key: &str| answer.entries.get(key).map(String::as_str);
    let kind = match entry("kind") {
        Some("invalid") => ErrorKind::Invalid,
        Some("unsupported") => ErrorKind::Unsupported,
        Some("permission") => ErrorKind::Permission,
        Some("exhausted") => ErrorKind::Exhausted,
        Some("state") => ErrorKind::State,
        _ => ErrorKind::System,
    };
    let error = Error::new(kind, format!("the network plugin refuses: {}", entry("what").unwrap_or("without a word")));
    match entry("field") {
        Some(field) => error.with_field(format!("network.{field}")),
        None => error,
    }
}
