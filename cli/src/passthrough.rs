//! The three standard streams, byte for byte: who gets what.
//!
//! An anonymous pipe, or /dev/null, is handed to the command itself: nothing is copied and nothing can be lost. Everything
//! else is copied, because a descriptor is more than its bytes: a terminal takes ioctls (its input can be forged where
//! TIOCSTI is allowed, its modes changed), a regular file or a named pipe can be opened anew through /proc/self/fd with
//! other rights, a socket has a peer and options. Streams that somebody counts (`--output-limit`, `--report`) go through
//! the supervisor's pipes and streams.
//!
//! Where stdout and stderr are one terminal or file the command gets one pipe for both, so that what it writes stays in
//! order; two pipes could not tell.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use orangery::stream::From as Position;
use orangery::{Command, ContainerHandle, Overflow, Sources, Stdin, SubscribeOptions};
use rustix::fs::{FileType, Mode, fchmod, fstat, fstatfs};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{stderr, stdin, stdout};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::args::ProcessArgs;
use crate::copy::{self, Broken};
use crate::errors::Failure;

/// Longer than anybody looks at a pager.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// `f_type` of the kernel's own file system of anonymous pipes.
const PIPEFS: u64 = 0x5049_5045;

/// Which of our streams the command gets, and which we copy.
#[derive(Debug)]
pub(crate) struct Streams {
    input: Option<Way>,
    output: Output,
}

/// How one stream reaches the command.
#[derive(Debug)]
enum Way {
    /// It gets ours.
    Handed(OwnedFd),
    /// The supervisor makes a pipe and we copy.
    Copied,
}

#[derive(Debug)]
enum Output {
    Apart { out: Way, err: Way },
    Merged { reader: OwnedFd, writer: OwnedFd },
}

/// Copies that are under way.
#[derive(Debug)]
pub(crate) struct Copies {
    /// Who could not go on; closes when everything is written.
    pub(crate) broken: mpsc::UnboundedReceiver<Broken>,
    /// Closed: nobody writes into the merged pipe any more.
    stop: Option<OwnedFd>,
}

impl Copies {
    /// The container is gone: what the pipes hold now is all there is.
    pub(crate) fn command_ended(&mut self) {
        self.stop = None;
    }
}

impl Way {
    /// `rights`: what the container's own user needs to open the pipe anew, as `> /dev/stderr` does. It has other ids
    /// than the pipe's owner where we are root, and only it can reach the pipe.
    fn of(fd: BorrowedFd<'_>, counted: bool, rights: Mode) -> io::Result<Self> {
        let stat = fstat(fd)?;
        let null = rustix::fs::makedev(1, 3);
        let plain = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo => u64::try_from(fstatfs(fd)?.f_type).is_ok_and(|kind| kind == PIPEFS),
            FileType::CharacterDevice => stat.st_rdev == null,
            _ => false,
        };
        if !plain || counted {
            return Ok(Self::Copied);
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo && rustix::process::geteuid().is_root() {
            // Not being allowed to leaves the pipe as usable as it was.
            let _ = fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777) | rights);
        }
        Ok(Self::Handed(fd.try_clone_to_owned()?))
    }
}

impl Output {
    fn choose(counted: bool) -> io::Result<Self> {
        let writes = Mode::WGRP | Mode::WOTH;
        let (out, err) = (Way::of(stdout(), counted, writes)?, Way::of(stderr(), counted, writes)?);
        if counted || !matches!((&out, &err), (Way::Copied, Way::Copied)) || !same_file()? {
            return Ok(Self::Apart { out, err });
        }
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        fchmod(&writer, Mode::RUSR | Mode::WUSR | writes)?;
        Ok(Self::Merged { reader, writer })
    }
}

fn same_file() -> io::Result<bool> {
    let (out, err) = (fstat(stdout())?, fstat(stderr())?);
    Ok((out.st_dev, out.st_ino) == (err.st_dev, err.st_ino))
}

impl Streams {
    /// Look at our descriptors and decide.
    ///
    /// # Errors
    /// One of them cannot be looked at.
    pub(crate) fn choose(args: &ProcessArgs) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::system("cannot use a standard stream", &error);
        let counted = args.output_limit.is_some() || args.report.is_some();
        let input = if args.interactive { Some(Way::of(stdin(), false, Mode::RGRP | Mode::ROTH)) } else { None };
        Ok(Self { input: input.transpose().map_err(failed)?, output: Output::choose(counted).map_err(failed)? })
    }

    /// Tell the command; what is left is what we copy.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn give(&mut self, mut command: Command) -> Result<Command, Failure> {
        match &mut self.output {
            Output::Apart { out, err } => {
                if let Way::Handed(fd) = std::mem::replace(out, Way::Copied) {
                    command = command.stdout_fd(fd);
                }
                if let Way::Handed(fd) = std::mem::replace(err, Way::Copied) {
                    command = command.stderr_fd(fd);
                }
            }
            Output::Merged { writer, .. } => {
                let copy = || writer.try_clone().map_err(|error| Failure::system("cannot duplicate a descriptor", &error));
                command = command.stdout_fd(copy()?).stderr_fd(copy()?);
            }
        }
        Ok(match self.input.take() {
            Some(Way::Handed(fd)) => command.stdin_fd(fd),
            Some(Way::Copied) => command.stdin(Stdin::Piped),
            None => command,
        })
    }

    /// Start copying what is to be copied.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn start(self, container: &ContainerHandle) -> Result<Copies, Failure> {
        let (sender, broken) = mpsc::unbounded_channel();
        if let Some(writer) = container.stdin() {
            thread("stdin", move |runtime| copy::feed(runtime, writer))?;
        }
        let mut copies = Copies { broken, stop: None };
        match self.output {
            Output::Merged { reader, writer } => {
                drop(writer);
                let (stopped, stop) =
                    pipe_with(PipeFlags::CLOEXEC).map_err(|error| Failure::system("cannot make a pipe", &error.into()))?;
                copies.stop = Some(stop);
                thread("output", move |_| copy::merged(&reader, &stopped, &sender))?;
            }
            // A stream that was handed over ends at once here.
            Output::Apart { .. } => {
                for sources in [Sources::Stdout, Sources::Stderr] {
                    let (reader, sender) = (container.subscribe(lossless(sources)), sender.clone());
                    thread("output", move |runtime| copy::written(runtime, reader, &sender))?;
                }
            }
        }
        Ok(copies)
    }
}

/// A reader that holds the command up rather than lose a byte.
fn lossless(sources: Sources) -> SubscribeOptions {
    let overflow = Overflow::Block { budget: FOR_EVER };
    SubscribeOptions { sources, from: Position::Start, overflow, ..SubscribeOptions::default() }
}

/// A thread that may block; the futures that it waits for are driven by the supervisor's own threads.
fn thread(name: &str, work: impl FnOnce(&Handle) + Send + 'static) -> Result<(), Failure> {
    let runtime = Handle::current();
    let started = std::thread::Builder::new().name(name.into()).spawn(move || work(&runtime));
    started.map(drop).map_err(|error| Failure::system("cannot start a thread", &error))
}
