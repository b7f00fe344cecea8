//! `run --detach`: what `run` would run is the daemon's.

use clap::ArgMatches;
use hyper::Method;
use hyper::header::HeaderName;
use orangery::stream::StreamId;
use orangery_daemon::wire::{Container, Create, Stdin, Tty, WindowSize};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{asking, containers, document, say, spec};
use crate::args::RunArgs;
use crate::client::{Client, Lost, Target};
use crate::errors::Failure;
use crate::terminal::window;

/// The same key and the same body are the same request, however often it is made.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(crate) fn run(args: &RunArgs, matches: &ArgMatches, json: bool) -> Result<u8, Failure> {
    let options = matches.subcommand_matches("run").ok_or_else(|| Failure::new("there are no options of run"))?;
    let create = Create {
        name: args.name.clone(),
        spec: spec::with_command(spec::of_options(options)?, &args.command)?,
        tty: tty(args.process.tty),
        stdin: if args.process.interactive { Stdin::Keep } else { Stdin::Null },
        start: true,
        ..Create::default()
    };
    asking(&args.daemon, async |client| {
        let made: Container = made(&client, &containers(), &create).await?;
        match json {
            true => document(&made)?,
            false => say(format!("{}\n", made.name).as_bytes())?,
        }
        Ok(0)
    })
}

/// As large as our window, if there is one.
pub(super) fn tty(wanted: bool) -> Tty {
    match window() {
        Some((rows, columns)) if wanted => Tty::Sized(WindowSize { rows, columns }),
        _ => Tty::Usual(wanted),
    }
}

/// Ask for something to be made, and once more where the connection broke before the answer: made twice it is not.
pub(super) async fn made<T: DeserializeOwned>(
    client: &Client,
    target: &Target,
    body: &impl Serialize,
) -> Result<T, Failure> {
    let key = StreamId::random().to_string();
    let headers = [(KEY, key.as_str())];
    let ask = async || client.send(Method::POST, target, body, &headers).await?.document().await;
    let answer = match ask().await {
        Err(Lost::Away(broken)) if broken.kind() == "connection" => ask().await,
        answer => answer,
    };
    answer.map_err(|lost| with_option(lost.into()))
}

/// A field of the spec is an option.
fn with_option(failure: Failure) -> Failure {
    let option = failure.field().and_then(|field| {
        let key = field.strip_prefix("spec.").unwrap_or(field);
        let key = key.split(['[', '.']).next().unwrap_or_default();
        match key {
            "name" => Some("--name".to_owned()),
            "command" => Some("COMMAND".to_owned()),
            key => spec::is_option(key).then(|| format!("--{key}")),
        }
    });
    match option {
        Some(option) => failure.with_option(&option),
        None => failure,
    }
}
