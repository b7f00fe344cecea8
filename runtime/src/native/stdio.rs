//! Standard streams: which end goes to the process, which stays with us.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::reach::received;
use crate::error::Error;
use crate::plan::wire::Purpose;
use crate::spec::Stdio;
use crate::spec::check::CheckedProcess;
use crate::{Exit, Started};

/// Who the pipes of a process belong to, outside; `None`: to us, as they are.
pub(super) type Owner = Option<(u32, u32)>;

/// Both sides of a process's standard streams.
#[derive(Debug)]
pub(super) struct Ends {
    /// Descriptors 0, 1 and 2 of the process, unless it makes them itself, and what is preserved.
    pub(super) theirs: Vec<Option<OwnedFd>>,
    /// Our ends, where pipes were asked for.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// Our end of the channel that its plan sends over, and what it sends, in this order.
    channel: Option<OwnedFd>,
    sends: Sends,
}

/// What the plan of a process makes for us.
#[derive(Clone, Copy, Debug)]
struct Sends {
    /// The master of its terminal.
    tty: bool,
    /// The listener of its filter.
    listener: bool,
}

impl Ends {
    /// Their end of the channel, for a process whose plan sends something.
    pub(super) fn channel(&mut self) -> Result<Option<OwnedFd>, Error> {
        if !self.sends.tty && !self.sends.listener {
            return Ok(None);
        }
        let (ours, theirs) = channel()?;
        self.channel = Some(ours);
        Ok(Some(theirs))
    }

    /// The process that has come by these is there.
    pub(super) fn started(
        self,
        pid: i32,
        pidfd: Arc<OwnedFd>,
        exit: tokio::sync::oneshot::Receiver<Exit>,
    ) -> Result<Started, Error> {
        let sent = |wanted: bool, purpose| {
            let channel = self.channel.as_ref().filter(|_| wanted);
            channel.map(|channel| received(channel, purpose)).transpose()
        };
        let tty = sent(self.sends.tty, Purpose::PtyMaster)?;
        let listener = sent(self.sends.listener, Purpose::Listener)?;
        let shown = tty.as_ref().map(|master| duplicate(master.as_fd(), "tty")).transpose()?;
        let Self { stdin, stdout, stderr, .. } = self;
        Ok(Started { pid, pidfd, exit, stdin, stdout: stdout.or(shown), stderr, tty, listener, group: None })
    }
}

/// A pipe, read end first. Both ends block; whoever keeps one makes its own non-blocking.
pub(super) fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| Error::system("cannot make a pipe", error))
}

/// The start gate, their end first. A socket, so that opening it for a command that has died raises no SIGPIPE in a
/// host that has not ignored it.
pub(super) fn gate() -> Result<(OwnedFd, OwnedFd), Error> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| Error::system("cannot make the start gate", error))
}

/// Where a plan sends a descriptor that it has made, our end first: ours never blocks.
pub(super) fn channel() -> Result<(OwnedFd, OwnedFd), Error> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|error| Error::system("cannot make a channel", error))
}

fn one(stdio: &Stdio, input: bool, field: &str, owner: Owner) -> Result<(OwnedFd, Option<OwnedFd>), Error> {
    match stdio {
        Stdio::Null => {
            let flags = if input { OFlags::RDONLY } else { OFlags::WRONLY } | OFlags::CLOEXEC;
            let null = rustix::fs::open("/dev/null", flags, Mode::empty())
                .map_err(|error| Error::system("cannot open /dev/null", error).with_field(field))?;
            Ok((null, None))
        }
        Stdio::Piped => {
            let (read, write) = pipe()?;
            if let Some((uid, gid)) = owner {
                // Else a program that opens /dev/stdout anew would meet a pipe of the host's root.
                rustix::fs::fchown(&read, Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)))
                    .map_err(|error| Error::system("cannot give a pipe to the process", error).with_field(field))?;
            }
            Ok(if input { (read, Some(write)) } else { (write, Some(read)) })
        }
        Stdio::Fd(fd) => Ok((duplicate(fd.as_fd(), field)?, None)),
    }
}

fn duplicate(fd: std::os::fd::BorrowedFd<'_>, field: &str) -> Result<OwnedFd, Error> {
    fd.try_clone_to_owned().map_err(|error| Error::system("cannot duplicate a descriptor", error).with_field(field))
}

/// Open what is asked for. A terminal is made by the process itself.
pub(super) fn open(process: &CheckedProcess, owner: Owner) -> Result<Ends, Error> {
    let spec = process.spec();
    let sends = Sends { tty: spec.tty.is_some(), listener: process.listens() };
    let mut ends = Ends { theirs: Vec::new(), stdin: None, stdout: None, stderr: None, channel: None, sends };
    if sends.tty {
        ends.theirs.resize_with(3, || None);
    } else {
        let mut stream = |stdio, input, field| {
            let (theirs, ours) = one(stdio, input, field, owner)?;
            ends.theirs.push(Some(theirs));
            Ok::<_, Error>(ours)
        };
        ends.stdin = stream(&spec.stdin, true, "stdin")?;
        ends.stdout = stream(&spec.stdout, false, "stdout")?;
        ends.stderr = stream(&spec.stderr, false, "stderr")?;
    }
    for fd in &spec.preserved {
        ends.theirs.push(Some(duplicate(fd.as_fd(), "preserved")?));
    }
    Ok(ends)
}
