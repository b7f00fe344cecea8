//! Differences that are known. What is found and is none of these fails the trial.

use std::fmt;

use crate::observe::Seen;
use crate::pairs::Case;

/// One line that is not the same.
#[derive(Clone)]
pub(crate) struct Difference {
    pub(crate) case: Case,
    pub(crate) other: &'static str,
    pub(crate) line: String,
    pub(crate) ours: Option<String>,
    pub(crate) its: Option<String>,
}

impl Difference {
    /// All of two.
    pub(crate) fn between(case: &Case, other: &'static str, ours: &Seen, its: &Seen) -> Vec<Self> {
        let one = |line: &str| Self {
            case: case.clone(),
            other,
            line: line.to_owned(),
            ours: ours.get(line).cloned(),
            its: its.get(line).cloned(),
        };
        if ours.get("result") != its.get("result") {
            // The rest follows from that.
            let mut it = one("result");
            let told = |seen: &Seen| seen.get("told").cloned().unwrap_or_default();
            it.ours = Some(format!("{}: {}", it.ours.unwrap_or_default(), told(ours)));
            it.its = Some(format!("{}: {}", it.its.unwrap_or_default(), told(its)));
            return vec![it];
        }
        let lines = ours.keys().chain(its.keys().filter(|line| !ours.contains_key(*line)));
        lines.filter(|line| *line != "told" && ours.get(*line) != its.get(*line)).map(|line| one(line)).collect()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        write!(
            f,
            "{} [{}] {}: ours {:?}, its {:?}",
            self.line,
            self.other,
            self.case.name(),
            text(&self.ours),
            text(&self.its)
        )
    }
}

/// One that is known, by the name that it has in docs/oci-differences.md.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    /// Who differs from us; empty: either of them.
    other: &'static str,
    is: fn(&Difference) -> bool,
}

impl Known {
    pub(crate) fn is(&self, difference: &Difference) -> bool {
        (self.other.is_empty() || self.other == difference.other) && (self.is)(difference)
    }
}

impl Difference {
    fn ours(&self) -> &str {
        self.ours.as_deref().unwrap_or_default()
    }

    fn its(&self) -> &str {
        self.its.as_deref().unwrap_or_default()
    }

    fn is_of(&self, beginnings: &[&str]) -> bool {
        beginnings.iter().any(|beginning| self.line.starts_with(beginning))
    }

    /// We refuse what the other one takes, for one of these reasons.
    fn we_refuse(&self, reasons: &[&str]) -> bool {
        let refused = self.line == "result" && self.ours().starts_with("refused") && self.its().starts_with("ran");
        refused && reasons.iter().any(|reason| self.ours().contains(reason))
    }

    /// The other one refuses what we take.
    fn it_refuses(&self, reasons: &[&str]) -> bool {
        let refused = self.line == "result" && self.ours().starts_with("ran") && self.its().starts_with("refused");
        refused && reasons.iter().any(|reason| self.its().contains(reason))
    }

    /// Both are lists of words; they are the same without these.
    fn but_for(&self, words: &[&str]) -> bool {
        let rest = |text: &str| {
            text.split(',').filter(|word| !word.is_empty() && !words.contains(word)).collect::<Vec<_>>().join(",")
        };
        self.ours.is_some() && self.its.is_some() && rest(self.ours()) == rest(self.its())
    }

    /// It is about a mount's attributes, propagation, options...
    fn is_mounts(&self, what: &str) -> bool {
        self.line.starts_with("mount ") && self.line.ends_with(what)
    }

    fn has_own_ids(&self) -> bool {
        self.case.has("namespaces", &["user", "user-and-cgroup"])
    }

    /// It is about a path that is masked.
    fn is_masked(&self) -> bool {
        let paths: &[&str] = if self.case.has("masked", &["of-the-image"]) {
            &["/etc/marker", "/etc/link", "/tmp"]
        } else if self.case.has("masked", &["a-link"]) {
            &["/etc/marker", "/etc/link"]
        } else {
            &["/proc/kcore", "/proc/keys", "/sys/firmware"]
        };
        paths.iter().any(|path| {
            let what = self.line.strip_prefix("mount ").or_else(|| self.line.strip_prefix("paths "));
            let what = what.or_else(|| self.line.strip_prefix("writes "));
            what.and_then(|what| what.strip_prefix(path)).is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
        })
    }
}

/// Nothing is seen there, and nothing can be written.
fn nothing(value: &str) -> bool {
    value.contains("\"content\":[]") || value.contains("\"content\":\"1:3\"")
}

