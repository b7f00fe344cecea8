//! What a process may still reach after its start, whatever permissions say: landlock(7). Plain data, what of it this kernel
//! has, and the words that it is written in. Nothing here restricts anybody.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Enforcement;
use super::check::clean;
use crate::error::{Error, ErrorKind};

/// Most paths, and most ports of each kind.
const MOST: usize = 64;

/// A further layer of restrictions on each process, which its children inherit and nobody can take off again.
///
/// What is not said is not restricted: without a path all files stay as their permissions have them, without `tcp_bind` every
/// port. As soon as one path is given, nothing but what lies below the given ones can be opened.
///
/// ```
/// use orangery_runtime::spec::Landlock;
/// let reader = Landlock::new().allow("/", "ro").allow("/tmp", "rw").tcp_connect([]).scope_signals(true);
/// assert_eq!("ro:/,rw:/tmp,connect:none,scope:signals".parse(), Ok(reader));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Landlock {
    /// What may be reached of the file system; empty: it is not restricted.
    pub paths: Vec<PathRule>,
    /// TCP ports that may be bound; `None`: all. The kernel looks at sockets of TCP itself: MPTCP, which reaches the same ports, and
    /// other protocols are not restricted, so that beside it a filter has to refuse their sockets.
    pub tcp_bind: Option<Vec<u16>>,
    /// TCP ports that may be connected to; `None`: all. As for [`tcp_bind`](Self::tcp_bind).
    pub tcp_connect: Option<Vec<u16>>,
    /// No connection to abstract unix sockets of processes outside of this one and its children.
    pub scope_sockets: bool,
    /// No signal to processes outside of this one and its children.
    pub scope_signals: bool,
    /// What becomes of what this kernel does not have: refused, or left out.
    pub enforcement: Enforcement,
}

/// What may be done at and below a path inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathRule {
    /// Absolute, in the container. Links are followed, inside.
    pub path: PathBuf,
    /// What of it.
    pub access: PathAccess,
    /// Where there is no such path the rule is left out. Otherwise the process is not started.
    pub optional: bool,
}

/// Kinds of access to files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PathAccess {
    /// Read files, list directories.
    pub read: bool,
    /// Write to files, make, rename and remove them; control devices.
    pub write: bool,
    /// Execute files.
    pub execute: bool,
}

/// What is handed to the kernel, bits as in `linux/landlock.h`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Accesses that need a rule.
    pub(crate) fs: u64,
    pub(crate) net: u64,
    pub(crate) scoped: u64,
    pub(crate) paths: Vec<(PathRule, u64)>,
    /// Accesses and the port.
    pub(crate) ports: Vec<(u64, u16)>,
}

/// EXECUTE.
const EXECUTE: u64 = 1;
/// READ_FILE, READ_DIR.
const READ: u64 = 1 << 2 | 1 << 3;
/// WRITE_FILE, REMOVE_* and MAKE_*, and what came later.
const WRITE: u64 = 1 << 1 | 0x1ff0 | REFER | TRUNCATE | IOCTL_DEV;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// What can be said of a file that is no directory.
pub(crate) const OF_FILES: u64 = EXECUTE | 1 << 1 | 1 << 2 | TRUNCATE | IOCTL_DEV;
const BIND: u64 = 1;
const CONNECT: u64 = 2;
const SOCKETS: u64 = 1;
const SIGNALS: u64 = 2;

/// What a version of landlock lacks, from which one on it is there, and the bits of it.
const SINCE: [(u32, &str, u64); 3] = [
    (2, "moves between directories (Linux 5.19)", REFER),
    (3, "truncation (Linux 6.2)", TRUNCATE),
    (5, "control of devices (Linux 6.10)", IOCTL_DEV),
];

impl PathAccess {
    const fn bits(self) -> u64 {
        (if self.read { READ } else { 0 })
            | (if self.write { WRITE } else { 0 })
            | (if self.execute { EXECUTE } else { 0 })
    }

    fn parse(word: &str) -> Option<Self> {
        let (read, write, execute) = match word {
            "ro" => (true, false, true),
            "rw" => (true, true, true),
            "read" => (true, false, false),
            "write" => (false, true, false),
            "exec" => (false, false, true),
            _ => return None,
        };
        Some(Self { read, write, execute })
    }
}

impl Landlock {
    /// Nothing is restricted yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing is restricted: in place of what somebody else has chosen, such as a preset. As a word: `none`.
    ///
    /// ```
    /// use orangery_runtime::spec::Landlock;
    /// assert_eq!("none".parse(), Ok(Landlock::none()));
    /// assert!(Landlock::none().is_empty());
    /// ```
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Access to what is at and below `path`, as a word: `ro` (read and execute), `rw` (all), `read`, `write`, `exec`. Another
    /// word allows nothing.
    #[must_use]
    pub fn allow(self, path: impl Into<PathBuf>, access: &str) -> Self {
        self.allow_path(path, PathAccess::parse(access).unwrap_or_default())
    }

