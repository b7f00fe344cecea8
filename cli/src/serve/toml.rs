//! JSON as TOML: what a client says becomes a text of the one kind that is read. Pure.

use serde_json::Value;

/// `value` in one line. `None`: there is a null in it, which TOML does not have; its path is handed out.
pub(super) fn inline(value: &Value) -> Result<String, String> {
    let mut out = String::new();
    push(value, &mut out, "").map(|()| out)
}

fn push(value: &Value, out: &mut String, path: &str) -> Result<(), String> {
    match value {
        Value::Null => return Err(path.to_owned()),
        Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
        Value::String(text) => quote(text, out),
        Value::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                push(value, out, &format!("{path}[{index}]"))?;
                out.push_str(", ");
            }
            out.push(']');
        }
        Value::Object(table) => {
            out.push('{');
            for (index, (key, value)) in table.iter().enumerate() {
                out.push_str(if index == 0 { " " } else { ", " });
                quote(key, out);
                out.push_str(" = ");
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                push(value, out, &path)?;
            }
            out.push_str(" }");
        }
    }
    Ok(())
}

/// A basic string: no control character stands in it but as an escape.
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_null_is_found() {
        assert_eq!(inline(&json!({ "a": [1, { "b": null }] })), Err("a[1].b".into()));
        assert_eq!(inline(&json!({})), Ok("{ }".into()));
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|table| Value::Object(table.into_iter().collect())),
            ]
        })
    }

    fn plain(value: toml::Value) -> Value {
        match value {
            toml::Value::String(text) => text.into(),
            toml::Value::Integer(number) => number.into(),
            toml::Value::Float(number) => number.into(),
            toml::Value::Boolean(flag) => flag.into(),
            toml::Value::Datetime(time) => time.to_string().into(),
            toml::Value::Array(values) => values.into_iter().map(plain).collect(),
            toml::Value::Table(table) => {
                Value::Object(table.into_iter().map(|(key, value)| (key, plain(value))).collect())
            }
        }
    }

    proptest! {
        /// What is read is what was said, whatever it was.
        #[test]
        fn there_and_back(value in values()) {
            let table: toml::Table = format!("x = {}", inline(&value).unwrap()).parse().unwrap();
            prop_assert_eq!(plain(table["x"].clone()), value);
        }
    }
}
