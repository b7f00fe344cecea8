//! Which program it is, and what of that follows: their command lines are the same, but not all that they heed.

use std::fmt;

/// A program of the command line that runc has given to all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flavour {
    /// Which one.
    pub kind: Kind,
    /// Its version: major and minor.
    pub version: (u32, u32),
}

/// The programs that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// runc.
    Runc,
    /// crun.
    Crun,
    /// youki.
    Youki,
    /// Our own `orangery-oci`.
    Orangery,
    /// Another one with that command line.
    Other,
}

/// Fields that came late, and that older ones leave out in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beyond {
    Domainname,
    /// Of a further process.
    OwnUmask,
}

impl Flavour {
    /// The oldest runc and crun whose command line is what is driven here.
    pub(crate) const OLDEST: [(Kind, (u32, u32)); 2] = [(Kind::Runc, (1, 1)), (Kind::Crun, (1, 0))];

    /// By what `--version` says: `NAME version X.Y...` in its first line; youki says its own in a further one.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let names =
            [("orangery-oci", Kind::Orangery), ("youki", Kind::Youki), ("runc", Kind::Runc), ("crun", Kind::Crun)];
        let first = text.lines().next().unwrap_or_default();
        let kind = names.iter().find(|(name, _)| first.split_whitespace().next() == Some(*name));
        let number = first.split_whitespace().find(|word| word.starts_with(|letter: char| letter.is_ascii_digit()));
        let mut parts = number.unwrap_or_default().split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
        Self { kind: kind.map_or(Kind::Other, |(_, kind)| *kind), version }
    }

    /// It heeds this, as far as anybody knows.
    pub(crate) fn says(&self, what: Beyond) -> bool {
        match (self.kind, what) {
            (Kind::Orangery, _) => true,
            (Kind::Runc, Beyond::OwnUmask) => false,
            (Kind::Crun, Beyond::OwnUmask) => true,
            (Kind::Runc, Beyond::Domainname) => self.version >= (1, 2),
            (Kind::Crun, Beyond::Domainname) => self.version >= (1, 8),
            _ => false,
        }
    }

    /// It is older than what is driven here.
    pub(crate) fn is_too_old(&self) -> bool {
        Self::OLDEST.iter().any(|(kind, oldest)| *kind == self.kind && self.version < *oldest)
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Runc => "runc",
            Kind::Crun => "crun",
            Kind::Youki => "youki",
            Kind::Orangery => "orangery-oci",
            Kind::Other => "this runtime",
        };
        write!(f, "{name} {}.{}", self.version.0, self.version.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_says_who_it_is() {
        let of = |text: &str| {
            let flavour = Flavour::of(text);
            (flavour.kind, flavour.version)
        };
        assert_eq!(of("runc version 1.1.5+ds1\ncommit: 1\nspec: 1.0.2-dev\n"), (Kind::Runc, (1, 1)));
        assert_eq!(of("crun version 1.8.1\ncommit: f8a\n"), (Kind::Crun, (1, 8)));
        assert_eq!(of("youki version 0.5.3\ncommit: 0.5.3\n"), (Kind::Youki, (0, 5)));
        assert_eq!(of("orangery-oci version 0.4.0-rc.1\nspec: 1.2.0\n"), (Kind::Orangery, (0, 4)));
        assert_eq!(of("kata-runtime  : 3.0"), (Kind::Other, (3, 0)));
        assert_eq!(of(""), (Kind::Other, (0, 0)));
        assert!(Flavour::of("runc version 1.0.3").is_too_old() && !Flavour::of("runc version 1.1.0").is_too_old());
    }
}
