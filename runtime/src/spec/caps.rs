//! Capabilities (capabilities(7)). Sets of bits; nothing here changes a process.

use std::fmt;
use std::ops::BitOr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A set of capabilities; bit n is capability n.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct CapSet(pub u64);

macro_rules! capabilities {
    ($($name:ident = $bit:literal,)*) => {
        impl CapSet {
            $(
                #[doc = concat!("`CAP_", stringify!($name), "`.")]
                pub const $name: Self = Self(1 << $bit);
            )*

            /// Every capability that Linux has (up to 5.9, none was added since).
            pub const ALL: Self = Self($(1 << $bit)|*);
        }

        /// Names without `CAP_`, by number.
        const NAMES: [&str; 41] = [$(stringify!($name)),*];
    };
}

capabilities! {
    CHOWN = 0,
    DAC_OVERRIDE = 1,
    DAC_READ_SEARCH = 2,
    FOWNER = 3,
    FSETID = 4,
    KILL = 5,
    SETGID = 6,
    SETUID = 7,
    SETPCAP = 8,
    LINUX_IMMUTABLE = 9,
    NET_BIND_SERVICE = 10,
    NET_BROADCAST = 11,
    NET_ADMIN = 12,
    NET_RAW = 13,
    IPC_LOCK = 14,
    IPC_OWNER = 15,
    SYS_MODULE = 16,
    SYS_RAWIO = 17,
    SYS_CHROOT = 18,
    SYS_PTRACE = 19,
    SYS_PACCT = 20,
    SYS_ADMIN = 21,
    SYS_BOOT = 22,
    SYS_NICE = 23,
    SYS_RESOURCE = 24,
    SYS_TIME = 25,
    SYS_TTY_CONFIG = 26,
    MKNOD = 27,
    LEASE = 28,
    AUDIT_WRITE = 29,
    AUDIT_CONTROL = 30,
    SETFCAP = 31,
    MAC_OVERRIDE = 32,
    MAC_ADMIN = 33,
    SYSLOG = 34,
    WAKE_ALARM = 35,
    BLOCK_SUSPEND = 36,
    AUDIT_READ = 37,
    PERFMON = 38,
    BPF = 39,
    CHECKPOINT_RESTORE = 40,
}

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// The capability of this name, with or without `CAP_`, in any case; `ALL` for every one.
    ///
    /// # Errors
    /// No capability has this name.
    pub fn parse(name: &str) -> Result<Self, String> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if upper == "ALL" {
            return Ok(Self::ALL);
        }
        match NAMES.iter().position(|known| *known == bare) {
            Some(bit) => Ok(Self(1 << bit)),
            None => Err(format!("{name:?} is not a capability; they are called CAP_CHOWN, CAP_NET_RAW, ... or ALL")),
        }
    }

    /// The names, such as `CAP_CHOWN`, by number. Bits that Linux has no name for are left out.
    pub fn names(self) -> Vec<String> {
        self.bare_names().map(|name| format!("CAP_{name}")).collect()
    }

    fn bare_names(self) -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().enumerate().filter(move |(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| name)
    }

    /// How many there are.
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// There are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All of `other` are in it.
    pub const fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Some of `other` are in it.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl FromStr for CapSet {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::parse(name)
    }
}

/// `CAP_CHOWN,CAP_KILL`; a bit without a name as its number.
impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = self.difference(Self::ALL);
        let mut names = self.names();
        names.extend((0..64).filter(|bit| unknown.0 >> bit & 1 == 1).map(|bit| bit.to_string()));
        f.write_str(&names.join(","))
    }
}

impl BitOr for CapSet {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl FromIterator<CapSet> for CapSet {
    fn from_iter<I: IntoIterator<Item = CapSet>>(sets: I) -> Self {
        sets.into_iter().fold(Self::EMPTY, Self::union)
    }
}

/// The five sets of a process.
///
/// ```
/// use orangery_runtime::spec::{CapSet, Caps};
/// let kill = CapSet::parse("CAP_KILL")?;
/// assert!(Caps::default_root().effective.contains(kill));
/// assert!(!Caps::none().effective.contains(kill));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Caps {
    /// What execve can give at most.
    pub bounding: CapSet,
    /// What the kernel looks at.
    pub effective: CapSet,
    /// What the process may make effective.
    pub permitted: CapSet,
    /// What a file with inheritable capabilities passes on. Leave it empty (CVE-2022-29162).
    pub inheritable: CapSet,
    /// What every execve passes on.
    pub ambient: CapSet,
}

impl Caps {
    /// For uid 0 of the container: Docker's fourteen less MKNOD, AUDIT_WRITE and NET_RAW; nothing inheritable, nothing ambient.
    pub fn default_root() -> Self {
        const SET: CapSet = CapSet(
            CapSet::CHOWN.0
                | CapSet::DAC_OVERRIDE.0
                | CapSet::FOWNER.0
                | CapSet::FSETID.0
                | CapSet::KILL.0
                | CapSet::SETGID.0
                | CapSet::SETUID.0
                | CapSet::SETPCAP.0
                | CapSet::NET_BIND_SERVICE.0
                | CapSet::SYS_CHROOT.0
                | CapSet::SETFCAP.0,
        );
        Self { bounding: SET, effective: SET, permitted: SET, ..Self::default() }
    }

