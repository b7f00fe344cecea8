//! Values of TOML as the words of an option. Pure.

use std::ffi::OsString;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::keys::Kind;
use super::refusal::Refusal;
use super::text::Span;

/// One `--key=value`, and where the value is.
pub(super) type Word = (OsString, Span);

/// A key with its value, where it is, and what it takes.
pub(super) struct Pair<'a> {
    pub(super) key: &'a str,
    /// With the tables that it is in.
    pub(super) field: String,
    pub(super) value: &'a Spanned<DeValue<'a>>,
    pub(super) kind: Kind,
    /// What a value of it is called.
    pub(super) name: String,
}

impl Pair<'_> {
    /// The words; what is no value for this key is refused instead.
    pub(super) fn words(&self, refusals: &mut Vec<Refusal>) -> Vec<Word> {
        match (self.kind, self.value.get_ref()) {
            (Kind::Flag, DeValue::Boolean(true)) => vec![(format!("--{}", self.key).into(), self.value.span())],
            (Kind::Flag, DeValue::Boolean(false)) => Vec::new(),
            (Kind::Many { .. }, DeValue::Array(values)) => {
                values.iter().filter_map(|value| self.word("", value, false, refusals)).collect()
            }
            (Kind::Many { pairs: true }, DeValue::Table(table)) => self.pairs(table, refusals),
            (Kind::One { number }, _) => self.word("", self.value, number, refusals).into_iter().collect(),
            _ => {
                refusals.push(self.refuse(self.value));
                Vec::new()
            }
        }
    }

    /// `{ A = "b" }` as `A=b`.
    fn pairs(&self, table: &DeTable<'_>, refusals: &mut Vec<Refusal>) -> Vec<Word> {
        let mut words = Vec::new();
        for (name, value) in table.iter() {
            let text = name.get_ref();
            if text.is_empty() || text.contains('=') {
                let why = format!("{text:?} is no name: it is empty, or has an =");
                refusals.push(Refusal::new(&name.span(), &self.field, why));
            } else {
                words.extend(self.word(&format!("{text}="), value, true, refusals));
            }
        }
        // As they are written: the last one may count.
        words.sort_by_key(|(_, span)| span.start);
        words
    }

    fn word(
        &self,
        before: &str,
        value: &Spanned<DeValue<'_>>,
        number: bool,
        refusals: &mut Vec<Refusal>,
    ) -> Option<Word> {
        let text = match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(integer) if number => decimal(integer),
            DeValue::Float(float) if number => Some(float.as_str().to_owned()),
            _ => None,
        };
        if text.is_none() {
            refusals.push(self.refuse(value));
        }
        Some((format!("--{}={before}{}", self.key, text?).into(), value.span()))
    }

    fn refuse(&self, value: &Spanned<DeValue<'_>>) -> Refusal {
        let what = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let (wanted, hint) = match self.kind {
            Kind::Flag => ("true or false", format!("{} = true", self.key)),
            Kind::One { .. } => ("one value", format!("{} = \"{}\"", self.key, self.name)),
            Kind::Many { pairs: true } => {
                ("a table of texts and numbers, or a list of texts", format!("{} = {{ NAME = \"VALUE\" }}", self.key))
            }
            Kind::Many { pairs: false } => ("a list of texts", format!("{} = [\"{}\"]", self.key, self.name)),
        };
        Refusal::new(&value.span(), &self.field, format!("this takes {wanted}, and {what} cannot be here")).hint(hint)
    }
}

/// `None`: more than 128 bits.
fn decimal(integer: &DeInteger<'_>) -> Option<String> {
    if integer.radix() == 10 {
        return Some(integer.as_str().to_owned());
    }
    i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number.to_string())
}
