//! What the news of an exit costs at the least: one thread that waits in epoll for pidfds and reaps, and three more that
//! hand the news on, as many changes of thread as in the library (the keeper, the thread that hears it, the container's
//! shard, the subscriber's thread), each by one write and one blocking read.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::Context as _;
use orangery_runtime::native::now_ns;
use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};

use crate::case::Fixture;

/// The four threads; they end with the process.
#[derive(Debug)]
pub struct Loop {
    epoll: OwnedFd,
    pidfds: Sender<OwnedFd>,
    seen: Receiver<u64>,
}

/// One exit: when the guest set out to end, and when it was heard of (nanoseconds of CLOCK_MONOTONIC).
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// The guest's last act but one.
    pub ended_ns: u64,
    /// In the last thread's hands.
    pub seen_ns: u64,
}

impl Exit {
    /// From one to the other.
    #[must_use]
    pub fn took_ns(self) -> u64 {
        self.seen_ns.saturating_sub(self.ended_ns)
    }
}

/// The guest's own time, as it was written.
///
/// # Errors
/// It is not whole.
pub fn stamp(bytes: &[u8]) -> anyhow::Result<u64> {
    let (seconds, rest) = bytes.split_first_chunk::<8>().context("no time")?;
    let nanoseconds = rest.first_chunk::<8>().context("half a time")?;
    Ok(u64::from_ne_bytes(*seconds) * 1_000_000_000 + u64::from_ne_bytes(*nanoseconds))
}

impl Loop {
    /// Start them.
    ///
    /// # Errors
    /// The kernel has no room.
    pub fn start() -> anyhow::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (pidfds, to_reap) = channel();
        let (near, far) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let first = eventfd(0, EventfdFlags::CLOEXEC)?;
        let second = eventfd(0, EventfdFlags::CLOEXEC)?;
        let (sender, seen) = channel();
        let watched = epoll.try_clone()?;
        std::thread::spawn(move || reap(&watched, &to_reap, &near));
        let out = first.try_clone()?;
        std::thread::spawn(move || {
            let mut record = [0; 64];
            while rustix::net::recv(&far, &mut record, RecvFlags::empty()).is_ok_and(|(_, length)| length > 0) {
                let _ = rustix::io::write(&out, &1u64.to_ne_bytes());
            }
        });
        let out = second.try_clone()?;
        std::thread::spawn(move || {
            let mut count = [0; 8];
            while rustix::io::read(&first, &mut count).is_ok() {
                let _ = rustix::io::write(&out, &1u64.to_ne_bytes());
            }
        });
        std::thread::spawn(move || {
            let mut count = [0; 8];
            while rustix::io::read(&second, &mut count).is_ok() {
                if sender.send(now_ns()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { epoll, pidfds, seen })
    }

    /// Start a guest, let it end, and say when that was heard of.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn exit(&self, fixture: &Fixture) -> anyhow::Result<Exit> {
        let mut guest = start(fixture)?;
        let pid = Pid::from_child(&guest);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&self.epoll, pidfd.as_fd(), data, epoll::EventFlags::IN)?;
        self.pidfds.send(pidfd)?;
        let (mut stdin, mut stdout) = (guest.stdin.take().context("stdin")?, guest.stdout.take().context("stdout")?);
        stdin.write_all(b"x")?;
        let seen_ns = self.seen.recv()?;
        let mut time = Vec::new();
        stdout.read_to_end(&mut time)?;
        Ok(Exit { ended_ns: stamp(&time)?, seen_ns })
    }
}

#[expect(clippy::disallowed_methods, reason = "the contestant without a keeper starts its processes itself")]
fn start(fixture: &Fixture) -> anyhow::Result<Child> {
    let mut command = Command::new(fixture.guest());
    Ok(command.args(["and", "end"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

fn reap(epoll: &OwnedFd, pidfds: &Receiver<OwnedFd>, out: &OwnedFd) {
    let mut events = Vec::with_capacity(8);
    loop {
        events.clear();
        match epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        for _ in &events {
            // One at a time: the next is started when this one was heard of.
            let Ok(pidfd) = pidfds.recv() else { return };
            let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            let _ = rustix::net::send(out, &[0; 64], SendFlags::NOSIGNAL);
            let _ = epoll::delete(epoll, pidfd.as_fd());
        }
    }
}
