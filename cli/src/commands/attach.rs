//! `attach`: at a container's own command.

use orangery_daemon::wire::{Container, Stdin};

use super::exec::is_typed;
use super::input::Input;
use super::output::Output;
use super::session::{Left, Session, Whose};
use super::{asking, container, known, wait};
use crate::args::{AttachArgs, History};
use crate::client::Again;
use crate::errors::Failure;
use crate::signals::{Signals, by_signal};
use crate::terminal::{Session as Window, Terminal};

pub(super) fn attach(args: &AttachArgs, json: bool) -> Result<u8, Failure> {
    asking(&args.lasting.daemon, async |client| {
        let found = known(&client, &args.name).await?;
        let signals = if args.no_signals { None } else { Some(Signals::listen()?) };
        let (input, window) = ours(args, &found)?;
        let session = Session {
            client: &client,
            process: container(&args.name),
            whose: Whose::Theirs,
            first: match args.history {
                History::All => ("from", "start".into()),
                History::Lines(0) => ("from", "now".into()),
                History::Lines(lines) => ("tail", lines.to_string()),
            },
            input,
            window,
            signals,
            again: Again::new(args.lasting.reconnect, json).met(),
            output: Output::start()?,
        };
        match session.run().await? {
            Left::Ended(Some(exit)) => Ok(wait::code(&exit)),
            Left::Ended(None) => Err(Failure::new("the command has ended, and the daemon does not say how")),
            Left::Detached => Ok(0),
            Left::Signal(signal) => Ok(by_signal(signal)),
        }
    })
}

/// What of ours has to do with it.
fn ours(args: &AttachArgs, found: &Container) -> Result<(Option<Input>, Option<Window>), Failure> {
    if args.interactive && found.stdin == Stdin::Null {
        let why = format!("{} was made without an input", found.name);
        return Err(
            Failure::refused("--interactive", why).with_hint("orangery run --detach -i, which makes it with one")
        );
    }
    // A terminal of its own has ours as its window, if we have one.
    match (found.tty && is_typed(), args.interactive) {
        (true, true) => {
            let (input, window) = Input::typed(Terminal::choose(true, &args.detach_keys)?)?;
            Ok((Some(input), Some(window)))
        }
        (true, false) => {
            let terminal = Terminal::choose(false, &args.detach_keys)?;
            Ok((None, Some(terminal.open(None::<fn(Vec<u8>) -> bool>)?)))
        }
        (false, true) => Ok((Some(Input::piped()?), None)),
        (false, false) => Ok((None, None)),
    }
}
