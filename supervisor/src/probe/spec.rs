//! What is asked.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use orangery_runtime::Error as RuntimeError;
use serde::{Deserialize, Serialize};

use super::http::Http;

/// The longest text that is looked for in the output.
const MOST_TEXT: usize = 1024;

/// A question whose answer says whether a container does what it is for.
///
/// Some are asked again and again and fit readiness and health ([`Probe::exec`], [`Probe::tcp`], [`Probe::http`]); some hold
/// for good once they are answered and fit readiness alone ([`Probe::notify`], [`Probe::descriptor`], [`Probe::line`],
/// [`Probe::delay`]).
///
/// ```
/// use orangery::Probe;
/// let probes = [Probe::exec(["pg_isready"]), Probe::tcp(5432), Probe::line("ready to accept connections")];
/// # let _ = probes;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[must_use]
pub struct Probe(pub(crate) Question);

/// The kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    Exec(Vec<String>),
    Tcp(SocketAddr),
    Http(Http),
    Line(String),
    Notify,
    Descriptor,
    Delay(Duration),
}

impl Probe {
    /// This command, run in the container as its main process is (user, groups, environment, directory, capabilities, filter
    /// of system calls), returns 0 in time. What it has started ends with it. When it fails, its last words are told.
    pub fn exec<S: Into<String>>(command: impl IntoIterator<Item = S>) -> Self {
        Self(Question::Exec(command.into_iter().map(Into::into).collect()))
    }

    /// Somebody accepts a connection on this port of the container's own 127.0.0.1.
    pub fn tcp(port: u16) -> Self {
        Self::tcp_at(Ipv4Addr::LOCALHOST, port)
    }

    /// Somebody accepts a connection there, as seen from the container's network.
    pub fn tcp_at(address: impl Into<IpAddr>, port: u16) -> Self {
        Self(Question::Tcp(SocketAddr::new(address.into(), port)))
    }

    /// The server on this port of the container's own 127.0.0.1 answers a GET of this path with a status from 200 to 399.
    /// [`Http`] says more.
    pub fn http(port: u16, path: impl Into<String>) -> Self {
        Http::get(port, path).into()
    }

    /// A process of the container has sent `READY=1`, by the protocol of sd_notify(3): to the socket in `$NOTIFY_SOCKET`, an
    /// abstract one of the container's network. `STATUS`, `ERRNO`, `RELOADING` and `STOPPING` stand in
    /// [`Vitals`](crate::Vitals) then, `EXTEND_TIMEOUT_USEC` asks for more time
    /// ([`Readiness::extendable`](crate::Readiness::extendable)), `WATCHDOG` is for a [`Watchdog`](crate::Watchdog).
    /// `MAINPID` and `FDSTORE` are refused: see [`NotifyRefusal`](crate::NotifyRefusal). In the host's network
    /// a sender has to live until it was heard, as `systemd-notify` and sd_notify_barrier(3) do.
    pub const fn notify() -> Self {
        Self(Question::Notify)
    }

    /// The main process has written a line, whatever it says, to the descriptor whose number is in `$NOTIFY_FD`: s6's
    /// protocol.
    pub const fn descriptor() -> Self {
        Self(Question::Descriptor)
    }

    /// The main process has written this text within one line, to its standard output or error. Every byte from the first one
    /// on is looked at, in lines of any length, and other readers notice nothing of it.
    pub fn line(text: impl Into<String>) -> Self {
        Self(Question::Line(text.into()))
    }

    /// It has run for this long.
    pub fn delay(time: Duration) -> Self {
        Self(Question::Delay(time))
    }

    /// Everything about it that makes no sense. `again`: it is to be asked more than once.
    pub(super) fn check(&self, field: &str, again: bool) -> Vec<RuntimeError> {
        let refuse = |why: &str| vec![RuntimeError::invalid(field, why)];
        match &self.0 {
            Question::Exec(command) if command.first().is_none_or(String::is_empty) => refuse("there is no command"),
            Question::Exec(command) if command.iter().any(|word| word.contains('\0')) => {
                refuse("no word of a command holds a zero byte")
            }
            Question::Tcp(at) if at.port() == 0 => refuse("port 0 is nobody's"),
            Question::Line(text) if text.is_empty() => refuse("every line holds the empty text"),
            Question::Line(text) if text.contains('\n') => refuse("no line holds an end of line"),
            Question::Line(text) if text.len() > MOST_TEXT => refuse("longer than 1,024 bytes"),
            Question::Line(_) | Question::Delay(_) | Question::Notify | Question::Descriptor if again => {
                refuse("what is true for ever once it was says nothing of health")
            }
            Question::Http(http) => http.check(field).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}
