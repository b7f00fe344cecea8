//! `orangery explain`: the plan of `run` with the same options, in words and system calls, decoded from the bytes that the
//! keeper would execute. Nothing of it is executed; what a supervisor needs to plan (its keeper, its empty cgroup
//! directory) is gone again when the text is printed.

use std::fmt::Write as _;
use std::io::Write as _;

use orangery::runtime::native::NativeRuntime;
use orangery::runtime::plan::Plan;
use orangery::runtime::plan::explain::{Line, birth, lines};
use orangery::{Choice, Preset};
use serde::Serialize;

use crate::args::RunArgs;
use crate::errors::Failure;
use crate::spec::Wanted;
use crate::start::{self, Leaf};

/// What one process goes through.
#[derive(Serialize)]
struct Steps {
    birth: String,
    steps: Vec<Line>,
}

/// Everything that is told.
#[derive(Serialize)]
struct Explanation {
    schema: u32,
    cgroup_mode: String,
    why_no_cgroup: Option<String>,
    container: Steps,
    /// `None` with `--no-init`: the command is the container's first process.
    command: Option<Steps>,
    /// With a preset.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<Choice>,
}

/// A preset and nothing to run.
#[derive(Serialize)]
struct Explained {
    schema: u32,
    preset: Preset,
    choices: Vec<Choice>,
}

/// Print the plan.
///
/// # Errors
/// Every refusal that `run` would answer with before it makes anything.
pub(crate) fn explain(args: &RunArgs, json: bool) -> Result<u8, Failure> {
    let choices = args.work.choices();
    if let Some(choices) = choices.as_ref().filter(|_| args.command.is_empty()) {
        let of = Explained { schema: 1, preset: choices.preset, choices: choices.lines() };
        let text = if json { as_json(&of)? } else { preset_text(choices.preset, &of.choices) };
        return write(&text);
    }
    if args.place.runtime.is_some() {
        return Err(Failure::refused(
            "--runtime",
            "the steps are those of our own runtime: what another program does it decides",
        ));
    }
    let wanted = Wanted::new(&args.work, args.words())?;
    let _leaf = Leaf::enter();
    let supervisor = start::supervisor(&args.place).build()?;
    let planned = match supervisor.native() {
        Some(native) => explanation(native, wanted, choices.map(|choices| choices.lines()).unwrap_or_default()),
        None => Err(Failure::new("this supervisor has no plan")),
    };
    supervisor.shutdown_blocking();
    let text = match (planned?, json) {
        (plan, true) => as_json(&plan)?,
        (plan, false) => plan.text(args.work.root.preset),
    };
    write(&text)
}

fn as_json(of: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string(of).map_err(|error| Failure::new(error.to_string()))? + "\n")
}

fn write(text: &str) -> Result<u8, Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::system("cannot write the plan", &error))
        }
        _ => Ok(0),
    }
}

/// One line a choice.
fn preset_text(preset: Preset, choices: &[Choice]) -> String {
    let (setting, value) = choices.iter().fold((0, 0), |(setting, value), choice| {
        (setting.max(choice.setting.len()), value.max(choice.value.len().min(32)))
    });
    let mut out = format!("Preset {preset}, {}:\n", preset.about());
    let line = |choice: &Choice| format!("  {:<setting$}  {:<value$}  {}\n", choice.setting, choice.value, choice.why);
    out.extend(choices.iter().filter(|choice| !choice.always).map(line));
    out.push_str("In every sandbox, until it is told otherwise:\n");
    out.extend(choices.iter().filter(|choice| choice.always).map(line));
    out
}

fn explanation(native: &NativeRuntime, wanted: Wanted, choices: Vec<Choice>) -> Result<Explanation, Failure> {
    let Wanted { mut container, main } = wanted;
    if container.id.is_empty() {
        container.id = "random-name".into();
    }
    let (container, command) = native.plan(container, main).map_err(orangery::Error::from)?;
    let (cgroup_mode, why_no_cgroup) = native.cgroup_mode();
    let (container, command) = (Steps::of(&container), command.as_ref().map(Steps::of));
    Ok(Explanation { schema: 1, cgroup_mode, why_no_cgroup, container, command, choices })
}

impl Steps {
    fn of(plan: &Plan) -> Self {
        Self { birth: birth(plan), steps: lines(plan) }
    }

    fn write(&self, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "      {}", self.birth);
        for line in &self.steps {
            let from = if line.field.is_empty() { String::new() } else { format!("  [{}]", line.field) };
            let _ = writeln!(out, "{:>4}  {}{from}", line.step, line.words);
            for call in &line.calls {
                let _ = writeln!(out, "        {call}");
            }
        }
    }
}

impl Explanation {
    fn text(&self, preset: Option<Preset>) -> String {
        let mut out = preset.map(|preset| preset_text(preset, &self.choices) + "\n").unwrap_or_default();
        out += &match &self.why_no_cgroup {
            Some(why) => format!("cgroups: {} ({why})\n", self.cgroup_mode),
            None => format!("cgroups: {}\n", self.cgroup_mode),
        };
        let first = if self.command.is_some() { "its stub init" } else { "the command" };
        let _ = writeln!(out, "\nThe container, and {first} as its pid 1:");
        self.container.write(&mut out);
        if let Some(command) = &self.command {
            out.push_str("\nThe command, in that container:\n");
            command.write(&mut out);
        }
        out.push_str("\nNothing of this was done.\n");
        out
    }
}
