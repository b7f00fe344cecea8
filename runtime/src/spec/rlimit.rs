//! Resource limits (getrlimit(2)). Plain values; nothing here sets one, and only [`Resource::current`] asks the kernel.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::size::parse_size;

/// No limit (`RLIM_INFINITY`).
pub const INFINITY: u64 = u64::MAX;

/// A resource that has a limit.
///
/// ```
/// use orangery_runtime::spec::Resource;
/// assert_eq!(Resource::from_name("RLIMIT_NOFILE")?, Resource::Nofile);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    /// CPU time of the process.
    Cpu,
    /// Largest file that it writes.
    Fsize,
    /// Data segment.
    Data,
    /// Stack of the main thread.
    Stack,
    /// Core file.
    Core,
    /// Resident set; without effect since 2.4.30.
    Rss,
    /// Processes and threads of the user.
    Nproc,
    /// One more than the highest descriptor.
    Nofile,
    /// Locked memory.
    Memlock,
    /// Address space.
    As,
    /// File locks; without effect since 2.4.25.
    Locks,
    /// Queued signals of the user.
    Sigpending,
    /// POSIX message queues of the user.
    Msgqueue,
    /// Ceiling of the nice value, as 20 - nice.
    Nice,
    /// Ceiling of the real-time priority.
    Rtprio,
    /// Real-time CPU time without a blocking call.
    Rttime,
}

impl Resource {
    /// All sixteen, by number.
    pub const ALL: [Self; 16] = [
        Self::Cpu,
        Self::Fsize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::Rss,
        Self::Nproc,
        Self::Nofile,
        Self::Memlock,
        Self::As,
        Self::Locks,
        Self::Sigpending,
        Self::Msgqueue,
        Self::Nice,
        Self::Rtprio,
        Self::Rttime,
    ];

    /// `nofile` and the like.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Fsize => "fsize",
            Self::Data => "data",
            Self::Stack => "stack",
            Self::Core => "core",
            Self::Rss => "rss",
            Self::Nproc => "nproc",
            Self::Nofile => "nofile",
            Self::Memlock => "memlock",
            Self::As => "as",
            Self::Locks => "locks",
            Self::Sigpending => "sigpending",
            Self::Msgqueue => "msgqueue",
            Self::Nice => "nice",
            Self::Rtprio => "rtprio",
            Self::Rttime => "rttime",
        }
    }

    /// The resource of this name: `nofile` or `RLIMIT_NOFILE`, in any case.
    ///
    /// # Errors
    /// None has it.
    pub fn from_name(name: &str) -> Result<Self, String> {
        let lower = name.to_ascii_lowercase();
        let bare = lower.strip_prefix("rlimit_").unwrap_or(&lower);
        Self::ALL.into_iter().find(|resource| resource.name() == bare).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{name:?} is not a resource; they are {names}")
        })
    }

    /// The number that the kernel knows it by.
    #[allow(clippy::unnecessary_cast, reason = "the C libraries disagree about the type; the numbers are below 16")]
    pub const fn number(self) -> u32 {
        let raw = match self {
            Self::Cpu => libc::RLIMIT_CPU,
            Self::Fsize => libc::RLIMIT_FSIZE,
            Self::Data => libc::RLIMIT_DATA,
            Self::Stack => libc::RLIMIT_STACK,
            Self::Core => libc::RLIMIT_CORE,
            Self::Rss => libc::RLIMIT_RSS,
            Self::Nproc => libc::RLIMIT_NPROC,
            Self::Nofile => libc::RLIMIT_NOFILE,
            Self::Memlock => libc::RLIMIT_MEMLOCK,
            Self::As => libc::RLIMIT_AS,
            Self::Locks => libc::RLIMIT_LOCKS,
            Self::Sigpending => libc::RLIMIT_SIGPENDING,
            Self::Msgqueue => libc::RLIMIT_MSGQUEUE,
            Self::Nice => libc::RLIMIT_NICE,
            Self::Rtprio => libc::RLIMIT_RTPRIO,
            Self::Rttime => libc::RLIMIT_RTTIME,
        };
        raw as u32
    }

    /// This process's own limits, soft and hard; [`INFINITY`] is none.
    pub fn current(self) -> (u64, u64) {
        use rustix::process::Resource as Theirs;
        let theirs = match self {
            Self::Cpu => Theirs::Cpu,
            Self::Fsize => Theirs::Fsize,
            Self::Data => Theirs::Data,
            Self::Stack => Theirs::Stack,
            Self::Core => Theirs::Core,
            Self::Rss => Theirs::Rss,
            Self::Nproc => Theirs::Nproc,
            Self::Nofile => Theirs::Nofile,
            Self::Memlock => Theirs::Memlock,
            Self::As => Theirs::As,
            Self::Locks => Theirs::Locks,
            Self::Sigpending => Theirs::Sigpending,
            Self::Msgqueue => Theirs::Msgqueue,
            Self::Nice => Theirs::Nice,
            Self::Rtprio => Theirs::Rtprio,
            Self::Rttime => Theirs::Rttime,
        };
        let limit = rustix::process::getrlimit(theirs);
        (limit.current.unwrap_or(INFINITY), limit.maximum.unwrap_or(INFINITY))
    }

    /// What its number counts.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Cpu => "seconds",
            Self::Fsize | Self::Data | Self::Stack | Self::Core | Self::Rss => "bytes",
            Self::Memlock | Self::As | Self::Msgqueue => "bytes",
            Self::Nproc => "processes",
            Self::Nofile => "descriptors",
            Self::Locks => "locks",
            Self::Sigpending => "signals",
            Self::Nice => "20 - nice",
            Self::Rtprio => "priority",
            Self::Rttime => "microseconds",
        }
    }

    /// It counts bytes, and so takes size suffixes.
    pub fn is_size(self) -> bool {
        self.unit() == "bytes"
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Resource {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::from_name(name)
    }
}

