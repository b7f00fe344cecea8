//! The tables of a file, from the top down. Goes on behind what is wrong, so that all of it is told.

use std::ffi::OsString;

use clap::FromArgMatches;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Keys, Together};
use super::order::{self, Said};
use super::refusal::{Refusal, near};
use super::text::{Span, Text};
use super::value::{Pair, Word};
use super::{File, Group, Member, MemberKind, Places, Service};
use crate::args::{GroupArgs, ServiceArgs, TopArgs};

/// Tables in a group.
const NESTED: [&str; 2] = ["service", "group"];

/// The keys of each kind of table, and what is wrong so far.
struct Reader<'a> {
    text: &'a Text,
    top: Keys,
    group: Keys,
    service: Keys,
    refusals: Vec<Refusal>,
}

#[derive(Clone, Copy)]
enum Of {
    Top,
    Group,
    Service,
}

/// A table, and where it is.
#[derive(Clone, Copy)]
struct Here<'a> {
    table: &'a DeTable<'a>,
    span: &'a Span,
    field: &'a str,
}

/// The words of a table's keys.
struct Words {
    words: Vec<(String, Word)>,
    places: Places,
}

/// The file, where there is nothing wrong; and what is.
pub(super) fn read(table: &DeTable<'_>, text: &Text) -> (Option<File>, Vec<Refusal>) {
    let (top, group, service) = (Keys::of::<TopArgs>(), Keys::of::<GroupArgs>(), Keys::of::<ServiceArgs>());
    let mut reader = Reader { text, top, group, service, refusals: Vec::new() };
    let here = Here { table, span: &(0..0), field: "" };
    let said = reader.said::<TopArgs>(Of::Top, here).map(|(said, _)| said);
    if let Some(Some(name)) = said.as_ref().map(|said| said.name.as_deref()) {
        let span = table.get("name").map_or(0..0, Spanned::span);
        reader.name(name, &span, "name");
    }
    let members = reader.members(here);
    (said.map(|said| File { said, members }), reader.refusals)
}

