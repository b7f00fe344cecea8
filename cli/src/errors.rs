//! What the user reads when it does not work: at most three lines (what and errno, where, what to do), or one JSON
//! document. Further refusals of the same spec are one line each.

mod mistake;

use std::io::Write as _;
use std::process::ExitCode;

use orangery::{Error, ErrorKind};
use serde::Serialize;

use crate::outer;

pub(crate) use mistake::Mistake;

const EPERM: i32 = 1;
/// Our own failure.
const OURS: u8 = 125;
/// So many are told to people; all of them with `--json`.
const MISTAKES: usize = 20;

/// Something that ends the command line before, or instead of, the command's own end.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// What was attempted, and the kernel's reason.
    what: String,
    /// Class: the library's, or `usage`.
    kind: String,
    /// The option that it comes from.
    option: Option<String>,
    /// The field of the spec.
    field: Option<String>,
    /// The step of the creation.
    stage: Option<String>,
    errno: Option<i32>,
    /// What to do.
    hint: Option<String>,
    /// Further refusals.
    also: Vec<String>,
    /// What is wrong with a file, each at its place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mistakes: Vec<Mistake>,
    exit_code: u8,
}

impl Failure {
    /// We could not.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            kind: "system".into(),
            option: None,
            field: None,
            stage: None,
            errno: None,
            hint: None,
            also: Vec::new(),
            mistakes: Vec::new(),
            exit_code: OURS,
        }
    }

    /// A system operation failed.
    pub(crate) fn system(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        let errno = error.raw_os_error();
        Self { errno, ..Self::new(format!("{what}: {}", errno_text(error))) }
    }

    /// An option is refused.
    pub(crate) fn refused(option: &str, why: impl Into<String>) -> Self {
        Self { option: Some(option.into()), kind: "usage".into(), ..Self::new(why) }
    }

    /// A file is refused.
    pub(crate) fn of_file(name: &str, mistakes: Vec<Mistake>) -> Self {
        let what = match mistakes.len() {
            1 => format!("{name} is refused"),
            many => format!("{name} is refused, for {many} reasons"),
        };
        Self { mistakes, ..Self::refused("FILE", what) }
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The key of a file that says what the option says.
    pub(crate) fn key(&self) -> Option<String> {
        let option = self.option.as_deref()?;
        Some(option.strip_prefix("--").map_or_else(|| option.to_lowercase(), str::to_owned))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Its class.
    pub(crate) fn with_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    pub(crate) const fn with_errno(mut self, errno: Option<i32>) -> Self {
        self.errno = errno;
        self
    }

    /// The field and the step that it comes from.
    pub(crate) fn with_place(mut self, field: Option<String>, stage: Option<String>) -> Self {
        (self.field, self.stage) = (field, stage);
        self
    }

    /// Further refusals.
    pub(crate) fn with_also(mut self, also: Vec<String>) -> Self {
        self.also = also;
        self
    }

    pub(crate) const fn with_exit_code(mut self, code: u8) -> Self {
        self.exit_code = code;
        self
    }

    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    pub(crate) fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    pub(crate) const fn exit_code(&self) -> u8 {
        self.exit_code
    }

    pub(crate) fn with_option(mut self, option: &str) -> Self {
        self.option = Some(option.into());
        self
    }

    /// As one JSON document.
    ///
    /// # Errors
    /// None that this type can have.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Document<'a> {
            schema: u32,
            error: &'a Failure,
        }
        serde_json::to_string(&Document { schema: 1, error: self })
    }

    /// Where it comes from, as a line.
    fn origin(&self) -> Option<String> {
        let from = match (&self.option, &self.field) {
            (Some(option), Some(field)) => Some(format!("in {option} ({field})")),
            (Some(option), None) => Some(format!("in {option}")),
            (None, Some(field)) => Some(format!("in {field}")),
            (None, None) => None,
        };
        match (from, &self.stage) {
            (Some(from), Some(stage)) => Some(format!("{from}, at {stage}")),
            (None, Some(stage)) => Some(format!("at {stage}")),
            (from, None) => from,
        }
    }

    fn text(&self) -> String {
        let mut text = format!("orangery: {}\n", one_line(&self.what));
        if !self.mistakes.is_empty() {
            return text + &self.mistakes_text();
        }
        if let Some(origin) = self.origin() {
            text += &format!("  {}\n", one_line(&origin));
        }
        if let Some(hint) = &self.hint {
            text += &format!("  try: {}\n", one_line(hint));
        }
        self.also.iter().fold(text, |text, also| text + &format!("  also: {}\n", one_line(also)))
    }

    fn mistakes_text(&self) -> String {
        let mut text: String = self.mistakes.iter().take(MISTAKES).map(|mistake| mistake.text(one_line)).collect();
        if let more @ 1.. = self.mistakes.len().saturating_sub(MISTAKES) {
            text += &format!("and {more} more\n");
        }
        text
    }

    /// Say it on stderr; the exit code that goes with it.
    pub(crate) fn tell(&self, json: bool) -> ExitCode {
        let text = match self.json() {
            Ok(document) if json => document + "\n",
            _ => self.text(),
        };
        // Nobody to tell is no further failure.
        let _ = std::io::stderr().write_all(text.as_bytes());
        ExitCode::from(self.exit_code)
    }
}

/// A path or a value may contain anything; a line of ours is one line.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

/// A line of ours on stderr that ends nothing. Our terminal may be raw: there a line begins where the one before has ended.
pub(crate) fn notice(text: &str) {
    let mut stderr = std::io::stderr();
    let end = if std::io::IsTerminal::is_terminal(&stderr) { "\r\n" } else { "\n" };
    // Nobody to tell is no failure.
    let _ = stderr.write_all(format!("orangery: {}{end}", one_line(text)).as_bytes());
}

