//! `run --tty`: a terminal of the command's own, and ours as its window.
//!
//! ```text
//!   our stdin (raw) ── type_on ──► the command's keyboard        SIGWINCH ──► its size
//!   our stdout ◄── show ── its output                            the detach keys, SIGHUP ──► see Session, run.rs
//! ```
//!
//! The command never has our terminal, so that nothing inside can set its modes or type at it.

pub(crate) mod detach;
mod raw;

use orangery::stream::GapCause;
use orangery::{Command, ContainerHandle, Event, Source, Stdin, Subscriber};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{isatty, tcgetwinsize};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::oneshot;

use crate::copy::{self, Trouble};
use crate::errors::Failure;
use crate::passthrough::{Copies, thread};

use detach::DetachKeys;
use detach::Watcher;
use raw::Raw;

/// Characters in a read of what is typed.
const BUFFER: usize = 4096;

/// What the command's terminal and ours have to do with each other.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// We type at it.
    interactive: bool,
    keys: DetachKeys,
}

/// Our terminal while the command has one.
#[derive(Debug)]
pub(crate) struct Session {
    raw: Option<Raw>,
    resized: Signal,
    continued: Signal,
    /// The detach keys were typed; `None` afterwards.
    detached: Option<oneshot::Receiver<()>>,
}

/// What our terminal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The command's is to be as large as our window now: rows and columns.
    Size(u16, u16),
    /// The detach keys were typed.
    LetGo,
}

/// How large our window is, if there is one.
pub(crate) fn window() -> Option<(u16, u16)> {
    let sizes = [tcgetwinsize(stdin()), tcgetwinsize(stdout()), tcgetwinsize(stderr())];
    let size = sizes.into_iter().flatten().next()?;
    // A serial line has one of 0 by 0.
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

impl Terminal {
    /// Look at our own terminal and decide.
    ///
    /// # Errors
    /// Somebody is to type who has no keyboard.
    pub(crate) fn choose(interactive: bool, keys: &DetachKeys) -> Result<Self, Failure> {
        if interactive && !isatty(stdin()) {
            let refused = Failure::refused("--tty", "the input device is not a TTY");
            return Err(
                refused.with_hint("-i alone for input from a pipe or file, -t alone for a terminal without input")
            );
        }
        Ok(Self { interactive, keys: keys.clone() })
    }

    /// Tell the command what it gets.
    pub(crate) fn give(&self, command: Command) -> Command {
        let command = match window() {
            Some((rows, columns)) => command.tty_size(rows, columns),
            // As large as a bundle says, or as a terminal is.
            None => command.tty(true),
        };
        command.stdin(if self.interactive { Stdin::Piped } else { Stdin::Null })
    }

    /// Show what the command prints, and let our keyboard be its own.
    ///
    /// # Errors
    /// No thread can be started, or our terminal has gone.
    pub(crate) fn start(self, container: &ContainerHandle, output: Subscriber) -> Result<(Copies, Session), Failure> {
        // None when it has ended already.
        let keyboard = container.stdin();
        let runtime = Handle::current();
        let typed = keyboard.map(|mut keyboard| {
            let runtime = runtime.clone();
            move |typed: Vec<u8>| runtime.block_on(keyboard.write_all(&typed)).is_ok()
        });
        let session = self.open(typed)?;
        // What has changed before we listened.
        resize(container, window());
        let (sender, trouble) = mpsc::unbounded_channel();
        thread("output", move || show(&runtime, output, &sender))?;
        // The supervisor counts, and carries the output limit out.
        Ok((Copies::of(trouble), session))
    }

    /// Our terminal for a command: raw, where we type, and what is typed goes to `typed` until that says false.
    ///
    /// # Errors
    /// No thread can be started, or our terminal has gone.
    pub(crate) fn open(self, typed: Option<impl FnMut(Vec<u8>) -> bool + Send + 'static>) -> Result<Session, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::system("cannot listen for signals", &error));
        let mut session = Session {
            raw: None,
            resized: listen(SignalKind::window_change())?,
            continued: listen(SignalKind::from_raw(CONT))?,
            detached: None,
        };
        if self.interactive {
            let failed = |error| Failure::system("cannot set our terminal to raw mode", &error);
            session.raw = Some(Raw::enter().map_err(failed)?);
        }
        if let Some(typed) = typed {
            let (detached, told) = oneshot::channel();
            session.detached = Some(told);
            let watcher = Watcher::new(self.keys);
            thread("stdin", move || type_on(watcher, detached, typed))?;
        }
        Ok(session)
    }
}

/// SIGCONT.
const CONT: i32 = 18;

fn resize(container: &ContainerHandle, window: Option<(u16, u16)>) {
    if let Some((rows, columns)) = window {
        // It may have ended, or have been hung up.
        let _ = container.resize(rows, columns);
    }
}

impl Session {
    /// Do what our terminal asks for; never ends.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn attend(&mut self, container: &ContainerHandle) {
        loop {
            match self.next().await {
                Asked::Size(rows, columns) => resize(container, Some((rows, columns))),
                Asked::LetGo => {
                    self.raw = None;
                    let text = "\norangery: detached: the command goes on without input. ^C interrupts it; ^Z, then bg, gives the shell back\n";
                    // Nobody to tell is no failure.
                    let _ = rustix::io::write(stderr(), text.as_bytes());
                }
            }
        }
    }

    /// What our terminal asks for next; never ends without.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(crate) async fn next(&mut self) -> Asked {
        loop {
            let Self { resized, continued, detached, .. } = self;
            let keys = async {
                match detached {
                    Some(keys) => keys.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = resized.recv() => {}
                _ = continued.recv() => self.again(),
                told = keys => {
                    self.detached = None;
                    if told.is_ok() {
                        return Asked::LetGo;
                    }
                    continue;
                }
            }
            if let Some((rows, columns)) = window() {
                return Asked::Size(rows, columns);
            }
        }
    }

    /// We were stopped, and somebody else had the terminal.
    fn again(&self) {
        if let Some(raw) = &self.raw {
            // One that is gone says so by a signal.
            let _ = raw.again();
        }
    }
}

/// Our keyboard to the command's, until either ends or the keys come. A keyboard that is gone ends nothing here: the signal
/// that says so does.
fn type_on(mut watcher: Watcher, detached: oneshot::Sender<()>, mut typed: impl FnMut(Vec<u8>) -> bool) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let len = match rustix::io::read(stdin(), &mut buffer[..]) {
            Ok(0) => return,
            Ok(len) => len,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                copy::wait(stdin(), PollFlags::IN);
                continue;
            }
            Err(error) => return tracing::warn!(%error, "our terminal cannot be read"),
        };
        let (on, keys) = watcher.pass(buffer.get(..len).unwrap_or_default());
        if !on.is_empty() && !typed(on) {
            return;
        }
        if keys {
            let _ = detached.send(());
            return;
        }
    }
}

/// What the command prints, until its end.
fn show(runtime: &Handle, mut output: Subscriber, trouble: &UnboundedSender<Trouble>) {
    while let Some(event) = runtime.block_on(output.recv()) {
        match event {
            Event::Chunk(chunk) => {
                if let Err(error) = copy::write_all(Source::Stdout, &chunk.data) {
                    let _ = trouble.send(Trouble::Unwritable(Source::Stdout, error));
                    return;
                }
            }
            Event::Gap(gap) if gap.cause == GapCause::OutputLimit => {
                tracing::info!(bytes = gap.bytes(), "over --output-limit")
            }
            Event::Gap(gap) => tracing::warn!(bytes = gap.bytes(), cause = %gap.cause, "missing in the output"),
            _ => {}
        }
    }
}
