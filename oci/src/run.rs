//! `run`: create and start in one, and in the foreground wait for the end.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use orangery_runtime::native::signal;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::args::{Global, Run};
use crate::container::Container;
use crate::create::{Bundle, Left, make};
use crate::delete;
use crate::failure::Failure;
use crate::place::Place;
use crate::start;
use crate::streams::Preserved;
use crate::terminal::{self, Terminal};

/// `run`, whole: the exit code is the command's.
///
/// # Errors
/// Whatever `create` and `start` refuse; nothing is left of the container then.
pub(crate) fn run(place: &Place, global: &Global, what: &Run) -> Result<u8, Failure> {
    let preserved = Preserved::take_listening(what.create.preserve_fds)?;
    let mut bundle = Bundle::read(global, &what.create)?;
    if bundle.process.tty.is_some() && what.detach && what.create.console_socket.is_none() {
        return Err(Failure::new(
            "process.terminal: without waiting a terminal needs --console-socket, which gets its master",
        ));
    }
    if what.create.console_socket.is_none() {
        terminal::fit(&mut bundle.process);
    }
    let waiting = if what.detach { None } else { Some(Waiting::begin()?) };
    let Left { room, pidfd, tty } = make(place, global, &what.create, bundle, preserved)?;
    drop(room);
    let id = &what.create.id;
    if let Err(failure) = start::start(place, id) {
        let _ = delete::delete(place, id, true);
        return Err(failure);
    }
    let Some(waiting) = waiting else { return Ok(0) };
    let terminal = tty.map(Terminal::begin).transpose();
    let code = terminal.and_then(|terminal| waiting.until_end(&pidfd, terminal));
    if !what.keep {
        // Somebody else may have done so.
        if let Ok(container) = Container::hold(place, id) {
            delete::remove(&container)?;
        }
    }
    code
}

/// We are the parent of what we start, and pass signals on to it.
#[derive(Debug)]
pub(crate) struct Waiting {
    signals: SignalFd,
}

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
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
        Ok(Waiting { signals })
    }

    /// Pass signals on, and be the window of its terminal, until it has ended; its exit code, or 128 and the signal.
    ///
    /// # Errors
    /// Somebody else has waited for it.
    pub(crate) fn until_end(&self, pidfd: &OwnedFd, mut terminal: Option<Terminal>) -> Result<u8, Failure> {
        loop {
            let (ended, typing) = self.wait(pidfd, terminal.as_ref())?;
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
    fn wait(&self, pidfd: &OwnedFd, terminal: Option<&Terminal>) -> Result<(bool, bool), Failure> {
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        fds.extend(terminal.map(Terminal::waits).unwrap_or_default());
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok((false, false)),
            Err(error) => return Err(Failure::system("cannot wait", error)),
        }
        let ended = fds.first().is_some_and(|fd| !fd.revents().is_empty());
        Ok((ended, Terminal::is_typing(fds.get(2..).unwrap_or_default())))
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
