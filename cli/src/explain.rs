//! `orangery explain`: the plan of `run` with the same options, in words and system calls, decoded from the bytes that the
//! keeper would execute. Nothing of it is executed; what a supervisor needs to plan (its keeper, its empty cgroup
//! directory) is gone again when the text is printed.

use std::fmt::Write as _;
use std::io::Write as _;

use orangery::runtime::native::NativeRuntime;
use orangery::runtime::plan::Plan;
use orangery::runtime::plan::explain::{Line, birth, lines};
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
}

/// Print the plan.
///
/// # Errors
/// Every refusal that `run` would answer with before it makes anything.
pub(crate) fn explain(args: &RunArgs, json: bool) -> Result<u8, Failure> {
    let wanted = Wanted::new(&args.work, args.words())?;
    let _leaf = Leaf::enter();
    let supervisor = start::supervisor(&args.place).build()?;
    let planned = match supervisor.native() {
        Some(native) => explanation(native, wanted),
        None => Err(Failure::new("this supervisor has no plan")),
    };
    supervisor.shutdown_blocking();
    let text = match (planned?, json) {
        (plan, true) => serde_json::to_string(&plan).map_err(|error| Failure::new(error.to_string()))? + "\n",
        (plan, false) => plan.text(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::system("cannot write the plan", &error))
        }
        _ => Ok(0),
    }
}

fn explanation(native: &NativeRuntime, wanted: Wanted) -> Result<Explanation, Failure> {
    let Wanted { mut container, main } = wanted;
    if container.id.is_empty() {
        container.id = "random-name".into();
    }
    let (container, command) = native.plan(container, main).map_err(orangery::Error::from)?;
    let (cgroup_mode, why_no_cgroup) = native.cgroup_mode();
    let (container, command) = (Steps::of(&container), command.as_ref().map(Steps::of));
    Ok(Explanation { schema: 1, cgroup_mode, why_no_cgroup, container, command })
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
    fn text(&self) -> String {
        let mut out = match &self.why_no_cgroup {
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
