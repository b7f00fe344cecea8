//! The socket that a container speaks sd_notify's protocol to ($NOTIFY_SOCKET). It is made in the container's network and
//! has an abstract name there, a random one: nothing lies in any file system, nothing is to be removed, and where that
//! network is the container's alone nobody else can reach it.
//!
//! Who speaks is told by the kernel and has to belong to the container. Descriptors that are sent along never come in;
//! closed unread, they are what sd_notify_barrier waits for. Who says more than [`RATE`] waits in the kernel's queue.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::time::Duration;

use orangery_runtime::sys::datagram::{self, Datagram};
use orangery_runtime::{Container, ProcessSpec};
use rustix::net::SocketAddrUnix;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::container::slot::ContainerSlot;
use crate::error::Error;
use crate::events::Kind;
use crate::faults::{Fault, Faults, Site};
use crate::probe::notify::{MOST, Refusal, Said, read};

const UNIX: u32 = 1;
/// SOCK_DGRAM with SOCK_NONBLOCK.
const DATAGRAM: u32 = 0o4002;
/// So many messages in a second are heard at once.
const RATE: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// What it has said so far, of what has to be acted upon.
#[derive(Clone, Debug, Default)]
pub(super) struct Beats {
    pub(super) ready: bool,
    /// How often it has said that it is alive.
    pub(super) alive: u64,
    /// It asks for what follows when it is not.
    pub(super) triggered: bool,
    /// How often it wants to say so.
    pub(super) every: Option<Duration>,
    /// How often it has asked for more time, and for how much.
    pub(super) extend: (u64, Duration),
}

/// The socket, once there is a network to make it in.
pub(super) struct Channel {
    name: String,
    socket: Option<UnixDatagram>,
    pub(super) beats: watch::Sender<Beats>,
}

impl Channel {
    /// To be told to `main`.
    pub(super) fn new(main: &mut ProcessSpec) -> Self {
        let mut random = [0; 16];
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let name = format!("orangery/{:032x}", u128::from_ne_bytes(random));
        set(main, "NOTIFY_SOCKET", format!("@{name}"));
        Self { name, socket: None, beats: watch::Sender::new(Beats::default()) }
    }

    /// The one that the main process was told by another supervisor; `held`: with what was sent to it since.
    pub(super) fn again(name: String, held: Option<OwnedFd>) -> Result<Self, Error> {
        let socket = held.map(ear).transpose()?;
        Ok(Self { name, socket, beats: watch::Sender::new(Beats::default()) })
    }

    /// Its socket, once it is open.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Before the main process starts.
    ///
    /// # Errors
    /// The kernel's; the field is `notify`.
    pub(super) async fn open(&mut self, container: &dyn Container) -> Result<(), Error> {
        if self.socket.is_some() {
            return Ok(());
        }
        let socket = container.socket(UNIX, DATAGRAM).await.map_err(named)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)
            .map_err(|error| failed("cannot ask who notifies", error))?;
        let bound =
            SocketAddrUnix::new_abstract_name(self.name.as_bytes()).and_then(|name| rustix::net::bind(&socket, &name));
        bound.map_err(|error| failed("cannot name a socket for notifications", error))?;
        self.socket = Some(ear(socket)?);
        Ok(())
    }

    async fn receive(&self, buffer: &mut [u8]) -> std::io::Result<Datagram> {
        match &self.socket {
            Some(socket) => socket.async_io(Interest::READABLE, || datagram::receive(socket, buffer)).await,
            None => std::future::pending().await,
        }
    }

    /// Hear all that is said; comes back when nothing can be heard any more.
    pub(super) async fn listen(&self, container: &ContainerSlot, faults: &Faults) {
        let mut ear = Ear { container, beats: &self.beats, refused: HashSet::new() };
        let (mut buffer, mut heard, mut since) = (vec![0; MOST], 0, Instant::now());
        loop {
            let got = match self.receive(&mut buffer).await {
                Ok(got) => got,
                Err(error) => return tracing::error!(%error, "no notification is heard any more"),
            };
            match faults.ask(Site::Notification) {
                Fault::Drop => continue,
                Fault::Delay(time) => tokio::time::sleep(time).await,
                _ => {}
            }
            ear.hear(got, buffer.get(..got.len).unwrap_or_default()).await;
            heard += 1;
            if since.elapsed() >= SECOND {
                (heard, since) = (0, Instant::now());
            } else if heard >= RATE {
                tokio::time::sleep_until(since + SECOND).await;
            }
        }
    }
}

fn named(error: orangery_runtime::Error) -> Error {
    Error::from(error.with_field("notify"))
}

fn failed(what: &str, error: rustix::io::Errno) -> Error {
    named(orangery_runtime::Error::system(what, error))
}

fn ear(socket: OwnedFd) -> Result<UnixDatagram, Error> {
    UnixDatagram::from_std(StdDatagram::from(socket)).map_err(|error| {
        let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
        failed("cannot watch a socket for notifications", errno)
    })
}

struct Ear<'a> {
    container: &'a ContainerSlot,
    beats: &'a watch::Sender<Beats>,
    /// Each is told once.
    refused: HashSet<Refusal>,
}

impl Ear<'_> {
    async fn hear(&mut self, got: Datagram, message: &[u8]) {
        if !self.belongs(got.sender).await {
            return self.refuse(Refusal::Stranger);
        }
        if got.cut {
            return self.refuse(Refusal::TooLong);
        }
        for said in read(message) {
            match said {
                Ok(said) => self.note(said),
                Err(why) => self.refuse(why),
            }
        }
    }

    async fn belongs(&self, sender: Option<i32>) -> bool {
        match (self.container.container.get(), sender) {
            (Some(container), Some(pid)) => container.holds(pid).await,
            _ => false,
        }
    }

    fn note(&self, said: Said) {
        let (container, beats) = (self.container, self.beats);
        match said {
            Said::Ready => {
                container.know(|vitals| vitals.reloading = false);
                beats.send_modify(|beats| beats.ready = true);
            }
            Said::Reloading => container.know(|vitals| vitals.reloading = true),
            Said::Stopping => container.know(|vitals| vitals.stopping = true),
            Said::Status(text) => container.know(|vitals| vitals.status = Some(text)),
            Said::Errno(errno) => container.know(|vitals| vitals.errno = Some(errno)),
            Said::Alive => beats.send_modify(|beats| beats.alive += 1),
            Said::Trigger => beats.send_modify(|beats| beats.triggered = true),
            Said::Every(every) => beats.send_modify(|beats| {
                beats.every = Some(every);
                beats.alive += 1;
            }),
            Said::Extend(by) => beats.send_modify(|beats| beats.extend = (beats.extend.0 + 1, by)),
        }
    }

    fn refuse(&mut self, why: Refusal) {
        if self.refused.insert(why) {
            tracing::warn!(container = %self.container.id, ?why, "a notification is refused; said once for each reason");
            self.container.voice().tell(None, Kind::NotifyRefused { why }, None);
        }
    }
}

/// Set a variable of it, in place of one of the same name.
pub(super) fn set(main: &mut ProcessSpec, name: &str, value: String) {
    let name = OsString::from(name);
    main.env.retain(|(have, _)| *have != name);
    main.env.push((name, value.into()));
}
