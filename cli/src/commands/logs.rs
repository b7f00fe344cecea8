//! `logs NAME`: the output of a container, from the daemon's log of it. A place in that is valid for as long as the log is,
//! also across restarts of the daemon.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use super::pieces::{Gap, REMOVED, between, piece, read};
use super::{asking, container};
use crate::args::{LogStream, LogsArgs};
use crate::client::{Again, Feed, First, GONE, Message, Target};
use crate::errors::Failure;
use crate::log_view::{IDLE, LogView};

pub(crate) fn logs(name: &str, args: &LogsArgs, json: bool) -> Result<u8, Failure> {
    asking(&args.lasting.daemon, async |client| {
        let mut view = LogView::of(args, json);
        let feed = Feed::new(&client, target(name, args, &view), first(args), Again::new(args.lasting.reconnect, json));
        match all(&mut view, feed).await {
            // Whoever reads us has seen enough.
            Err(Ended::Unwritable(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            Err(Ended::Unwritable(error)) => Err(Failure::system("cannot write the log", &error)),
            Err(Ended::Unreadable(failure)) => Err(*failure),
            Ok(()) => Ok(0),
        }
    })
}

fn target(name: &str, args: &LogsArgs, view: &LogView) -> Target {
    let stream = args.stream.map(|stream| match stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
    });
    container(name)
        .then("logs")
        .query("follow", args.follow || args.follow_on)
        .maybe("stream", stream)
        .maybe("times", view.has_times().then_some(true))
}

/// Where it begins: a parameter and its value.
fn first(args: &LogsArgs) -> First {
    match (args.tail, args.since, args.from) {
        (Some(lines), ..) => Some(("tail", lines.to_string())),
        // One moment, however often it is asked for.
        (_, Some(ago), _) => {
            let moment = SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
            Some(("since", moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string()))
        }
        (.., Some(offset)) => Some(("offset", offset.to_string())),
        _ => None,
    }
}

enum Ended {
    Unreadable(Box<Failure>),
    Unwritable(io::Error),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Unreadable(failure.into())
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Unwritable(error)
    }
}

async fn all(view: &mut LogView, mut feed: Feed<'_>) -> Result<(), Ended> {
    loop {
        let next = match view.is_unfinished() {
            false => feed.next().await,
            true => match tokio::time::timeout(IDLE, feed.next()).await {
                Ok(next) => next,
                Err(_) => {
                    view.flush()?;
                    continue;
                }
            },
        };
        let message = next?;
        match message.event.as_str() {
            "" | "message" => view.piece(piece(&message)?)?,
            "gap" => {
                let gap: Gap = read(&message)?;
                view.gap(gap.source(), gap.from, gap.to, &gap.cause)?;
            }
            GONE => gone(view, &message)?,
            "end" => return Ok(view.end(|out| out.extend(format!("{{\"end\":{}}}\n", message.data).into_bytes()))?),
            "now" => return Ok(view.flush()?),
            // What it does not know, and `exit`, of which the end tells too.
            _ => {}
        }
    }
}

/// The log does not reach back to where we were: what is missing is told. A log that is another one, because the container
/// of this name is, is none of what was asked for.
fn gone(view: &mut LogView, message: &Message) -> Result<(), Ended> {
    let Some(gaps) = between(&message.data, &message.id) else {
        let what = "the log that was followed is gone: the container of this name is another one now";
        return Err(Failure::new(what).with_kind("gone").into());
    };
    for (source, from, to) in gaps {
        view.gap(source, from, to, REMOVED)?;
    }
    Ok(())
}
