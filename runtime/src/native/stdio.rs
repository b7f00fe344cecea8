//! Standard streams: which end goes to the process, which stays with us.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use super::reach::received;
use crate::error::Error;
use crate::plan::wire::Purpose;
use crate::spec::{ProcessSpec, Stdio};
use crate::{Exit, Started};

/// Who the pipes of a process belong to, outside; `None`: to us, as they are.
pub(super) type Owner = Option<(u32, u32)>;

/// Both sides of a process's standard streams.
#[derive(Debug)]
pub(super) struct Ends {
    /// Descriptors 0, 1 and 2 of the process.
    pub(super) theirs: Vec<OwnedFd>,
    /// Our ends, where pipes were asked for.
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    /// Our end of the channel that the listener of its filter comes over, where there is one.
    channel: Option<OwnedFd>,
}

impl Ends {
    /// Their end of a channel for the listener, for a process whose filter asks.
    pub(super) fn listen(&mut self, listens: bool) -> Result<Option<OwnedFd>, Error> {
        if !listens {
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
        let Self { stdin, stdout, stderr, channel, .. } = self;
        let listener = channel.map(|channel| received(&channel, Purpose::Listener)).transpose()?;
        Ok(Started { pid, pidfd, exit, stdin, stdout, stderr, listener, group: None })
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

/// Open what the spec asks for.
pub(super) fn open(spec: &ProcessSpec, owner: Owner) -> Result<Ends, Error> {
    let (in_theirs, stdin) = one(&spec.stdin, true, "stdin", owner)?;
    let (out_theirs, stdout) = one(&spec.stdout, false, "stdout", owner)?;
    let (err_theirs, stderr) = one(&spec.stderr, false, "stderr", owner)?;
    let mut theirs = vec![in_theirs, out_theirs, err_theirs];
    for fd in &spec.preserved {
        theirs.push(duplicate(fd.as_fd(), "preserved")?);
    }
    Ok(Ends { theirs, stdin, stdout, stderr, channel: None })
}
