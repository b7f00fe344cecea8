//! The three standard streams, byte for byte: who gets what.
//!
//! An anonymous pipe, or /dev/null, is handed to the command itself: nothing is copied and nothing can be lost. Everything
//! else is copied, because a descriptor is more than its bytes: a terminal takes ioctls (its input can be forged where
//! TIOCSTI is allowed, its modes changed), a regular file or a named pipe can be opened anew through /proc/self/fd with
//! other rights, a socket has a peer and options. Streams that somebody counts (`--output-limit`, `--report`, `--timeout-idle`) are copied
//! too.
//!
//! Output is copied from pipes of our own, not from the supervisor's streams: one copy less, an exact limit, and where
//! stdout and stderr are one terminal or file the command gets one pipe for both, so that what it writes stays in order;
//! two pipes could not tell. With `--log` it goes into the log, and from there to us.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use orangery::{Command, ContainerHandle, OutputLimit, Source, Stdin};
use rustix::fs::{FileType, Mode, fchmod, fstat, fstatfs};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{stderr, stdin, stdout};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::args::RunArgs;
use crate::copy::{self, Copier, Counts, Trouble};
use crate::errors::Failure;
use crate::logged::{self, Lives};

/// `f_type` of the kernel's own file system of anonymous pipes.
const PIPEFS: u64 = 0x5049_5045;

/// Others may write into it: `> /dev/stderr` opens it anew, as a user that is not the pipe's owner where we are root.
const WRITES: Mode = Mode::WGRP.union(Mode::WOTH);
/// The same for `< /dev/stdin`.
const READS: Mode = Mode::RGRP.union(Mode::ROTH);

/// Which of our streams the command gets, and which we copy.
#[derive(Debug)]
pub(crate) struct Streams {
    input: Option<Way<()>>,
    /// For all who come: a pipe that we fill, the reading end of which they get one after the other.
    fed: Option<OwnedFd>,
    output: Output,
    limit: Option<OutputLimit>,
}

/// How one stream reaches the command.
#[derive(Debug)]
enum Way<P> {
    /// It gets ours.
    Handed(OwnedFd),
    /// It gets a pipe, and we copy.
    Copied(P),
}

/// A pipe of ours for what the command writes.
#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

#[derive(Debug)]
enum Output {
    Apart(Way<Pipe>, Way<Pipe>),
    Merged(Pipe),
    /// The supervisor's, which go into a log; shown from there.
    Logged,
}

/// Copies that are under way.
#[derive(Debug)]
pub(crate) struct Copies {
    /// What went wrong; closes when everything is written.
    pub(crate) trouble: mpsc::UnboundedReceiver<Trouble>,
    /// How much was read, where the supervisor does not count it.
    pub(crate) counts: Option<Arc<Counts>>,
    /// Closed: nobody writes into the pipes any more.
    stop: Option<OwnedFd>,
    /// Nobody writes into the log any more.
    over: watch::Sender<bool>,
}

impl Copies {
    /// Of streams that end by themselves.
    pub(crate) fn of(trouble: mpsc::UnboundedReceiver<Trouble>) -> Self {
        Self { trouble, counts: None, stop: None, over: watch::Sender::default() }
    }

    /// The container is gone: what the pipes hold now is all there is.
    pub(crate) fn command_ended(&mut self) {
        self.stop = None;
        self.over.send_replace(true);
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        fchmod(&writer, Mode::RUSR | Mode::WUSR | WRITES)?;
        Ok(Self { reader, writer })
    }
}

/// A descriptor that the command may have, or `None`.
fn handed(fd: BorrowedFd<'_>, rights: Mode) -> io::Result<Option<OwnedFd>> {
    let stat = fstat(fd)?;
    let null = rustix::fs::makedev(1, 3);
    let pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
    let plain = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => u64::try_from(fstatfs(fd)?.f_type).is_ok_and(|kind| kind == PIPEFS),
        FileType::CharacterDevice => stat.st_rdev == null,
        _ => false,
    };
    if !plain {
        return Ok(None);
    }
    if pipe && rustix::process::geteuid().is_root() {
        // Only who has it can reach it. Not being allowed to leaves it as usable as it was.
        let _ = fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777) | rights);
    }
    fd.try_clone_to_owned().map(Some)
}

impl Output {
    fn choose(counted: bool) -> io::Result<Self> {
        let way = |fd| match counted {
            true => Ok(None),
            false => handed(fd, WRITES),
        };
        let copied = || Pipe::new().map(Way::Copied);
        Ok(match (way(stdout())?, way(stderr())?) {
            (None, None) if !counted && same_file()? => Self::Merged(Pipe::new()?),
            (out, err) => Self::Apart(
                out.map_or_else(copied, |fd| Ok(Way::Handed(fd)))?,
                err.map_or_else(copied, |fd| Ok(Way::Handed(fd)))?,
            ),
        })
    }
}

fn same_file() -> io::Result<bool> {
    let (out, err) = (fstat(stdout())?, fstat(stderr())?);
    Ok((out.st_dev, out.st_ino) == (err.st_dev, err.st_ino))
}