/// The same as JSON.
pub(crate) fn notice_json(notice: &str, text: &str) {
    let line = serde_json::json!({ "schema": 1, "notice": notice, "text": text });
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// "No such file or directory" without "(os error 2)".
fn errno_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Every "(os error N)" of a sentence taken out: the number is in `--json`.
pub(crate) fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(" (os error ") {
        out.push_str(&rest[..at]);
        rest = rest[at..].find(')').map_or("", |end| &rest[at + end + 1..]);
    }
    out + rest
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut messages = error.messages();
        let mut what = messages.next().unwrap_or_else(|| error.to_string());
        let also = messages.map(|message| without_numbers(&message)).collect();
        if let Some(rest) = error.field().and_then(|field| what.strip_prefix(&format!("{field}: "))) {
            what = rest.to_owned();
        }
        if let Some(stage) = error.stage() {
            what = what.replacen(&format!(" ({stage})"), "", 1);
        }
        Self {
            what: without_numbers(&what),
            kind: snake_case(&format!("{:?}", error.kind())),
            option: error.field().and_then(option_of).map(str::to_owned),
            field: error.field().map(str::to_owned),
            stage: error.stage().map(str::to_owned),
            errno: error.errno(),
            hint: masked(&error).or_else(|| error.hint().or_else(|| hint_for(&error)).map(str::to_owned)),
            also,
            mistakes: Vec::new(),
            exit_code: match error.kind() {
                ErrorKind::CommandNotFound => 127,
                ErrorKind::CommandNotExecutable => 126,
                _ => OURS,
            },
        }
    }
}

/// A new /proc or /sys is refused where the outer one is not seen whole.
fn masked(error: &Error) -> Option<String> {
    let refused = error.errno() == Some(EPERM) && error.stage().is_some_and(|stage| stage.ends_with("new-mount"));
    if refused { outer::fix_for_proc() } else { None }
}

/// What to do where the library, which knows no options, says nothing.
fn hint_for(error: &Error) -> Option<&'static str> {
    match (error.kind(), error.field().unwrap_or_default()) {
        (ErrorKind::CommandNotFound, _) => {
            Some("a program that exists inside; without --rootfs those are the host's in /usr, /bin and /sbin")
        }
        (ErrorKind::CommandNotExecutable, _) => Some("a program with execute permission, built for this machine"),
        (_, "user") => Some("a number, or a name in the /etc/passwd of the root file system"),
        (ErrorKind::Unsupported | ErrorKind::Permission | ErrorKind::Exhausted | ErrorKind::Keeper, _) => {
            Some("orangery doctor, which says what this machine allows and how to change it")
        }
        _ => None,
    }
}

/// `CommandNotFound` as `command_not_found`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The option that fills a field of the spec.
fn option_of(field: &str) -> Option<&'static str> {
    let (name, _) = field.split_once(['[', '.']).filter(|(name, _)| *name != "limits").unwrap_or((field, ""));
    Some(match name {
        "limits.memory" => "--memory",
        "limits.memory_swap" => "--memory-swap",
        "limits.cpu_quota" => "--cpus",
        "limits.cpu_weight" => "--cpu-weight",
        "limits.cpuset_cpus" => "--cpuset-cpus",
        "limits.pids" => "--pids",
        "limits.io_weight" => "--io-weight",
        _ if name.starts_with("limits.io_device_weight") => "--io-device-weight",
        _ if name.starts_with("limits.io_max") => "--io-max",
        "rootfs" | "rootfs_provider" | "entry" | "archive" | "store" | "owners" => "--rootfs",
        "mounts" if field.ends_with(".device") => "--device",
        "mounts" => "--mount",
        "user" => "--user",
        "user_namespace" => "--userns",
        "hostname" => "--hostname",
        "id" => "--name",
        "join" => "--join",
        "disk" => "--disk",
        "env" => "--env",
        "cwd" => "--workdir",
        "rlimits" => "--rlimit",
        "argv" => "COMMAND",
        "tty" => "--tty",
        "wall" => "--timeout",
        "log" => "--log",
        "output" => "--output-limit",
        "cgroup_parent" => "--cgroup-parent",
        "state_dir" => "--state-dir",
        "runtime" => "--runtime",
        "landlock" => "--landlock",
        "network" | "pasta" => "--network",
        "publish" => "--publish",
        "network_provider" => "--network-plugin",
        "bundle" => "--bundle",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lead_to_options() {
        for (field, option) in [
            ("limits.memory", Some("--memory")),
            ("mounts[3].target", Some("--mount")),
            ("mounts", Some("--mount")),
            ("mounts[1].device", Some("--device")),
            ("argv[0]", Some("COMMAND")),
            ("rlimits[1]", Some("--rlimit")),
            ("publish[2]", Some("--publish")),
            ("pasta", Some("--network")),
            ("sysctls", None),
        ] {
            assert_eq!(option_of(field), option, "{field}");
        }
    }

    #[test]
    fn a_failure_is_at_most_three_lines_whatever_it_contains() {
        let mut failure = Failure::refused("--mount", "a\nb\u{1b}[31m").with_hint("c\r\nd");
        failure.stage = Some("step 1\nx".into());
        assert_eq!(failure.text().lines().count(), 3);
        assert!(!failure.text().contains('\u{1b}'));
    }

    #[test]
    fn error_numbers_are_for_programs() {
        assert_eq!(without_numbers("a: No such file (os error 2); b: Busy (os error 16)"), "a: No such file; b: Busy");
        assert_eq!(without_numbers("a (os error 2"), "a");
    }
}
