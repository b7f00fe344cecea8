//! The document of the interface (OpenAPI 3.1), made of the table of routes and the types of the wire.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::routes::{self, Answer, Entry};
use crate::wire::{API, Problem};

/// The whole. `spec`: the schema of a [`Spec`](crate::wire::Spec).
#[must_use]
pub fn document(spec: &Value) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>().to_value();
    let mut paths = Map::new();
    for entry in routes::all() {
        let operation = operation(&entry, &mut generator, &problem);
        let path = paths.entry(entry.path).or_insert_with(|| json!({}));
        path[entry.method.as_str().to_ascii_lowercase()] = operation;
    }
    let mut schemas = generator.take_definitions(true);
    schemas.insert("Spec".into(), spec.clone());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "orangery serve",
            "version": API.to_string(),
            "description": "Supervised containers over HTTP/1.1 on a unix socket. Errors are application/problem+json. \
                Each event of a stream has the cursor behind it as its id: with it as Last-Event-ID a client that was cut off \
                gets exactly what follows.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "description": "On TCP alone" } },
        },
        "security": [{}, { "token": [] }],
    })
}

fn operation(entry: &Entry, generator: &mut SchemaGenerator, problem: &Value) -> Value {
    let mut parameters: Vec<Value> = in_path(entry.path);
    if let Some(query) = entry.query {
        parameters.extend(in_query(&query(generator).to_value()));
    }
    if entry.once {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "maxLength": 255 },
            "description": "The same key with the same body is done once, and answered alike",
        }));
    }
    let mut done = json!({ "description": entry.summary });
    match entry.answer {
        Answer::Nothing => {}
        Answer::Json(make) => done["content"] = content("application/json", make(generator).to_value()),
        Answer::Text(of) => done["content"] = content(of, json!({})),
        Answer::WebSocket => {
            done["description"] = "A WebSocket: frames are Asked (text, from the client), Told (text) and \
            Output (binary), as orangery_daemon::wire has them"
                .into()
        }
    }
    let mut operation = json!({
        "operationId": entry.name,
        "summary": entry.summary,
        "responses": {
            entry.status.to_string(): done,
            "default": { "description": "Why not", "content": content("application/problem+json", problem.clone()) },
        },
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = entry.body {
        let body = content("application/json", body(generator).to_value());
        operation["requestBody"] = json!({ "required": entry.once, "content": body });
    }
    operation
}

fn content(of: &str, schema: Value) -> Value {
    json!({ of: { "schema": schema } })
}

fn in_path(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let of =
        |name| if name == "pid" { json!({ "type": "integer", "minimum": 0 }) } else { json!({ "type": "string" }) };
    names.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": of(name) })).collect()
}

/// The fields of a query's type.
fn in_query(schema: &Value) -> Vec<Value> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let parameter = |(name, field): (&String, &Value)| {
        let list = field["type"] == "array";
        let schema =
            if list { json!({ "type": "array", "items": { "type": "string" } }) } else { json!({ "type": "string" }) };
        json!({ "name": name, "in": "query", "schema": schema, "description": field["description"] })
    };
    fields.map(parameter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document(&json!({ "type": "object" }));
        let text = document.to_string();
        let mut found = 0;
        for part in text.split("\"$ref\":\"").skip(1) {
            let pointer = part.split('"').next().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            found += 1;
        }
        assert!(found > 20, "{found}");
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    let named = parameter["in"] == "path" || parameter["description"].as_str().is_some();
                    assert!(named, "{parameter}");
                }
            }
        }
    }
}