/// Those.
pub(crate) const KNOWN: &[Known] = &[
    Known {
        name: "masks",
        other: "",
        is: |d| {
            d.is_masked()
                && (d.line.starts_with("mount ")
                    || d.line.starts_with("paths ") && nothing(d.ours()) && nothing(d.its()))
        },
    },
    // The kernel's numbers 32 and 33, which C libraries keep to themselves: the caller's, or nobody's.
    Known { name: "ignored signals", other: "", is: |d| d.line == "status SigIgn" && d.ours() == "0000000000001000" },
    Known { name: "slaves", other: "runc", is: |d| d.is_mounts("propagation") && d.but_for(&["master"]) },
    Known {
        name: "a shared root",
        other: "runc",
        is: |d| {
            d.case.has("propagation", &["shared"]) && d.line == "mount /#0 propagation" && d.ours() == "shared,master"
        },
    },
    Known {
        name: "private in the end",
        other: "crun",
        is: |d| d.is_mounts("propagation") && d.but_for(&["master", "shared", "unbindable"]),
    },
    Known {
        name: "options of a whole file system",
        other: "runc",
        is: |d| d.is_mounts("options") && d.but_for(&["ro", "rw"]),
    },
    Known {
        name: "mode of a tmpfs",
        other: "",
        is: |d| {
            d.is_of(&["paths /run", "paths /var/run", "writes /run", "writes /var/run"]) && d.case.has("mounts", &[])
        },
    },
    Known { name: "/dev/core", other: "crun", is: |d| d.is_of(&["dev core", "opens core", "made /dev/core"]) },
    Known {
        name: "modes of what is made",
        other: "",
        is: |d| d.is_of(&["made /", "paths /deep"]) && d.ours.is_some() && d.its.is_some(),
    },
    Known {
        name: "no devices in a user namespace",
        other: "",
        is: |d| d.has_own_ids() && d.is_mounts("attributes") && d.but_for(&["nodev"]),
    },
    Known {
        name: "nodes of a user namespace",
        other: "crun",
        is: |d| d.has_own_ids() && d.is_of(&["mount /dev/", "dev ", "paths /dev/", "opens "]),
    },
    Known {
        name: "whose the queues are",
        other: "",
        is: |d| d.has_own_ids() && d.is_of(&["dev mqueue", "paths /dev/mqueue"]),
    },
    Known {
        name: "hierarchies",
        other: "",
        is: |d| d.case.has("mounts", &["cgroup"]) && d.is_of(&["mount /sys/fs/cgroup"]),
    },
    Known {
        name: "ro and then rw",
        other: "crun",
        is: |d| d.case.has("mounts", &["bind-ro-rw"]) && d.is_of(&["mount /data#0 attributes", "writes /data"]),
    },
    Known {
        name: "flags of what is read-only",
        other: "crun",
        is: |d| {
            d.case.has("mounts", &["proc-options"])
                && d.is_mounts("attributes")
                && d.but_for(&["nodev", "noexec", "nosuid"])
        },
    },
    Known {
        name: "domain name",
        other: "runc",
        is: |d| d.line == "domainname" && d.its() == "(none)" || d.we_refuse(&["domainname: without a uts namespace"]),
    },
    Known {
        name: "no rules of devices",
        other: "crun",
        is: |d| {
            d.case.has("rules", &["none", "empty"])
                && d.case.has("devices", &[])
                && d.is_of(&["opens ", "writes /dev/"])
        },
    },
    Known { name: "groups left behind", other: "crun", is: |d| d.line == "left behind" && d.ours.is_none() },
    Known {
        name: "crun takes what is wrong",
        other: "crun",
        is: |d| {
            d.we_refuse(&[
                "is not an absolute path",
                "is given twice",
                "a device has one type",
                "a second pid namespace",
                "may be mounted there",
                "without a mount namespace",
                "is no propagation",
                "is not a config.json",
                "is no access",
                "is not NAME=VALUE",
                "and none is listed",
                "whose parameters are not changed",
            ])
        },
    },
    Known {
        name: "runc takes what is wrong",
        other: "runc",
        is: |d| {
            d.we_refuse(&[
                "is not a version 1",
                "is given twice",
                "is no absolute path",
                "a bind mount needs a source",
                "is no access",
                "and none is listed",
                "the ipc namespace that is joined is the host's",
            ])
        },
    },
    Known {
        name: "no limit",
        other: "crun",
        is: |d| d.it_refuses(&["`pids.max`: Invalid argument", "`cpu.cfs_quota_us`: Numerical result out of range"]),
    },
    Known { name: "an empty path", other: "crun", is: |d| d.it_refuses(&["open ``: No such file"]) },
    Known {
        name: "making nodes",
        other: "crun",
        is: |d| d.it_refuses(&["mknod `/dev/fuse`: Operation not permitted"]),
    },
    Known { name: "flags of filters", other: "runc", is: |d| d.it_refuses(&["seccomp flags are not yet supported"]) },
    Known {
        name: "a mode of /dev/null",
        other: "runc",
        is: |d| d.it_refuses(&["reopening /dev/null inside container"]),
    },
    Known {
        name: "unbindable",
        other: "runc",
        is: |d| d.case.has("propagation", &["unbindable"]) && d.it_refuses(&["error preparing rootfs"]),
    },
];
