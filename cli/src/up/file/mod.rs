//! The file of `up`: text becomes a tree of services and groups, or refusals, each at its place and all at once. Pure: it
//! opens nothing and looks at no machine, so that it can be fuzzed.
//!
//! ```text
//!   text ── places in it      keys ── what a table can say: clap structs      value ── TOML values as words of an option
//!   tree ── the tables        order ── who comes after whom                  refusal ── what is wrong, told with its place
//! ```

mod keys;
mod order;
mod refusal;
mod text;
mod tree;
mod value;

use std::collections::BTreeMap;

use toml::de::DeTable;

use crate::args::{GroupArgs, ServiceArgs, TopArgs};

pub(crate) use keys::{Keys, Kind, kind, value_name};
pub(crate) use refusal::Refusal;
pub(crate) use text::{Span, Text};

/// A file is no longer than this.
pub(crate) const LONGEST: usize = 1 << 20;

/// The characters of a name: what a container's may have, without the point that joins names.
pub(crate) const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$";

/// Where the values of a table's keys are.
pub(crate) type Places = BTreeMap<String, Span>;

/// A service as it was written.
#[derive(Debug)]
pub(crate) struct Service {
    /// Of its table.
    pub(crate) span: Span,
    /// Such as `service.db`, with the groups that it is in.
    pub(crate) field: String,
    pub(crate) places: Places,
    pub(crate) said: ServiceArgs,
}

/// A group as it was written.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) said: GroupArgs,
    pub(crate) members: Vec<Member>,
}

/// A member of a group: its name, and what it is.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) kind: MemberKind,
}

#[derive(Debug)]
pub(crate) enum MemberKind {
    Service(Box<Service>),
    Group(Box<Group>),
}

/// The whole file.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) said: TopArgs,
    pub(crate) members: Vec<Member>,
}

/// Read it.
///
/// # Errors
/// Everything that is wrong, in the order of the file.
pub(crate) fn read(text: &Text) -> Result<File, Vec<Refusal>> {
    let (table, syntax) = DeTable::parse_recoverable(text.as_str());
    let mut refusals: Vec<Refusal> = syntax.iter().map(|error| not_toml(text, error)).collect();
    let broken: Vec<usize> = refusals.iter().map(|refusal| text.place(refusal.span.start).0).collect();
    let (file, mut wrong) = tree::read(table.get_ref(), text);
    // What follows from a line that is no TOML says nothing new.
    wrong.retain(|refusal| !broken.contains(&text.place(refusal.span.start).0));
    refusals.append(&mut wrong);
    refusals.sort_by_key(|refusal| (refusal.span.start, refusal.span.end));
    refusals.dedup();
    match file {
        Some(file) if refusals.is_empty() => Ok(file),
        _ if refusals.is_empty() => Err(vec![Refusal::new(&(0..0), "", "this is no file of orangery up")]),
        _ => Err(refusals),
    }
}

fn not_toml(text: &Text, error: &toml::de::Error) -> Refusal {
    let end = text.as_str().len();
    let span = error.span().unwrap_or(end..end);
    let name = text.as_str().get(span.clone()).unwrap_or_default();
    match error.message() {
        "duplicate key" => {
            Refusal::new(&span, "", format!("{name:?} is there twice")).hint("each name, and each key of a table, once")
        }
        message => Refusal::new(&span, "", message),
    }
}

#[cfg(test)]
mod tests;