    /// For everybody else: none, the bounding set included.
    ///
    /// Under no_new_privs, the default, an execve gains nothing anyway. Where a spec allows new privileges, an empty
    /// bounding set still keeps a set-user-id program from getting capabilities that nobody asked for; who wants them
    /// gives the bounding set.
    pub fn none() -> Self {
        Self::default()
    }

    /// What is wrong with the sets, one sentence each; empty if nothing is.
    pub fn validate(&self) -> Vec<String> {
        let subsets = [
            ("effective", self.effective, "permitted", self.permitted, "the kernel refuses them (capset(2): EPERM)"),
            (
                "ambient",
                self.ambient,
                "permitted",
                self.permitted,
                "the kernel refuses them (prctl(2), PR_CAP_AMBIENT: EPERM)",
            ),
            (
                "ambient",
                self.ambient,
                "inheritable",
                self.inheritable,
                "the kernel refuses them (prctl(2), PR_CAP_AMBIENT: EPERM)",
            ),
            ("permitted", self.permitted, "bounding", self.bounding, "execve would take them away"),
            ("inheritable", self.inheritable, "bounding", self.bounding, "the kernel refuses them (capset(2): EPERM)"),
        ];
        let mut wrong = Vec::new();
        for (name, set, of, all, why) in subsets {
            let outside = set.difference(all).intersection(CapSet::ALL);
            if !outside.is_empty() {
                wrong.push(format!("{name} has {outside}, which {of} has not: {why}"));
            }
        }
        for (name, set) in self.sets() {
            let unknown = set.difference(CapSet::ALL);
            if !unknown.is_empty() {
                wrong.push(format!("{name} has {unknown}: Linux has capabilities 0 to 40"));
            }
        }
        wrong
    }

    fn sets(&self) -> [(&'static str, CapSet); 5] {
        [
            ("bounding", self.bounding),
            ("effective", self.effective),
            ("permitted", self.permitted),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_its_bit_and_back() {
        assert_eq!(CapSet::ALL.0, (1 << 41) - 1);
        for bit in 0..41 {
            let set = CapSet(1 << bit);
            let names = set.names();
            assert_eq!(names.len(), 1);
            assert_eq!(names[0].parse(), Ok(set));
            assert_eq!(CapSet::parse(&names[0][4..].to_lowercase()), Ok(set));
        }
        assert_eq!(CapSet::parse("net_raw"), Ok(CapSet(1 << 13)));
        assert_eq!(CapSet::parse("CAP_CHECKPOINT_RESTORE"), Ok(CapSet(1 << 40)));
        assert_eq!(CapSet::parse("all"), Ok(CapSet::ALL));
        for bad in ["", "CAP_", "CAP_CAP_CHOWN", "CAP_ALL", "CHOWN ", "41", "chown,kill", "\0"] {
            assert!(CapSet::parse(bad).unwrap_err().contains("not a capability"), "{bad:?}");
        }
    }

    #[test]
    fn the_default_of_root_is_eleven_and_valid() {
        let caps = Caps::default_root();
        assert_eq!(caps.bounding.len(), 11);
        assert!(!caps.bounding.intersects(CapSet::MKNOD | CapSet::AUDIT_WRITE | CapSet::NET_RAW | CapSet::SYS_ADMIN));
        assert!(caps.inheritable.is_empty() && caps.ambient.is_empty());
        assert_eq!(caps.validate(), [""; 0]);
        assert_eq!(Caps::none().validate(), [""; 0]);
    }

    #[test]
    fn sets_that_the_kernel_refuses_are_named() {
        let kill = CapSet::KILL;
        let wrong = |caps: Caps| caps.validate().join("\n");
        assert!(wrong(Caps { effective: kill, ..Caps::none() }).starts_with("effective has CAP_KILL, which permitted"));
        assert!(wrong(Caps { permitted: kill, ..Caps::none() }).starts_with("permitted has CAP_KILL, which bounding"));
        assert!(wrong(Caps { inheritable: kill, ..Caps::none() }).starts_with("inheritable has"));
        let ambient = Caps { ambient: kill, ..Caps::none() };
        assert_eq!(ambient.validate().len(), 2);
        let all = Caps { bounding: kill, effective: kill, permitted: kill, inheritable: kill, ambient: kill };
        assert_eq!(all.validate(), [""; 0]);
        assert!(wrong(Caps { bounding: CapSet(1 << 41), ..Caps::none() }).contains("bounding has 41"));
    }

    #[test]
    fn set_operations() {
        let (a, b) = (CapSet::KILL | CapSet::BPF, CapSet::BPF | CapSet::MKNOD);
        assert_eq!(a.intersection(b), CapSet::BPF);
        assert_eq!(a.difference(b), CapSet::KILL);
        assert_eq!([a, b].into_iter().collect::<CapSet>(), a.union(b));
        assert!(a.contains(CapSet::EMPTY) && a.contains(CapSet::KILL) && !a.contains(b) && a.intersects(b));
        assert_eq!(a.to_string(), "CAP_KILL,CAP_BPF");
    }
}
