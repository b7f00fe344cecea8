//! A shell in a sandbox, at a terminal of its own. Ours is its keyboard and window; where we have none, a script types.
//!
//! `cargo run --release --example interactive`

use std::io::{IsTerminal as _, Read as _, Write as _, stdin, stdout};

use anyhow::Context as _;
use orangery::{Event, Stdin, Supervisor};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};

/// Our terminal: every key is a byte until this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> std::io::Result<Self> {
        let before = Self(tcgetattr(stdin())?);
        let mut raw = before.0.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.0);
    }
}

fn window() -> (u16, u16) {
    tcgetwinsize(stdin()).map_or((24, 80), |size| (size.ws_row.max(1), size.ws_col.max(1)))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (supervisor, (rows, columns)) = (Supervisor::new()?, window());
    let shell = supervisor.command("sh").env("PS1", "sandbox$ ").tty_size(rows, columns).stdin(Stdin::Piped);
    let shell = shell.spawn().await?;
    let (mut keyboard, mut screen) = (shell.stdin().context("it has a keyboard")?, shell.stdout());
    let ours = stdin().is_terminal().then(Raw::enter).transpose()?;
    if ours.is_none() {
        keyboard.write_all(b"tty; stty size; exit 3\n").await?;
    } else {
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            let mut typed = [0; 1024];
            while let Ok(len @ 1..) = stdin().read(&mut typed) {
                if runtime.block_on(keyboard.write_all(&typed[..len])).is_err() {
                    break;
                }
            }
        });
    }
    let mut resized = signal(SignalKind::window_change())?;
    loop {
        tokio::select! {
            event = screen.recv() => match event {
                Some(Event::Chunk(chunk)) => stdout().write_all(&chunk.data).and_then(|()| stdout().flush())?,
                Some(_) => {}
                None => break,
            },
            _ = resized.recv() => shell.resize(window().0, window().1)?,
        }
    }
    let (report, scripted) = (shell.wait().await?, ours.is_none());
    drop(ours);
    println!("the shell has ended: {:?}", report.exit);
    anyhow::ensure!(!scripted || report.shell_code() == 3, "{report:?}");
    supervisor.shutdown().await;
    Ok(())
}
