//! Who is at the other end, how many connections and streams that one may have, and whether it may speak at all.
//!
//! On the unix socket the kernel says who connected (SO_PEERCRED): its user and its process. On TCP there is an address, and
//! the token says the rest.

use std::any::Any;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::AUTHORIZATION;
use actix_web::rt::net::{TcpStream, UnixStream};
use rustix::net::{Shutdown, sockopt};

use super::count::Counted;
use super::failed::{Failed, failed};
use super::leave::Present;
use crate::wire::ProblemKind;

/// A TCP connection whose other end does not answer for this long is gone.
const DEAD: Duration = Duration::from_secs(60);

/// Who.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// A process of a user of this machine.
    Process { uid: u32, pid: i32 },
    /// An address; of IPv6 the network that one customer has.
    Address(IpAddr),
    /// The kernel does not say.
    Unknown,
}

/// How much each may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) each: usize,
    pub(super) all: usize,
}

/// Counts what is there: connections, or streams.
#[derive(Debug)]
pub(super) struct Quota {
    most: Most,
    taken: Arc<Mutex<HashMap<Peer, usize>>>,
}

/// One of what is counted, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    peer: Peer,
    taken: Arc<Mutex<HashMap<Peer, usize>>>,
}

impl Quota {
    pub(super) fn new(most: Most) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// `None`: it, or all together, have what they may have. Those who connect to TCP have at most the half of it, so that
    /// strangers leave room for the socket.
    pub(super) fn take(&self, peer: Peer) -> Option<Taken> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let is_stranger = |peer: &Peer| !matches!(peer, Peer::Process { .. });
        let strangers: usize = taken.iter().filter(|(peer, _)| is_stranger(peer)).map(|(_, count)| count).sum();
        let room =
            taken.values().sum::<usize>() < self.most.all && (!is_stranger(&peer) || strangers < self.most.all / 2);
        if !room || taken.get(&peer).is_some_and(|count| *count >= self.most.each) {
            return None;
        }
        *taken.entry(peer).or_default() += 1;
        Some(Taken { peer, taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

/// What is known of a connection as long as it is there.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    /// Until something is asked on it.
    newcomer: Mutex<Option<Counted>>,
    _there: Counted,
    _one: Taken,
}

/// A connection has come: who it is. One too many is closed before a byte of it is read.
pub(super) fn connected(quota: &Quota, present: &Present, connection: &dyn Any) -> Option<Connection> {
    let (peer, unix, tcp) = match (connection.downcast_ref::<UnixStream>(), connection.downcast_ref::<TcpStream>()) {
        (Some(unix), _) => (process(unix), Some(unix), None),
        (_, Some(tcp)) => (address(tcp), None, Some(tcp)),
        _ => (Peer::Unknown, None, None),
    };
    if let Some(tcp) = tcp {
        // A connection whose other end is lost without a word would stay for hours.
        let _ = sockopt::set_tcp_user_timeout(tcp, u32::try_from(DEAD.as_millis()).unwrap_or(u32::MAX));
        let _ = sockopt::set_socket_keepalive(tcp, true);
    }
    let Some(one) = quota.take(peer) else {
        tracing::debug!(?peer, "a connection too many");
        let _ = unix.map(|unix| rustix::net::shutdown(unix, Shutdown::Both));
        let _ = tcp.map(|tcp| rustix::net::shutdown(tcp, Shutdown::Both));
        return None;
    };
    let newcomer = Mutex::new(Some(present.newcomers.one()));
    Some(Connection { peer, newcomer, _there: present.connections.one(), _one: one })
}

fn process(socket: &UnixStream) -> Peer {
    match socket.peer_cred() {
        Ok(of) => Peer::Process { uid: of.uid(), pid: of.pid().unwrap_or(0) },
        Err(_) => Peer::Unknown,
    }
}

fn address(socket: &TcpStream) -> Peer {
    match socket.peer_addr().map(|address| address.ip().to_canonical()) {
        Ok(IpAddr::V6(address)) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            Peer::Address(Ipv6Addr::from_bits(network).into())
        }
        Ok(address) => Peer::Address(address),
        Err(_) => Peer::Unknown,
    }
}

/// Who sent it.
pub(super) fn of(request: &HttpRequest) -> Peer {
    request.conn_data::<Connection>().map_or(Peer::Unknown, |connection| connection.peer)
}

/// Something is asked.
pub(super) fn spoke(request: &HttpRequest) {
    if let Some(connection) = request.conn_data::<Connection>() {
        drop(connection.newcomer.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// What a client on TCP has to know.
#[derive(Clone)]
pub struct Token(Vec<u8>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Token {
    /// This one. `None` when it is shorter than 16 bytes or has what no header can have.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let good = text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic());
        good.then(|| Self(text.as_bytes().to_vec()))
    }

    /// Takes as long for each text of one length.
    fn is(&self, other: &[u8]) -> bool {
        let differ = self.0.iter().zip(other).fold(0, |all, (one, other)| all | std::hint::black_box(one ^ other));
        std::hint::black_box(differ) == 0 && self.0.len() == other.len()
    }
}

/// Whether it may ask.
///
/// # Errors
/// Another user, or not the token.
pub(super) fn admit(request: &HttpRequest, token: Option<&Token>) -> Result<(), Failed> {
    let own = rustix::process::geteuid().as_raw();
    match (of(request), token) {
        (Peer::Process { uid, .. }, _) if uid == own || uid == 0 => Ok(()),
        (Peer::Address(_), Some(token)) => {
            let header = request.headers().get(AUTHORIZATION).map(actix_web::http::header::HeaderValue::as_bytes);
            let said = header.and_then(|header| header.strip_prefix(b"Bearer "));
            match said {
                Some(said) if token.is(said) => Ok(()),
                _ => Err(failed(ProblemKind::Unauthorized, "the token is missing or wrong")),
            }
        }
        _ => Err(failed(ProblemKind::Forbidden, "this is for the user of the daemon and for root")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_and_all_have_their_share() {
        let quota = Quota::new(Most { each: 2, all: 4 });
        let local = |pid| Peer::Process { uid: 0, pid };
        let far = |last| Peer::Address(IpAddr::from([10, 0, 0, last]));
        let one = [quota.take(local(1)), quota.take(local(1))];
        assert!(one.iter().all(Option::is_some) && quota.take(local(1)).is_none());
        let strangers = [quota.take(far(1)), quota.take(far(2))];
        assert!(strangers.iter().all(Option::is_some) && quota.take(far(3)).is_none(), "half of it");
        assert!(quota.take(local(2)).is_none(), "all of it, together");
        drop(one);
        assert!(quota.take(far(3)).is_none());
        let others = [quota.take(local(2)), quota.take(local(3))];
        assert!(others.iter().all(Option::is_some) && quota.take(local(4)).is_none());
        drop((strangers, others));
        assert!(quota.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn tokens() {
        assert!(Token::new("short").is_none() && Token::new("with a blank in it").is_none());
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        assert!(!token.is(b"0123456789abcdeg") && !token.is(b"0123456789abcdef0") && !token.is(b""));
        assert_eq!(format!("{token:?}"), "Token(..)");
    }
}
