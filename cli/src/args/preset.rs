//! `--preset`: what it says where nothing else was said. The library has the values.

use orangery::{Choices, Enforcement};

use super::limits::Enforcing;
use super::work::WorkArgs;

impl WorkArgs {
    /// Options that were not given are the preset's.
    pub(crate) fn with_preset(&mut self) {
        let Some(preset) = self.root.preset else { return };
        let said = preset.choices();
        self.limits.memory = self.limits.memory.or(said.memory);
        self.limits.cpus = self.limits.cpus.or(said.cpus);
        self.limits.pids = self.limits.pids.or(said.pids);
        self.limits.limits = self.limits.limits.or(Some(match said.enforcement {
            Enforcement::BestEffort => Enforcing::BestEffort,
            _ => Enforcing::Required,
        }));
        self.root.landlock = self.root.landlock.take().or(said.landlock);
        self.root.disk = self.root.disk.or(Some(said.disk.bytes));
        self.root.disk_inodes = self.root.disk_inodes.or(Some(said.disk.inodes));
        self.time.timeout = self.time.timeout.or(said.wall);
        self.time.timeout_cpu = self.time.timeout_cpu.or(said.cpu_time);
        self.program.output_limit = self.program.output_limit.or(said.output);
    }

    /// The choices of the preset, with what was said beside it.
    pub(crate) fn choices(&self) -> Option<Choices> {
        let mut said = self.root.preset?.choices();
        (said.memory, said.cpus, said.pids) = (self.limits.memory, self.limits.cpus, self.limits.pids);
        said.enforcement = self.limits.limits.map_or(said.enforcement, Enforcing::enforcement);
        said.disk.bytes = self.root.disk.unwrap_or(said.disk.bytes);
        said.disk.inodes = self.root.disk_inodes.unwrap_or(said.disk.inodes);
        said.landlock = self.root.landlock.clone().or(said.landlock);
        (said.wall, said.cpu_time, said.output) = (self.time.timeout, self.time.timeout_cpu, self.program.output_limit);
        for limit in self.rlimits.all() {
            said.rlimits.retain(|have| have.resource != limit.resource);
            said.rlimits.push(limit);
        }
        Some(said)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::super::{Cli, Subcommand};

    fn run(options: &[&str]) -> super::WorkArgs {
        let line = [&["orangery", "run"], options, &["--", "true"]].concat();
        let mut cli = Cli::from_arg_matches(&Cli::command().try_get_matches_from(line).unwrap()).unwrap();
        cli.subcommand.with_preset().unwrap();
        let Subcommand::Run(args) = cli.subcommand else { panic!() };
        args.work
    }

    #[test]
    fn what_is_said_beside_it_wins_in_any_order() {
        for options in [&["--memory", "1M", "--preset", "judge"], &["--preset", "judge", "--memory", "1M"]] {
            let work = run(options);
            assert_eq!((work.limits.memory, work.limits.pids), (Some(1 << 20), Some(64)));
            assert_eq!(work.choices().unwrap().memory, Some(1 << 20));
        }
        assert!(run(&[]).time.timeout.is_none() && run(&[]).choices().is_none());
    }

    #[test]
    fn unknown_names_list_those_that_are_known() {
        let line = ["orangery", "run", "--preset", "jugde", "--", "true"];
        let told = Cli::command().try_get_matches_from(line).unwrap_err().to_string();
        assert!(told.contains("strict, judge, ci, interactive"), "{told}");
    }
}
