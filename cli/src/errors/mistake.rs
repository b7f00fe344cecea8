//! One thing that is wrong with a file of the user's.

use std::fmt::Write as _;

use serde::Serialize;

/// What is wrong with a file, at its place.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Mistake {
    pub(crate) file: String,
    /// From 1 on.
    pub(crate) line: usize,
    /// In characters, from 1 on.
    pub(crate) column: usize,
    pub(crate) field: Option<String>,
    pub(crate) what: String,
    pub(crate) hint: Option<String>,
    #[serde(skip)]
    pub(crate) excerpt: (String, String),
}

impl Mistake {
    /// In lines for people. `clean`: makes a text one line.
    pub(crate) fn text(&self, clean: fn(&str) -> String) -> String {
        let Self { file, line, column, field, what, hint, excerpt: (part, marks) } = self;
        let field = field.as_ref().map(|field| format!("{}: ", clean(field))).unwrap_or_default();
        let mut out = format!("{}:{line}:{column}: {field}{}\n", clean(file), clean(what));
        let number = line.to_string();
        // Writing to a string cannot fail.
        let _ = writeln!(out, "  {number} | {part}");
        let _ = writeln!(out, "  {} | {marks}", " ".repeat(number.len()));
        if let Some(hint) = hint {
            let _ = writeln!(out, "  try: {}", clean(hint));
        }
        out
    }
}
