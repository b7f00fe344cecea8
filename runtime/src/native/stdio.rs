//! Standard streams: which end goes to the process, which stays with us.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use tokio::sync::oneshot;

use super::own_group::OwnGroup;
use crate::durable::{Identity, Kind, Part, ProcessRecord, Storing};
use crate::error::{Error, ErrorKind};
use crate::keeper;
use crate::plan::idmap::IdMap;
use crate::plan::wire::Purpose;
use crate::spec::check::CheckedProcess;
use crate::spec::{Hold, Stdio};
use crate::{Exit, Started};

/// Who has the standard streams of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owner {
    /// Who its pipes belong to, outside; `None`: to us, as they are.
    pub(super) ids: Option<(u32, u32)>,
    /// Somebody among whom the process lives is root outside too.
    pub(super) with_root: bool,
}

impl Owner {
    /// Of a process with these ids in a container with those; nobody where we have no right to give things away.
    pub(super) fn of((uid, gid): (u32, u32), ids: Option<&IdMap>, privileged: bool) -> Self {
        if !privileged {
            return Self::default();
        }
        let with_root = ids.is_none_or(|ids| ids.uid.inside(0).is_some());
        Self { ids: ids.map_or(Some((uid, gid)), |ids| ids.outside(uid, gid)), with_root }
    }
}

/// Both sides of a process's standard streams.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Descriptors 0, 1 and 2 of the process, unless it makes them itself, and what is preserved.
    pub(super) theirs: Vec<Option<OwnedFd>>,
    /// Our ends, where pipes were asked for.
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Our end of the channel that its plan sends over, what it sends, and what of it has come.
    channel: Option<OwnedFd>,
    sends: Sends,
    tty: Option<OwnedFd>,
    listener: Option<OwnedFd>,
}

/// What the plan of a process makes for us.
#[derive(Clone, Copy, Debug, Default)]
struct Sends {
    /// The master of its terminal.
    tty: bool,
    /// The listener of its filter.
    listener: bool,
}

/// A process that has come to its exec.
pub(super) struct Exec {
    pub(super) pid: i32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) exit: oneshot::Receiver<Exit>,
    pub(super) group: Option<OwnGroup>,
    pub(super) without_pidfs: bool,
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

    /// What the keeper is to hold before the process is there.
    pub(super) fn parts<'a>(&'a self, hold: &'a Hold, report: &'a OwnedFd) -> Vec<Part<'a>> {
        let part = |kind, fd: &'a Option<OwnedFd>| fd.as_ref().map(|fd| Part::new(kind, fd));
        let stdout = part(Kind::Stdout, &self.stdout).map(|part| part.with_log(hold.stdout.as_ref()));
        let stderr = part(Kind::Stderr, &self.stderr).map(|part| part.with_log(hold.stderr.as_ref()));
        let others = [part(Kind::Stdin, &self.stdin), part(Kind::Channel, &self.channel), stdout, stderr];
        others.into_iter().flatten().chain([Part::new(Kind::Report, report)]).collect()
    }

    /// What the keeper has held.
    pub(super) fn put(&mut self, kind: Kind, fd: OwnedFd) {
        let place = match kind {
            Kind::Stdin => &mut self.stdin,
            Kind::Stdout => &mut self.stdout,
            Kind::Stderr => &mut self.stderr,
            Kind::Terminal => &mut self.tty,
            Kind::Channel => &mut self.channel,
            Kind::Listener => &mut self.listener,
            Kind::Report | Kind::Gate | Kind::Beside | Kind::Process | Kind::Instance | Kind::Ids => return,
        };
        *place = Some(fd);
    }

    /// The master of its terminal has come another way.
    pub(super) fn has_terminal(&mut self, master: Option<OwnedFd>) {
        self.tty = master;
    }

    /// Take what the plan has sent. With `storing` it is held by the keeper before it leaves the channel, so that it always
    /// has an owner that lives.
    pub(super) async fn receive(
        &mut self,
        mut storing: Option<&mut Storing>,
        hold: Option<&Hold>,
    ) -> Result<(), Error> {
        let Some(channel) = self.channel.take() else { return Ok(()) };
        let failed = |error: rustix::io::Errno| Error::system("cannot hear what a plan sends", error);
        loop {
            let heard = match if storing.is_some() { keeper::peek(&channel) } else { keeper::receive(&channel) } {
                Ok(Some(heard)) => heard,
                Ok(None) | Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(failed(error)),
            };
            let sent = heard.brought.flatten();
            let sent = sent.and_then(|(purpose, fd)| Some((of_channel(purpose)?, fd)));
            if let (Some(storing), Some((kind, fd))) = (storing.as_deref_mut(), &sent)
                && !storing.has(*kind)
            {
                let log = hold.and_then(|hold| hold.stdout.as_ref()).filter(|_| *kind == Kind::Terminal);
                storing.add(&[Part::new(*kind, fd).with_log(log)]).await?;
            }
            if storing.is_some() {
                let _ = keeper::receive(&channel);
            }
            if let Some((kind, fd)) = sent {
                self.put(kind, fd);
            }
        }
        Ok(())
    }

    /// What the plan has sent by now, all of it: the master of its terminal, and its listener.
    pub(super) fn sent(mut self) -> Result<(Option<OwnedFd>, Option<OwnedFd>), Error> {
        let Some(channel) = self.channel.take() else { return Ok((None, None)) };
        loop {
            match keeper::receive(&channel) {
                Ok(Some(heard)) => {
                    let sent = heard.brought.flatten();
                    if let Some((kind, fd)) = sent.and_then(|(purpose, fd)| Some((of_channel(purpose)?, fd))) {
                        self.put(kind, fd);
                    }
                }
                Ok(None) | Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::system("cannot hear what a plan sends", error)),
            }
        }
        self.whole()?;
        Ok((self.tty, self.listener))
    }

    /// Wait for the listener of a filter, where the plan sends one, and take it. `None`: it does not, or has ended before. `wait` waits
    /// until the channel can be read from.
    pub(super) fn listener<E: From<Error>>(
        &mut self,
        mut wait: impl FnMut(BorrowedFd<'_>) -> Result<(), E>,
    ) -> Result<Option<OwnedFd>, E> {
        use rustix::io::Errno;
        if !self.sends.listener {
            return Ok(None);
        }
        let Some(channel) = self.channel.take() else { return Ok(None) };
        let failed = |error: Errno| Error::system("cannot hear what a plan sends", error);
        while self.listener.is_none() {
            match keeper::receive(&channel) {
                Ok(Some(heard)) => {
                    let sent = heard.brought.flatten();
                    if let Some((kind, fd)) = sent.and_then(|(purpose, fd)| Some((of_channel(purpose)?, fd))) {
                        self.put(kind, fd);
                    }
                }
                Ok(None) => break,
                Err(Errno::AGAIN) => wait(channel.as_fd())?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error).into()),
            }
        }
        self.channel = Some(channel);
        let listener = self.listener.take();
        self.sends.listener = listener.is_none();
        Ok(listener)
    }

    /// All has come that the plan was to send.
    fn whole(&self) -> Result<(), Error> {
        let lost = |what: &str| Error::new(ErrorKind::Keeper, format!("a plan ended without sending its {what}"));
        if self.sends.tty && self.tty.is_none() {
            return Err(lost("pty master"));
        }
        if self.sends.listener && self.listener.is_none() {
            return Err(lost("seccomp listener"));
        }
        Ok(())
    }

    /// The process that has come by these is there, and what it was to send has been [received](Ends::receive).
    pub(super) fn started(self, exec: Exec, storing: Option<Storing>) -> Result<Started, Error> {
        self.whole()?;
        let Self { stdin, stdout, stderr, tty, listener, .. } = self;
        let shown = tty.as_ref().map(|master| duplicate(master.as_fd(), "tty")).transpose()?;
        let Exec { pid, pidfd, exit, group, without_pidfs } = exec;
        let held = storing.map(|storing| {
            let process = Identity::of(&pidfd, pid, without_pidfs);
            let group = group.as_ref().map(OwnGroup::record);
            let request = storing.request();
            storing.started(ProcessRecord { version: ProcessRecord::VERSION, process, request, group })
        });
        let bare = Started::bare(pid, pidfd, exit);
        Ok(Started { stdin, stdout: stdout.or(shown), stderr, tty, listener, group, held, ..bare })
    }
}

