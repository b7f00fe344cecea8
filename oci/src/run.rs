//! `run`: create and start in one, and in the foreground wait for the end.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use orangery_runtime::native::signal;
use orangery_runtime::native::single::Halt;
use orangery_runtime::{Error, ErrorKind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::args::{Global, Run};
use crate::container::{Container, has_ended};
use crate::create::{Bundle, Left, make};
use crate::delete;
use crate::failure::Failure;
use crate::notify::Inbox;
use crate::place::Place;
use crate::start;
use crate::streams::Preserved;
use crate::terminal::{self, Terminal};

/// `run`, whole: the exit code is the command's.
///
/// # Errors
/// Whatever `create` and `start` refuse; nothing is left of the container then.
pub(crate) fn run(place: &Place, global: &Global, what: &Run, preserved: Preserved) -> Result<u8, Failure> {
    let mut bundle = Bundle::read(global, &what.create)?;
    if bundle.process.tty.is_some() && what.detach && what.create.console_socket.is_none() {
        return Err(Failure::new(
            "process.terminal: without waiting a terminal needs --console-socket, which gets its master",
        ));
    }
    if what.create.console_socket.is_none() {
        terminal::fit(&mut bundle.process);
    }
    let waiting = if what.detach { None } else { Some(Rc::new(Waiting::begin()?)) };
    let halt = waiting.clone().map(|waiting| waiting as Rc<dyn Halt>);
    let coded = |failure| match &waiting {
        Some(waiting) => waiting.code_of(failure),
        None => failure,
    };
    let made = make(place, global, &what.create, bundle, preserved, halt.clone());
    let Left { container, pidfd, tty } = made.map_err(&coded)?;
    // From here on it is known by its directory: another container may have its name when we come back to it.
    let inbox = match start::begin(&container, waiting.as_ref()) {
        Ok(inbox) => inbox,
        Err(failure) => {
            let _ = delete::forced(container.room);
            return Err(coded(failure));
        }
    };
    let Some(waiting) = &waiting else { return Ok(0) };
    let terminal = tty.map(Terminal::begin).transpose();
    let code = terminal.and_then(|terminal| waiting.until_end(&pidfd, terminal, inbox));
    if !what.keep {
        // Somebody else may have done so.
        if let Ok(container) = container.room.lock().and_then(Container::of) {
            delete::remove(container, halt)?;
        }
    }
    code
}

/// We are the parent of what we start, and pass signals on to it.
#[derive(Debug)]
pub(crate) struct Waiting {
    signals: SignalFd,
    /// Those of them that end a command which is not there yet.
    ends: SignalFd,
    /// Which of them has.
    ended: Cell<Option<i32>>,
}

/// What ends a command that has nobody to pass it on to. All others wait until there is somebody.
const ENDS: [Signal; 4] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];

