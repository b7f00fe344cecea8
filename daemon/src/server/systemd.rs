//! What systemd wants to hear (sd_notify(3)); without it nothing is said.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// One message has so long to be taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who is to be told.
#[derive(Debug)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// It has not taken the last one: the next ones are not waited for, until one is taken.
    deaf: AtomicBool,
    /// How often it wants to hear that we live.
    pub(super) watchdog: Option<Duration>,
    /// How many descriptors it keeps for the next daemon (`$FDSTORE`).
    pub(super) room: usize,
}

impl Notify {
    /// As the environment says.
    #[must_use]
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok();
        let of_us = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let microseconds =
            variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|time| *time > 0 && of_us);
        let to = std::env::var_os("NOTIFY_SOCKET").and_then(|name| address(&name));
        let socket = to.and_then(|to| Some((UnixDatagram::unbound().ok()?, to)));
        let room = variable("FDSTORE").and_then(|text| text.parse().ok()).filter(|_| socket.is_some());
        let deaf = AtomicBool::new(false);
        Self { to: socket, deaf, watchdog: microseconds.map(Duration::from_micros), room: room.unwrap_or(0) }
    }

    /// Somebody hears what is said: this process is kept by a service manager.
    #[must_use]
    pub const fn is_heard(&self) -> bool {
        self.to.is_some()
    }

    /// The daemon is about to be replaced, in the same process (`Type=notify-reload`): READY follows, from whichever of the two
    /// goes on.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS="));
    }

    /// It is not replaced, for this reason.
    pub fn stays(&self, why: &str) {
        self.say(&format!("READY=1\nSTATUS=not replaced: {}", why.replace('\n', " ")));
    }

    /// The descriptor is kept under this name, and comes back as sd_listen_fds(3) says when there is another daemon in place of one
    /// that has crashed. It is not looked at: a pidfd is readable when its process has ended, and is to stay all the same.
    pub(super) fn store(&self, name: &str, fd: impl AsFd) {
        // What an earlier one has stored under it is another descriptor.
        self.forget(name);
        if let Err(error) = self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), fd.as_fd()) {
            tracing::warn!(%error, name, "systemd cannot be given a descriptor to keep");
        }
    }

    /// It is not kept any more; nor is anything else of this name.
    pub(super) fn forget(&self, name: &str) {
        self.say(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    fn send(&self, what: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        let Some((_, to)) = &self.to else { return Ok(()) };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(to)?;
        let fds = [fd];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let send = || Ok(sendmsg(&socket, &[IoSlice::new(what.as_bytes())], &mut control, SendFlags::NOSIGNAL)?);
        self.bounded(&socket, send).map(drop)
    }

    /// Whoever answers clients sends it: one that is not taken holds them up for a moment, and a thousand do not for a thousand.
    fn bounded(&self, socket: &UnixDatagram, send: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        socket.set_nonblocking(self.deaf.load(Ordering::Relaxed))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let sent = send();
        let is_deaf = sent.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        self.deaf.store(is_deaf, Ordering::Relaxed);
        sent
    }

    /// It ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Nobody waits for it: what cannot be said is not.
    pub(super) fn say(&self, what: &str) {
        if let Some((socket, to)) = &self.to
            && let Err(error) = self.bounded(socket, || socket.send_to_addr(what.as_bytes(), to))
        {
            tracing::warn!(%error, what, "systemd cannot be told");
        }
    }
}

/// A path, or behind a `@` a name that is no path (unix(7)).
fn address(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes().split_first()? {
        (b'@', name) => SocketAddr::from_abstract_name(name).ok(),
        (b'/', _) => SocketAddr::from_pathname(name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let to = address(path.as_os_str()).unwrap();
        let to = Some((UnixDatagram::unbound().unwrap(), to));
        let notify = Notify { to, deaf: AtomicBool::new(false), watchdog: None, room: 0 };
        notify.say("READY=1");
        let mut said = [0; 32];
        assert_eq!(socket.recv(&mut said).unwrap(), 7);
        assert_eq!(&said[..7], b"READY=1");
        // As many as may wait there, and then far more: who does not read them is not waited for each time.
        (0..2_000).for_each(|_| notify.say("STATUS=x"));
        assert!(notify.deaf.load(Ordering::Relaxed));
        socket.recv(&mut said).unwrap();
        notify.say("READY=1");
        assert!(!notify.deaf.load(Ordering::Relaxed), "it is heard again");
        assert!(address(OsStr::new("@orangery-test")).is_some());
        assert!(address(OsStr::new("relative")).is_none() && address(OsStr::new("")).is_none());
    }
}
