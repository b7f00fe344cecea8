//! `up --detach` and `down`: the services of a file are the daemon's.

use orangery_daemon::wire::{CreateGroup, Group};
use serde_json::{Map, Value};

use super::{asking, detach, document, say, spec};
use crate::args::{DownArgs, UpArgs};
use crate::client::Target;
use crate::errors::{Failure, notice};
use crate::up;

/// Tables of members.
const NESTED: [&str; 2] = ["service", "group"];

pub(crate) fn up(args: &UpArgs, json: bool) -> Result<u8, Failure> {
    let (name, table) = up::for_a_daemon(&args.file)?;
    let file = table.into_iter().filter(|(key, _)| key != "name");
    let file = file.map(|(key, value)| member(key, value)).collect::<Result<Map<String, Value>, Failure>>()?;
    asking(&args.daemon, async |client| {
        let made: Group = detach::made(&client, &groups(), &CreateGroup { name, file }).await?;
        match json {
            true => document(&made)?,
            false => {
                say(made.members.iter().map(|member| format!("{}\n", member.name)).collect::<String>().as_bytes())?
            }
        }
        Ok(0)
    })
}

pub(super) fn down(args: &DownArgs, json: bool) -> Result<u8, Failure> {
    asking(&args.daemon, async |client| {
        let group = groups().then(&args.name);
        if !args.force {
            let stopped: Group = client.post(&group.clone().then("stop"), &serde_json::json!({})).await?;
            let failed = stopped.members.iter().filter(|member| member.state == "failed");
            failed.for_each(|member| notice(&format!("{} had failed", member.name)));
        }
        client.delete(&group.maybe("force", args.force.then_some(true))).await?;
        match json {
            true => document(&serde_json::json!({ "name": args.name, "done": true }))?,
            false => say(format!("{}\n", args.name).as_bytes())?,
        }
        Ok(0)
    })
}

fn groups() -> Target {
    Target::new("/v1/groups")
}

/// A key of a table, or a table of members.
fn member(key: String, value: toml::Value) -> Result<(String, Value), Failure> {
    let value = match value {
        toml::Value::Table(members) if NESTED.contains(&key.as_str()) => {
            let table = |(name, value)| match value {
                toml::Value::Table(table) => {
                    let keys = table.into_iter().map(|(key, value)| member(key, value));
                    Ok((name, Value::Object(keys.collect::<Result<_, Failure>>()?)))
                }
                other => Ok((name, plain(other))),
            };
            Value::Object(members.into_iter().map(table).collect::<Result<_, Failure>>()?)
        }
        toml::Value::String(word) => spec::from_here(&key, word.as_ref())?,
        toml::Value::Array(words) => {
            let word = |word| match word {
                toml::Value::String(word) => spec::from_here(&key, word.as_ref()),
                other => Ok(plain(other)),
            };
            Value::Array(words.into_iter().map(word).collect::<Result<_, Failure>>()?)
        }
        other => plain(other),
    };
    Ok((key, value))
}

fn plain(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(plain).collect(),
        toml::Value::Table(table) => Value::Object(table.into_iter().map(|(key, value)| (key, plain(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_said_as_it_is_meant_here() {
        let text = "strategy = \"one-for-all\"\n[service.a]\ncommand = [\"x\", \"y\"]\nenv = { PORT = 8080 }\nrootfs = \"r\"\n\
                    [group.g]\n[group.g.service.b]\ncommand = [\"z\"]\nmount = [\"type=bind,src=m,dst=/m\"]\npids = 3\n";
        let here = std::env::current_dir().unwrap().display().to_string();
        let table: toml::Table = text.parse().unwrap();
        let file: Map<String, Value> = table.into_iter().map(|(key, value)| member(key, value).unwrap()).collect();
        let expected = serde_json::json!({
            "strategy": "one-for-all",
            "service": { "a": { "command": ["x", "y"], "env": { "PORT": 8080 }, "rootfs": format!("{here}/r") } },
            "group": { "g": { "service": { "b": {
                "command": ["z"], "mount": [format!("type=bind,src={here}/m,dst=/m")], "pids": 3,
            } } } },
        });
        assert_eq!(Value::Object(file), expected);
    }
}
