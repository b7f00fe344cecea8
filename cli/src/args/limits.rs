//! Limits that can be typed, or written: of a container, and of each process in it.

use clap::{Args, ValueEnum};
use orangery::runtime::spec::io::{parse_io_max, parse_io_weight};
use orangery::runtime::spec::size::{parse_cpus, parse_size};
use orangery::{CpuQuota, Enforcement, IoMax, IoWeight, OutputAction, OutputLimit, Resource, Rlimit};

use crate::signals;

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of the whole container (they need a cgroup: see `orangery doctor`)")]
pub(crate) struct LimitArgs {
    /// Memory, such as 64M
    #[arg(short, long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory: Option<u64>,
    /// Swap on top of the memory
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) memory_swap: Option<u64>,
    /// Processors' worth of time, such as 0.5
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub(crate) cpus: Option<CpuQuota>,
    /// Share under contention, 1 to 10000; everybody's is 100
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(crate) cpu_weight: Option<u64>,
    /// Processors that it may use, such as 0-3,6
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(crate) pids: Option<u64>,
    /// Share of each disk under contention, 1 to 10000; everybody's is 100. Needs the scheduler bfq, or io.cost
    #[arg(long, value_name = "N", value_parser = whole)]
    pub(crate) io_weight: Option<u64>,
    /// The same on one device: a path, or MAJ:MIN
    #[arg(long, value_name = "DEVICE:N", value_parser = parse_io_weight)]
    pub(crate) io_device_weight: Vec<IoWeight>,
    /// Most on one device (a path on it will do) a second: bytes (rbps, wbps) and operations (riops, wiops) read and
    /// written, such as /dev/sda:wbps=10M,riops=500
    #[arg(long, value_name = "DEVICE:RATES", value_parser = parse_io_max)]
    pub(crate) io_max: Vec<IoMax>,
    /// What becomes of those above that cannot be had: an error, or done without and said, with rlimits in the place of
    /// memory and pids [required]
    #[arg(long, value_enum)]
    pub(crate) limits: Option<Enforcing>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Enforcing {
    Required,
    BestEffort,
}

impl Enforcing {
    pub(crate) const fn enforcement(self) -> Enforcement {
        match self {
            Self::Required => Enforcement::Required,
            Self::BestEffort => Enforcement::BestEffort,
        }
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits of each process (SOFT[:HARD], or unlimited)")]
pub(crate) struct RlimitArgs {
    /// Any resource by name, such as nofile=1024:4096 or memlock=64K
    #[arg(long, value_name = "NAME=SOFT[:HARD]")]
    pub(crate) rlimit: Vec<Rlimit>,
    /// Open files
    #[arg(long, value_name = "N", value_parser = |text: &str| Rlimit::parse(Resource::Nofile, text))]
    pub(crate) nofile: Option<Rlimit>,
    /// Processes of the user
    #[arg(long, value_name = "N", value_parser = |text: &str| Rlimit::parse(Resource::Nproc, text))]
    pub(crate) nproc: Option<Rlimit>,
    /// Largest file
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| Rlimit::parse(Resource::Fsize, text))]
    pub(crate) fsize: Option<Rlimit>,
    /// Largest core file
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| Rlimit::parse(Resource::Core, text))]
    pub(crate) core: Option<Rlimit>,
    /// Stack
    #[arg(long, value_name = "SIZE", value_parser = |text: &str| Rlimit::parse(Resource::Stack, text))]
    pub(crate) stack: Option<Rlimit>,
    /// CPU time in seconds
    #[arg(long, value_name = "SECONDS", value_parser = |text: &str| Rlimit::parse(Resource::Cpu, text))]
    pub(crate) cpu_time: Option<Rlimit>,
}

impl RlimitArgs {
    /// All that were given.
    pub(crate) fn all(&self) -> Vec<Rlimit> {
        let named = [self.nofile, self.nproc, self.fsize, self.core, self.stack, self.cpu_time];
        self.rlimit.iter().copied().chain(named.into_iter().flatten()).collect()
    }
}

pub(super) fn output_limit(text: &str) -> Result<OutputLimit, String> {
    let (size, action) = text.split_once(':').unwrap_or((text, "kill"));
    let action = match action {
        "kill" => OutputAction::Kill,
        "truncate" => OutputAction::Truncate,
        signal => {
            OutputAction::Signal(signals::number(signal).map_err(|error| format!("{error}, or kill or truncate"))?)
        }
    };
    Ok(OutputLimit { bytes: parse_size(size)?, action })
}

pub(super) fn whole(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number, such as 32"))
}

fn cpus(text: &str) -> Result<CpuQuota, String> {
    parse_cpus(text).map(|(quota_us, period_us)| CpuQuota { quota_us, period_us })
}