impl Waiting {
    /// Before anything is started.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(crate) fn begin() -> Result<Waiting, Failure> {
        let own = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(own))
            .map_err(|error| Failure::system("cannot become a subreaper", error))?;
        let mut set = SigSet::all();
        // Those are ours, or cannot be passed on.
        for own in [Signal::SIGCHLD, Signal::SIGURG, Signal::SIGPIPE, Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGTSTP]
        {
            set.remove(own);
        }
        let failed = |error: nix::errno::Errno| Failure::system("cannot listen to signals", error);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&set), None).map_err(failed)?;
        let listen = |set| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed);
        Ok(Waiting { signals: listen(set)?, ends: listen(ENDS.into_iter().collect())?, ended: Cell::new(None) })
    }

    /// With 128 and the signal, where one has ended it.
    pub(crate) fn code_of(&self, failure: Failure) -> Failure {
        match self.ended.get().and_then(|signal| u8::try_from(128 + signal).ok()) {
            Some(code) => failure.with_code(code),
            None => failure,
        }
    }

    /// For what is waited for while the command runs: signals are passed on to it, and when one has ended it nothing is waited for.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(crate) fn passing_on(self: &Rc<Self>, init: &OwnedFd) -> Result<Rc<dyn Halt>, Failure> {
        let init = init.try_clone().map_err(|error| Failure::system("cannot duplicate a pidfd", error))?;
        Ok(Rc::new(PassingOn { waiting: Rc::clone(self), init, passed: Cell::new(None) }))
    }

    /// Pass signals on, and be the window of its terminal, until it has ended; its exit code, or 128 and the signal.
    ///
    /// # Errors
    /// Somebody else has waited for it.
    pub(crate) fn until_end(
        &self,
        pidfd: &OwnedFd,
        mut terminal: Option<Terminal>,
        mut inbox: Option<Inbox>,
    ) -> Result<u8, Failure> {
        loop {
            let (ended, typing) = self.wait(pidfd, terminal.as_ref(), inbox.as_ref())?;
            // We are the main process that its manager knows.
            inbox = inbox.filter(|inbox| !inbox.hear(None));
            if let Some(terminal) = &mut terminal {
                // Also the last words, when it has ended.
                terminal.carry(typing, ended)?;
            }
            if ended {
                return code(pidfd);
            }
            while let Ok(Some(told)) = self.signals.read_signal() {
                match (told.ssi_signo.cast_signed(), &terminal) {
                    (number, Some(terminal)) if number == Signal::SIGWINCH as i32 => terminal.resize(),
                    // It may be ending just now.
                    (number, _) => drop(signal(pidfd, number)),
                }
            }
        }
    }

    /// Until something happens: it has ended, somebody types.
    fn wait(
        &self,
        pidfd: &OwnedFd,
        terminal: Option<&Terminal>,
        inbox: Option<&Inbox>,
    ) -> Result<(bool, bool), Failure> {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(inbox.map(|inbox| PollFd::new(inbox, PollFlags::IN)));
        let others = fds.len();
        fds.extend(terminal.map(Terminal::waits).unwrap_or_default());
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((false, false)),
            Err(error) => return Err(Failure::system("cannot wait", error)),
        }
        let ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        Ok((ended, Terminal::is_typing(fds.get(others..).unwrap_or_default())))
    }
}

impl Halt for Waiting {
    fn wakes(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.ends.as_fd()]
    }

    fn asked(&self) -> Option<Error> {
        let number = self.ends.read_signal().ok()??.ssi_signo.cast_signed();
        self.ended.set(Some(number));
        Some(by(number))
    }
}

fn by(number: i32) -> Error {
    let name = Signal::try_from(number).map_or("a signal", Signal::as_str);
    Error::new(ErrorKind::State, format!("ended by {name}"))
}

/// See [`Waiting::passing_on`].
#[derive(Debug)]
struct PassingOn {
    waiting: Rc<Waiting>,
    init: OwnedFd,
    /// One that ends commands.
    passed: Cell<Option<i32>>,
}

impl Halt for PassingOn {
    fn wakes(&self) -> Vec<BorrowedFd<'_>> {
        let ends = self.passed.get().map(|_| self.init.as_fd());
        [self.waiting.signals.as_fd()].into_iter().chain(ends).collect()
    }

    fn asked(&self) -> Option<Error> {
        while let Ok(Some(told)) = self.waiting.signals.read_signal() {
            let number = told.ssi_signo.cast_signed();
            // It may be ending just now.
            let _ = signal(&self.init, number);
            if ENDS.iter().any(|end| *end as i32 == number) {
                self.passed.set(Some(number));
            }
        }
        let number = self.passed.get().filter(|_| has_ended(&self.init, None))?;
        self.waiting.ended.set(Some(number));
        Some(by(number))
    }
}

fn code(pidfd: &OwnedFd) -> Result<u8, Failure> {
    let ended = |status: &WaitIdStatus| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => u8::try_from(code & 0xff).unwrap_or(255),
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(255),
        (None, None) => 255,
    };
    loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(ended(&status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::system("cannot wait for the command", error)),
        }
    }
}