/// One limit. [`INFINITY`] is none; it is written as `"unlimited"`.
///
/// ```
/// use orangery_runtime::spec::{Resource, Rlimit};
/// let files = Rlimit::new(Resource::Nofile, 64, 128)?;
/// assert!(Rlimit::new(Resource::Nofile, 128, 64).is_err(), "the soft limit is the lower one");
/// # assert_eq!(files.hard, 128);
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Rlimit {
    /// What is limited.
    pub resource: Resource,
    /// What is enforced; the process may raise it up to `hard`.
    #[serde(serialize_with = "value_or_unlimited", deserialize_with = "unlimited_or_value")]
    pub soft: u64,
    /// The ceiling of `soft`.
    #[serde(serialize_with = "value_or_unlimited", deserialize_with = "unlimited_or_value")]
    pub hard: u64,
}

impl Rlimit {
    /// Both limits of a resource.
    ///
    /// # Errors
    /// The soft one is above the hard one.
    pub fn new(resource: Resource, soft: u64, hard: u64) -> Result<Self, String> {
        if soft > hard {
            return Err(format!("{resource}: the soft limit is above the hard limit"));
        }
        Ok(Self { resource, soft, hard })
    }

    /// `1024`, `1024:4096` (soft, hard) or `unlimited`, also `infinity`; for bytes with the suffixes of a size.
    ///
    /// # Errors
    /// Not of that form, above `u64`, or soft above hard.
    pub fn parse(resource: Resource, text: &str) -> Result<Self, String> {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        Self::new(resource, value(resource, soft)?, value(resource, hard)?)
    }
}

/// `nofile=1024:4096`.
impl FromStr for Rlimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not a limit: write nofile=1024 or nofile=1024:4096"))?;
        Self::parse(Resource::from_name(name)?, value)
    }
}

