//! User-mode networking without any rights of the host: the program `pasta` of the package passt carries what a container
//! sends, connection by connection, into sockets of its own user's. What it is asked for is [`Pasta`]; [`Wired`] is the
//! provider of one container. The process itself is `native/helper.rs`'s.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::publish::{Protocol, Publish};
use super::{NetworkLink, NetworkProperties, NetworkProvider, addresses, resolv};
use crate::BoxFuture;
use crate::error::{Error, ErrorKind};
use crate::native::helper::{self, Failed, Helper};

/// Most ports of one container: each is a socket of pasta's, and an argument.
const MOST: usize = 256;

/// A container's network by `pasta` (package passt): it has the host's addresses, IPv4 and IPv6 as the host has them, reaches
/// what the host's user reaches, and is reached by the ports that are [published](Pasta::publish). Names are asked of the
/// host's resolver (its /etc/resolv.conf says so). Needs no rights of the host but to open /dev/net/tun; as root it runs as
/// the container's root, which is nobody outside.
///
/// The host's loopback cannot be reached, unless [`Pasta::host_loopback`] says so; its other addresses can, but for the one
/// that the container has itself.
///
/// ```
/// use orangery_runtime::network::{Pasta, Publish};
/// let network = Pasta::new().publish(Publish::tcp(8080, 80).on([127, 0, 0, 1]));
/// assert!(!network.host_loopback);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Pasta {
    /// Ports of the host that lead into it.
    pub publish: Vec<Publish>,
    /// The default gateway's address leads to the loopback of the host, and so to its services that listen there alone.
    pub host_loopback: bool,
}

impl Pasta {
    /// The name of the program.
    pub const PROGRAM: &'static str = "pasta";

    /// Nothing is published.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more port, or several.
    #[must_use]
    pub fn publish(mut self, publish: Publish) -> Self {
        self.publish.push(publish);
        self
    }

    /// See [`Pasta::host_loopback`](field@Pasta::host_loopback). Default: no.
    #[must_use]
    pub fn host_loopback(mut self, reach: bool) -> Self {
        self.host_loopback = reach;
        self
    }

    /// Where the program is; `None`: it is not installed.
    #[must_use]
    pub fn find() -> Option<PathBuf> {
        helper::find(Pasta::PROGRAM)
    }

    /// Why its interface could not be made by a user who is not root, as far as that can be said beforehand.
    ///
    /// # Errors
    /// /dev/net/tun is missing, or cannot be opened by this user.
    pub fn look_for_tun() -> Result<(), Error> {
        let opened = std::fs::OpenOptions::new().read(true).write(true).open(TUN);
        opened.map(drop).map_err(|error| tun(Error::system(format!("cannot open {TUN}"), error)))
    }

    /// What is wrong with it, by field.
    pub(crate) fn refusals(&self) -> Vec<Error> {
        let mut refused = Vec::new();
        for (index, publish) in self.publish.iter().enumerate() {
            let no = |why: String| Error::invalid(format!("publish[{index}]"), why);
            refused.extend(publish.wrong().map(no));
            if let Some(other) = self.publish.iter().take(index).find(|other| publish.overlaps(other)) {
                refused.push(no(format!("{publish} listens where {other} does")));
            }
        }
        let ports: usize = self.publish.iter().map(|publish| usize::from(publish.count)).sum();
        if ports > MOST {
            refused.push(Error::invalid("publish", format!("{ports} ports are published; {MOST} are possible")));
        }
        refused
    }

    /// What /etc/resolv.conf of its container says.
    pub(crate) fn resolv_conf() -> String {
        resolv::inside(&resolv::host())
    }

    /// Descriptors 0 and 1 are the network namespace and a pipe. What the manual page calls initialisation includes addresses,
    /// routes and listening sockets, and its end is told by the file for the pid, which is that pipe.
    fn arguments(&self, dns: [bool; 2]) -> Vec<OsString> {
        let mut words: Vec<String> =
            ["pasta", "--foreground", "--quiet", "--config-net", "--no-netns-quit", "--netns-only"]
                .map(str::to_owned)
                .into();
        words.extend(["--netns", "/proc/self/fd/0", "--pid", "/proc/self/fd/1"].map(str::to_owned));
        // Else the host's loopback would be there under our own.
        words.extend(["--tcp-ns", "none", "--udp-ns", "none"].map(str::to_owned));
        if !self.host_loopback {
            words.push("--no-map-gw".into());
        }
        for (address, _) in resolv::RESOLVERS.iter().zip(dns).filter(|(_, there)| *there) {
            words.extend(["--dns-forward".into(), (*address).to_owned()]);
        }
        for (protocol, option) in [(Protocol::Tcp, "--tcp-ports"), (Protocol::Udp, "--udp-ports")] {
            // One at a time: of several in one argument those that are taken would be left out without a word.
            let of = self.publish.iter().filter(|publish| publish.protocol == protocol);
            let specs: Vec<String> = of.flat_map(|one| one.pairs().map(|pair| spec(one, pair))).collect();
            let specs = if specs.is_empty() { vec!["none".to_owned()] } else { specs };
            words.extend(specs.into_iter().flat_map(|spec| [option.to_owned(), spec]));
        }
        words.into_iter().map(OsString::from).collect()
    }

