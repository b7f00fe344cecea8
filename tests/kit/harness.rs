//! Runs trials: each in a child process of its own, with a time limit, under libtest's command line.

use std::io::{Read as _, Seek as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Completion, Conclusion, Failed};

use crate::machine::{Machine, Need};
use crate::{Scene, scene, wait};

/// Names the trial that a child process is to run.
const TRIAL: &str = "ORANGERY_TRIAL";
/// Longest time for one trial.
const LIMIT: Duration = Duration::from_secs(60);

/// One end-to-end test.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    name: &'static str,
    needs: &'static [Need],
    run: fn(&Scene),
    known: Option<&'static str>,
    skip: Option<&'static str>,
    limit: Duration,
}

impl Trial {
    /// A trial that needs more than what every trial does (containers at all).
    #[must_use]
    pub fn new(name: &'static str, needs: &'static [Need], run: fn(&Scene)) -> Self {
        Self { name, needs, run, known: None, skip: None, limit: LIMIT }
    }

    /// It fails today for a reason that is written down: counted as skipped while it does, and as failed when it
    /// passes, so that the mark goes with the bug.
    #[must_use]
    pub fn known_failure(mut self, why: &'static str) -> Self {
        self.known = Some(why);
        self
    }

    /// It does a thousand things: three times the time, for busy machines.
    #[must_use]
    pub fn long(mut self) -> Self {
        self.limit = LIMIT * 3;
        self
    }

    /// It knows how long it may take.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// It needs something that only it knows of; the reason why that is not there.
    #[must_use]
    pub fn skip_if(mut self, why: Option<&'static str>) -> Self {
        self.skip = why;
        self
    }

    /// Only the first of several environments has the bug.
    #[must_use]
    pub fn known_failure_if(self, here: bool, why: &'static str) -> Self {
        if here { self.known_failure(why) } else { self }
    }
}

/// The `main` of a test binary: the harness, or, in a child of it, one trial.
#[must_use]
pub fn main(trials: &[Trial]) -> ExitCode {
    if let Some(name) = std::env::var_os(TRIAL) {
        let Some(trial) = trials.iter().find(|trial| name == trial.name) else {
            eprintln!("no trial is called {}", name.display());
            return ExitCode::from(2);
        };
        return scene::play(trial.name, trial.run);
    }
    let arguments = Arguments::from_args();
    let machine = if arguments.list { Machine::unknown() } else { Machine::probe() };
    let mut skipped = Vec::new();
    let tests = trials.iter().map(|trial| test(*trial, &machine, arguments.nocapture, &mut skipped)).collect();
    let conclusion = libtest_mimic::run(&arguments, tests);
    if !arguments.list && arguments.filter.is_none() {
        tell(&skipped, &conclusion);
    }
    conclusion.exit_code()
}

fn test(
    trial: Trial,
    machine: &Machine,
    shown: bool,
    skipped: &mut Vec<(&'static str, String)>,
) -> libtest_mimic::Trial {
    if let Some(why) = trial
        .needs
        .iter()
        .find_map(|need| machine.lacks(*need))
        .or_else(|| machine.lacks(Need::Containers))
        .or_else(|| trial.skip.map(str::to_owned))
    {
        skipped.push((trial.name, why.clone()));
        return libtest_mimic::Trial::test(trial.name, || Ok(())).with_kind(brief(&why)).with_ignored_flag(true);
    }
    match trial.known {
        None => libtest_mimic::Trial::test(trial.name, move || run(trial.name, trial.limit, shown)),
        Some(why) => {
            skipped.push((trial.name, format!("known failure: {why}")));
            libtest_mimic::Trial::ignorable_test(trial.name, move || match run(trial.name, trial.limit, shown) {
                Err(_) => Ok(Completion::ignored_with(format!("known failure: {why}"))),
                Ok(()) => Err(Failed::from(format!("passes now; remove the mark \"known failure: {why}\""))),
            })
        }
    }
}

/// What fits into a column; the whole reason is printed at the end.
fn brief(why: &str) -> String {
    why.split(':').next().unwrap_or(why).to_owned()
}

fn tell(skipped: &[(&'static str, String)], conclusion: &Conclusion) {
    for (name, why) in skipped {
        println!("skipped: {name}: {why}");
    }
    println!("{} passed, {} failed, {} skipped", conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored);
}

/// `shown`: what it says is, also where it has passed (`--nocapture`).
fn run(name: &str, limit: Duration, shown: bool) -> Result<(), Failed> {
    // A file, not a pipe: whatever a trial leaves running must not keep us waiting for the end of its output.
    let mut said = tempfile::tempfile().map_err(Failed::from)?;
    let mut child = start(name, &said).map_err(Failed::from)?;
    let id = child.id();
    let status = match wait::child(&mut child, limit) {
        Ok(Some(status)) => status,
        Ok(None) => {
            scene::remove_parents(id);
            return Err(format!("not done within {} s; it said:\n{}", limit.as_secs(), text(&mut said)).into());
        }
        Err(error) => return Err(error.into()),
    };
    if status.success() {
        if shown {
            print!("{}", text(&mut said));
        }
        return Ok(());
    }
    scene::remove_parents(id);
    let how = status
        .signal()
        .map_or_else(|| format!("it ended with {:?}", status.code()), |signal| format!("signal {signal} ended it"));
    Err(format!("{how}; it said:\n{}", text(&mut said)).into())
}

#[expect(clippy::disallowed_methods, reason = "the trial's own process")]
fn start(name: &str, said: &std::fs::File) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .env(TRIAL, name)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::from(said.try_clone()?))
        .stderr(Stdio::from(said.try_clone()?))
        .spawn()
}

fn text(file: &mut std::fs::File) -> String {
    let mut bytes = Vec::new();
    let _ = file.rewind();
    let _ = file.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
