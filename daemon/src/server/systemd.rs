//! What systemd wants to hear (sd_notify(3)); without it nothing is said.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Who is to be told.
#[derive(Debug)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that we live.
    pub(super) watchdog: Option<Duration>,
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
        Self { to: socket, watchdog: microseconds.map(Duration::from_micros) }
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

    /// It ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// Nobody waits for it: what cannot be said is not.
    pub(super) fn say(&self, what: &str) {
        if let Some((socket, to)) = &self.to
            && let Err(error) = socket.send_to_addr(what.as_bytes(), to)
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
        let notify = Notify { to: Some((UnixDatagram::unbound().unwrap(), to)), watchdog: None };
        notify.say("READY=1");
        let mut said = [0; 32];
        assert_eq!(socket.recv(&mut said).unwrap(), 7);
        assert_eq!(&said[..7], b"READY=1");
        assert!(address(OsStr::new("@orangery-test")).is_some());
        assert!(address(OsStr::new("relative")).is_none() && address(OsStr::new("")).is_none());
    }
}