fn value(resource: Resource, text: &str) -> Result<u64, String> {
    if text.eq_ignore_ascii_case("unlimited") || text.eq_ignore_ascii_case("infinity") {
        return Ok(INFINITY);
    }
    if resource.is_size() {
        return parse_size(text).map_err(|why| format!("{resource}: {why}, or unlimited"));
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        let unit = resource.unit();
        format!("{resource}: {text:?} is not a limit: write a number ({unit}) below 2^64, or unlimited")
    })
}

fn value_or_unlimited<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    match *value {
        INFINITY => serializer.serialize_str("unlimited"),
        value => serializer.serialize_u64(value),
    }
}

fn unlimited_or_value<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Value(u64),
        Word(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Value(value) => Ok(value),
        Written::Word(word) if word == "unlimited" => Ok(INFINITY),
        Written::Word(word) => Err(serde::de::Error::custom(format!("{word:?} is no limit"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_named_and_numbered() {
        for (number, resource) in (0..).zip(Resource::ALL) {
            assert_eq!(resource.number(), number, "{resource}");
            assert_eq!(Resource::from_name(resource.name()), Ok(resource));
            assert_eq!(format!("RLIMIT_{}", resource.name().to_uppercase()).parse(), Ok(resource));
            assert_eq!(serde_json::to_value(resource).unwrap(), resource.name());
        }
        for bad in ["", "rlimit_", "nofiles", "RLIMIT_RLIMIT_AS", "7"] {
            assert!(Resource::from_name(bad).unwrap_err().contains("nofile"), "{bad}");
        }
    }

    #[test]
    fn our_own_limits_are_those_of_proc() {
        let text = std::fs::read_to_string("/proc/self/limits").unwrap();
        for (resource, row) in [
            (Resource::Nofile, "Max open files"),
            (Resource::Stack, "Max stack size"),
            (Resource::Rttime, "Max realtime timeout"),
        ] {
            let line = text.lines().find_map(|line| line.strip_prefix(row)).unwrap();
            let value = |word: &str| match word {
                "unlimited" => INFINITY,
                number => number.parse().unwrap(),
            };
            let words: Vec<u64> = line.split_whitespace().take(2).map(value).collect();
            assert_eq!([resource.current().0, resource.current().1], words[..], "{row}");
        }
    }

    #[test]
    fn limits() {
        let parse = |text: &str| text.parse::<Rlimit>().map(|limit| (limit.soft, limit.hard));
        assert_eq!(parse("nofile=1024"), Ok((1024, 1024)));
        assert_eq!(parse("RLIMIT_NOFILE=1024:4096"), Ok((1024, 4096)));
        assert_eq!(parse("nproc=5:unlimited"), Ok((5, INFINITY)));
        assert_eq!(parse("core=Infinity"), Ok((INFINITY, INFINITY)));
        assert_eq!(parse("stack=8M:1.5G"), Ok((8 << 20, 3 << 29)));
        assert_eq!(parse("cpu=0"), Ok((0, 0)));
        for bad in [
            "nofile",
            "nofile=",
            "nofile=1:",
            "nofile=:1",
            "nofile=1:2:3",
            "nofile=-1",
            "nofile=1K",
            "nofile=+1",
            "nofile=18446744073709551616",
            "stack=8Q",
            "stack=",
            "nofile=2:1",
            "stack=unlimited:1G",
            "files=1",
            "=1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("nofile=1K").unwrap_err().contains("descriptors"));
        assert!(parse("nofile=2:1").unwrap_err().contains("above the hard limit"));
    }

    #[test]
    fn infinity_is_written_as_a_word() {
        let limit = Rlimit::parse(Resource::Nofile, "3:unlimited").unwrap();
        let json = serde_json::to_value(limit).unwrap();
        assert_eq!(json, serde_json::json!({"resource": "nofile", "soft": 3, "hard": "unlimited"}));
    }
}
