//! `orangery schema`: what a file of `up` can say, as JSON schema. Made of the same keys that the file is read by.

use std::io::Write as _;

use clap::Args;
use clap::builder::Arg;
use serde_json::{Map, Value, json};

use super::file::{Keys, Kind, NAME, kind, value_name};
use crate::args::{GroupArgs, ServiceArgs, TopArgs};
use crate::errors::Failure;

/// Print it.
///
/// # Errors
/// It cannot be written.
pub(crate) fn schema() -> Result<u8, Failure> {
    let text = serde_json::to_string_pretty(&document()).map_err(|error| Failure::new(error.to_string()))? + "\n";
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::system("cannot write the schema", &error))
        }
        _ => Ok(0),
    }
}

fn document() -> Value {
    let mut document = table::<TopArgs>("Services that `orangery up` supervises together", true);
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    document["$defs"] = json!({
        "service": service(),
        "group": table::<GroupArgs>("Services that are started, stopped and restarted together", true),
    });
    document
}

/// A table of a service.
pub(crate) fn service() -> Value {
    table::<ServiceArgs>("A command that is kept running, in a sandbox of its own", false)
}

/// A table with the keys of a clap struct.
fn table<A: Args>(description: &str, members: bool) -> Value {
    let keys = Keys::of::<A>();
    let mut properties: Map<String, Value> =
        keys.args().filter_map(|arg| Some((arg.get_long()?.to_owned(), property(arg)))).collect();
    if members {
        for (name, of) in [("service", "services"), ("group", "groups")] {
            let names = json!({ "pattern": NAME });
            let item = json!({ "$ref": format!("#/$defs/{name}") });
            let description = format!("Its {of}, each a table [{name}.NAME]");
            let table = json!({
                "type": "object", "description": description, "propertyNames": names, "additionalProperties": item,
            });
            properties.insert(name.to_owned(), table);
        }
    }
    json!({ "type": "object", "description": description, "properties": properties, "additionalProperties": false })
}

fn property(arg: &Arg) -> Value {
    let mut property = match kind(arg) {
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::One { number: true } => json!({ "type": ["string", "number"] }),
        Kind::One { number: false } => match possible(arg) {
            values if values.is_empty() => json!({ "type": "string" }),
            values => json!({ "enum": values }),
        },
        Kind::Many { pairs: false } => texts(),
        Kind::Many { pairs: true } => {
            let values = json!({ "type": "object", "additionalProperties": { "type": ["string", "number"] } });
            json!({ "anyOf": [texts(), values] })
        }
    };
    property["description"] = description(arg).into();
    if let [default] = arg.get_default_values()
        && kind(arg) != Kind::Flag
    {
        property["default"] = default.to_string_lossy().into();
    }
    property
}

fn texts() -> Value {
    json!({ "type": "array", "items": { "type": "string" } })
}

fn possible(arg: &Arg) -> Vec<String> {
    arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
}

/// Its help, and the form of its value; an option of the command line is a key here.
fn description(arg: &Arg) -> String {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default().replace(" --", " ").replace("(--", "(");
    match value_name(arg) {
        name if kind(arg) == Kind::Flag || name.is_empty() => help,
        name => format!("{help} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `cargo run -- schema > contrib/up.schema.json` after a change.
    #[test]
    fn what_is_published_is_what_is_read() {
        let published: Value = serde_json::from_str(include_str!("../../../contrib/up.schema.json")).unwrap();
        assert_eq!(published, document());
    }

    #[test]
    fn every_key_is_described() {
        let document = document();
        for table in [&document, &document["$defs"]["service"], &document["$defs"]["group"]] {
            for (key, property) in table["properties"].as_object().unwrap() {
                assert!(property["description"].as_str().is_some_and(|text| text.len() > 9), "{key}: {property}");
            }
        }
        assert_eq!(document["$defs"]["service"]["properties"]["network"]["enum"], json!(["none", "pasta", "host"]));
    }
}
