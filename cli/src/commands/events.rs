//! `events`: the feed, as sentences or as JSON.

use std::time::{Duration, UNIX_EPOCH};

use orangery::events::Event;
use orangery::stream::view::rfc3339;
use serde_json::{Value, json};

use super::{asking, document, say};
use crate::args::{EventsArgs, EventsFrom};
use crate::client::{Again, Feed, GONE, Message, Target};
use crate::errors::{Failure, notice, one_line};
use crate::up::words;

pub(super) fn events(args: &EventsArgs, json: bool) -> Result<u8, Failure> {
    asking(&args.lasting.daemon, async |client| {
        let from = if args.no_follow { EventsFrom::Start } else { args.from };
        let mut feed = Feed::new(
            &client,
            target(args),
            Some(("from", from.name().into())),
            Again::new(args.lasting.reconnect, json),
        );
        loop {
            let message = feed.next().await?;
            match message.event.as_str() {
                "now" | "end" => return Ok(0),
                "gap" | "lagged" | GONE => missing(&message, json)?,
                _ => show(&message, json)?,
            }
        }
    })
}

fn target(args: &EventsArgs) -> Target {
    let target = Target::new("/v1/events").query("follow", !args.no_follow);
    let target = target.maybe("container", args.container.as_deref());
    let target = target.maybe("name_prefix", args.name_prefix.as_deref());
    let target = target.maybe("kind", (!args.kind.is_empty()).then(|| args.kind.join(",")));
    args.label.iter().fold(target, |target, (key, value)| target.query("label", format!("{key}={value}")))
}

fn show(message: &Message, json: bool) -> Result<(), Failure> {
    if json {
        // As it was written: a kind that this client does not know passes whole.
        return say(format!("{}\n", message.data).as_bytes());
    }
    let text = match serde_json::from_str::<Event>(&message.data) {
        Ok(event) => {
            let at = rfc3339(UNIX_EPOCH.checked_add(Duration::from_millis(event.at_ms)));
            format!("{at} {}", words::event(&event, None))
        }
        Err(_) => format!("{} {}", message.event, message.data),
    };
    say((one_line(&text) + "\n").as_bytes())
}

fn missing(message: &Message, json: bool) -> Result<(), Failure> {
    let between: Value = serde_json::from_str(&message.data).unwrap_or_default();
    if json {
        return document(&json!({ "kind": "gap", "from": between["from"], "to": between["to"] }));
    }
    match (between["from"].as_u64(), between["to"].as_u64()) {
        (Some(from), Some(to)) => notice(&format!("events {from} to {to} are not kept any more")),
        _ => notice("events are missing here: the daemon does not have them any more"),
    }
    Ok(())
}