    /// The same, by kinds.
    #[must_use]
    pub fn allow_path(mut self, path: impl Into<PathBuf>, access: PathAccess) -> Self {
        self.paths.push(PathRule { path: path.into(), access, optional: false });
        self
    }

    /// No port but these can be bound.
    #[must_use]
    pub fn tcp_bind(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.tcp_bind = Some(ports.into_iter().collect());
        self
    }

    /// No port but these can be connected to.
    #[must_use]
    pub fn tcp_connect(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.tcp_connect = Some(ports.into_iter().collect());
        self
    }

    /// See [`Landlock::scope_sockets`].
    #[must_use]
    pub const fn scope_sockets(mut self, scoped: bool) -> Self {
        self.scope_sockets = scoped;
        self
    }

    /// See [`Landlock::scope_signals`].
    #[must_use]
    pub const fn scope_signals(mut self, scoped: bool) -> Self {
        self.scope_signals = scoped;
        self
    }

    /// See [`Landlock::enforcement`].
    #[must_use]
    pub const fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.enforcement = enforcement;
        self
    }

    /// Nothing is asked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self { paths, tcp_bind, tcp_connect, scope_sockets, scope_signals, enforcement: _ } = self;
        paths.is_empty() && tcp_bind.is_none() && tcp_connect.is_none() && !*scope_sockets && !*scope_signals
    }

    /// One word of the written form; see [`Landlock`].
    ///
    /// # Errors
    /// It is none.
    pub fn add(&mut self, word: &str) -> Result<(), String> {
        let (kind, what) = word.split_once(':').ok_or_else(|| unknown(word))?;
        let port = |to: &mut Option<Vec<u16>>| {
            let ports = to.get_or_insert_default();
            match what {
                "none" => Ok(()),
                number => {
                    let number =
                        number.parse().map_err(|_| format!("{number:?} is no port: a number up to 65535, or none"));
                    number.map(|port| ports.push(port))
                }
            }
        };
        match (kind, what) {
            ("bind", _) => port(&mut self.tcp_bind)?,
            ("connect", _) => port(&mut self.tcp_connect)?,
            ("scope", "sockets") => self.scope_sockets = true,
            ("scope", "signals") => self.scope_signals = true,
            _ => {
                let access = PathAccess::parse(kind).ok_or_else(|| unknown(word))?;
                clean(Path::new(what))?;
                self.paths.push(PathRule { path: what.into(), access, optional: false });
            }
        }
        Ok(())
    }

    /// What the kernel is handed, where it has version `abi` (0: none at all); and what of this it does not have.
    pub(crate) fn ruleset(&self, abi: u32) -> (Ruleset, Vec<&'static str>) {
        let (mut rules, mut lacks) = (Ruleset::default(), Vec::new());
        if !self.paths.is_empty() {
            rules.fs = EXECUTE | READ | WRITE;
            match abi {
                0 => (rules.fs, lacks) = (0, vec!["restricted paths (Linux 5.13)"]),
                _ => {
                    for (_, what, bits) in SINCE.iter().filter(|(since, ..)| abi < *since) {
                        rules.fs &= !bits;
                        // Without it such moves are refused, whatever a rule says: that is no less than was asked for.
                        lacks.extend(Some(*what).filter(|_| *bits != REFER));
                    }
                }
            }
        }
        if rules.fs != 0 {
            let bits = |rule: &PathRule| rule.access.bits() & rules.fs;
            rules.paths =
                self.paths.iter().map(|rule| (rule.clone(), bits(rule))).filter(|(_, bits)| *bits != 0).collect();
        }
        for (ports, bit) in [(&self.tcp_bind, BIND), (&self.tcp_connect, CONNECT)] {
            let Some(ports) = ports else { continue };
            rules.net |= bit;
            rules.ports.extend(ports.iter().map(|port| (bit, *port)));
        }
        if rules.net != 0 && abi < 4 {
            (rules.net, rules.ports) = (0, Vec::new());
            lacks.push("TCP ports (Linux 6.7)");
        }
        rules.scoped = if self.scope_sockets { SOCKETS } else { 0 } | if self.scope_signals { SIGNALS } else { 0 };
        if rules.scoped != 0 && abi < 6 {
            rules.scoped = 0;
            lacks.push("scopes (Linux 6.12)");
        }
        (rules, lacks)
    }

    /// What is refused, and what is left to hand to the kernel. `new_privileges`: nothing forbids the process them.
    pub(crate) fn check(&self, abi: u32, new_privileges: bool) -> Result<Ruleset, Vec<Error>> {
        let mut errors = Vec::new();
        for (index, rule) in self.paths.iter().enumerate() {
            if let Err(why) = clean(&rule.path) {
                errors.push(Error::invalid(format!("landlock.paths[{index}]"), why));
            }
            if rule.access == PathAccess::default() {
                errors.push(Error::invalid(format!("landlock.paths[{index}]"), "it allows nothing"));
            }
        }
        let ports = |ports: &Option<Vec<u16>>| ports.as_ref().map_or(0, Vec::len);
        if [self.paths.len(), ports(&self.tcp_bind), ports(&self.tcp_connect)].into_iter().any(|count| count > MOST) {
            errors.push(Error::invalid("landlock", format!("more than {MOST} rules of a kind")));
        }
        if new_privileges && !self.is_empty() {
            errors.push(Error::invalid("landlock", "the kernel wants a process that can gain no privileges"));
        }
        let (rules, lacks) = self.ruleset(abi);
        if !lacks.is_empty() && self.enforcement == Enforcement::Required {
            let why = format!("this kernel's landlock does not have {}", lacks.join(" and "));
            let error = Error::new(ErrorKind::Unsupported, why).with_field("landlock");
            errors.push(error.with_hint("best effort leaves out what is lacking"));
        }
        if errors.is_empty() { Ok(rules) } else { Err(errors) }
    }
}