    /// What its last words mean.
    fn explain(&self, words: &str) -> Error {
        for (index, publish) in self.publish.iter().enumerate() {
            let named = |pair: &(u16, u16)| words.contains(&format!(" {}'", spec(publish, *pair)));
            if let Some((port, _)) = publish.pairs().find(named) {
                return not_listening(publish, port).with_field(format!("publish[{index}]"));
            }
        }
        let why = if words.is_empty() { "without a word" } else { words };
        let failed = Error::new(ErrorKind::System, format!("pasta has ended: {why}"));
        if words.contains("tun") {
            return tun(failed.with_kind(ErrorKind::Permission));
        }
        if words.contains("External interface") {
            let failed = failed.with_kind(ErrorKind::Unsupported);
            return failed.with_hint("it takes addresses and routes from the host's default route, and there is none");
        }
        failed
    }
}

const TUN: &str = "/dev/net/tun";

fn tun(error: Error) -> Error {
    error.with_hint(format!("{TUN} has to be there (modprobe tun) and open to this user (chmod 0666, as udev has it)"))
}

/// As pasta reads it.
fn spec(publish: &Publish, (host, container): (u16, u16)) -> String {
    match publish.address {
        Some(address) => format!("{address}/{host}:{container}"),
        None => format!("{host}:{container}"),
    }
}

/// It says that it could not, and not why: who tries it again learns that, as long as it is so.
fn not_listening(publish: &Publish, port: u16) -> Error {
    let at = (publish.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port);
    let tried = match publish.protocol {
        Protocol::Tcp => TcpListener::bind(at).map(drop),
        Protocol::Udp => UdpSocket::bind(at).map(drop),
    };
    let what = format!("cannot listen on port {port} of the host ({publish})");
    let Err(error) = tried else { return Error::new(ErrorKind::System, what) };
    let errno = error.raw_os_error();
    let failed = Error::system(what, error);
    match errno {
        Some(libc::EADDRINUSE) => failed.with_kind(ErrorKind::Exists).with_hint("something listens there already"),
        Some(libc::EADDRNOTAVAIL) => failed.with_kind(ErrorKind::Invalid).with_hint("this host has no such address"),
        Some(libc::EACCES) => {
            failed.with_hint("ports below net.ipv4.ip_unprivileged_port_start are root's: take a higher one")
        }
        _ => failed,
    }
}

/// The network of one container.
#[derive(Clone, Debug)]
pub(crate) struct Wired {
    pasta: Pasta,
    addresses: Arc<Mutex<Vec<String>>>,
}

/// What the next supervisor is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WiredRecord {
    pasta: Pasta,
    addresses: Vec<String>,
}

impl Wired {
    pub(crate) fn new(pasta: Pasta) -> Arc<Self> {
        Arc::new(Self { pasta, addresses: Arc::default() })
    }

    /// That of an earlier supervisor, by what it has written down.
    pub(crate) fn again(record: WiredRecord) -> Arc<Self> {
        let WiredRecord { pasta, addresses } = record;
        Arc::new(Self { pasta, addresses: Arc::new(Mutex::new(addresses)) })
    }

    pub(crate) fn written(&self) -> WiredRecord {
        WiredRecord { pasta: self.pasta.clone(), addresses: self.addresses() }
    }

    async fn start(&self, link: &NetworkLink, helper: &Helper) -> Result<(), Error> {
        if Pasta::find().is_none() {
            let missing = Error::new(ErrorKind::NotFound, "the program pasta is not installed");
            return Err(missing.with_field("pasta").with_hint("install the package passt"));
        }
        let arguments = self.pasta.arguments(resolv::families(&resolv::host()));
        match helper.start(link.namespace(), &helper::candidates(Pasta::PROGRAM), &arguments).await {
            Ok(()) => {}
            Err(Failed::Before(error)) => return Err(error),
            Err(Failed::Ended(words)) => return Err(self.pasta.explain(&words)),
        }
        let (family, kind) = addresses::SOCKET;
        let found = addresses::ask(&helper.socket(family, kind).await?)?;
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl NetworkProvider for Wired {
    fn attach(&self, link: Arc<NetworkLink>) -> BoxFuture<Result<(), Error>> {
        let wired = self.clone();
        Box::pin(async move {
            let nobody = || Error::new(ErrorKind::Unsupported, "there is no keeper that could start pasta");
            let helper = link.helper().ok_or_else(nobody)?;
            wired.start(&link, helper).await
        })
    }

    fn describe(&self, link: &NetworkLink) -> NetworkProperties {
        let text = |items: Vec<String>| items.join(" ");
        let state = if link.helper().is_some_and(|helper| helper.is_up()) { "up" } else { "down" };
        let mut all = NetworkProperties::from([
            ("kind".to_owned(), Pasta::PROGRAM.to_owned()),
            ("state".to_owned(), state.to_owned()),
            ("addresses".to_owned(), text(self.addresses())),
        ]);
        if !self.pasta.publish.is_empty() {
            let published = self.pasta.publish.iter().map(ToString::to_string).collect();
            all.insert("publish".to_owned(), text(published));
        }
        all
    }

    fn detach(&self, _: Arc<NetworkLink>) -> BoxFuture<()> {
        // The runtime ends the helper.
        Box::pin(std::future::ready(()))
    }
}