/// What a plan sends over its channel.
fn of_channel(purpose: Purpose) -> Option<Kind> {
    match purpose {
        Purpose::PtyMaster => Some(Kind::Terminal),
        Purpose::Listener => Some(Kind::Listener),
        _ => None,
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
            let flags = if input { OFlags::RDONLY } else { OFlags::WRONLY };
            let null = null(flags | OFlags::CLOEXEC, owner);
            Ok((null.map_err(|error| Error::system("cannot open /dev/null", error).with_field(field))?, None))
        }
        Stdio::Piped => {
            let (read, write) = pipe()?;
            if let Some((uid, gid)) = owner.ids {
                // Else a program that opens /dev/stdout anew would meet a pipe of the host's root.
                rustix::fs::fchown(&read, Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)))
                    .map_err(|error| Error::system("cannot give a pipe to the process", error).with_field(field))?;
            }
            Ok(if input { (read, Some(write)) } else { (write, Some(read)) })
        }
        Stdio::Fd(fd) => Ok((duplicate(fd.as_fd(), field)?, None)),
    }
}

/// The host's, which whoever is root there could close to others by its mode.
fn null(flags: OFlags, owner: Owner) -> std::io::Result<OwnedFd> {
    let open = |path: &str, flags| rustix::fs::open(path, flags, Mode::empty());
    if !owner.with_root {
        return Ok(open("/dev/null", flags)?);
    }
    let null = crate::sys::apart_read_only(open("/dev/null", OFlags::PATH | OFlags::CLOEXEC)?)?;
    Ok(open(&format!("/proc/self/fd/{}", null.as_raw_fd()), flags)?)
}

fn duplicate(fd: BorrowedFd<'_>, field: &str) -> Result<OwnedFd, Error> {
    fd.try_clone_to_owned().map_err(|error| Error::system("cannot duplicate a descriptor", error).with_field(field))
}

/// Open what is asked for. A terminal is made by the process itself.
pub(super) fn open(process: &CheckedProcess, owner: Owner) -> Result<Ends, Error> {
    let spec = process.spec();
    let sends = Sends { tty: spec.tty.is_some(), listener: process.listens() };
    let mut ends = Ends { sends, ..Ends::default() };
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