impl Ruleset {
    pub(crate) const fn is_empty(&self) -> bool {
        self.fs == 0 && self.net == 0 && self.scoped == 0
    }
}

/// As it can be written. Rules by kinds that have no word are named by those of their kinds.
impl std::fmt::Display for Landlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut words = Vec::new();
        for PathRule { path, access: PathAccess { read, write, execute }, .. } in &self.paths {
            let kinds: &[&str] = match (read, write, execute) {
                (true, false, true) => &["ro"],
                (true, true, true) => &["rw"],
                _ => &[("read", *read), ("write", *write), ("exec", *execute)]
                    .map(|(word, is)| if is { word } else { "" }),
            };
            words.extend(kinds.iter().filter(|kind| !kind.is_empty()).map(|kind| format!("{kind}:{}", path.display())));
        }
        for (kind, ports) in [("bind", &self.tcp_bind), ("connect", &self.tcp_connect)] {
            let Some(ports) = ports else { continue };
            words.extend(ports.is_empty().then(|| format!("{kind}:none")));
            words.extend(ports.iter().map(|port| format!("{kind}:{port}")));
        }
        let scopes = [(self.scope_sockets, "scope:sockets"), (self.scope_signals, "scope:signals")];
        words.extend(scopes.iter().filter(|(is, _)| *is).map(|(_, word)| (*word).to_owned()));
        f.write_str(&words.join(","))
    }
}

impl std::str::FromStr for Landlock {
    type Err = String;

    fn from_str(words: &str) -> Result<Self, String> {
        let mut all = Self::default();
        if words == "none" {
            return Ok(all);
        }
        words.split(',').try_for_each(|word| all.add(word)).map(|()| all)
    }
}

fn unknown(word: &str) -> String {
    format!(
        "{word:?} is none of ro:PATH rw:PATH read:PATH write:PATH exec:PATH bind:PORT connect:PORT scope:sockets scope:signals"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Landlock {
        "ro:/,rw:/tmp,bind:80,connect:none,scope:sockets,scope:signals".parse().unwrap()
    }

    #[test]
    fn words_that_are_none_are_refused() {
        for word in ["", "ro", "ro:", "ro:tmp", "rw:/a/../b", "bind:", "bind:65536", "connect:-1", "scope:all", "xx:/"]
        {
            assert!(word.parse::<Landlock>().is_err(), "{word}");
        }
        assert_eq!(all().to_string().parse(), Ok(all()));
        assert_eq!((all().paths.len(), all().tcp_bind, all().tcp_connect), (2, Some(vec![80]), Some(vec![])));
    }

    #[test]
    fn each_version_has_what_it_has() {
        let lacks = |abi| all().ruleset(abi).1.len();
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(lacks), [3, 4, 4, 3, 2, 1, 0, 0]);
        for abi in 0..8 {
            let (rules, _) = all().ruleset(abi);
            assert!(rules.paths.iter().all(|(_, bits)| bits & !rules.fs == 0 && *bits != 0), "{abi}");
            assert!(rules.ports.iter().all(|(bits, _)| bits & !rules.net == 0), "{abi}");
            assert_eq!(rules.is_empty(), abi == 0);
        }
        assert_eq!(all().ruleset(6).0.fs, 0xffff, "all sixteen");
    }

    #[test]
    fn what_is_lacking_is_refused_or_left_out() {
        let errors = all().check(3, false).unwrap_err();
        assert_eq!((errors[0].kind(), errors[0].field()), (ErrorKind::Unsupported, Some("landlock")));
        assert!(errors[0].to_string().contains("TCP ports"), "{}", errors[0]);
        assert!(all().enforcement(Enforcement::BestEffort).check(0, false).unwrap().is_empty());
        assert!(all().check(6, true).is_err() && all().check(6, false).is_ok());
        assert!(Landlock::new().allow("/x", "wr").check(6, false).is_err(), "a word that is none allows nothing");
    }
}
