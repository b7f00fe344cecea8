//! `orangery doctor`: what this machine can do, what is missing, what we do without it, and the command that helps.
//!
//! [`live`] makes containers, [`machine`] reads what the kernel and the administrator have set, the runtime's own
//! `doctor` calls each primitive. Nothing is concluded from a version.

mod limits;
mod live;
pub(crate) mod machine;

use std::fmt::Write as _;
use std::io::Write as _;

use orangery::runtime::doctor::features;
use serde::Serialize;

use crate::errors::{Failure, without_numbers};
use crate::start::{self, Leaf};

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It works.
    Ok,
    /// It does not, and we do something else.
    Without,
    /// It does not, and no sandbox can run.
    Broken,
}

/// One line.
#[derive(Debug, Serialize)]
struct Finding {
    name: String,
    state: State,
    /// What was seen.
    detail: Option<String>,
    /// What we do instead.
    without: Option<String>,
    /// The exact command that changes it.
    fix: Option<String>,
}

impl Finding {
    fn new(name: impl Into<String>, state: State) -> Self {
        Self { name: name.into(), state, detail: None, without: None, fix: None }
    }

    fn ok(name: impl Into<String>) -> Self {
        Self::new(name, State::Ok)
    }

    fn detail(mut self, detail: impl AsRef<str>) -> Self {
        self.detail = Some(without_numbers(detail.as_ref()));
        self
    }

    fn without(mut self, without: impl Into<String>) -> Self {
        self.without = Some(without.into());
        self
    }

    fn fix(mut self, fix: Option<impl Into<String>>) -> Self {
        self.fix = fix.map(Into::into);
        self
    }
}

#[derive(Serialize)]
struct Examination {
    schema: u32,
    version: &'static str,
    can_run: bool,
    findings: Vec<Finding>,
}

/// Examine and print. 0: sandboxes can run here; 1: not.
///
/// # Errors
/// The result cannot be written.
pub(crate) fn doctor(json: bool) -> Result<u8, Failure> {
    // As a container with limits would find it.
    let _leaf = Leaf::with_limits(true);
    let mut findings = primitives();
    match start::supervisor(&crate::args::PlaceArgs::default()).build() {
        Ok(supervisor) => {
            findings.extend(live::examine(&supervisor));
            findings.extend(limits::examine(&supervisor));
            supervisor.shutdown_blocking();
        }
        Err(error) => findings.push(live::refused("keeper", &error)),
    }
    let many_ids =
        findings.iter().find(|finding| finding.name == live::GROUPS).map(|finding| finding.state == State::Ok);
    findings.extend(machine::examine(many_ids));
    let can_run = findings.iter().all(|finding| finding.state != State::Broken);
    let examination = Examination { schema: 1, version: env!("CARGO_PKG_VERSION"), can_run, findings };
    let text = match json {
        true => serde_json::to_string(&examination).map_err(|error| Failure::new(error.to_string()))? + "\n",
        false => examination.text(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::system("cannot write the findings", &error))
        }
        _ => Ok(u8::from(!can_run)),
    }
}

/// The kernel's primitives, each called once.
fn primitives() -> Vec<Finding> {
    let finding = |feature: orangery::runtime::doctor::Feature| match feature.found {
        Ok(()) => Finding::ok(feature.name),
        Err(error) => {
            let state = if feature.required { State::Broken } else { State::Without };
            let detail = format!("{error}; Linux {} has it", feature.since);
            let noexec =
                feature.name == "memfd_create" && machine::sysctl("vm/memfd_noexec").is_some_and(|value| value > 0);
            Finding::new(feature.name, state)
                .detail(detail)
                .without(feature.without)
                .fix(noexec.then_some("sudo sysctl -w vm.memfd_noexec=0"))
        }
    };
    features().into_iter().map(finding).collect()
}

impl Examination {
    fn text(&self) -> String {
        let width = self.findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
        let mut out = String::new();
        for finding in &self.findings {
            let state = match finding.state {
                State::Ok => "ok",
                State::Without => "--",
                State::Broken => "NO",
            };
            // Writing to a string cannot fail.
            let _ = write!(out, "{state}  {:width$}", finding.name);
            let _ = match &finding.detail {
                Some(detail) => writeln!(out, "  {detail}"),
                None => writeln!(out),
            };
            for (label, text) in [("without it", &finding.without), ("try", &finding.fix)] {
                if let Some(text) = text {
                    let _ = writeln!(out, "    {label}: {text}");
                }
            }
        }
        out += if self.can_run { "\nSandboxes can run here.\n" } else { "\nNo sandbox can run here; see NO above.\n" };
        // Alignment leaves blanks behind lines without a detail.
        out.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }
}
