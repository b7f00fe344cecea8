//! `org.systemd.property.NAME`: a property of the unit, with a value as GVariant writes it, as runc has it: `true`, `'text'`, `5`,
//! `uint64 5`, `['a', 'b']`. Times of a name in `Sec` are seconds, and go to systemd as microseconds.

use std::collections::BTreeMap;

use orangery_runtime::systemd::{Property, Variant};

use crate::failure::Failure;

const PREFIX: &str = "org.systemd.property.";
/// What the container is kept by.
const OURS: [&str; 4] = ["PIDs", "Slice", "Delegate", "DefaultDependencies"];

/// Those that a bundle asks for.
///
/// # Errors
/// One is none, by its name.
pub(crate) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>, Failure> {
    let asked = annotations.iter().filter_map(|(key, value)| Some((key, key.strip_prefix(PREFIX)?, value)));
    let one = |(key, name, value): (&String, &str, &String)| {
        property(name, value).map_err(|why| Failure::new(format!("annotations[{key}]: {why}")))
    };
    asked.map(one).collect()
}

fn property(name: &str, text: &str) -> Result<Property, String> {
    let good = name.len() >= 3 && name.starts_with(|c: char| c.is_ascii_uppercase());
    if !good || !name.chars().all(|c| c.is_ascii_alphabetic()) {
        return Err(format!("{name:?} is no name of a property: 3 letters or more, the first a capital one"));
    }
    if OURS.contains(&name) {
        return Err("the container is kept by it".into());
    }
    let value =
        value(text).ok_or_else(|| format!("{text:?} is no value, such as true, 'text', uint64 5 or ['a', 'b']"))?;
    match name.strip_suffix("Sec").filter(|_| !name.ends_with("USec")) {
        Some(of) => micros(&value)
            .map(|micros| Property::new(format!("{of}USec"), Variant::Wide(micros)))
            .ok_or_else(|| format!("{text:?} is no number of seconds")),
        None => Ok(Property::new(name, value)),
    }
}

fn micros(seconds: &Variant) -> Option<u64> {
    match seconds {
        Variant::Number(number) => u64::from(*number).checked_mul(1_000_000),
        Variant::Wide(number) => number.checked_mul(1_000_000),
        Variant::Signed(number) => u64::try_from(*number).ok()?.checked_mul(1_000_000),
        Variant::SignedWide(number) => u64::try_from(*number).ok()?.checked_mul(1_000_000),
        Variant::Real(number) => {
            let micros = number * 1e6;
            let fits = (0.0..9e18).contains(&micros);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was looked at")]
            fits.then_some(micros as u64)
        }
        _ => None,
    }
}

fn value(text: &str) -> Option<Variant> {
    let text = text.trim();
    if let Some(inside) = text.strip_prefix('[') {
        return list(inside).map(Variant::Texts);
    }
    match text {
        "true" => return Some(Variant::Flag(true)),
        "false" => return Some(Variant::Flag(false)),
        _ => {}
    }
    if text.starts_with(['\'', '"']) {
        let (text, rest) = quoted(text)?;
        return rest.trim().is_empty().then_some(Variant::Text(text));
    }
    let (kind, number) = text.split_once(' ').unwrap_or(("", text));
    let number = number.trim();
    match kind {
        // As GVariant has it: a number without a type is an int32, with a dot or an exponent a double.
        "" => number.parse().map(Variant::Signed).ok().or_else(|| real(number)),
        "int32" => number.parse().map(Variant::Signed).ok(),
        "uint32" => number.parse().map(Variant::Number).ok(),
        "int64" => number.parse().map(Variant::SignedWide).ok(),
        "uint64" => number.parse().map(Variant::Wide).ok(),
        "double" => number.parse().map(Variant::Real).ok(),
        "boolean" => number.parse().map(Variant::Flag).ok(),
        "string" => value(number).filter(|value| matches!(value, Variant::Text(_))),
        "@as" => value(number).filter(|value| matches!(value, Variant::Texts(_))),
        _ => None,
    }
}

fn real(number: &str) -> Option<Variant> {
    let is = number.contains(['.', 'e']) && number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'));
    number.parse().ok().filter(|_| is).map(Variant::Real)
}

/// Texts up to the bracket that closes.
fn list(text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    if rest.trim_end() == "]" {
        return Some(all);
    }
    loop {
        let (one, after) = quoted(rest)?;
        all.push(one);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return (rest.trim_end() == "]").then_some(all),
        }
    }
}

/// What is between quotes, and what comes after them.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return Some((inside, text.get(at + 1..)?)),
            '\\' => inside.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                // Others that have a meaning are not taken for letters.
                other if other.is_ascii_alphanumeric() || other == '\0' => return None,
                other => other,
            }),
            '\0' => return None,
            c => inside.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Result<Property, String> {
        let annotations = BTreeMap::from([(format!("{PREFIX}{name}"), value.to_owned())]);
        properties(&annotations).map(|mut all| all.remove(0)).map_err(|failure| failure.to_string())
    }

    #[test]
    fn values_have_types() {
        let text = |text: &str| Variant::Text(text.into());
        for (written, value) in [
            ("true", Variant::Flag(true)),
            ("'inactive-or-failed'", text("inactive-or-failed")),
            ("\"it's\"", text("it's")),
            (r"'a\\b\'c'", text(r"a\b'c")),
            ("5", Variant::Signed(5)),
            ("-5", Variant::Signed(-5)),
            ("uint32 5", Variant::Number(5)),
            ("uint64 5", Variant::Wide(5)),
            ("int64 -5", Variant::SignedWide(-5)),
            ("1.5", Variant::Real(1.5)),
            ("['a', \"b\"]", Variant::Texts(vec!["a".into(), "b".into()])),
            ("@as []", Variant::Texts(Vec::new())),
        ] {
            assert_eq!(of("Something", written), Ok(Property::new("Something", value)), "{written}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for written in ["3", "uint64 3", "3.0"] {
            let property = Property::new("TimeoutStopUSec", Variant::Wide(3_000_000));
            assert_eq!(of("TimeoutStopSec", written), Ok(property), "{written}");
        }
        assert_eq!(of("TimeoutStopUSec", "uint64 3"), Ok(Property::new("TimeoutStopUSec", Variant::Wide(3))));
        assert!(of("TimeoutStopSec", "-1").is_err() && of("TimeoutStopSec", "'3'").is_err());
    }

    #[test]
    fn what_is_none_is_refused_by_its_name() {
        for (name, value) in [
            ("Ab", "true"),
            ("lower", "true"),
            ("With-Dash", "true"),
            ("PIDs", "[1]"),
            ("Slice", "'a.slice'"),
            ("Name", "yes"),
            ("Name", "'open"),
            ("Name", "'a\0'"),
            ("Name", "'a\\\0'"),
            ("Name", "'a' 'b'"),
            ("Name", "['a'"),
            ("Name", "['a' 'b']"),
            ("Name", r"'\x41'"),
            ("Name", "uint32 -1"),
            ("Name", "nan"),
            ("Name", "handle 3"),
            ("Name", ""),
        ] {
            let told = of(name, value).unwrap_err();
            assert!(told.starts_with(&format!("annotations[{PREFIX}{name}]: ")), "{told}");
        }
    }
}