impl Streams {
    /// Look at our descriptors and decide. `watched`: somebody wants to know when bytes come.
    ///
    /// # Errors
    /// One of them cannot be looked at.
    pub(crate) fn choose(args: &RunArgs, logged: bool, watched: bool) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::system("cannot use a standard stream", &error);
        let limit = args.work.program.output_limit;
        let counted = watched || limit.is_some() || args.process.report.is_some();
        let input = if args.process.interactive {
            Some(handed(stdin(), READS).map_err(failed)?.map_or(Way::Copied(()), Way::Handed))
        } else {
            None
        };
        let output = match logged {
            true => Output::Logged,
            false => Output::choose(counted).map_err(failed)?,
        };
        Ok(Self { input, fed: None, output, limit })
    }

    /// For several commands, one after the other: each reads on where the one before has stopped.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn for_many(mut self) -> Result<Self, Failure> {
        if let Some(Way::Copied(())) = self.input {
            let failed = |error: io::Error| Failure::system("cannot make a pipe", &error);
            let Pipe { reader, writer } = Pipe::new().map_err(failed)?;
            fchmod(&reader, Mode::RUSR | Mode::WUSR | READS | WRITES).map_err(|error| failed(error.into()))?;
            (self.input, self.fed) = (Some(Way::Handed(reader)), Some(writer));
        }
        Ok(self)
    }

    /// Tell the command what it gets.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn give(&self, command: Command) -> Result<Command, Failure> {
        let failed = |error: io::Error| Failure::system("cannot duplicate a descriptor", &error);
        let theirs = |way: &Way<Pipe>| match way {
            Way::Handed(fd) => fd.try_clone().map_err(failed),
            Way::Copied(pipe) => pipe.writer.try_clone().map_err(failed),
        };
        let command = match &self.output {
            Output::Apart(out, err) => command.stdout_fd(theirs(out)?).stderr_fd(theirs(err)?),
            Output::Merged(pipe) => {
                let copy = || pipe.writer.try_clone().map_err(failed);
                command.stdout_fd(copy()?).stderr_fd(copy()?)
            }
            Output::Logged => command,
        };
        Ok(match &self.input {
            Some(Way::Handed(fd)) => command.stdin_fd(fd.try_clone().map_err(failed)?),
            Some(Way::Copied(())) => command.stdin(Stdin::Piped),
            None => command,
        })
    }

    /// Start copying what is to be copied. Our own ends of what the command got are closed.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(self, container: &ContainerHandle) -> Result<Copies, Failure> {
        if let Some(writer) = container.stdin() {
            let runtime = Handle::current();
            thread("stdin", move || copy::feed(&runtime, writer))?;
        }
        if !matches!(self.output, Output::Logged) {
            return self.start_alone(None);
        }
        let (sender, trouble) = mpsc::unbounded_channel();
        let (runtime, output) = (Handle::current(), container.output());
        thread("log", move || logged::show(&runtime, output, &sender))?;
        Ok(Copies::of(trouble))
    }

    /// The same for streams that are passed on through our own pipes alone, or are shown from the log of all `lives`: whose
    /// command has them is all the same.
    ///
    /// # Errors
    /// No thread can be started, or the log cannot be read.
    pub(crate) fn start_alone(self, lives: Option<Lives>) -> Result<Copies, Failure> {
        let (sender, trouble) = mpsc::unbounded_channel();
        let pipe = pipe_with(PipeFlags::CLOEXEC);
        let (stopped, stop) = pipe.map_err(|error| Failure::system("cannot make a pipe", &error.into()))?;
        let (stopped, counts) = (Arc::new(stopped), Arc::new(Counts::new(self.limit.map(|limit| limit.bytes))));
        if let Some(pipe) = self.fed {
            thread("stdin", move || copy::feed_pipe(&pipe))?;
        }
        if let Some(lives) = lives {
            let (reader, runtime, copies) = (lives.begin()?, Handle::current(), Copies::of(trouble));
            let over = copies.over.subscribe();
            thread("log", move || logged::show_lives(&runtime, reader, over, &sender))?;
            return Ok(copies);
        }
        let pipes = match self.output {
            Output::Logged => Vec::new(),
            Output::Merged(pipe) => vec![(Source::Stdout, pipe)],
            Output::Apart(out, err) => [(Source::Stdout, out), (Source::Stderr, err)]
                .into_iter()
                .filter_map(|(source, way)| match way {
                    Way::Copied(pipe) => Some((source, pipe)),
                    Way::Handed(_) => None,
                })
                .collect(),
        };
        for (source, Pipe { reader, .. }) in pipes {
            let (stopped, counts, trouble) = (Arc::clone(&stopped), Arc::clone(&counts), sender.clone());
            let copier = Copier { source, reader, stopped, counts, trouble };
            thread("output", move || copier.run())?;
        }
        Ok(Copies { counts: Some(counts), stop: Some(stop), ..Copies::of(trouble) })
    }
}

/// A thread that may block.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let started = std::thread::Builder::new().name(name.into()).spawn(work);
    started.map(drop).map_err(|error| Failure::system("cannot start a thread", &error))
}