impl Reader<'_> {
    fn keys(&mut self, of: Of) -> &mut Keys {
        match of {
            Of::Top => &mut self.top,
            Of::Group => &mut self.group,
            Of::Service => &mut self.service,
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusals.push(refusal);
    }

    /// What the keys of a table say, if all of them are right.
    fn said<A: FromArgMatches>(&mut self, of: Of, here: Here<'_>) -> Option<(A, Places)> {
        let before = self.refusals.len();
        let Words { words, places } = self.words(of, here);
        if self.refusals.len() > before {
            return None;
        }
        let all: Vec<OsString> = words.iter().map(|(_, (word, _))| word.clone()).collect();
        let said = self
            .keys(of)
            .all(&all)
            .and_then(|matches| A::from_arg_matches(&matches).map_err(|error| Together::Other(error.to_string())));
        said.map_err(|why| self.not_together(of, here, &words, why)).ok().map(|said| (said, places))
    }

    fn words(&mut self, of: Of, here: Here<'_>) -> Words {
        let mut all = Words { words: Vec::new(), places: Places::new() };
        for (key, value) in here.table.iter() {
            let (text, span) = (key.get_ref().as_ref(), key.span());
            let field = join(here.field, text);
            let Some(kind) = self.keys(of).kind(text) else {
                if !NESTED.contains(&text) || matches!(of, Of::Service) {
                    self.unknown(of, text, &span, field);
                }
                continue;
            };
            let name = self.keys(of).value_name(text);
            let pair = Pair { key: text, field, value, kind, name };
            all.places.insert(text.to_owned(), value.span());
            for (word, span) in pair.words(&mut self.refusals) {
                match self.keys(of).check(word.clone()) {
                    Ok(()) => all.words.push((text.to_owned(), (word, span))),
                    Err(no) => self.refuse(Refusal::new(&span, &pair.field, no.what).maybe(no.hint)),
                }
            }
        }
        all
    }

    fn unknown(&mut self, of: Of, key: &str, span: &Span, field: String) {
        let nested: &[&str] = if matches!(of, Of::Service) { &[] } else { &NESTED };
        let names: Vec<&str> = self.keys(of).names().chain(nested.iter().copied()).collect();
        let hint = match near(key, names.iter().copied()) {
            Some(meant) => meant.to_owned(),
            None if names.len() > 16 => "orangery schema, which has all keys".into(),
            None => names.join(", "),
        };
        self.refuse(Refusal::new(span, field, "there is no such key").hint(hint));
    }

    /// Right, each for itself, and not together.
    fn not_together(&mut self, of: Of, here: Here<'_>, words: &[(String, Word)], why: Together) {
        let place = |key: &str| words.iter().find(|(name, _)| name == key).map(|(_, (_, span))| span.clone());
        let refusal = match why {
            Together::Conflict(key, others) => {
                let span = place(&key).unwrap_or_else(|| here.span.clone());
                Refusal::new(&span, join(here.field, &key), format!("this cannot be used with {others}"))
            }
            Together::Missing(missing) => {
                let (lack, keys) = (Together::Missing(missing.clone()), self.keys(of));
                let wants = words
                    .iter()
                    .find(|(_, (word, _))| keys.all(std::slice::from_ref(word)).err().as_ref() == Some(&lack));
                match wants {
                    Some((key, (_, span))) => {
                        Refusal::new(span, join(here.field, key), format!("this needs {missing} beside it"))
                    }
                    None => Refusal::new(here.span, here.field, format!("{missing} is missing")),
                }
            }
            Together::Other(why) => Refusal::new(here.span, here.field, why),
        };
        self.refuse(refusal);
    }

    fn name(&mut self, name: &str, span: &Span, field: &str) {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !begins || name.len() > 40 || !name.chars().all(good) {
            let why = format!("{name:?} is no name");
            let hint = "1 to 40 of A-Z a-z 0-9 _ -, the first a letter or digit";
            self.refuse(Refusal::new(span, field, why).hint(hint));
        }
    }

    /// The members of a group, in the order of the file.
    fn members(&mut self, here: Here<'_>) -> Vec<Member> {
        let (mut members, mut said, refused) = (Vec::new(), Vec::new(), self.refusals.len());
        for nested in NESTED {
            let Some(value) = here.table.get(nested) else { continue };
            let field = join(here.field, nested);
            let DeValue::Table(table) = value.get_ref() else {
                self.refuse(Refusal::new(&value.span(), field, format!("write [{nested}.NAME]")));
                continue;
            };
            for (name, value) in table.iter() {
                let (text, span, field) = (name.get_ref().to_string(), name.span(), join(&field, name.get_ref()));
                self.name(&text, &span, &field);
                let DeValue::Table(table) = value.get_ref() else {
                    self.refuse(Refusal::new(&value.span(), field, format!("a {nested} is a table")));
                    continue;
                };
                let after = names(table.get("after"));
                let here = Here { table, span: &span, field: &field };
                let kind = if nested == "service" { self.service(here) } else { self.group(here) };
                said.push(Said { name: text.clone(), span: span.clone(), field, after });
                members.extend(kind.map(|kind| (span.start, Member { name: text, kind })));
            }
        }
        if said.is_empty() && self.refusals.len() == refused {
            let hint = "[service.NAME] and command = [\"...\"] in it";
            self.refuse(Refusal::new(here.span, here.field, "there is no service here").hint(hint));
        }
        said.sort_by_key(|member| member.span.start);
        order::check(&said, self.text, &mut self.refusals);
        members.sort_by_key(|(start, _)| *start);
        members.into_iter().map(|(_, member)| member).collect()
    }

    fn service(&mut self, here: Here<'_>) -> Option<MemberKind> {
        let (mut said, places) = self.said::<ServiceArgs>(Of::Service, here)?;
        said.work.with_preset();
        if said.command.is_empty() && said.work.root.bundle.is_none() {
            let why = "command is missing";
            self.refuse(Refusal::new(here.span, here.field, why).hint("command = [\"sh\", \"-c\", \"...\"]"));
        }
        let (span, field) = (here.span.clone(), here.field.to_owned());
        Some(MemberKind::Service(Box::new(Service { span, field, places, said })))
    }

    fn group(&mut self, here: Here<'_>) -> Option<MemberKind> {
        let said = self.said::<GroupArgs>(Of::Group, here).map(|(said, _)| said);
        let members = self.members(here);
        Some(MemberKind::Group(Box::new(Group { said: said?, members })))
    }
}

/// The texts of a list, with their places.
fn names(value: Option<&Spanned<DeValue<'_>>>) -> Vec<(String, Span)> {
    let Some(DeValue::Array(values)) = value.map(Spanned::get_ref) else { return Vec::new() };
    let text = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
        DeValue::String(text) => Some((text.to_string(), value.span())),
        _ => None,
    };
    values.iter().filter_map(text).collect()
}

fn join(field: &str, key: &str) -> String {
    if field.is_empty() { key.to_owned() } else { format!("{field}.{key}") }
}
