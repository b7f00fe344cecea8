//! Telling the caller's service manager that the container is ready (sd_notify(3)), as runc does: where the caller has a `NOTIFY_SOCKET`
//! the container has one below [`INSIDE`], at which `start` or `run` listens, and says so in its turn. Nothing else is passed on, and
//! nobody listens any more when it was said.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use orangery_runtime::spec::{Exact, Mount};
use orangery_runtime::{ContainerSpec, ProcessSpec};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::failure::Failure;
use crate::place::{NOTIFY, Room};

/// Where the container has it.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// By which both sides know it.
const VARIABLE: &str = "NOTIFY_SOCKET";
/// MOUNT_ATTR_RDONLY, NOSUID, NODEV and NOEXEC: it is there to be sent to.
const ATTRIBUTES: u64 = 1 | 2 | 4 | 8;
/// How long a manager may take to take a message.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to have looked at what it was told, as sd_notify_barrier(3) is used by others.
const LOOKED: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
/// Longest message that is looked at as a whole.
const LARGEST: usize = 4096;
/// So many are heard at a time: one that never stops is not waited for.
const AT_ONCE: usize = 64;

/// The caller's.
fn callers() -> Option<OsString> {
    std::env::var_os(VARIABLE).filter(|path| !path.is_empty())
}

/// A directory for it, and what its command is told, where the caller has one.
///
/// # Errors
/// It cannot be made.
pub(crate) fn offer(room: &Room, spec: &mut ContainerSpec, process: &mut ProcessSpec) -> Result<(), Failure> {
    if callers().is_none() {
        return Ok(());
    }
    let failed = |error: Errno| Failure::system("cannot make a directory for NOTIFY_SOCKET", error);
    let mode = Mode::from_raw_mode(0o755);
    rustix::fs::mkdirat(room.dir(), NOTIFY, mode).map_err(failed)?;
    // Whoever calls us may hide from others what it makes.
    rustix::fs::chmodat(room.dir(), NOTIFY, mode, AtFlags::empty()).map_err(failed)?;
    let source = std::path::absolute(room.path().join(NOTIFY));
    let source = source.map_err(|error| Failure::system("cannot tell where --root is", error))?;
    let mut exact = Exact::default();
    (exact.set, exact.single) = (ATTRIBUTES, true);
    let mut mount = Mount::bind(source, INSIDE);
    mount.exact = Some(exact);
    spec.mounts.push(mount);
    process.env.retain(|(name, _)| name != VARIABLE);
    process.env.push((VARIABLE.into(), format!("{INSIDE}/{NAME}").into()));
    Ok(())
}

/// Where the container says that it is ready.
#[derive(Debug)]
pub(crate) struct Inbox {
    socket: UnixDatagram,
    callers: OsString,
    /// It has, and was passed on.
    said: Cell<bool>,
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Inbox {
    /// Before there is anybody to say something; `None`: the caller has none, or whoever made the container had none.
    ///
    /// # Errors
    /// It cannot be made.
    pub(crate) fn open(room: &Room) -> Result<Option<Inbox>, Failure> {
        let Some(callers) = callers() else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match rustix::fs::openat(room.dir(), NOTIFY, flags, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(Failure::system("cannot open the directory for NOTIFY_SOCKET", error)),
        };
        // Its path may be longer than an address may be.
        let path = format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd());
        let failed = |error| Failure::system("cannot listen at the container's NOTIFY_SOCKET", error);
        // Of a `start` that was killed before it let the process go.
        match rustix::fs::unlinkat(&dir, NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let socket = UnixDatagram::bind(path).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let mode = Mode::from_raw_mode(0o777);
        rustix::fs::chmodat(&dir, NAME, mode, AtFlags::empty()).map_err(|error| failed(error.into()))?;
        Ok(Some(Inbox { socket, callers, said: Cell::new(false) }))
    }

    /// Whether it has said that it is ready: then the caller's manager is told, and if `pid` is one, also who goes on as the main process.
    pub(crate) fn hear(&self, pid: Option<i32>) -> bool {
        let mut message = [0; LARGEST];
        for _ in 0..AT_ONCE {
            let Ok(length) = self.socket.recv(&mut message) else { break };
            let lines = message.get(..length).unwrap_or_default().split(|byte| *byte == b'\n');
            if !self.said.get() && lines.into_iter().any(|line| line == b"READY=1") {
                self.said.set(true);
                if let Err(error) = self.tell(pid) {
                    // It runs all the same.
                    tracing::warn!("NOTIFY_SOCKET {}: {error}", self.callers.display());
                }
            }
        }
        self.said.get()
    }

    fn tell(&self, pid: Option<i32>) -> std::io::Result<()> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        match self.callers.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
            None => socket.connect(&self.callers)?,
        }
        socket.send(b"READY=1")?;
        let Some(pid) = pid else { return Ok(()) };
        socket.send(format!("MAINPID={pid}").as_bytes())?;
        looked(&socket)
    }

    /// Until it has said so, or `init` has ended.
    ///
    /// # Errors
    /// The kernel does not let us wait.
    pub(crate) fn until_ready(&self, (pid, init): (i32, &OwnedFd)) -> Result<(), Failure> {
        while !self.hear(Some(pid)) {
            let mut fds = [PollFd::new(init, PollFlags::IN), PollFd::new(self, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(Failure::system("cannot wait for READY=1", error)),
            }
            if fds.first().is_some_and(|init| !init.revents().is_empty()) {
                // Its last words may have been these.
                self.hear(Some(pid));
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Who sends has to live until it was heard, as it is looked up then: the other end of a pipe is closed with its message.
fn looked(socket: &UnixDatagram) -> std::io::Result<()> {
    let (ours, theirs) = std::io::pipe()?;
    let fds = [theirs.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::net::sendmsg(socket, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::NOSIGNAL)?;
    drop(theirs);
    // It goes on without that, as others do.
    poll(&mut [PollFd::new(&ours, PollFlags::empty())], Some(&LOOKED))?;
    Ok(())
}
