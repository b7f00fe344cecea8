//! `exec`: a further process in a container, as if it ran here.

use hyper::Method;
use orangery_daemon::wire::{Exec, Kill, Process, Stdin, Text};
use rustix::stdio::stdin;
use rustix::termios::isatty;

use super::input::Input;
use super::output::Output;
use super::session::{Left, Session, Whose};
use super::{asking, container, detach, document, say, spec, wait};
use crate::args::ExecArgs;
use crate::client::{Again, Client};
use crate::errors::Failure;
use crate::signals::{self, Signals, by_signal};
use crate::terminal::Terminal;

pub(super) fn exec(args: &ExecArgs, json: bool) -> Result<u8, Failure> {
    let wanted = wanted(args)?;
    // Before anything is made.
    let terminal = args.tty.then(|| Terminal::choose(args.interactive, &args.detach_keys)).transpose()?;
    asking(&args.lasting.daemon, async |client| {
        let mut signals = Signals::listen()?;
        let processes = container(&args.name).then("processes");
        let mut early = Vec::new();
        let mut making = std::pin::pin!(detach::made(&client, &processes, &wanted));
        let made: Process = loop {
            tokio::select! {
                made = &mut making => break made?,
                // It may run already: only the second INT gives up.
                signal = signals.next() => {
                    if signal == signals::INT && early.contains(&signal) {
                        return Ok(by_signal(signal));
                    }
                    early.push(signal);
                }
            }
        };
        for signal in early {
            let kill = Kill { signal: Some(Text::from(signals::name(signal))) };
            client.send(Method::POST, &processes.clone().then(&made.id.to_string()).then("kill"), &kill, &[]).await?;
        }
        if args.detach {
            match json {
                true => document(&made)?,
                false => say(format!("{}\n", made.id).as_bytes())?,
            }
            return Ok(0);
        }
        let left = at_it(&client, args, &made, terminal, signals, json).await?;
        match left {
            Left::Ended(Some(exit)) => Ok(wait::code(&exit)),
            Left::Ended(None) => Err(Failure::new("the command has ended, and the daemon does not say how")),
            Left::Detached => Ok(0),
            Left::Signal(signal) => Ok(by_signal(signal)),
        }
    })
}

fn wanted(args: &ExecArgs) -> Result<Exec, Failure> {
    let text = |text: &Option<String>| text.as_deref().map(Text::from);
    let env = args.env.iter().map(|word| spec::variable(word).map(|(key, value)| (key, Text(value))));
    let workdir = args.workdir.as_ref().map(|dir| spec::text("--workdir", dir.as_os_str())).transpose()?;
    Ok(Exec {
        command: spec::words("COMMAND", &args.command)?,
        env: env.collect::<Result<_, Failure>>()?,
        workdir,
        user: args.user.clone(),
        tty: detach::tty(args.tty),
        stdin: if args.interactive { Stdin::Open } else { Stdin::Null },
        timeout: text(&args.timeout),
        memory: text(&args.memory),
        pids: args.pids,
        cpus: text(&args.cpus),
        io_max: args.io_max.iter().map(|most| Text::from(most.as_str())).collect(),
    })
}

async fn at_it(
    client: &Client,
    args: &ExecArgs,
    made: &Process,
    terminal: Option<Terminal>,
    signals: Signals,
    json: bool,
) -> Result<Left, Failure> {
    let (input, window) = match (terminal, args.interactive) {
        (Some(terminal), true) => {
            let (input, window) = Input::typed(terminal)?;
            (Some(input), Some(window))
        }
        (Some(terminal), false) => (None, Some(terminal.open(None::<fn(Vec<u8>) -> bool>)?)),
        (None, true) => (Some(Input::piped()?), None),
        (None, false) => (None, None),
    };
    let session = Session {
        client,
        process: container(&args.name).then("processes").then(&made.id.to_string()),
        whose: Whose::Ours,
        first: ("from", "start".into()),
        input,
        window,
        signals: Some(signals),
        again: Again::new(args.lasting.reconnect, json).met(),
        output: Output::start()?,
    };
    session.run().await
}

/// Whether somebody types at us.
pub(super) fn is_typed() -> bool {
    isatty(stdin())
}
