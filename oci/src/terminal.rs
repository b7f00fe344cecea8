//! A command in the foreground with a terminal of its own: ours is its window. It never has ours, so nothing inside can set its
//! modes or type at it.

use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};

use orangery_runtime::ProcessSpec;
use orangery_runtime::spec::WindowSize;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::failure::Failure;

/// The master of its terminal, between ours and it. Ours is as it was when this is dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: OwnedFd,
    /// How ours was, where standard input is one.
    before: Option<Termios>,
    /// What was typed and is not taken yet.
    typed: Vec<u8>,
    /// Nobody types any more.
    silent: bool,
    /// Nobody has the other end any more.
    closed: bool,
}

/// How large our window is, if there is one.
fn window() -> Option<rustix::termios::Winsize> {
    let size = [tcgetwinsize(stdin()), tcgetwinsize(stdout()), tcgetwinsize(stderr())].into_iter().flatten().next()?;
    // A serial line has one of 0 by 0.
    (size.ws_row > 0 && size.ws_col > 0).then_some(size)
}

/// The terminal of a process that we are the window of is as large from its beginning.
pub(crate) fn fit(process: &mut ProcessSpec) {
    if let (Some(tty), Some(size)) = (&mut process.tty, window()) {
        *tty = WindowSize { rows: size.ws_row, columns: size.ws_col };
    }
}

impl Terminal {
    /// Ours is raw from here on.
    ///
    /// # Errors
    /// A terminal refuses its modes.
    pub(crate) fn begin(master: OwnedFd) -> Result<Terminal, Failure> {
        let failed = |error: Errno| Failure::system("cannot prepare the terminal", error);
        rustix::fs::fcntl_setfl(&master, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK).map_err(failed)?;
        let mut terminal = Terminal { master, before: None, typed: Vec::new(), silent: false, closed: false };
        if isatty(stdin()) {
            let before = tcgetattr(stdin()).map_err(failed)?;
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Drain, &raw).map_err(failed)?;
            terminal.before = Some(before);
        }
        Ok(terminal)
    }

    /// As large as our window.
    pub(crate) fn resize(&self) {
        // One that is gone has no size.
        if let Some(size) = window() {
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// What is to be waited for.
    pub(crate) fn waits(&self) -> Vec<PollFd<'_>> {
        let mut waits = Vec::new();
        if !self.closed {
            let typing = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            waits.push(PollFd::new(&self.master, PollFlags::IN | typing));
        }
        if !self.silent && self.typed.is_empty() {
            waits.push(PollFd::from_borrowed_fd(stdin(), PollFlags::IN));
        }
        waits
    }

    /// Carry over what there is, `typing` what was typed as well, where that can be read without waiting.
    ///
    /// # Errors
    /// Nobody takes its output any more.
    pub(crate) fn carry(&mut self, typing: bool, ended: bool) -> Result<(), Failure> {
        // Somebody who never pauses must not keep what is typed and signals out, nor us when the process has ended.
        self.show(if ended { 1024 } else { 4 })?;
        if typing && !self.silent && self.typed.is_empty() {
            let mut buffer = [0; 4096];
            match rustix::io::read(stdin(), &mut buffer) {
                Ok(0) | Err(Errno::IO) => self.silent = true,
                Ok(len) => self.typed.extend_from_slice(buffer.get(..len).unwrap_or_default()),
                Err(_) => {}
            }
        }
        while !self.typed.is_empty() {
            match rustix::io::write(&self.master, &self.typed) {
                Ok(len) => drop(self.typed.drain(..len)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.typed.clear(),
            }
        }
        Ok(())
    }

    /// Its output that is there, read so often at most.
    fn show(&mut self, most: usize) -> Result<(), Failure> {
        let mut buffer = [0; 16 << 10];
        for _ in 0..most {
            if self.closed {
                break;
            }
            match rustix::io::read(&self.master, &mut buffer) {
                // EIO: the last who had it open has ended.
                Ok(0) | Err(Errno::IO) => self.closed = true,
                Ok(len) => {
                    let mut out = std::io::stdout().lock();
                    let said = buffer.get(..len).unwrap_or_default();
                    let written = out.write_all(said).and_then(|()| out.flush());
                    written.map_err(|error| Failure::system("cannot write to standard output", error))?;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(Failure::system("cannot read the terminal", error)),
            }
        }
        Ok(())
    }

    /// Standard input can be read.
    pub(crate) fn is_typing(ready: &[PollFd<'_>]) -> bool {
        let own = stdin();
        let typed =
            |fd: &&PollFd<'_>| rustix::fd::AsRawFd::as_raw_fd(&fd.as_fd()) == rustix::fd::AsRawFd::as_raw_fd(&own);
        ready.iter().find(typed).is_some_and(|fd| !fd.revents().is_empty())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Drain, before);
        }
    }
}
