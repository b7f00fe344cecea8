//! What is wrong with a file, each at its place; all at once.

use super::text::{Span, Text};
use crate::errors::Mistake;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) span: Span,
    /// Such as `service.db.memory`; empty where the file is no TOML.
    pub(crate) field: String,
    pub(crate) what: String,
    /// What is possible.
    pub(crate) hint: Option<String>,
    /// The kind of the failure, where it is this machine that refuses: what was said may be good elsewhere.
    pub(crate) machine: Option<String>,
}

impl Refusal {
    pub(crate) fn new(span: &Span, field: impl Into<String>, what: impl Into<String>) -> Self {
        Self { span: span.clone(), field: field.into(), what: what.into(), hint: None, machine: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    pub(crate) fn place(self, text: &Text) -> Mistake {
        let (line, column) = text.place(self.span.start);
        Mistake {
            file: text.name.clone(),
            line,
            column,
            field: Some(self.field).filter(|field| !field.is_empty()),
            what: self.what,
            hint: self.hint,
            excerpt: text.excerpt(&self.span),
        }
    }
}

/// The name among these that was probably meant.
pub(crate) fn near<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase().replace('_', "-");
    let rated = names.into_iter().map(|name| (strsim::jaro_winkler(&wrong, name), name));
    rated.filter(|(likeness, _)| *likeness > 0.84).max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_probably_meant() {
        let names = ["memory", "memory-swap", "after", "restart-delay", "env"];
        for (wrong, meant) in [
            ("memmory", Some("memory")),
            ("Memory", Some("memory")),
            ("restart_delay", Some("restart-delay")),
            ("afetr", Some("after")),
            ("enviroment", None),
            ("xyz", None),
            ("", None),
        ] {
            assert_eq!(near(wrong, names), meant, "{wrong}");
        }
    }
}
